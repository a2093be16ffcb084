"""Winograd's filtering: its matrices in exact fractions, its errors, and the algorithm on every kind of arrays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import signal
from torch import func

import arrayconv as ac
from arrayconv.algorithms import winograd, winograd_transforms
from arrayconv.algorithms.winograd_transforms import POINTS, TAPS, bands, cut, even, growth, kernel_band, transforms
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension

if TYPE_CHECKING:
    from conftest import Library

Array = Any
RNG = np.random.default_rng(11)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    values = RNG.standard_normal(shape)
    return (values + 1j * RNG.standard_normal(shape) if "complex" in dtype else values).astype(dtype)


conv = partial(ac.conv, algorithm="winograd")


@pytest.fixture
def normwise() -> Iterator[None]:
    with ac.settings(accuracy="normwise"):
        yield


def problem(geometry: Geometry, dtype: str = "float32", library: str = "numpy") -> Any:
    with ac.settings(accuracy="normwise"):
        plan = ac.plan(ac.conv, (1, 1, 5), (1, 1, 3), dtype=dtype, library=library)
    return plan.program.problem.with_geometry(geometry)


def layer(inputs: int, *sizes: int, outputs: int = 4, batch: int = 1) -> Geometry:
    return Geometry(batch, 1, inputs, outputs, tuple(WindowDimension(n, TAPS) for n in sizes))


# The matrices


@pytest.mark.parametrize("m", POINTS)
def test_the_transforms_are_the_correlation_exactly(m: int) -> None:
    """``A^T [(G k) * (B^T x)]`` is linear in both: its coefficient of ``k_t x_i`` in ``y_j`` is 1 where i = j + t."""
    inputs, kernel, outputs = transforms(m)
    for j, t, i in product(range(m), range(TAPS), range(m + TAPS - 1)):
        terms = (a * g[t] * b[i] for a, g, b in zip(outputs[j], kernel, inputs, strict=True))
        assert sum(terms, Fraction(0)) == (i == j + t)


@pytest.mark.parametrize("m", POINTS)
def test_inputs_and_outputs_are_transformed_by_floats_without_rounding(m: int) -> None:
    for matrix in (transforms(m).inputs, transforms(m).outputs):
        for entry in (entry for row in matrix for entry in row):
            assert Fraction(float(np.float32(entry))) == entry


def test_the_points_grow_errors_less_than_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert growth(2) == 4 and growth(4) > 12  # now in the cache
    monkeypatch.setitem(POINTS, 4, (0, 8, -8, 16, -16))
    monkeypatch.setattr(winograd_transforms, "transforms", transforms.__wrapped__)
    assert growth(4) < growth.__wrapped__(4) / 2


@pytest.mark.parametrize("m", POINTS)
@pytest.mark.parametrize("length", [4, 16, 32])
def test_bands_transform_a_whole_axis(m: int, length: int) -> None:
    """Blocks of an axis, each from the inputs that it shares with its neighbours, against NumPy's correlation."""
    kernel = RNG.integers(-9, 9, TAPS)
    points = kernel_band(m, 1, "float64") @ kernel
    for outputs in range(1, 70):
        band = bands(m, outputs, length, "float64")
        assert (band.blocks - 1) * band.step < outputs <= band.blocks * band.step
        assert band.blocks > 1 or band.step == outputs
        x = RNG.integers(-9, 9, band.blocks * band.step + TAPS - 1)
        parts = [x[i * band.step : (i + 1) * band.step + TAPS - 1] for i in range(band.blocks)]
        products = [np.repeat(points, len(band.inputs) // len(points)) * (band.inputs @ part) for part in parts]
        y = np.concatenate([band.outputs @ values for values in products])
        np.testing.assert_allclose(y, np.correlate(x, kernel), rtol=0, atol=1e-10)


def test_matrices_are_shared_and_can_t_be_written_to() -> None:
    band = bands(4, 9, 16, "float32")
    assert bands(4, 9, 16, "float32") is band
    for array in (band.inputs, band.outputs, kernel_band(4, 2, "float32")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_cuts_are_even_and_leave_little_over() -> None:
    for count, some in product(range(1, 100), range(1, 20)):
        size = cut(count, some)
        pieces = -(-count // size)
        assert size == count <= 2 * some or (size <= some and size * pieces - count < pieces)
        assert even(count, some) <= some and -(-count // even(count, some)) == -(-count // some)


# Errors


@pytest.mark.parametrize("m", POINTS)
@pytest.mark.parametrize(("ndim", "inputs"), [(1, 1), (1, 40), (2, 1), (2, 40), (3, 3)])
def test_errors_stay_below_their_bound(m: int, ndim: int, inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tile would not be chosen: with alternating signs, which add up in the transforms."""
    monkeypatch.setattr(winograd, "sizes", lambda problem: [m])
    geometry = layer(inputs, *(12,) * ndim, outputs=3, batch=2)
    signs = np.cos(np.pi * sum(np.indices(geometry.sizes)))
    for spread in (0.0, 1.0):
        x = (signs + spread * RNG.standard_normal(geometry.x_shape)).astype("float32")
        kernel = (1 + spread * RNG.standard_normal(geometry.kernel_shape)).astype("float32")
        with ac.settings(accuracy="normwise", tuning=None, workspace=2**25 + m):  # a plan of its own
            y = conv(x, kernel)
        error = np.abs(y - ac.conv(x.astype(float), kernel.astype(float)))
        largest = np.abs(x).max() * np.abs(kernel).sum(axis=tuple(range(1, 2 + ndim)))
        bound = winograd.rounding(geometry, m) * 2.0**-24 * largest
        assert (error <= bound.reshape(1, -1, *(1,) * ndim)).all()


def test_the_tile_is_chosen_by_its_errors_and_its_cost() -> None:
    def tiles(*own: Any) -> list[int]:
        return winograd.sizes(problem(layer(*own)))

    assert tiles(1, 20) == tiles(8, 20, 20) == [2, 4]
    assert tiles(1, 20, 20) == tiles(64, 9, 9, 9) == [2]
    backend = library_backend("numpy")
    assert winograd.size(problem(layer(64, 64, 64, outputs=64)), backend) == 4
    assert winograd.size(problem(layer(64, 4, 4, outputs=64)), backend) == 2


# The algorithm


@st.composite
def layers(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of x and kernel, and options: one or two axes that padding makes long enough."""
    ndim = draw(st.integers(1, 2))
    groups, inputs, outputs = draw(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.one_of(st.sampled_from(("same", "full", "causal")), st.integers(-1, 3)))
    least = 5 if padding == -1 else 3
    sizes = draw(st.tuples(*[st.integers(least, 11)] * ndim))
    batch = draw(st.sampled_from([(), (1,), (2,), (2, 2)]))
    channels = draw(st.sampled_from(("first", "last")))
    x, kernel = (groups * inputs, *sizes), (groups * outputs, inputs, *(TAPS,) * ndim)
    if channels == "last":
        x, kernel = (*sizes, groups * inputs), (*(TAPS,) * ndim, inputs, groups * outputs)
    return (*batch, *x), kernel, {"padding": padding, "groups": groups, "channels": channels}


@pytest.mark.usefixtures("normwise")
def test_random_layers(library: Library) -> None:
    def check(drawn: Any) -> None:
        x, kernel, options = drawn
        assert library.check(ac.conv, normal(*x), normal(*kernel), algorithm="winograd", **options)

    library.for_all(layers(), check)


@pytest.mark.usefixtures("normwise")
@pytest.mark.parametrize("shape", [(2, 8, 70), (1, 8, 19, 21), (1, 4, 6, 5, 9), (1, 16, 4, 3, 5, 4)], ids=len)
def test_every_floating_type(library: Library, shape: tuple[int, ...]) -> None:
    kernel = (6, shape[1] // 2, *(TAPS,) * (len(shape) - 2))
    for dtype in (*library.halves, "float32", "float64", "complex64", "complex128"):
        values = "float32" if dtype in library.halves else dtype
        if len(shape) < 5 or dtype == "float32":
            x, taps, bias = normal(*shape, dtype=values), normal(*kernel, dtype=values), normal(6, dtype=values)
            assert library.check(ac.conv, x, taps, bias, cast=dtype, padding=1, groups=2, algorithm="winograd")


@pytest.mark.usefixtures("normwise")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(library: Library, value: float) -> None:
    x, kernel = normal(2, 8, 13, 22), normal(8, 8, 3, 3)
    x[1, 3, 5, 6] = x[0, 0, 0, 0] = value
    kernel[:, :, 0, 1] = 0
    assert library.check(ac.conv, x, kernel, padding=((1, 0), (2, 3)), algorithm="winograd")


@pytest.mark.usefixtures("normwise")
@pytest.mark.parametrize("workspace", [2**17, 2**24])
@pytest.mark.parametrize("shape", [(3, 8, 300), (2, 6, 41, 43), (1, 3, 22, 11, 18)], ids=len)
def test_pieces_meet(library: Library, shape: tuple[int, ...], workspace: int) -> None:
    """Pieces of rows, columns and images, with blocks in them, and the last ones not full."""
    x, kernel = normal(*shape), normal(5, shape[1], *(TAPS,) * (len(shape) - 2))
    with ac.settings(workspace=workspace):
        y = conv(library.asarray(x), library.asarray(kernel), padding=1)
    padded = np.pad(x.astype(float), [(0, 0), (0, 0), *[(1, 1)] * (len(shape) - 2)])
    exact = [[signal.correlate(image, taps, "valid")[0] for taps in kernel] for image in padded]
    np.testing.assert_allclose(library.to_numpy(y), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(6, 8, 128, 128), (1, 4, 100_000), (2, 2, 24, 24, 40)], ids=len)
def test_temporary_memory_stays_under_the_workspace(shape: tuple[int, ...], dtype: str) -> None:
    """Beside the result; half of the rows with what is not finite, which takes a second pass."""
    x, kernel = np.ones(shape, dtype), np.ones((8, shape[1], *(TAPS,) * (len(shape) - 2)), dtype)
    x[0, 0, : shape[2] // 2] = np.nan
    with ac.settings(workspace=2**20, accuracy="normwise"):
        plan = ac.plan(conv.func, x, kernel, algorithm="winograd")
        plan(x, kernel)
        tracemalloc.start()
        try:
            y = plan(x, kernel)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    temporary = peak - y.nbytes
    assert 2**17 < temporary <= 2**20 + 2**16, f"{temporary / 2**20:.2f} MiB"
    assert plan.program.workspace <= 2**20 and plan.program.block < (len(x), *y.shape[2:])


# Derivatives and compilers


def arrays(make: Any) -> list[Array]:
    return [make(normal(2, 3, 9, 6, dtype="float64")), make(normal(4, 3, 3, 3, dtype="float64"))]


same = partial(conv, padding=1)


def cubed(x: Array, kernel: Array) -> Array:
    return (same(x, kernel) ** 3).sum()


@pytest.mark.usefixtures("normwise")
def test_the_input_s_gradient_is_winograd_s_too() -> None:
    """The transpose has 3 taps as well; the kernel's gradient has as many taps as outputs, and another algorithm."""
    x, kernel = arrays(np.asarray)
    y, pullback = ac.vjp(ac.conv, x, kernel, padding=1, algorithm="winograd")
    exact, slow = ac.vjp(ac.conv, x, kernel, padding=1, algorithm="gemm")
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-12)
    for one, other in zip(pullback(y), slow(y), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    backward = ac.plan(ac.conv_transpose, y.shape, kernel.shape, padding=1, algorithm="winograd", dtype="float64")
    assert backward.algorithm == "winograd"


@pytest.mark.usefixtures("normwise")
def test_jax_transformations() -> None:
    x, kernel = arrays(jnp.asarray)
    expected = ac.conv(x, kernel, padding=1, algorithm="native")
    np.testing.assert_allclose(jax.jit(same)(x, kernel), expected, rtol=0, atol=1e-12)
    check_grads(lambda *own: same(*map(jnp.asarray, own)), [x, kernel], 2, ("fwd", "rev"), rtol=1e-5)
    many = jnp.stack([kernel, 2 * kernel])
    for axes, other in (((0, None), kernel), ((None, 0), many), ((0, 0), many)):
        own = jnp.stack([x, x - 1]) if axes[0] == 0 else x
        y = jax.vmap(same, axes)(own, other)
        loop = [same(own[i] if axes[0] == 0 else own, other[i] if axes[1] == 0 else other) for i in range(2)]
        np.testing.assert_allclose(y, jnp.stack(loop), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("normwise")
def test_torch_transformations() -> None:
    x, kernel = (array.requires_grad_() for array in arrays(torch.tensor))
    assert torch.autograd.gradcheck(same, (x, kernel), fast_mode=True)
    assert torch.autograd.gradgradcheck(same, (x, kernel), fast_mode=True)
    x, kernel = x.detach(), kernel.detach()
    xs = torch.stack([x, x - 1])
    slow = [func.grad(lambda x, k: (ac.conv(x, k, padding=1, algorithm="native") ** 3).sum(), 1)(x, kernel) for x in xs]
    torch.testing.assert_close(func.vmap(func.grad(cubed, 1), (0, None))(xs, kernel), torch.stack(slow))
    compiled = torch.compile(same, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, kernel), ac.conv(x, kernel, padding=1, algorithm="native"))


@pytest.mark.usefixtures("normwise")
def test_torch_keeps_the_argument_only_of_each_piece() -> None:
    """Checkpoints: the transformed numbers of all pieces would be ten times the image."""
    x, kernel = torch.ones(1, 8, 64, 64, requires_grad=True), torch.ones(8, 8, 3, 3, requires_grad=True)
    saved = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with ac.settings(workspace=2**18), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        same(x, kernel)
    assert 0 < sum(saved.values()) < 2 * x.nbytes


# The planner


def test_auto_takes_it_under_normwise_only() -> None:
    shapes = ((8, 256, 14, 14), (256, 256, 3, 3))
    assert ac.plan(ac.conv, *shapes, padding=1).algorithm != "winograd"
    with ac.settings(accuracy="normwise"):
        assert ac.plan(ac.conv, *shapes, padding=1).algorithm == "winograd"
        assert ac.plan(ac.conv, (1, 1, 99, 99), (1, 1, 3, 3)).algorithm != "winograd"


@pytest.mark.parametrize(
    ("x", "kernel", "options", "reason"),
    [
        ((1, 2, 9), (3, 2, 3), {}, "accuracy='normwise' admits them"),
        ((1, 2, 9), (3, 2, 5), {"accuracy": "normwise"}, "it takes 3 taps an axis, stride 1 and dilation 1"),
        ((1, 2, 9, 9), (3, 2, 3, 1), {"accuracy": "normwise"}, "it takes 3 taps an axis"),
        ((1, 2, 9), (3, 2, 3), {"accuracy": "normwise", "stride": 2}, "stride 1"),
        ((1, 2, 9), (3, 2, 3), {"accuracy": "normwise", "dilation": 2}, "dilation 1"),
        ((1, 2, 9), (3, 2, 3), {"accuracy": "normwise", "dtype": "int32"}, "not exact in integers"),
        ((1, 1, *(3,) * 4), (1, 1, *(3,) * 4), {"accuracy": "normwise"}, "too large over 4 axes of 1 channels"),
        ((1, 64, 9, 9), (64, 64, 3, 3), {"accuracy": "normwise", "workspace": 2**18}, "alone takes 262144 bytes"),
    ],
)
def test_what_it_can_t_serve(x: Any, kernel: Any, options: dict[str, Any], reason: str) -> None:
    dtype = options.pop("dtype", "float32")
    own = {name: options.pop(name) for name in ("accuracy", "workspace") if name in options}
    with ac.settings(**own), pytest.raises(ValueError, match=f"algorithm='winograd' can't serve this call: .*{reason}"):
        conv(np.ones(x, dtype), np.ones(kernel, dtype), **options)


@pytest.mark.usefixtures("normwise")
def test_an_inserted_zero_is_left_to_the_phases() -> None:
    with pytest.raises(ValueError, match="'winograd' can't serve this call: a base dilation is split into phases"):
        ac.conv_transpose(np.ones((1, 2, 9)), np.ones((2, 3, 3)), stride=2, algorithm="winograd")
