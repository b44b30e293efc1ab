r"""An arithmetic coder in whole numbers: a sequence of probabilities turned into a file, and back.

The interval [0, 1) is cut in proportion to the probabilities of the first symbol; the piece of the true symbol is cut
again for the second symbol, and so on. In the end any number inside the last piece names the whole sequence. The last
piece is as long as the probability p of the sequence, so about -log2 p binary digits are enough.

Exact integers are used throughout (Python's have no limit), so there is no rounding to go wrong.
Sources: Rissanen 1976; Witten, Neal, Cleary 1987.  Taught in chapter 02.
"""

import torch

PRECISION = 16  # each probability is rounded to a multiple of 2^-16


def to_counts(probs, precision=PRECISION):
    """Probabilities (K,) as K positive integers that sum to 2^precision: what both coder and decoder work with.

    No symbol gets zero, or it could not be coded at all.
    """
    total = 2**precision
    probs = torch.as_tensor(probs, dtype=torch.float64)
    if probs.dim() != 1 or not 2 <= len(probs) <= total or (probs < 0).any() or abs(probs.sum() - 1) > 1e-4:
        raise ValueError(f"expected probabilities (K,) that sum to 1, got {probs}")
    counts = (probs * (total - len(probs))).floor().long() + 1       # sums to at most total
    counts[counts.argmax()] += total - counts.sum()                  # what rounding left over
    return counts.tolist()


def encode(symbols, counts):
    """The symbols as a string of bits. ``counts`` lists, for each symbol, the integers of :func:`to_counts`.

    It takes ⌈-log2 p⌉ + 1 bits, where p is the product of the rounded probabilities.
    """
    low, width, n_bits = 0, 1, 0                                     # the interval [low, low + width) / 2^n_bits
    for symbol, cuts in zip(symbols, counts, strict=True):
        total = sum(cuts)
        low = low * total + width * sum(cuts[:symbol])
        width *= cuts[symbol]
        n_bits += total.bit_length() - 1
    length = n_bits - width.bit_length() + 2                         # 2^-length is at most half of the interval
    shift = n_bits - length
    code = -(-low >> shift) if shift >= 0 else low << -shift         # the first multiple of 2^-length in the interval
    return format(code, f"0{length}b") if length > 0 else ""


def decode(bits, next_counts, n_symbols):
    """The symbols that were encoded. ``next_counts(symbols so far)`` gives the integers of the next symbol.

    The decoder has no image: it asks the model about each pixel after it has decoded the ones before.
    """
    low, width, scale = 0, 1, 0
    code, length = int(bits or "0", 2), len(bits)
    symbols = []
    for _ in range(n_symbols):
        cuts = next_counts(symbols)
        total = sum(cuts)
        low, scale = low * total, scale + total.bit_length() - 1
        symbol = 0
        while code << scale >= (low + width * cuts[symbol]) << length:         # not in this piece: the next one
            low += width * cuts[symbol]
            symbol += 1
        width *= cuts[symbol]
        symbols.append(symbol)
    return symbols
