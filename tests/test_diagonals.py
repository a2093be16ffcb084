"""`diagonals`: products of rows of x summed along diagonals, compared with the definition."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_geometry import correlate

import arrayconv as ac
from arrayconv.algorithms import diagonals
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, execute, make_problem, make_program

NUMPY = library_backend("numpy")


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Windows of any size, zeros of any number, cropped elements, strides of all axes but the last."""
    axes, ndim = [], draw(st.integers(2, 4))
    for i in range(ndim):
        size, taps, dilation = (draw(st.integers(1, high)) for high in (11 if ndim < 4 else 5, 4, 2))
        stride = draw(st.integers(1, 3)) if i < ndim - 1 else 1
        low, high = draw(st.integers(-1, 4)), draw(st.integers(-1, 4))
        high += max(0, (taps - 1) * dilation + 1 - size - low - high)
        axes.append(WindowDimension(size, taps, stride, low, high, dilation))
    batch, groups, inputs, outputs = (draw(st.integers(1, 3)) for _ in range(4))
    return Geometry(batch, groups, inputs, outputs, tuple(axes))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("workspace", [2**26, 2**12])
@given(geometry=geometries())
def test_it_is_the_definition(rows: int, workspace: int, geometry: Geometry) -> None:
    """One row of outputs a product, or several and those that are left, in one tile or in many."""
    x, kernel = (
        np.random.default_rng(9).integers(-9, 10, shape) for shape in (geometry.x_shape, geometry.kernel_shape)
    )
    with ac.settings(workspace=workspace), pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagonals, "ROWS", rows)
        problem = make_problem(geometry, "float32", NUMPY, "cpu", current_settings())
        assume(diagonals.unsupported(problem, NUMPY) is None)  # there is room for the products of an output
        program = make_program.__wrapped__(problem, NUMPY, "diagonals")
        y = execute(program, NUMPY, x.astype("float32"), kernel.astype("float32"))
    np.testing.assert_array_equal(y, correlate(geometry, x, kernel))


LAYOUTS: dict[str, Any] = {
    "columns first": np.asfortranarray,
    "reversed": lambda x: x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "cropped": lambda x: np.pad(x, [(0, 0), (0, 0), (2, 1), (3, 2)])[:, :, 2:-1, 3:-2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("width", [40, 300])
def test_layouts_and_types(layout: str, dtype: str, width: int) -> None:
    """Views that BLAS does not take as they lie, and types whose sums are wider."""
    rng = np.random.default_rng(3)
    x, kernel = rng.integers(-4, 5, (2, 2, 19, width)), rng.integers(-4, 5, (2, 1, 5, 3))
    own = LAYOUTS[layout](x.astype(dtype))
    own.flags.writeable = False
    y = ac.conv(own, kernel.astype(dtype), groups=2, padding=(1, 2), algorithm="diagonals")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, ac.conv(x, kernel, groups=2, padding=(1, 2)))


@pytest.mark.parametrize("width", [40, 300])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_within_its_windows(bad: float, width: int) -> None:
    """The zeros of a band meet it, too."""
    x, kernel = np.ones((30, width), "float32"), np.arange(1.0, 16).reshape(5, 3).astype("float32")
    x[11, 17], x[0, 39] = bad, bad
    y = ac.correlate(x, kernel, padding=1, algorithm="diagonals")
    expected = ac.correlate(x, kernel, padding=1, algorithm="direct")
    assert 0 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    np.testing.assert_array_equal(y[np.isfinite(y)], expected[np.isfinite(y)])


@pytest.mark.parametrize("taps", [(5, 5), (3, 40), (40, 3), (1, 9)])
def test_tiles_hold_what_is_planned(taps: tuple[int, int]) -> None:
    """Products reach beyond the outputs, further than these are wide where the window is."""
    x, kernel = np.ones((400, 300), "float32"), np.ones(taps, "float32")
    with ac.settings(workspace=2**20):
        program = ac.plan(ac.correlate, x, kernel, algorithm="diagonals").program
        ac.correlate(x, kernel, algorithm="diagonals")
        tracemalloc.start()
        try:
            y = ac.correlate(x, kernel, algorithm="diagonals")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert np.all(y == kernel.size)
    assert peak - y.nbytes <= program.workspace + 2**15 <= 2**20 + 2**15


def test_pieces_of_a_row_have_the_band_of_the_whole() -> None:
    """Of long rows there is one at a time, also in pieces that are short."""
    x, kernel = np.arange(6.0 * 9000).reshape(6, 9000), np.ones((3, 3))
    with ac.settings(workspace=2**13):
        program = ac.plan(ac.correlate, x, kernel, dilation=(2, 1), algorithm="diagonals").program
        assert program.block[-1] < diagonals.SHORT
        y = ac.correlate(x, kernel, dilation=(2, 1), algorithm="diagonals")
    np.testing.assert_array_equal(y, ac.correlate(x.astype("int64"), kernel.astype("int64"), dilation=(2, 1)))


def test_images_are_planned_so() -> None:
    """Those of one channel; a layer of many channels is not."""
    for shape, taps in (((1024, 1024), 7), ((600, 800), 5), ((1000, 1500), 9)):
        assert ac.plan(ac.correlate, shape, (taps, taps), library="numpy").algorithm == "diagonals"
    assert ac.plan(ac.conv, (8, 64, 56, 56), (64, 64, 3, 3), library="numpy").algorithm == "gemm"


@pytest.mark.parametrize(
    ("shapes", "options", "reason"),
    [
        (((50,), (3,)), {}, "it takes two spatial axes or more"),
        (((50, 50), (3, 3)), {"stride": 2}, "a stride of the last axis would leave out most of its products"),
        (((50, 50), (3, 3)), {"dtype": "int32"}, "it is for products of floating point numbers"),
        (((50, 50), (3, 3)), {"library": "torch"}, "torch can't sum a view of overlapping lines in one pass"),
        (((9, 5000), (3, 3)), {}, "the products of one output take [0-9]+ bytes; .*workspace.* admits more"),
    ],
)
def test_what_it_leaves_to_others(shapes: Any, options: dict[str, Any], reason: str) -> None:
    with ac.settings(workspace=2**7), pytest.raises(ValueError, match=f"algorithm='diagonals' can't serve.*: {reason}"):
        ac.plan(ac.correlate, *shapes, algorithm="diagonals", **{"library": "numpy"} | options)
