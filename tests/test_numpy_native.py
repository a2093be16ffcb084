"""NumPy's own convolution as an algorithm: `numpy.convolve`, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.backends import numpy_native
from arrayconv.testing import reference

RNG = np.random.default_rng(0)

DTYPES = ("int8", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128")


def draw(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """Small integers, exact in every type; complex ones with an imaginary part."""
    values = RNG.integers(0, 4, shape)
    return (values + 1j * RNG.integers(0, 4, shape) if "complex" in dtype else values).astype(dtype)


def middle(taps: int) -> tuple[tuple[int, int]]:
    """The padding of NumPy's mode "same"."""
    return ((taps // 2, taps - 1 - taps // 2),)


@pytest.mark.parametrize("op", [ac.correlate, ac.convolve], ids=["correlate", "convolve"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 2, -1, "same", "full", ((4, 1),), "middle"], ids=str)
@pytest.mark.parametrize("taps", [1, 2, 5, 11, 12])
def test_one_signal(op: Any, dtype: str, padding: Any, taps: int) -> None:
    """Short sums and scalar products, NumPy's modes and zeros of ours; nothing is conjugated."""
    x, kernel = draw((17,), dtype), draw((taps,), dtype)
    padding = middle(taps) if padding == "middle" else padding
    y = op(x, kernel, padding=padding, algorithm="native")
    assert y.dtype == x.dtype
    kernel = kernel[::-1] if op is ac.convolve else kernel
    low, high = ac.resolve_padding(padding, (17,), (taps,))[0]
    wide = np.concatenate([np.zeros(max(low, 0), dtype), x, np.zeros(max(high, 0), dtype)])
    wide = wide[max(-low, 0) : len(wide) - max(-high, 0)]
    loop = [sum(complex(wide[i + j]) * complex(kernel[j]) for j in range(taps)) for i in range(len(wide) - taps + 1)]
    np.testing.assert_array_equal(y, np.array(loop) if "complex" in dtype else np.real(loop))


@pytest.mark.parametrize("dtype", ["int32", "float16", "float64", "complex64"])
@pytest.mark.parametrize("channels", ["first", "last"])
def test_one_channel_with_a_bias(dtype: str, channels: str) -> None:
    x, kernel, bias = draw((1, 9), dtype), draw((1, 1, 4), dtype), draw((1,), dtype)
    if channels == "last":
        x, kernel = x.T, kernel.T
    y = ac.conv(x, kernel, bias, padding=1, channels=channels, algorithm="native")
    np.testing.assert_array_equal(y, reference(ac.conv, x, kernel, bias, padding=1, channels=channels))


@pytest.mark.parametrize(("batch", "groups", "outputs"), [(1, 1, 1), (1, 1, 3), (2, 1, 1), (3, 4, 2), (2, 5, 1)])
def test_rows(batch: int, groups: int, outputs: int) -> None:
    """Every image's channel meets the kernels of its own group."""
    x, kernel = draw((batch, groups, 9), "int64"), draw((groups * outputs, 1, 3), "int64")
    y = ac.conv(x, kernel, padding=1, groups=groups, algorithm="native")
    np.testing.assert_array_equal(y, reference(ac.conv, x, kernel, padding=1, groups=groups))


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[::-1], np.s_[3:40]], ids=str)
def test_views_are_read_and_not_written(view: slice) -> None:
    x, kernel = RNG.standard_normal(60), RNG.standard_normal(7)[::-1]
    x.flags.writeable = kernel.flags.writeable = False
    y = ac.correlate(x[view], kernel, algorithm="native")
    np.testing.assert_allclose(y, np.correlate(x[view].copy(), kernel.copy()), rtol=1e-13, atol=1e-13)


def test_no_number_that_isn_t_finite_spreads() -> None:
    x = np.ones(40, np.float32)
    x[[10, 30]] = np.nan, np.inf
    for taps in (3, 20):
        y = ac.correlate(x, np.ones(taps, np.float32), algorithm="native")
        seen = np.array([not np.isfinite(x[i : i + taps]).all() for i in range(len(y))])
        np.testing.assert_array_equal(np.isfinite(y), ~seen)


def test_a_signal_shorter_than_the_kernel() -> None:
    """In NumPy's full mode the arguments change places, and of nothing there is none."""
    kernel = np.array([1, 10, 100])
    np.testing.assert_array_equal(ac.correlate([2, 3] @ np.eye(2, dtype=int), kernel, padding=2), [200, 320, 32, 3])
    for taps in (9, 10):  # in its mode "same" the result would be as long as the kernel
        x, longer = draw((8,), "int64"), draw((taps,), "int64")
        for op in (ac.correlate, ac.convolve):
            y = op(x, longer, padding=middle(taps), algorithm="native")
            np.testing.assert_array_equal(y, reference(op, x, longer, padding=middle(taps)))
    np.testing.assert_array_equal(ac.correlate(np.zeros(0, int), kernel, padding=2, algorithm="native"), [0, 0])


def test_short_signals_are_left_to_it() -> None:
    for dtype in ("float32", "float64", "int64", "complex128"):
        assert ac.plan(ac.correlate, (40,), (5,), dtype=dtype).algorithm == "native"
    assert ac.plan(ac.correlate, (10**6,), (1024,)).algorithm != "native"


def test_layers_and_strides_are_not() -> None:
    for shapes, options in (((1, 2, 9), {}), ((1, 1, 9), {"stride": 2}), ((1, 1, 9), {"dilation": 2})):
        problem = ac.plan(ac.conv, shapes, (2, shapes[1], 2), **options).program.problem
        assert "numpy.convolve takes" in str(numpy_native.native_unsupported(problem))
