"""The index maps against `numpy.pad`, and the runs against the maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arrayconv.boundary import BOUNDARIES, Run, runs

boundaries = st.sampled_from(sorted(BOUNDARIES))
lengths = st.integers(1, 9)


def mapped(boundary: str, n: int, low: int, high: int) -> list[int | None]:
    """Which element of x each padded element is."""
    return [BOUNDARIES[boundary](i, n) for i in range(-low, n + high)]


def expanded(pieces: tuple[Run, ...]) -> list[int | None]:
    return [None if start is None else start + i * step for start, length, step in pieces for i in range(length)]


@given(boundaries, lengths, st.integers(0, 40), st.integers(0, 40))
def test_maps_are_numpy_pad_at_any_depth(boundary: str, n: int, low: int, high: int) -> None:
    fill = {"constant_values": -1} if boundary == "constant" else {}
    expected = np.pad(np.arange(n), (low, high), mode=boundary, **fill)  # type: ignore[call-overload]
    assert [-1 if i is None else i for i in mapped(boundary, n, low, high)] == expected.tolist()


@given(boundaries, lengths, st.integers(-12, 40), st.integers(-12, 40))
def test_runs_expand_to_the_map(boundary: str, n: int, low: int, high: int) -> None:
    assert expanded(runs(boundary, n, low, high)) == mapped(boundary, n, low, high)


@given(boundaries, lengths, st.integers(-12, 40), st.integers(-12, 40))
def test_runs_are_slices(boundary: str, n: int, low: int, high: int) -> None:
    for start, length, step in runs(boundary, n, low, high):
        assert length >= 1
        assert step in (-1, 0, 1)
        assert start is None or (0 <= start < n and 0 <= start + (length - 1) * step < n)


@given(boundaries, lengths, st.integers(-12, 40), st.integers(-12, 40))
def test_runs_are_few(boundary: str, n: int, low: int, high: int) -> None:
    assume(n + low + high > 0)
    # A fold of the map is one run: all of the padding on one side, or one pass over x.
    fold = {"constant": 52, "edge": 52, "reflect": max(1, n - 1), "symmetric": n, "wrap": n}[boundary]
    if min(low, high) >= 0:
        assert len(runs(boundary, n, low, high)) <= -(-low // fold) + 1 + -(-high // fold)
    else:
        assert len(runs(boundary, n, low, high)) <= -(-(n + low + high) // fold) + 2


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_inside_stays_one_slice(boundary: str) -> None:
    assert (0, 1000, 1) in runs(boundary, 1000, 3, 5)
    assert runs(boundary, 1000, 0, 0) == ((0, 1000, 1),)
    assert runs(boundary, 1000, -3, -5) == ((3, 992, 1),)


def test_cropping_everything_leaves_no_run() -> None:
    assert runs("edge", 4, -2, -2) == runs("edge", 4, -9, 3) == ()
