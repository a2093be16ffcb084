"""What oneDNN's kernels have to do, by counting."""

from __future__ import annotations

from math import isclose

import hypothesis.strategies as st
from hypothesis import example, given

from arrayconv.algorithms.torch_counts import onednn_counts
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.onednn import met
from arrayconv.program import Problem

SMALL = st.integers(1, 6)
ZEROS = st.integers(-2, 12)


@given(st.integers(1, 20), SMALL, SMALL, ZEROS, ZEROS, SMALL)
@example(5, 27, 1, 52, 52, 2)
def test_pairs_that_meet_an_element(size: int, kernel: int, stride: int, low: int, high: int, dilation: int) -> None:
    axis = WindowDimension(size, kernel, stride, low, high, dilation)
    pairs = [(j, t) for j in range(axis.output) for t in range(kernel)]
    found = [(j, t) for j, t in pairs if 0 <= j * stride + t * dilation - low < size]
    if pairs:
        assert isclose(met(axis), len(found) / len(pairs))


def test_rows_of_zeros_are_no_work() -> None:
    """Those of all axes but the last, in kernels that add zeros themselves."""
    wide, last = WindowDimension(5, 9, 1, 8, 8), WindowDimension(5, 3, 1, 1, 1)

    def work(first: WindowDimension, kind: str) -> float:
        geometry = Geometry(8, 1, 16, 16, (first, last))
        return onednn_counts(Problem(geometry, "float32", "float32", "torch", "cpu"))[kind]

    plain = WindowDimension(21, 9)
    assert wide.output == plain.output
    assert isclose(work(wide, "dense"), work(plain, "dense") * 5 * 9 / (13 * 9))


def test_a_long_window_over_one_signal_is_one_thread_s_work() -> None:
    """oneDNN 3.12, 38 to 3 channels, 60,000 outputs of 43 taps: 34 ms on one thread or two, and 34 of two signals."""

    def work(batch: int, taps: int) -> float:
        geometry = Geometry(batch, 1, 38, 3, (WindowDimension(60_000, taps),))
        counts = onednn_counts(Problem(geometry, "float32", "float32", "torch", "cpu"))
        return counts.get("wide", 0.0) + counts.get("dense", 0.0)

    assert isclose(work(1, 43), work(2, 43))
    assert isclose(2 * work(1, 36), work(2, 36))
