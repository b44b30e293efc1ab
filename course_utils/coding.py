r"""An arithmetic coder in whole numbers: a sequence of probabilities turned into a file, and back.

The interval [0, 1) is cut in proportion to the probabilities of the first symbol; the piece of the true symbol is cut
again for the second symbol, and so on. In the end any number inside the last piece names the whole sequence. The last
piece is as long as the probability p of the sequence, so about -log2 p binary digits are enough.

Exact integers are used throughout (Python's have no limit), so there is no rounding to go wrong.
Sources: Rissanen 1976; Witten, Neal, Cleary 1987.  Taught in chapter 02.
"""

import torch

from course_utils import expect

PRECISION = 16  # each probability is rounded to a multiple of 2^-16


def to_counts(probs, precision=PRECISION):
    """Probabilities (K,) as K positive integers that sum to 2^precision: what both coder and decoder work with.

    No symbol gets zero, or it could not be coded at all.
    """
    total = 2 ** expect.count(precision, "precision", most=62)
    if not isinstance(probs, torch.Tensor):
        probs = torch.tensor([float(expect.number(p, "a probability")) for p in probs], dtype=torch.float64)
    probs = expect.probabilities(expect.floats(probs, "probabilities", "K"), "probabilities", "K").double()
    if not 2 <= len(probs) <= total:
        raise ValueError(f"expected probabilities of 2 to {total} symbols, got {len(probs)}")
    counts = (probs * (total - len(probs))).floor().long() + 1       # sums to at most total
    counts[counts.argmax()] += total - counts.sum()                  # what rounding left over
    return counts.tolist()


def encode(symbols, counts):
    """The symbols as a string of bits. ``counts`` lists, for each symbol, the integers of
    :func:`to_counts`.

    It takes ⌈-log2 p⌉ + 1 bits, where p is the product of the rounded probabilities.
    """
    lists = all(isinstance(several, list | tuple) for several in (symbols, counts))
    if not lists or len(symbols) != len(counts):
        raise ValueError("expected a list of symbols and one of counts, as long, "
                         f"got {expect.came(symbols)} and {expect.came(counts)}")
    low, width, n_bits = 0, 1, 0                # the interval [low, low + width) / 2^n_bits
    for symbol, cuts in zip(symbols, counts, strict=True):
        total = _total(cuts)
        expect.count(symbol, "a symbol", 0, len(cuts) - 1)
        low = low * total + width * sum(cuts[:symbol])
        width *= cuts[symbol]
        n_bits += total.bit_length() - 1
    length = n_bits - width.bit_length() + 2        # 2^-length is at most half of the interval
    shift = n_bits - length
    # the first multiple of 2^-length in the interval
    code = -(-low >> shift) if shift >= 0 else low << -shift
    return format(code, f"0{length}b") if length > 0 else ""


def _total(cuts):
    """The sum of the counts of one symbol: a power of two."""
    total = sum(expect.count(cut, "a count") for cut in cuts)
    if len(cuts) < 2 or total & (total - 1):
        raise ValueError(f"expected counts of two symbols or more that sum to a power of two, got {expect.came(cuts)}")
    return total


def decode(bits, next_counts, n_symbols):
    """The symbols that were encoded. ``next_counts(symbols so far)`` gives the integers of the next symbol.

    The decoder has no image: it asks the model about each pixel after it has decoded the ones before.
    """
    if not isinstance(bits, str) or set(bits) - {"0", "1"}:
        raise ValueError(f"expected bits to be a text of 0 and 1, got {expect.came(bits)}")
    expect.function(next_counts, "next_counts")
    low, width, scale = 0, 1, 0
    code, length = int(bits or "0", 2), len(bits)
    symbols = []
    for _ in range(expect.count(n_symbols, "n_symbols", 0)):
        cuts = next_counts(symbols)
        total = _total(cuts)
        low, scale = low * total, scale + total.bit_length() - 1
        symbol = 0
        while code << scale >= (low + width * cuts[symbol]) << length:         # not in this piece: the next one
            low += width * cuts[symbol]
            symbol += 1
        width *= cuts[symbol]
        symbols.append(symbol)
    return symbols
