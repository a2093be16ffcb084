"""`kn2row`: products of x with the kernels of all taps, summed where they fall, compared with the definition."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_geometry import correlate

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS, kn2row_residues
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, execute, make_problem, make_program

#: Those that take it, and what arrays of these become.
LIBRARIES: dict[str, Any] = {
    "numpy": lambda array: array.astype("float32"),
    "torch": lambda array: torch.from_numpy(array.astype("float32")),
    "jax": lambda array: jnp.asarray(array, "float32"),
}

#: Those that take strides of 1 with a base dilation, and one without.
DILATED, PLAIN = ("torch", "jax"), ("numpy", "torch")


@st.composite
def geometries(draw: st.DrawFn, library: str) -> Geometry:
    """Windows of any size, zeros of any number, cropped elements; base dilations where they are taken."""
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        size, taps, dilation = (draw(st.integers(1, high)) for high in (7, 4, 2))
        step = draw(st.integers(1 + (library not in PLAIN), 3)) if library in DILATED else 1
        low, high = draw(st.integers(-1, 4)), draw(st.integers(-1, 4))
        base, window = (size - 1) * step + 1, (taps - 1) * dilation + 1
        high += max(0, window - base - low - high)
        axes.append(WindowDimension(size, taps, 1, low, high, dilation, step))
    groups = 1 if library == "torch" else draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 3))
    inputs = draw(st.integers(16, 18)) if library == "jax" else outputs + draw(st.integers(1, 3))
    return Geometry(draw(st.integers(1, 3)), groups, inputs, outputs, tuple(axes))


def integers(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Their sums of products are exact in float32."""
    return np.random.default_rng(seed).integers(-9, 10, shape)


@pytest.mark.parametrize(
    ("name", "workspace"), [("numpy", 2**26), ("numpy", 2**10), ("torch", 2**26), ("torch", 2**10), ("jax", 2**26)]
)
@given(data=st.data())
def test_it_is_the_definition(name: str, workspace: int, data: st.DataObject) -> None:
    """Of whole images, and of tiles that share elements of x; JAX refuses images that don't fit."""
    geometry, backend = data.draw(geometries(name)), library_backend(name)
    x, kernel = integers(geometry.x_shape, 0), integers(geometry.kernel_shape, 1)
    with ac.settings(workspace=workspace):
        problem = make_problem(geometry, "float32", backend, "cpu", current_settings())
        program = make_program(problem, backend, "kn2row")
    if program.algorithm == "kn2row":  # else there is nothing to compute
        y = execute(program, backend, LIBRARIES[name](x), LIBRARIES[name](kernel))
        np.testing.assert_array_equal(y, correlate(geometry, x, kernel))


def test_small_workspaces_make_tiles() -> None:
    with ac.settings(workspace=2**16):
        for name in PLAIN:
            plan = ac.plan(ac.conv, (2, 8, 60, 60), (2, 8, 3, 3), padding=1, library=name, algorithm="kn2row")
            assert plan.program.block < (2, 60, 60) and plan.program.workspace <= 2**16


def test_what_is_not_finite_stays_within_its_windows() -> None:
    x, kernel = np.ones((1, 4, 9, 9), "float32"), np.ones((1, 4, 3, 3), "float32")
    x[0, 1, 4, 4], x[0, 2, 0, 0] = np.nan, np.inf
    expected = ac.conv(x, kernel, padding=1, algorithm="direct")
    for name in PLAIN:
        y = ac.conv(*map(LIBRARIES[name], (x, kernel)), padding=1, algorithm="kn2row")
        np.testing.assert_array_equal(np.asarray(y), expected)
    x, kernel = np.tile(x, (1, 4, 1, 1)), np.tile(kernel.transpose(1, 0, 2, 3), (4, 1, 1, 1))
    expected = ac.conv_transpose(x, kernel, stride=2, padding=1, algorithm="phases")
    for name in DILATED:
        y = np.asarray(ac.conv_transpose(*map(LIBRARIES[name], (x, kernel)), stride=2, padding=1, algorithm="kn2row"))
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))


