"""Which answers share much of their code: pieces of a few tokens, compared among students, without a verdict."""

import io
import keyword
import tokenize
from collections import Counter

SIZE, SHORTEST, ALIKE, LONGEST_LIST = 8, 12, 0.6, 50
COMMON = 0.2  # a piece that more than this share of the class has is how one writes it


def tokens(source):
    """The tokens of a piece of code: names as they are called in Python, others as "name"; no comments, no spaces."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME:
                found.append(token.string if keyword.iskeyword(token.string) else "name")
            elif token.type == tokenize.NUMBER:
                found.append(token.string)
            elif token.type == tokenize.OP:
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError, ValueError):  # as far as it can be read
        pass
    return found


def shingles(source):
    """The set of all runs of ``SIZE`` tokens."""
    words = tokens(source)
    return {tuple(words[i : i + SIZE]) for i in range(len(words) - SIZE + 1)}


def pairs(plan, records):
    """``[(share, exercise, id, id)]``, most alike first: the share of the smaller answer's own pieces found in both."""
    found = []
    for chapter, about in plan["chapters"].items():
        for exercise in about["exercises"]:
            found += _of_exercise(exercise, chapter, records)
    return sorted(found, reverse=True)[:LONGEST_LIST]


def _of_exercise(exercise, chapter, records):
    given = shingles(exercise.get("given", ""))
    own = {}
    for (student, number), record in records.items():
        source = record.get("sources", {}).get(exercise["id"]) if number == chapter else None
        if source and (pieces := shingles(source) - given):
            own[student] = pieces
    counts = Counter(piece for pieces in own.values() for piece in pieces)
    usual = {piece for piece, n in counts.items() if n > max(2, COMMON * len(own))}
    left = {student: pieces - usual for student, pieces in own.items() if len(pieces - usual) >= SHORTEST}
    where = {}
    for student, pieces in left.items():
        for piece in pieces:
            where.setdefault(piece, []).append(student)
    shared = Counter((a, b) for students in where.values() for i, a in enumerate(students) for b in students[i + 1 :])
    for (a, b), n in shared.items():
        share = n / min(len(left[a]), len(left[b]))
        if share >= ALIKE:
            yield share, exercise["id"], a, b
