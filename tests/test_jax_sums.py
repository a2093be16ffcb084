"""JAX: sums of products in passes, on both sides of where they begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arrayconv as ac
from arrayconv.backends import jax_control, jax_sums
from arrayconv.backends.jax_sums import FUSED, PASS, passes
from arrayconv.testing import assert_within_bound

RNG = np.random.default_rng(0)
COUNTS = [1, 2, 3, 5, FUSED, FUSED + 1, 3 * PASS, 3 * PASS + 1, 10 * PASS + 9]


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype("float32")


def compiled(call: Callable[..., Any], *arrays: Any) -> Any:
    return jax.jit(call).lower(*arrays).compile()


@pytest.mark.parametrize("taps", COUNTS)
def test_every_product_is_added_once(taps: int) -> None:
    """Integers, so exactly."""
    x, kernel = RNG.integers(-99, 99, taps + 20, "int32"), RNG.integers(-99, 99, taps, "int32")
    y = ac.correlate(jnp.asarray(x), jnp.asarray(kernel), algorithm="direct")
    np.testing.assert_array_equal(y, np.correlate(x, kernel, "valid"))


@pytest.mark.parametrize("taps", COUNTS)
def test_a_pass_fits_the_registers(taps: int) -> None:
    """Short passes would be fused with the lookup of their weights, which keeps LLVM from vectors."""
    count = passes(taps)
    size = -(-taps // count)
    assert count == 1 or 15 < size <= PASS
    assert 0 < taps - size * (count - 1) <= max(PASS, FUSED)


@pytest.mark.parametrize(
    ("x_shape", "k_shape", "options"),
    [
        ((1, 1, 20, 30), (1, 1, 9, 11), {"padding": "same"}),
        ((2, 6, 40), (6, 1, 70), {"groups": 6, "padding": "same"}),
        ((2, 4, 14, 13), (6, 2, 5, 7), {"groups": 2}),
        ((1, 1, 41, 43), (1, 1, 9, 9), {"stride": (2, 3), "padding": "same"}),
        ((2, 3, 40, 50), (3, 1, 9, 8), {"groups": 3, "stride": 2, "dilation": (2, 3)}),
        ((1, 1, 9, 10, 11), (2, 1, 5, 5, 4), {"padding": "same", "stride": (1, 1, 2)}),
        ((1, 1, 5, 90), (1, 1, 3, 61), {"stride": (1, 8), "dilation": (1, 1)}),
        ((1, 2, 4200), (1, 2, 8), {}),
        ((1, 1, 5001), (1, 1, 90), {"padding": 45, "dilation": 1}),
        ((1, 3, 9002), (1, 3, 30), {"stride": 2}),
        ((1, 1, 3, 4300), (1, 1, 3, 4), {"dilation": (1, 5)}),
    ],
)
@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_long_sums(x_shape: tuple[int, ...], k_shape: tuple[int, ...], options: dict[str, Any], bad: float) -> None:
    """What is not finite stays in its windows."""
    x, kernel = normal(*x_shape), normal(*k_shape)
    x[(0,) * (x.ndim - 1) + (x.shape[-1] // 2,)] = bad
    y = ac.conv(jnp.asarray(x), jnp.asarray(kernel), algorithm="direct", **options)
    assert_within_bound(y, x, kernel, op=ac.conv, **options)


@pytest.mark.parametrize(("threads", "shares"), [(2, 2), (8, 840), (3, 6)])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_rows_that_threads_share(threads: int, shares: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than threads are cut where these divide them; what is left is added up beside."""
    monkeypatch.setattr(jax_sums, "THREADS", threads)
    monkeypatch.setattr(jax_sums, "SHARES", shares)
    length = 5041
    x, kernel = RNG.integers(-99, 99, (rows, 2, length + 11), "int32"), RNG.integers(-99, 99, (1, 2, 12), "int32")
    call = jax.jit(lambda x, kernel: ac.conv(x, kernel, algorithm="direct"))
    y = call(jnp.asarray(x), jnp.asarray(kernel))
    own = [sum(np.correlate(*pair, "valid") for pair in zip(image, kernel[0], strict=True)) for image in x]
    np.testing.assert_array_equal(y[:, 0], own)
    is_cut = rows < threads and length % shares > 0
    assert (f"[{rows},1,1,{length // shares * shares}]" in call.lower(x, kernel).as_text("hlo")) == is_cut


