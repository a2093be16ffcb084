"""`pad` against `numpy.pad`, `windows` against `sliding_window_view`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

import arrayconv as ac
from arrayconv.boundary import BOUNDARIES, runs

if TYPE_CHECKING:
    from conftest import Library

Widths = tuple[tuple[int, int], ...]


def numpy_pad(x: np.ndarray[Any, Any], widths: Widths, boundary: str) -> np.ndarray[Any, Any]:
    """`numpy.pad`, then the crop that it lacks: right where no axis crops more than it keeps."""
    padded = np.pad(x, [(max(0, low), max(0, high)) for low, high in widths], mode=boundary)  # type: ignore[call-overload]
    return padded[
        tuple(slice(max(0, -low), n - max(0, -high)) for n, (low, high) in zip(padded.shape, widths, strict=True))
    ]


@st.composite
def paddings(draw: st.DrawFn) -> tuple[tuple[int, ...], Widths]:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    pairs = [draw(st.tuples(st.integers(-n, 12), st.integers(-n, 12))) for n in shape]
    return tuple(shape), tuple((low, max(high, -low - n)) for n, (low, high) in zip(shape, pairs, strict=True))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_pad_is_numpy_s_at_any_depth(library: Library, boundary: str) -> None:
    def check(drawn: tuple[tuple[int, ...], Widths]) -> None:
        shape, widths = drawn
        x = np.arange(np.prod(shape), dtype="int32").reshape(shape) + 1
        y = ac.pad(library.asarray(x), widths, boundary=boundary)
        assert y.dtype == library.xp.int32
        np.testing.assert_array_equal(library.to_numpy(y), numpy_pad(x, widths, boundary))

    library.for_all(paddings(), check)


@pytest.mark.parametrize("widths", [(-4, 5), (6, -4), (5, -6), (-3, 0), (0, -3), (0, 0)])
def test_crops_beyond_the_array_follow_the_index_map(library: Library, widths: Any) -> None:
    """``out[i] = x[map(i - low)]`` also where nothing of x itself is left."""
    for boundary, index_map in BOUNDARIES.items():
        indices = [index_map(i, 3) for i in range(-widths[0], 3 + widths[1])]
        y = ac.pad(library.asarray(np.array([1, 2, 3])), (widths,), boundary=boundary, value=7)
        np.testing.assert_array_equal(library.to_numpy(y), [7 if i is None else i + 1 for i in indices])


def test_pad_fills_with_value(library: Library) -> None:
    for dtype, value in (("float32", -1.5), ("float32", -np.inf), ("int8", -7), ("complex64", 2j)):
        x = np.arange(6).reshape(2, 3).astype(dtype)
        y = ac.pad(library.asarray(x), ((1, 2), (-1, 3)), value=value)
        assert y.dtype == getattr(library.xp, dtype)
        np.testing.assert_array_equal(library.to_numpy(y), np.pad(x[:, 1:], ((1, 2), (0, 3)), constant_values=value))


def test_pad_makes_something_of_nothing(library: Library) -> None:
    y = ac.pad(library.asarray(np.ones((0, 2))), ((1, 2), (0, 1)))
    np.testing.assert_array_equal(library.to_numpy(y), np.zeros((3, 3)))


def test_pad_and_windows_leave_their_input_alone() -> None:
    x = np.arange(5.0)
    padded, seen = ac.pad(x, ((0, 0),)), ac.windows(x, (2,))
    np.testing.assert_array_equal(x, np.arange(5.0))
    assert padded is not x
    assert not seen.flags.writeable or not np.shares_memory(seen, x)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_runs_are_the_index_map(boundary: str) -> None:
    for n in range(1, 5):
        for low in range(-n, 10):
            for high in range(-n - min(low, 0), 10):
                indices: list[int | None] = []
                for start, length, step in runs(boundary, n, low, high):
                    indices += [None if start is None else start + i * step for i in range(length)]
                assert indices == [BOUNDARIES[boundary](i, n) for i in range(-low, n + high)]


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
@pytest.mark.parametrize("window", [(1, 1), (2, 3), (3, 1)])
def test_windows_are_sliding_window_views(library: Library, window: Any, stride: Any, dilation: Any) -> None:
    x = np.arange(3 * 7 * 9).reshape(3, 7, 9)
    steps, gaps = np.broadcast_to(stride, 2), np.broadcast_to(dilation, 2)
    covered = tuple((k - 1) * d + 1 for k, d in zip(window, gaps, strict=True))
    views = sliding_window_view(x, covered, axis=(1, 2))
    expected = views[:, :: steps[0], :: steps[1], :: gaps[0], :: gaps[1]]
    y = ac.windows(library.asarray(x), window, stride=stride, dilation=dilation)
    np.testing.assert_array_equal(library.to_numpy(y), expected)


def test_windows_of_one_and_three_axes_and_of_no_batch(library: Library) -> None:
    for shape, window in (((0, 5), (2,)), ((6,), (3,)), ((4, 3, 5), (2, 3, 4)), ((2, 4, 3, 5), (1, 2, 2))):
        x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
        axes = tuple(range(x.ndim - len(window), x.ndim))
        y = ac.windows(library.asarray(x), window)
        np.testing.assert_array_equal(library.to_numpy(y), sliding_window_view(x, window, axis=axes))
