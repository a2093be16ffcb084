"""`wgrad`: torch's own gradient of a kernel, compared with the definition and with autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_geometry import correlate

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS
from arrayconv.backend import library_backend
from arrayconv.backends.torch_wgrad import make_wgrad
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, derive, execute, make_problem, make_program
from arrayconv.program import Program
from arrayconv.transposes import correlate_taps, swap_leading, x_for_kernel

BACKEND = library_backend("torch")


@st.composite
def forward_geometries(draw: st.DrawFn) -> Geometry:
    """Of a convolution, or of a transposed one: strides on one side only; zeros of any number, cropped elements too."""
    ndim, is_transposed = draw(st.integers(1, 3)), draw(st.booleans())
    axes = []
    for _ in range(ndim):
        size, taps, dilation, step = (draw(st.integers(1, high)) for high in (7, 3, 2, 3))
        low, high = draw(st.integers(-1, 3)), draw(st.integers(-1, 3))
        steps = (1, step) if is_transposed else (step, 1)
        base, window = (size - 1) * steps[1] + 1, (taps - 1) * dilation + 1
        high += max(0, window - base - low - high)
        axes.append(WindowDimension(size, taps, steps[0], low, high, dilation, steps[1]))
    groups, inputs, outputs = (draw(st.integers(1, 3)) for _ in range(3))
    return Geometry(draw(st.integers(1, 3)), groups, inputs, outputs, tuple(axes))


def program_of(geometry: Geometry, dtype: str = "float32") -> Program:
    """Few of these have more taps than outputs, as the planner asks; any can be run."""
    return Program(make_problem(geometry, dtype, BACKEND, "cpu", current_settings()), "wgrad", "wgrad")


def integers(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Their sums of products are exact in float32."""
    return np.random.default_rng(seed).integers(-9, 10, shape)


def tensors(*arrays: np.ndarray[Any, Any], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(dtype) for array in arrays]


@given(forward_geometries())
def test_it_is_the_correlation_of_a_kernel_s_transpose(geometry: Geometry) -> None:
    own = geometry.kernel_transpose()
    arrays = integers(own.x_shape, 0), integers(own.kernel_shape, 1)
    y = execute(program_of(own), BACKEND, *tensors(*arrays))
    np.testing.assert_array_equal(y, correlate(own, *arrays))


@given(forward_geometries())
def test_arrays_as_autograd_has_them_need_no_permutation(geometry: Geometry) -> None:
    x, dy = (integers(shape, i) for i, shape in enumerate((geometry.x_shape, geometry.y_shape)))
    own = program_of(geometry.kernel_transpose())
    dk = make_wgrad(own.geometry)(*tensors(x, dy))
    expected = correlate_taps(np, lambda program, *arrays: correlate(program.geometry, *arrays), own, x, dy)
    np.testing.assert_array_equal(dk, expected)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_types_are_kept_and_summed_in_their_accumulator(dtype: str, groups: int) -> None:
    own = Geometry(2, groups, 2, 3, (WindowDimension(40, 3, low=1, high=1),) * 2).kernel_transpose()
    arrays = integers(own.x_shape, 2) // 5, integers(own.kernel_shape, 3) // 5
    y = execute(program_of(own, dtype), BACKEND, *tensors(*arrays, dtype=getattr(torch, dtype)))
    exact = torch.from_numpy(correlate(own, *arrays))
    assert exact.abs().max() > 256  # more than bfloat16 has integers
    torch.testing.assert_close(y, exact.to(getattr(torch, dtype)), rtol=0, atol=0)


def test_it_has_derivatives_of_its_own() -> None:
    """Reverse mode to second order, by planned calls."""
    own = Geometry(2, 2, 2, 1, (WindowDimension(6, 2, 2, 1, 1), WindowDimension(5, 3))).kernel_transpose()
    program = program_of(own, "float64")
    arrays = tensors(integers(own.x_shape, 3), integers(own.kernel_shape, 4), dtype=torch.float64)
    arrays = [array.requires_grad_() for array in arrays]
    assert torch.autograd.gradcheck(lambda *pair: execute(program, BACKEND, *pair), arrays)
    assert torch.autograd.gradgradcheck(lambda *pair: execute(program, BACKEND, *pair), arrays)


@given(forward_geometries(), st.data(), st.sampled_from([torch.nan, torch.inf]))
def test_what_is_not_finite_stays_in_its_windows(geometry: Geometry, data: st.DataObject, bad: float) -> None:
    """In a call of its own, and where autograd has planned it."""
    own, program = geometry.kernel_transpose(), make_program(program_of(geometry).problem, BACKEND)
    x, dy = integers(own.x_shape, 5), integers(own.kernel_shape, 6)
    place = np.unravel_index(data.draw(st.integers(0, x.size - 1)), x.shape)
    wide, narrow = tensors(x, dy)
    wide[place] = bad
    there = np.zeros_like(x)
    there[place] = 1
    meets = correlate(own, there, np.ones_like(dy)) > 0
    expected = np.where(meets, np.nan, correlate(own, x, dy))
    y = execute(program_of(own), BACKEND, wide, narrow).numpy()
    np.testing.assert_array_equal(np.where(np.isfinite(y), y, np.nan), expected)
    before = x_for_kernel(BACKEND.xp, own, wide)
    kernel = torch.zeros(geometry.kernel_shape, requires_grad=True)
    y = execute(replace(program, requested="wgrad"), BACKEND, before, kernel)
    (dk,) = torch.autograd.grad(y, kernel, swap_leading(BACKEND.xp, narrow))
    found = swap_leading(np, dk.numpy())
    np.testing.assert_array_equal(np.where(np.isfinite(found), found, np.nan), expected)


def test_what_it_does_not_serve_says_why() -> None:
    def refused(geometry: Geometry, dtype: str = "float32", library: str = "torch") -> str:
        backend = library_backend(library)
        with pytest.raises(ValueError, match="algorithm='wgrad' can't serve this call") as caught:
            make_program(make_problem(geometry, dtype, backend, "cpu", current_settings()), backend, "wgrad")
        return str(caught.value)

    image = Geometry(1, 1, 1, 1, (WindowDimension(9, 3),) * 2)
    own = image.kernel_transpose()
    assert "numpy has no call for the gradient of a kernel" in refused(own, library="numpy")
    assert "a kernel with more taps than outputs" in refused(image)
    assert "real floating point numbers only" in refused(own, "int32") and refused(own, "complex64")
    assert "1 to 3 spatial axes, not 4" in refused(replace(own, axes=own.axes * 2))
    both = Geometry(1, 1, 1, 1, (WindowDimension(30, 3, 2, base_dilation=2),)).kernel_transpose()
    assert "no stride of the window" in str(ALGORITHMS["wgrad"].unsupported(program_of(both).problem, BACKEND))


def test_the_gradient_of_a_kernel_is_planned_as_one() -> None:
    """Dense layers, where a convolution with y as the kernel is slow."""
    program = ac.plan(ac.conv, (8, 64, 28, 28), (64, 64, 3, 3), padding=1, library="torch").program
    assert derive(program, program.geometry.kernel_transpose()).algorithm == "wgrad"