def test_long_sums_under_transformations() -> None:
    """Gradients, vmap over both arguments, and a program that is exported."""
    x, kernel = jnp.asarray(normal(3, 20, 24)), jnp.asarray(normal(3, 9, 9))

    def call(x: Any, kernel: Any) -> Any:
        return ac.correlate(x, kernel, padding="same", algorithm="direct")

    mapped = jax.jit(jax.vmap(call))
    y = mapped(x, kernel)
    for one, own, taps in zip(y, x, kernel, strict=True):
        assert_within_bound(one, own, taps, op=ac.correlate, padding="same")
    exported = jax.export.export(mapped)(x, kernel)
    np.testing.assert_array_equal(exported.call(x, kernel), y)
    dx, dk = jax.grad(lambda x, k: (y * mapped(x, k)).sum(), (0, 1))(x, kernel)
    np.testing.assert_allclose((dx * x).sum(), (y * y).sum(), rtol=1e-4)
    np.testing.assert_allclose((dk * kernel).sum(), (y * y).sum(), rtol=1e-4)


def test_long_sums_compile_as_one_pass_does() -> None:
    """Twenty times the products in less than twice the program, and no temporaries but a padded image and a total."""
    x = jnp.zeros((256, 256))
    programs = [
        compiled(lambda x, k: ac.correlate(x, k, padding="same", algorithm="direct"), x, jnp.zeros((n, n)))
        for n in (9, 41)
    ]
    short, long = [len(program.as_text()) for program in programs]
    assert long < 2 * short
    assert programs[1].memory_analysis().temp_size_in_bytes < 1.25 * 4 * (296**2 + 256**2)


def entry(call: Callable[..., Any], *arrays: Any) -> str:
    """What runs, without the loops themselves."""
    text = compiled(call, *arrays).as_text()
    return str(text[text.index("ENTRY") :])


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
@pytest.mark.parametrize("reduce", [jnp.sum, lambda y: jax.lax.reduce_max(y, (2, 3)), lambda y: ac.max_pool(y, (2, 2))])
def test_a_sum_is_no_more_loops_where_it_is_reduced(algorithm: str, reduce: Callable[[Any], Any]) -> None:
    """XLA's YNNPACK would take each of 49 products for an array of its own."""

    def call(x: Any, kernel: Any) -> Any:
        return ac.conv(x, kernel, algorithm=algorithm)

    x, kernel = normal(1, 1, 64, 80), normal(1, 1, 7, 7)
    alone, reduced = entry(call, x, kernel), entry(lambda *arrays: reduce(call(*arrays)), x, kernel)
    assert reduced.count("fusion(") <= alone.count("fusion(") + 3
    np.testing.assert_array_equal(jax.jit(lambda *own: reduce(call(*own)))(x, kernel), reduce(jax.jit(call)(x, kernel)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32"])
def test_what_is_opaque_is_the_same_array(dtype: str) -> None:
    y = jnp.asarray([np.nan, -np.inf, -0.0, 1e-30, 3.0] if "float" in dtype else [-1, 2**30]).astype(dtype)
    same = jax.jit(jax_control.opaque)(y)
    assert same.dtype == y.dtype and np.asarray(same).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("algorithm", ["phases", "subpixel"])
def test_sums_are_settled_before_they_are_woven(algorithm: str) -> None:
    """Four sums in `phases`; `subpixel` reads its result twice, once to see whether it is finite."""

    def call(x: Any, kernel: Any) -> Any:
        return ac.conv_transpose(x, kernel, stride=2, algorithm=algorithm)

    x, kernel = normal(1, 1, 20, 30), normal(1, 1, 6, 6)
    assert entry(call, x, kernel).count(" call(") >= {"phases": 4, "subpixel": 1}[algorithm]


def test_the_zeros_around_x_are_made_before_a_short_first_loop() -> None:
    """22 channels of 36 taps leave few for it, 21 a whole pass."""
    count = 22 * 36
    assert 0 < count - PASS * (passes(count) - 1) <= jax_sums.FEW
    x, kernel = normal(1, 22, 20, 20), normal(1, 22, 6, 6)

    def call(x: Any, kernel: Any) -> Any:
        return ac.conv(x, kernel, padding=3, algorithm="direct")

    assert " call(" in entry(call, x, kernel)
    assert " call(" not in entry(call, x[:, :21], kernel[:, :21])
    assert_within_bound(call(jnp.asarray(x), jnp.asarray(kernel)), x, kernel, op=ac.conv, padding=3)
