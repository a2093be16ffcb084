"""Transforms in JAX: in float64 with x64 on and off, swept in pieces, under every transformation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import arrayconv as ac
from arrayconv.algorithms import fft, fft_blocks, fft_tiles
from arrayconv.backend import library_backend
from arrayconv.backends.jax import enable_x64
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, make_problem, make_program
from arrayconv.testing import assert_within_bound

if TYPE_CHECKING:
    from conftest import Library

Array = Any
RNG = np.random.default_rng(0)
JAX = library_backend("jax")


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype("float32")


X, KERNEL = normal(2, 3, 14, 11), normal(4, 3, 5, 4)


@pytest.fixture(params=[False, True], ids=["x64 off", "x64 on"])
def is_wide(request: pytest.FixtureRequest) -> Iterator[bool]:
    with enable_x64(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_every_narrow_type(is_wide: bool, dtype: str) -> None:
    x, kernel = (jnp.asarray(array).astype(dtype) for array in (X, KERNEL))
    y = ac.conv(x, kernel, padding=2, algorithm="fft")
    assert y.dtype == dtype
    assert_within_bound(y, x, kernel, op=ac.conv, padding=2)
    assert jax.config.read("jax_enable_x64") is is_wide


def test_one_huge_element_spoils_nothing(is_wide: bool) -> None:
    """In float32 its rounding would drown what lies in the same block."""
    x, kernel = normal(500), normal(30)
    x[200] = 1e9
    y = ac.correlate(jnp.asarray(x), jnp.asarray(kernel), algorithm="fft")
    assert_within_bound(y, x, kernel, op=ac.correlate)


@pytest.mark.usefixtures("small_transforms")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_windows(is_wide: bool, bad: float) -> None:
    x = X.copy()
    x[1, 2, 3, 4] = bad
    y = ac.conv(jnp.asarray(x), jnp.asarray(KERNEL), padding=2, algorithm="fft")
    assert_within_bound(y, x, KERNEL, op=ac.conv, padding=2)


def test_long_windows_are_transformed(is_wide: bool) -> None:
    for shapes, options in (
        (((1024, 1024), (63, 63)), {}),
        (((2, 128, 56, 56), (128, 1, 31, 31)), {"padding": "same", "groups": 128}),
        (((1_000_000,), (10_000,)), {}),
    ):
        op = ac.conv if options else ac.correlate
        plan = ac.plan(op, *shapes, library="jax", dtype="float32", **options)
        assert plan.algorithm == "fft"
        assert plan.program.workspace <= fft_blocks.SWEPT_BYTES * 1.1


def test_other_devices_say_that_they_have_no_float64(is_wide: bool) -> None:
    chosen = current_settings()
    geometry = Geometry(1, 1, 1, 1, (WindowDimension(100, 9),))
    wish = make_problem(geometry, "float32", JAX, "tpu", chosen)
    reason = fft.unsupported(wish, JAX)
    assert reason == (None if is_wide else "jax has no float64 on tpu; accuracy='normwise' admits float32 transforms")
    loose = make_problem(geometry, "float32", JAX, "tpu", chosen._replace(accuracy="normwise"))
    assert make_program(loose, JAX, "fft").algorithm == "fft"


# Transformations


def conv(x: Array, kernel: Array, algorithm: str) -> Array:
    return ac.conv(x, kernel, padding=2, algorithm=algorithm)


def loss(x: Array, kernel: Array, algorithm: str) -> Array:
    return (conv(x, kernel, algorithm) ** 3).sum()


def over_images(call: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, kernel, algorithm: call(lambda image: conv(image[None], kernel, algorithm)[0], x)


TRANSFORMED: dict[str, Callable[..., Array]] = {
    "eager": conv,
    "jit in jit": jax.jit(jax.jit(conv, static_argnums=2), static_argnums=2),
    "gradients": jax.jit(jax.grad(loss, (0, 1)), static_argnums=2),
    "jvp": lambda x, kernel, algorithm: jax.jvp(lambda *own: conv(*own, algorithm), (x, kernel), (2 * x, kernel))[1],
    "hessian": lambda x, kernel, algorithm: jax.hessian(
        lambda kernel: (ac.correlate(x[0, 0, :4, :5], kernel, algorithm=algorithm) ** 3).sum()
    )(kernel[0, 0, :2, :2]),
    "vmap of x": over_images(lambda call, x: jax.vmap(call)(x)),
    "vmap of both": lambda x, kernel, algorithm: jax.vmap(lambda *own: conv(*own, algorithm))(
        jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel])
    ),
    "loop": over_images(lax.map),
    "branch": lambda x, kernel, algorithm: lax.cond(
        x[0, 0, 0, 0] < 9, lambda *own: conv(*own, algorithm), lambda *own: 2 * conv(*own, "native"), x, kernel
    ),
    "recomputed": jax.grad(lambda x, kernel, algorithm: jax.checkpoint(loss, static_argnums=2)(x, kernel, algorithm)),
    "transposed": lambda x, kernel, algorithm: ac.conv_transpose(
        jnp.concat([x, x[:, :1]], axis=1), kernel, stride=2, algorithm=algorithm
    ),
}


@pytest.mark.usefixtures("small_transforms")
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations_without_64_bits(name: str) -> None:
    with enable_x64(False):
        leaves = [jax.tree.leaves(TRANSFORMED[name](*map(jnp.asarray, (X, KERNEL)), by)) for by in ("fft", "native")]
    for got, expected in zip(*leaves, strict=True):
        assert got.dtype == expected.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


def test_other_platforms_get_a_plan_of_their_own(is_wide: bool) -> None:
    """A TPU has no transform in float64; nor can a type of 64 bits be lowered for several platforms in one program."""
    traced = jax.jit(conv, static_argnums=2).trace(jnp.asarray(X), jnp.asarray(KERNEL), "fft")
    assert "stablehlo.fft" in traced.lower(lowering_platforms=("cpu",)).as_text()
    for platforms in (("tpu",), ("cpu", "tpu")):
        text = traced.lower(lowering_platforms=platforms).as_text()
        assert is_wide or "f64" not in text


SEVERAL_DEVICES = """
import jax, jax.numpy as jnp, numpy as np, arrayconv as ac
from arrayconv.algorithms import fft_blocks
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
try:
    from jax import shard_map
