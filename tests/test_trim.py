"""Taps and outputs that meet only padding are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms.trim import is_met, met_outputs, met_taps, trim
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, make_problem, options

if TYPE_CHECKING:
    from conftest import Library


@st.composite
def axes(draw: st.DrawFn, holes: int = 1) -> WindowDimension:
    """Axes of few elements with long windows and much padding, or a crop, that have an output."""
    size, kernel, stride, step, base = (draw(st.integers(1, most)) for most in (4, 6, 5, 7, holes))
    low, spare = draw(st.integers(-3, 40)), draw(st.integers(0, 9))
    high = (kernel - 1) * step - (size - 1) * base - low + spare
    return WindowDimension(size, kernel, stride, low, high, step, base)


def met(axis: WindowDimension) -> set[tuple[int, int]]:
    """The pairs of an output and a tap that meet an element, one by one."""
    dilated = {i * axis.base_dilation for i in range(axis.size)}
    return {
        (j, t)
        for j in range(axis.output)
        for t in range(axis.kernel)
        if j * axis.stride + t * axis.window_dilation - axis.low in dilated
    }


@given(axes(holes=3))
def test_whatever_meets_an_element_is_kept(axis: WindowDimension) -> None:
    taps, source, (before, after), own = trim(axis)
    kept = range(before, axis.output - after)
    pairs = met(axis)
    assert pairs <= {(j, t) for j in kept for t in range(taps.start, taps.stop)}
    assert (own.output, own.kernel, own.size) == (len(kept), taps.stop - taps.start, source.stop - source.start)
    assert met(own) == {(j - before, t - taps.start) for j, t in pairs}


@given(axes(), st.booleans())
def test_most_axes_need_no_second_look(axis: WindowDimension, is_same: bool) -> None:
    """Only those do of which an end, the first or last tap or output, meets no element."""
    if is_same:
        half = axis.window // 2
        axis = WindowDimension(9 * axis.size, axis.kernel, axis.stride, half, half, axis.window_dilation)
    taps, pairs = met_taps(axis), met(axis)
    assert not is_met(axis) or (len(taps) == axis.kernel and len(met_outputs(axis, taps)) == axis.output)
    ends = {0, axis.kernel - 1} <= {t for _, t in pairs} and {0, axis.output - 1} <= {j for j, _ in pairs}
    assert is_met(axis) or not ends


@given(axes())
def test_no_end_is_left_that_never_meets_an_element(axis: WindowDimension) -> None:
    """Without strides and holes, where the arithmetic of ends is exact."""
    axis = WindowDimension(axis.size, axis.kernel, 1, axis.low, axis.high, axis.window_dilation)
    pairs = met(axis)
    if not pairs:
        return
    taps = met_taps(axis)
    outputs = met_outputs(axis, taps)
    assert {taps[0], taps[-1]} <= {t for _, t in pairs}
    if axis.window_dilation == 1:
        assert {outputs[0], outputs[-1]} <= {j for j, _ in pairs}


def test_every_library(library: Library) -> None:
    def check(drawn: tuple[WindowDimension, WindowDimension, int, bool]) -> None:
        first, second, seed, is_integer = drawn
        random = np.random.default_rng(seed)
        x = random.integers(-9, 9, (2, 4, first.size, second.size)).astype("int32" if is_integer else "float32")
        kernel = random.integers(-9, 9, (2, 2, first.kernel, second.kernel)).astype(x.dtype)
        if seed % 2 and not is_integer:
            x[0, 0, -1, 0] = np.nan
        options: dict[str, Any] = {"padding": ((first.low, first.high), (second.low, second.high)), "groups": 2}
        options |= {"stride": (first.stride, second.stride)}
        options |= {"dilation": (first.window_dilation, second.window_dilation)}
        assert library.check(ac.conv, x, kernel, **options)
        library.check(ac.conv, x, kernel, algorithm="trim", **options)

    library.for_all(st.tuples(axes(), axes(), st.integers(0, 99), st.booleans()), check)


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_a_dilated_layer_on_a_small_map_is_its_middle_tap(name: str) -> None:
    plan = ac.plan(ac.conv, (4, 256, 16, 16), (64, 256, 3, 3), dilation=18, padding=18, dtype="float32", library=name)
    assert plan.algorithm == "trim"


def test_zeros_that_no_memory_holds_are_refused(library: Library) -> None:
    x, kernel = (library.asarray(np.ones((1, 1, n))) for n in (4, 3))
    with pytest.raises(
        ValueError, match=r"'trim' can't serve .* \(1, 1, 2\d+\) is more than any memory holds; pad less"
    ):
        ac.conv(x, kernel, padding=10**13, algorithm="trim")


def test_cotangents(library: Library) -> None:
    """Of taps that meet nothing they are zeros; of the rest those of the loops."""
    random = np.random.default_rng(0)
    x, kernel = random.standard_normal((2, 3, 2, 4)), random.standard_normal((2, 3, 3, 3))
    options: dict[str, Any] = {"padding": ((6, 6), (4, 4)), "dilation": (6, 4)}
    y, pullback = ac.vjp(ac.conv, library.asarray(x), library.asarray(kernel), **options)
    dy = random.standard_normal(y.shape)
    dx, dkernel = map(library.to_numpy, pullback(library.asarray(dy)))
    wide = np.pad(x, ((0, 0), (0, 0), (6, 6), (4, 4)))
    taps, pulled = np.zeros_like(kernel), np.zeros_like(wide)
    for row, column in np.ndindex(3, 3):
        part = np.s_[:, :, 6 * row : 6 * row + 2, 4 * column : 4 * column + 4]
        taps[:, :, row, column] = np.einsum("nohw,nihw->oi", dy, wide[part])
        pulled[part] += np.einsum("nohw,oi->nihw", dy, kernel[:, :, row, column])
    np.testing.assert_allclose(dkernel, taps, atol=1e-12)
    np.testing.assert_allclose(dx, pulled[:, :, 6:8, 4:8], atol=1e-12)
    assert not dkernel[:, :, 0].any() and not dkernel[:, :, :, 2].any()


def test_a_rewrite_within_a_rewrite_is_priced_with_its_parts() -> None:
    """Each residue of a transposed convolution is trimmed here, the whole is not; the algorithm's seconds count."""
    backend = library_backend("numpy")
    axes = (WindowDimension(4, 99, 1, 400, 400, 7, 2), WindowDimension(400, 3))
    problem = make_problem(Geometry(1, 1, 1, 1, axes), "float32", backend, "cpu", current_settings())
    row = next(row for row in options(problem, backend) if row.name == "phases")
    assert {part.algorithm for part in row.parts} == {"trim"}
    least = sum(ALGORITHMS[inner.algorithm].cost(inner.problem, backend) for part in row.parts for inner in part.parts)
    assert row.seconds > least