@pytest.mark.parametrize("looped", [1, 2**30])
def test_jax_loops_over_images(looped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, or all at once; some at a time where the workspace holds no more."""
    monkeypatch.setattr(kn2row_residues, "LOOPED", looped)
    shapes = (6, 16, 9, 8), (16, 2, 5, 3)
    x, kernel = (integers(shape, seed).astype("float32") for seed, shape in enumerate(shapes))
    with ac.settings(workspace=2**17):
        own = ac.plan(ac.conv_transpose, *shapes, stride=(3, 2), library="jax", algorithm="kn2row").program
        assert kn2row_residues.images_of(own.problem) == (1 if looped == 1 else 3)
        y = ac.conv_transpose(*map(LIBRARIES["jax"], (x, kernel)), stride=(3, 2), algorithm="kn2row")
        np.testing.assert_array_equal(y, ac.conv_transpose(x, kernel, stride=(3, 2), algorithm="phases"))
    with ac.settings(workspace=2**12), pytest.raises(ValueError, match="the products of an image take"):
        ac.plan(ac.conv_transpose, *shapes, stride=(3, 2), library="jax", algorithm="kn2row")
    with pytest.raises(ValueError, match="15 channels in; it takes 16"):
        ac.plan(ac.conv_transpose, (1, 15, 9, 9), (15, 2, 3, 3), stride=2, library="jax", algorithm="kn2row")


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # by torch.func.jvp itself
@pytest.mark.parametrize("function", [ac.conv, ac.conv_transpose])
def test_torch_s_derivatives_and_transforms_see_a_function_that_has_them(function: Any) -> None:
    """Its routine has no forward derivative and no batching rule."""
    shapes = (2, 4, 6, 7), (1, 4, 3, 3) if function is ac.conv else (4, 1, 3, 3)
    x, kernel = (LIBRARIES["torch"](integers(shape, seed)) for seed, shape in enumerate(shapes))

    def call(x: torch.Tensor, kernel: torch.Tensor, algorithm: str = "kn2row") -> torch.Tensor:
        y: torch.Tensor = function(x, kernel, algorithm=algorithm)
        return y

    def native(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return call(x, kernel, "native")

    tangents = x.flip(2), kernel.flip(3)
    for own, other in zip(
        torch.func.jvp(call, (x, kernel), tangents), torch.func.jvp(native, (x, kernel), tangents), strict=True
    ):
        torch.testing.assert_close(own, other)
    arrays = x.clone().requires_grad_(), kernel.clone().requires_grad_()
    own, other = (torch.autograd.grad(each(*arrays).square().sum(), arrays) for each in (call, native))
    torch.testing.assert_close(own, other)
    torch.testing.assert_close(
        torch.func.vmap(lambda x: function(x[None], kernel)[0])(x), native(x, kernel), rtol=0, atol=0
    )
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, kernel), native(x, kernel))


@pytest.mark.parametrize(
    ("library", "channels", "options", "reason"),
    [
        ("numpy", (4, 4), {}, "fewer channels out than in"),
        ("numpy", (2, 4), {"stride": 2}, "a stride would leave out most of its products"),
        ("numpy", (2, 4), {"dtype": "complex64"}, "real floating point numbers"),
        ("torch", (2, 4), {"groups": 2}, "takes one group"),
        ("torch", (2, 4), {"device": "cuda"}, "called on CPUs"),
        ("jax", (2, 16), {}, "gemm adds up the products"),
    ],
)
def test_reasons(library: str, channels: tuple[int, int], options: dict[str, Any], reason: str) -> None:
    x = 1, channels[1] * options.get("groups", 1), 9, 9
    with pytest.raises(ValueError, match=reason):
        ac.plan(ac.conv, x, (*channels, 3, 3), library=library, algorithm="kn2row", **options)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    ("x", "kernel"),
    [((1, 32, 128, 128), (1, 32, 5, 5)), ((8, 512, 31, 31), (1, 512, 4, 4)), ((8, 32, 8192), (1, 32, 7))],
)
def test_few_channels_out_are_planned_so(name: str, x: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    """The last layers of SRCNN, a patch discriminator and HiFi-GAN: up to nine times faster than by any other way."""
    assert ac.plan(ac.conv, x, kernel, library=name).algorithm == "kn2row"


def test_a_library_s_routine_is_counted_by_what_it_makes() -> None:
    """All products, those beside the result too; NumPy's sums are those that meet an element."""
    axis = WindowDimension(8, 3, 1, 1, 1)
    geometry, counted = Geometry(1, 1, 4, 2, (axis,)), {}
    for name in PLAIN:
        backend = library_backend(name)
        problem = make_problem(geometry, "float32", backend, "cpu", current_settings())
        counted[name] = ALGORITHMS["kn2row"].counts(problem, backend)
    assert counted["torch"]["column"] == 8 * 2 * 3 and counted["numpy"]["column"] == pytest.approx((8 * 3 - 2) * 2)
    assert counted["torch"]["product"] == counted["numpy"]["product"] == 8 * 2 * 3 * 4
