"""Normal equations in JAX: under its transformations, over a mesh, and compiled where the fit is eager."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from learning import EDGES, IMAGE, normal

import arrayconv as ac


def single(asarray: Any) -> tuple[Any, Any]:
    """A signal, and one as long as its correlation with three taps, in single precision."""
    return asarray(normal(20).astype("float32")), asarray(normal(18).astype("float32"))


def test_a_thousand_kernels_under_vmap() -> None:
    kernels = normal(1000, 3)
    x = normal(1000, 30)
    y = np.stack([np.correlate(row, kernel, "valid") for row, kernel in zip(x, kernels, strict=True)])
    learn = jax.jit(jax.vmap(lambda x, y: ac.learn_kernel(x, y, (3,), steps=150, method="gram")))
    fits = learn(x, y)
    assert fits.kernel.shape == (1000, 3)
    assert np.median(abs(fits.kernel - kernels)) < 1e-3
    np.testing.assert_allclose(fits.kernel[7], ac.learn_kernel(x[7], y[7], (3,), steps=150).kernel, atol=1e-8)


def test_grams_add_over_a_named_axis() -> None:
    x, y = normal(4, 20), normal(4, 18)
    grams = jax.vmap(lambda x, y: ac.gram(ac.correlate, x, y, (3,)))(x, y)
    summed = jax.vmap(lambda gram: jax.lax.psum(gram, "batch"), axis_name="batch", out_axes=None)(grams)
    whole = ac.gram(ac.correlate, x, y, (3,))
    for own in (summed, jax.tree.map(lambda leaf: leaf.sum(0), grams)):
        assert own.design == whole.design
        np.testing.assert_allclose(own.matrix, whole.matrix)
        np.testing.assert_allclose(jax.jit(ac.solve_from)(own).kernel, ac.solve_from(whole).kernel)


def test_equal_arguments_are_not_traced_again() -> None:
    traces = []
    peer = ac.sgd(0.01)

    def update(*arguments: Any) -> Any:
        traces.append(arguments)
        return peer.update(*arguments)

    learn = jax.jit(ac.learn_kernel, static_argnames=("kernel_shape", "op", "bias", "optimizer", "steps", "method"))
    optimizer = ac.Optimizer(peer.init, update)
    for i in range(3):
        x, y = jnp.asarray(normal(20, seed=i)), jnp.asarray(normal(19, seed=i))
        learn(x, y, kernel_shape=(2,), op=ac.correlate, optimizer=optimizer, steps=4, method="gram")
    assert len(traces) == 2  # once to see that it is traced, once in the loop


OWN = [ac.sgd(0.001), ac.sgd(0.002), ac.sgd(0.001, 0.5), ac.sgd(0.001, 0.5, nesterov=True), ac.adam(0.1), None]


@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_an_eager_fit_is_compiled_once(tolerance: float | None, caplog: pytest.LogCaptureFixture) -> None:
    """The losses are those of NumPy, step by step; rates and data are no reason to compile again."""
    options: dict[str, Any] = {"steps": 23, "tolerance": tolerance}

    def learn(seed: int) -> list[tuple[ac.Fit, ac.Fit]]:
        arrays = normal(20, 19, seed=seed), normal(18, 15, seed=seed)
        both = [
            ac.gram(ac.correlate, *map(asarray, arrays), (3, 5), bias=True) for asarray in (jnp.asarray, np.asarray)
        ]
        return [tuple(ac.learn_from(own, optimizer=optimizer, **options) for own in both) for optimizer in OWN]

    with jax.log_compiles():
        fits = learn(0)
        assert any("compiled for jit" in record.getMessage() for record in caplog.records)
        caplog.clear()
        fits += learn(1)
    assert not caplog.records
    for fit, expected in fits:
        assert type(fit.steps) is int
        assert fit.steps == expected.steps
        for name in ("kernel", "bias", "losses", "loss"):
            np.testing.assert_allclose(getattr(fit, name), getattr(expected, name), rtol=1e-9, err_msg=name)
    assert tolerance is None or len({fit.steps for fit, _ in fits}) > 1


def test_a_compiled_fit_diverges_as_any_other() -> None:
    messages = []
    for asarray in (np.asarray, jnp.asarray):
        own = ac.gram(ac.correlate, *(asarray(array.astype("float64")) for array in (IMAGE, EDGES)), (1, 2))
        with pytest.raises(ValueError, match=r"loss is inf at step \d\d, the steps are too large") as error:
            ac.learn_from(own, optimizer=ac.sgd(1e9))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("rate", [1e-3, jnp.asarray(1e-3)], ids=["number", "array"])
@pytest.mark.parametrize("asarray", [jnp.asarray, torch.tensor], ids=["jax", "torch"])
def test_an_eager_fit_in_memory_is_numpy_s(asarray: Any, rate: Any) -> None:
    """To the last bit, in the caller's library; a callback sees kernels of that."""
    x, y = normal(20, 19), normal(18, 15)
    seen = list[Any]()
    options: dict[str, Any] = {"optimizer": ac.sgd(rate), "steps": 5, "method": "gram", "bias": True}
    expected = ac.learn_kernel(x, y, (3, 5), **options)
    fit = ac.learn_kernel(
        asarray(x), asarray(y), (3, 5), callback=lambda step, loss, kernel: seen.append(kernel), **options
    )
    solved, best = (
        ac.solve_kernel(asarray(x), asarray(y), (3, 5), ridge=rate),
        ac.solve_kernel(x, y, (3, 5), ridge=1e-3),
    )
    for own, its in ((fit, expected), (solved, best)):
        for part, other in zip(own, its, strict=True):
            assert type(part) is (type(asarray(x)) if isinstance(other, np.ndarray) else type(other))
            np.testing.assert_array_equal(part, other)
    assert len(seen) == 5 and all(type(kernel) is type(asarray(x)) for kernel in seen)


