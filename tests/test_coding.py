"""Laws of the arithmetic coder: what comes out is what went in, and never longer than promised."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import coding


def ideal_bits(symbols, counts):
    return sum(math.log2(sum(cuts)) - math.log2(cuts[s]) for s, cuts in zip(symbols, counts, strict=True))


WEIGHTS = st.lists(st.floats(0, 1), min_size=2, max_size=5).filter(lambda p: sum(p) > 0.1)


@settings(max_examples=100, deadline=None)
@given(st.lists(WEIGHTS, max_size=40), st.data())
def test_decodes_exactly_and_within_one_bit_of_the_promise(rows, data):
    counts = [coding.to_counts(torch.tensor(p, dtype=torch.float64) / sum(p)) for p in rows]
    symbols = [data.draw(st.integers(0, len(p) - 1)) for p in rows]
    bits = coding.encode(symbols, counts)
    assert coding.decode(bits, lambda so_far: counts[len(so_far)], len(symbols)) == symbols
    assert len(bits) <= math.ceil(ideal_bits(symbols, counts) - 1e-9) + 1


def test_every_code_names_only_its_own_message():
    counts = [coding.to_counts([0.7, 0.2, 0.1])] * 3
    codes = [coding.encode([a, b, c], counts) for a in range(3) for b in range(3) for c in range(3)]
    assert len(set(codes)) == 27
    assert not any(a != b and b.startswith(a) for a in codes for b in codes), "one code is the beginning of another"


def test_counts_are_positive_and_keep_the_sum():
    counts = coding.to_counts([1.0, 0.0, 0.0])
    assert min(counts) >= 1
    assert sum(counts) == 2**16
    with pytest.raises(ValueError, match="sum to 1"):
        coding.to_counts([0.5, 0.2])


def test_a_certain_sequence_costs_almost_nothing():
    counts = [coding.to_counts([1 - 1e-9, 1e-9])] * 700
    assert len(coding.encode([0] * 700, counts)) <= 2
