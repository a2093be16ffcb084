"""The two transposes: the same index triples, read for x and for the kernel; and the adjoint identity in integers."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrayconv.geometry import Geometry, WindowDimension, dilated
from arrayconv.program import Problem, Program
from arrayconv.transposes import correlate_input, correlate_taps

Array = Any
Triple = tuple[int, int, int]


def triples(axis: WindowDimension) -> set[Triple]:
    """Every (output j, tap t, input i) that the axis pairs, found by trying them all."""
    return {
        (j, t, i)
        for j, t, i in product(range(axis.output), range(axis.kernel), range(axis.size))
        if j * axis.stride + t * axis.window_dilation - axis.low == i * axis.base_dilation
    }


@st.composite
def window_dimensions(draw: st.DrawFn, largest: int = 8) -> WindowDimension:
    return WindowDimension(
        size=draw(st.integers(0, largest)),
        kernel=draw(st.integers(1, 5)),
        stride=draw(st.integers(1, 4)),
        low=draw(st.integers(-4, 6)),
        high=draw(st.integers(-4, 6)),
        window_dilation=draw(st.integers(1, 3)),
        base_dilation=draw(st.integers(1, 3)),
    )


@given(st.integers(0, 9), st.integers(1, 5))
def test_dilated_counts_elements_and_holes(size: int, dilation: int) -> None:
    row = np.zeros(size * dilation)
    row[::dilation] = 1
    assert dilated(size, dilation) == len(np.trim_zeros(row))


@given(window_dimensions())
def test_output_counts_the_windows_that_fit(axis: WindowDimension) -> None:
    padded = range(-axis.low, axis.base + axis.high)
    starts = range(-axis.low, axis.base + axis.high, axis.stride)
    assert axis.padded == len(padded)
    assert axis.output == sum(start + axis.window - 1 in padded for start in starts)


@given(window_dimensions())
def test_input_transpose_pairs_the_same_triples(axis: WindowDimension) -> None:
    transposed = axis.input_transpose()
    assert transposed.output == axis.size
    assert triples(transposed) == {(i, axis.kernel - 1 - t, j) for j, t, i in triples(axis)}


@given(window_dimensions())
def test_kernel_transpose_pairs_the_same_triples(axis: WindowDimension) -> None:
    transposed = axis.kernel_transpose()
    assert transposed.output == axis.kernel
    assert triples(transposed) == {(t, j, i) for j, t, i in triples(axis)}


@given(window_dimensions())
def test_a_transpose_undoes_itself(axis: WindowDimension) -> None:
    """Up to the padding at the end that no window reaches."""
    if axis.output:
        used = dilated(axis.output, axis.stride) + axis.window - 1
        trimmed = replace(axis, high=axis.high - (axis.padded - used))
        assert axis.input_transpose().input_transpose() == trimmed
        assert axis.kernel_transpose().kernel_transpose() == trimmed


@pytest.mark.parametrize("field", ["size", "kernel", "stride", "low", "high", "window_dilation", "base_dilation"])
def test_an_axis_is_a_value(field: str) -> None:
    axis = WindowDimension(8, 3, stride=2, low=1, high=1)
    assert axis == WindowDimension(8, 3, 2, 1, 1)
    assert hash(axis) == hash(WindowDimension(8, 3, 2, 1, 1))
    assert axis != replace(axis, **{field: getattr(axis, field) + 1})
    with pytest.raises(AttributeError):
        setattr(axis, field, 1)


# All axes and channels together


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    channels = st.integers(1, 3)
    axes = draw(st.lists(window_dimensions(largest=5), min_size=1, max_size=2))
    return Geometry(draw(st.integers(0, 2)), draw(channels), draw(channels), draw(channels), tuple(axes))


def correlate(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """The sum over all triples, as the definition has it."""
    g = geometry
    assert x.shape == g.x_shape
    assert kernel.shape == g.kernel_shape
    x = x.reshape(g.batch, g.groups, g.inputs, *g.sizes)
    kernel = kernel.reshape(g.groups, g.outputs, g.inputs, *g.window)
    y = np.zeros((g.batch, g.groups, g.outputs, *g.out), np.int64)
    for paired in product(*map(triples, g.axes)):
        j, t, i = ((..., *position) for position in zip(*paired, strict=True))
        y[j] += np.einsum("ngc,goc->ngo", x[i], kernel[t])
    return y.reshape(g.y_shape)


def swap(array: Array, groups: int) -> Array:
    """``(groups * a, b, ...)`` to ``(groups * b, a, ...)``, within each group."""
    split = array.reshape(groups, array.shape[0] // groups, *array.shape[1:]).swapaxes(1, 2)
    return split.reshape(groups * split.shape[1], *split.shape[2:])


@settings(deadline=None, max_examples=60)
@given(geometries(), st.integers(0, 2**32 - 1))
def test_transposes_are_adjoint_in_integers(geometry: Geometry, seed: int) -> None:
    """``<cotangent, y> = <dx, x> = <dkernel, kernel>``, exactly."""
    g = geometry
    rng = np.random.default_rng(seed)
    x, kernel, cotangent = (rng.integers(-9, 10, shape) for shape in (g.x_shape, g.kernel_shape, g.y_shape))
    flipped = np.flip(swap(kernel, g.groups), tuple(range(2, 2 + g.ndim)))
    dx = correlate(g.input_transpose(), cotangent, flipped)
    folded = x.reshape(g.batch, g.groups, g.inputs, *g.sizes).transpose(2, 1, 0, *range(3, 3 + g.ndim))
    folded = folded.reshape(g.inputs, g.groups * g.batch, *g.sizes)
    dkernel = correlate(g.kernel_transpose(), folded, cotangent.swapaxes(0, 1)).swapaxes(0, 1)
    assert dx.shape == x.shape
    assert dkernel.shape == kernel.shape
    assert (cotangent * correlate(g, x, kernel)).sum() == (dx * x).sum() == (dkernel * kernel).sum()

    def run(program: Program, x: Array, kernel: Array) -> Array:
        return correlate(program.geometry, x, kernel)

    to_x, to_kernel = (
        Program(Problem(own, "int64", "int64", "numpy", "cpu"), "gemm")
        for own in (g.input_transpose(), g.kernel_transpose())
    )
    np.testing.assert_array_equal(correlate_input(np, run, to_x, cotangent, kernel), dx)
    np.testing.assert_array_equal(correlate_taps(np, run, to_kernel, x, cotangent), dkernel)


def test_shapes_and_counts() -> None:
    axes = (WindowDimension(9, 3, stride=2, low=1, high=1), WindowDimension(8, 2, window_dilation=3))
    g = Geometry(batch=4, groups=2, inputs=3, outputs=5, axes=axes)
    assert (g.ndim, g.sizes, g.window, g.out) == (2, (9, 8), (3, 2), (5, 5))
    assert (g.x_shape, g.kernel_shape, g.y_shape) == ((4, 6, 9, 8), (10, 3, 3, 2), (4, 10, 5, 5))
    assert (g.taps, g.terms, g.multiply_adds) == (6, 18, 4 * 10 * 25 * 18)


@given(geometries())
def test_transposes_name_the_shapes_they_take(geometry: Geometry) -> None:
    g = geometry
    to_x, to_kernel = g.input_transpose(), g.kernel_transpose()
    assert (to_x.x_shape, to_x.y_shape) == (g.y_shape, g.x_shape)
    assert to_x.kernel_shape == (g.groups * g.inputs, g.outputs, *g.window)
    assert to_kernel.x_shape == (g.inputs, g.groups * g.batch, *g.sizes)
    assert to_kernel.kernel_shape == (g.groups * g.outputs, g.batch, *g.out)
    assert to_kernel.y_shape == (g.inputs, g.groups * g.outputs, *g.window)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_multiply_adds_leave_out_inserted_zeros(size: int, repeats: int, base_dilation: int, stride: int) -> None:
    """A window of a multiple of the base dilation reads the same number of true elements wherever it starts."""
    axis = WindowDimension(size, repeats * base_dilation, stride, 9, 9, base_dilation=base_dilation)
    starts = range(-axis.low, axis.base + axis.high - axis.window + 1, axis.stride)
    true_products = sum((start + t) % base_dilation == 0 for start in starts for t in range(axis.kernel))
    assert Geometry(2, 3, 4, 5, (axis,)).multiply_adds == 2 * 3 * 4 * 5 * true_products


def test_what_follows_from_a_geometry_is_known_and_no_part_of_its_value() -> None:
    axis = WindowDimension(10, 3, stride=2, low=1, high=-2, window_dilation=2, base_dilation=3)
    assert (axis.base, axis.window, axis.padded, axis.output) == (28, 5, 27, 12)
    assert WindowDimension(0, 3, low=1).padded == 1 and WindowDimension(4, 9).output == 0
    geometry = Geometry(2, 3, 4, 5, (axis, WindowDimension(7, 2)))
    assert geometry.x_shape == (2, 12, 10, 7) and geometry.kernel_shape == (15, 4, 3, 2)
    assert geometry.y_shape == (2, 15, 12, 6) and (geometry.taps, geometry.terms) == (6, 24)
    assert geometry.ndim == 2 and replace(geometry, axes=(axis,)).out == (12,)
    names = [[field.name for field in fields(value)] for value in (axis, geometry)]
    assert names[0] == ["size", "kernel", "stride", "low", "high", "window_dilation", "base_dilation"]
    assert names[1] == ["batch", "groups", "inputs", "outputs", "axes"]
    for value in (axis, geometry):
        for copied in (pickle.loads(pickle.dumps(value)), deepcopy(value), replace(value)):
            assert copied == value and hash(copied) == hash(value) and copied.window == value.window
    assert geometry != replace(geometry, batch=3) and axis != replace(axis, low=2)