def test_what_is_traced_stays_in_jax() -> None:
    """Data in the closure of a compiled function, and a rate or a ridge by which there are derivatives."""
    x, y = (jnp.asarray(array) for array in (normal(20, 19), normal(18, 15)))

    def loss(rate: Any) -> Any:
        return ac.learn_kernel(x, y, (3, 5), optimizer=ac.sgd(rate), steps=3, method="gram").loss

    step = 1e-6
    slope = (loss(1e-3 + step) - loss(1e-3 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(1e-3), slope, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(lambda: loss(1e-3))(), loss(1e-3), rtol=1e-12)
    fit = jax.jit(lambda: ac.learn_kernel(x, y, (3, 5), optimizer=ac.sgd(1e9), method="gram"))()
    assert fit.steps.shape == () and not np.isfinite(fit.losses).all()

    def solved(ridge: Any) -> Any:
        return ac.solve_kernel(x, y, (3, 5), ridge=ridge).loss

    slope = (solved(0.5 + step) - solved(0.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(solved)(0.5), slope, rtol=1e-4)


def test_optimisers_of_others_may_look_at_values() -> None:
    seen = []

    def update(grads: Any, state: Any, params: Any) -> Any:
        seen.append(float(grads.kernel[0]))
        return jax.tree.map(lambda grad: -0.01 * grad, grads), state

    optimizer = ac.Optimizer(lambda params: (), update)
    fit = ac.learn_kernel(jnp.asarray(normal(20)), jnp.asarray(normal(19)), (2,), steps=4, optimizer=optimizer)
    assert len(seen) == fit.steps == 4


@pytest.mark.parametrize("argument", [0, 1])
def test_derivatives_through_a_fit_by_its_data(argument: int) -> None:
    """The default rate and the center depend on the data too."""
    data = [jnp.asarray(normal(12)), jnp.asarray(normal(11))]
    direction = jnp.asarray(normal(*data[argument].shape, seed=2))

    def loss(t: Any) -> Any:
        own = list(data)
        own[argument] = own[argument] + t * direction
        return ac.learn_kernel(*own, (2,), steps=4, bias=True, method="gram").losses.sum()

    value, derivative = jax.jit(loss), jax.jit(jax.grad(loss))(0.0)
    np.testing.assert_allclose(derivative, (value(1e-6) - value(-1e-6)) / 2e-6, rtol=1e-5)


def test_a_fit_of_arrays_in_the_closure_of_a_jitted_function() -> None:
    """No argument of the fit is traced, yet what it computes is."""
    gram, start = ac.gram(ac.correlate, *single(jnp.asarray), (3,)), jnp.asarray(normal(3), jnp.float32)

    def learn(scale: Any) -> Any:
        fit = ac.learn_from(gram, init=start, optimizer=ac.sgd(1e-3), steps=5)
        return scale * fit.kernel, fit.losses, fit.steps

    for own, expected in zip(jax.jit(learn)(2.0), learn(2.0), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-6)


WIDE: dict[str, Any] = {"numpy": lambda value: np.asarray(value), "jax": lambda value: jnp.asarray(value, "float64")}


@pytest.mark.parametrize("wrap", [lambda learn: learn, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("library", WIDE)
@pytest.mark.parametrize(
    "optimizer", [lambda number: ac.sgd(0.001, number(0.9)), lambda number: ac.adam(0.01, number(0.9), number(0.99))]
)
def test_numbers_of_a_wider_type_than_the_data(optimizer: Any, library: str, wrap: Any) -> None:
    x, y = single(jnp.asarray)

    def learn(number: Any) -> Any:
        return ac.learn_kernel(x, y, (3,), optimizer=optimizer(number), steps=5, method="gram")

    expected, fit = learn(float), wrap(lambda: learn(WIDE[library]))()
    assert fit.kernel.dtype == fit.losses.dtype == jnp.float32
    np.testing.assert_allclose(fit.losses, expected.losses, rtol=1e-5)
    traced = jax.jit(lambda value: learn(lambda _: value).losses)(jnp.asarray(0.9, "float64"))
    np.testing.assert_allclose(traced, learn(lambda _: 0.9).losses, rtol=1e-5)


@pytest.mark.parametrize("wrap", [lambda learn: learn, jax.jit], ids=["eager", "jit"])
def test_decays_that_single_precision_rounds_to_1(wrap: Any) -> None:
    def learn(x: Any, y: Any) -> ac.Fit:
        optimizer = ac.adam(1e-2, b1=0.99999999, b2=0.99999999)
        return ac.learn_kernel(x, y, (3,), optimizer=optimizer, steps=50, method="gram")

    expected = learn(*(array.astype("float64") for array in single(np.asarray)))
    with jax.enable_x64(False):
        fit = wrap(learn)(*single(jnp.asarray))
    np.testing.assert_allclose(fit.losses, expected.losses, rtol=1e-3)
    np.testing.assert_allclose(fit.kernel, expected.kernel, rtol=1e-3)


def test_sharded_arrays_are_summed_over_the_mesh() -> None:
    code = """
import itertools, jax, numpy as np, arrayconv as ac
from arrayconv.learn.sums import WAYS
from jax.sharding import NamedSharding, PartitionSpec
assert len(jax.devices()) == 2
rng = np.random.default_rng(0)
x, kernel = rng.normal(size=(4, 30, 20)).astype("float32"), rng.normal(size=(3, 3)).astype("float32")
y = ac.correlate(x, kernel)
ways = dict(WAYS)
for kind, way in itertools.product((jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit), ways):
    WAYS.clear()
    WAYS[way] = ways[way]
    jax.clear_caches()
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
    own = [jax.device_put(array, NamedSharding(mesh, PartitionSpec("batch"))) for array in (x, y)]
    gram = jax.jit(lambda x, y: ac.gram(ac.correlate, x, y, (3, 3)))(*own)
    assert len(gram.matrix.devices()) == 2
    np.testing.assert_allclose(ac.solve_from(gram).kernel, kernel, atol=1e-5)
WAYS.update(ways)
np.testing.assert_allclose(ac.learn_kernel(*own, (3, 3), steps=60).kernel, kernel, atol=1e-3)
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **flags})
    assert result.returncode == 0, result.stderr