except ImportError:
    from functools import partial
    from jax.experimental.shard_map import shard_map
    shard_map = partial(shard_map, check_rep=False)

random = np.random.default_rng(0)
x, kernel = (jnp.asarray(random.standard_normal(shape).astype("float32")) for shape in ((4, 2, 24, 25), (8, 2, 5, 4)))
mesh = Mesh(np.array(jax.devices()), ("d",))

def conv(x, kernel, algorithm="fft"):
    return ac.conv(x, kernel, padding=2, algorithm=algorithm)

def transposed(x, kernel, algorithm="fft"):
    return ac.conv_transpose(x, kernel.swapaxes(0, 1), stride=2, algorithm=algorithm)

def gradient(x, kernel, algorithm="fft"):
    return jax.grad(lambda kernel: (conv(x, kernel, algorithm) ** 2).sum())(kernel)

def same(y, expected):
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())

fft_blocks.SWEPT = 256
for spec in (P("d"), P(None, None, "d")):
    spread = jax.device_put(x, NamedSharding(mesh, spec))
    same(jax.jit(conv)(spread, kernel), conv(x, kernel, "native"))
same(jax.jit(gradient)(spread, kernel), gradient(x, kernel, "native"))
local = shard_map(conv, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
same(jax.jit(local)(x, kernel), conv(x, kernel, "native"))
local = shard_map(transposed, mesh=mesh, in_specs=(P(), P("d")), out_specs=P(None, "d"))
same(jax.jit(local)(x, kernel), transposed(x, kernel, "native"))
assert jnp.ones(1).dtype == jnp.float32
print("as expected")
"""


def test_several_devices_without_64_bits() -> None:
    own = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    own["PYTHONPATH"] = str(Path(ac.__file__).parent.parent)
    command = [sys.executable, "-W", "error", "-c", SEVERAL_DEVICES]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, check=False)
    assert done.stdout == "as expected\n", done.stderr


# Pieces

AXES: dict[str, tuple[WindowDimension, ...]] = {
    "line": (WindowDimension(150, 9, 1, 4, 4),),
    "line, rows as long as the result": (WindowDimension(40, 5),),
    "stride and dilation": (WindowDimension(90, 5, 3, 7, 2, 2),),
    "crops": (WindowDimension(150, 9, 2, -3, -5),),
    "far padding": (WindowDimension(20, 4, 1, 30, 25),),
    "image": (WindowDimension(30, 5, 1, 2, 2), WindowDimension(41, 4, 1, 3, 0)),
    "one axis is cut": (WindowDimension(6, 5, 1, 2, 2), WindowDimension(90, 4, 2, 1, 5)),
    "window as long as the image": (WindowDimension(9, 9, 1, 4, 4), WindowDimension(8, 9, 1, 5, 4)),
    "volume": (WindowDimension(9, 3, 1, 1, 1), WindowDimension(8, 2), WindowDimension(12, 3, 2, 2, 0)),
}


@pytest.mark.usefixtures("small_transforms")
@pytest.mark.parametrize("name", AXES)
def test_pieces_meet(library: Library, name: str) -> None:
    axes = AXES[name]
    x, kernel = normal(3, 4, *(axis.size for axis in axes)), normal(6, 2, *(axis.kernel for axis in axes))
    x[1, 2, ..., -1] = np.nan
    library.check(
        ac.conv,
        x,
        kernel,
        stride=tuple(axis.stride for axis in axes),
        padding=tuple((axis.low, axis.high) for axis in axes),
        dilation=tuple(axis.window_dilation for axis in axes),
        groups=2,
        algorithm="fft",
    )


def test_padding_wraps_around() -> None:
    """The circular transform of 71 points holds 56 results that 15 zeros surround; the linear one takes 86."""
    same = Geometry(1, 1, 1, 1, (WindowDimension(56, 31, 1, 15, 15),))
    assert fft_tiles.lengths_of(JAX, same, (1, 56)) == (72,)
    assert fft_tiles.lengths_of(JAX, same, (1, 55)) == (90,)  # a part of the axis meets its neighbour
    assert fft_tiles.lengths_of(JAX, Geometry(1, 1, 1, 1, (WindowDimension(56, 31, 1, 31, 15),)), (1, 72)) == (108,)


def test_a_line_is_cut_into_rows_of_one_piece() -> None:
    program = ac.plan(ac.correlate, (1_000_000,), (1024,), library="jax", dtype="float32", algorithm="fft").program
    made = fft.prepare(program.problem, JAX, program.block)
    assert isinstance(made, fft.Rows) and made.rows > 1
    assert made.sweep.shape[-1] >= 1_000_000 - 1023 and len(made.sweep.places) < 10
