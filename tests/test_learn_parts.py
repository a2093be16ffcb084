"""The parts of a fit: gradients against differences and other libraries' own, optimisers against optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from learning import CALLS, EDGES, IMAGE, normal, predict, problem

import arrayconv as ac

if TYPE_CHECKING:
    from conftest import Library


# Gradients


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("name", CALLS)
def test_gradients_equal_differences(name: str, loss: str) -> None:
    """A squared loss is quadratic: central differences are exact but for rounding."""
    op, x, y, params, options = problem(name)
    value, grads = ac.loss_and_grad(op, params, x, y, loss=loss, **options)
    errors = predict(op, x, *params, options) - y
    np.testing.assert_allclose(value, (errors**2).sum() if loss == "sum" else (errors**2).mean())
    for i in range(2):
        for index in np.ndindex(params[i].shape):
            step = np.zeros(params[i].shape)
            step[index] = 1e-3
            sides = []
            for sign in (1, -1):
                moved = [*params]
                moved[i] = params[i] + sign * step
                sides.append(ac.loss_and_grad(op, tuple(moved), x, y, loss=loss, **options)[0])
            np.testing.assert_allclose(grads[i][index], (sides[0] - sides[1]) / 2e-3, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("name", ["correlate", "conv groups"])
def test_gradients_are_the_same_on_every_library(name: str, dtype: str, library: Library) -> None:
    op, x, y, params, options = problem(name, dtype)
    expected = ac.loss_and_grad(op, params, x, y, **options)
    own = tuple(library.asarray(part) for part in params)
    value, grads = ac.loss_and_grad(op, own, library.asarray(x), library.asarray(y), **options)
    assert isinstance(grads, ac.Params)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(library.to_numpy(value), expected[0], rtol=tolerance)
    for part, grad, other in zip(own, grads, expected[1], strict=True):
        assert (grad.shape, grad.dtype) == (part.shape, part.dtype)
        np.testing.assert_allclose(library.to_numpy(grad), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", CALLS)
def test_gradients_equal_the_libraries_own(name: str, dtype: str) -> None:
    """Torch's ``grad`` is the steepest ascent, JAX's its conjugate."""
    op, x, y, params, options = problem(name, dtype)
    _, grads = ac.loss_and_grad(op, params, x, y, **options)

    def squares(params: Any, xp: Any) -> Any:
        return (abs(predict(op, xp(x), *params, options) - xp(y)) ** 2).sum()

    tensors = [torch.tensor(part, requires_grad=True) for part in params]
    for grad, other in zip(grads, torch.autograd.grad(squares(tensors, torch.tensor), tensors), strict=True):
        np.testing.assert_allclose(grad, other, atol=1e-10)
    for grad, other in zip(grads, jax.grad(squares)(tuple(map(jnp.asarray, params)), jnp.asarray), strict=True):
        np.testing.assert_allclose(grad, np.conj(other), atol=1e-10)


def test_real_kernel_between_complex_signals() -> None:
    x, y, kernel = normal(9, dtype="complex128"), normal(7, dtype="complex128"), normal(3)
    _, grads = ac.loss_and_grad(ac.correlate, (kernel, np.zeros(())), x, y)
    leaves = [torch.tensor(kernel, requires_grad=True), torch.zeros((), dtype=torch.float64, requires_grad=True)]
    (abs(ac.correlate(torch.tensor(x), leaves[0]) + leaves[1] - torch.tensor(y)) ** 2).sum().backward()
    for grad, leaf in zip(grads, leaves, strict=True):
        assert grad.dtype == np.float64
        np.testing.assert_allclose(grad, leaf.grad, atol=1e-12)
    _, against_complex = ac.loss_and_grad(ac.correlate, (kernel, None), x.real.copy(), y)
    _, against_real = ac.loss_and_grad(ac.correlate, (kernel, None), x.real.copy(), y.real.copy())
    np.testing.assert_allclose(against_complex.kernel, against_real.kernel)


def test_own_loss_is_a_value_and_a_gradient(library: Library) -> None:
    """Huber's, against JAX's derivative of it."""
    x, y = normal(9), normal(7)

    def huber(y_hat: Any, y: Any) -> Any:
        xp, error = library.xp, y_hat - y
        small = abs(error) <= 1
        sign = xp.where(error > 0, xp.ones_like(error), -xp.ones_like(error))
        return xp.sum(xp.where(small, error**2 / 2, abs(error) - 0.5)), xp.where(small, error, sign)

    kernel = normal(3)
    params = (library.asarray(kernel), None)
    value, grads = ac.loss_and_grad(ac.correlate, params, library.asarray(x), library.asarray(y), loss=huber)

    def by_jax(kernel: Any) -> Any:
        return optax.losses.huber_loss(jnp.correlate(jnp.asarray(x), kernel, "valid"), jnp.asarray(y)).sum()

    expected = jax.value_and_grad(by_jax)(jnp.asarray(kernel))
    np.testing.assert_allclose(library.to_numpy(value), expected[0])
    np.testing.assert_allclose(library.to_numpy(grads.kernel), expected[1])
    assert grads.bias is None
    fit = ac.learn_kernel(library.asarray(x), library.asarray(y), (3,), loss=huber, steps=5, optimizer=ac.sgd(0.05))
    assert float(fit.loss) < float(fit.losses[0])


def test_jax_makes_losses() -> None:
    loss = jax.value_and_grad(lambda y_hat, y: ((y_hat - y) ** 2).sum())
    x, y = jnp.asarray(IMAGE), jnp.asarray(EDGES)
    fits = [ac.learn_kernel(x, y, (1, 2), loss=word, steps=5, optimizer=ac.sgd(0.01)) for word in (loss, "sum")]
    np.testing.assert_allclose(fits[0].kernel, fits[1].kernel, rtol=1e-6)


# Optimisers

PEERS = {
    "sgd": (ac.sgd(0.1), optax.sgd(0.1)),
    "momentum": (ac.sgd(0.1, 0.9), optax.sgd(0.1, 0.9)),
    "nesterov": (ac.sgd(0.1, momentum=0.8, nesterov=True), optax.sgd(0.1, 0.8, nesterov=True)),
    "adam": (ac.adam(0.1), optax.adam(0.1)),
    "adam decays": (ac.adam(0.1, b1=0.5, b2=0.9, eps=1e-3), optax.adam(0.1, b1=0.5, b2=0.9, eps=1e-3)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("name", PEERS)
def test_optimisers_equal_optax(name: str, dtype: str) -> None:
    own, peer = PEERS[name]
    params = {"a": jnp.asarray(normal(3, dtype=dtype)), "b": [jnp.asarray(normal(2, 2, dtype=dtype)), None]}
    states = [own.init(params), peer.init(params)]
    for seed in range(4):
        grads = jax.tree.map(lambda p, seed=seed: jnp.asarray(normal(*p.shape, dtype=dtype, seed=seed)), params)
        updates, states[0] = own.update(grads, states[0], params)
        expected, states[1] = peer.update(grads, states[1], params)
        for update, other, leaf in zip(*map(jax.tree.leaves, (updates, expected, params)), strict=True):
            assert update.dtype == leaf.dtype
            np.testing.assert_allclose(update, other, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("optimizer", [optimizer for optimizer, _ in PEERS.values()])
def test_optimisers_agree_on_every_library(optimizer: ac.Optimizer, library: Library) -> None:
    x, y = normal(12).astype(np.float32), normal(10).astype(np.float32)
    expected = ac.learn_kernel(x, y, (3,), bias=True, optimizer=optimizer, loss="mean", steps=5)
    fit = ac.learn_kernel(
        library.asarray(x), library.asarray(y), (3,), bias=True, optimizer=optimizer, loss="mean", steps=5
    )
    np.testing.assert_allclose(library.to_numpy(fit.losses), expected.losses, rtol=1e-4)
    np.testing.assert_allclose(library.to_numpy(fit.kernel), expected.kernel, rtol=1e-3)
    np.testing.assert_allclose(library.to_numpy(fit.bias), expected.bias, rtol=1e-3)


@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.1), optax.rmsprop(0.02), optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9))]
)
@pytest.mark.parametrize(("method", "wrap"), [("gram", lambda f: f), ("gram", jax.jit), ("steps", jax.jit)])
def test_optax_serves(optimizer: Any, method: str, wrap: Any) -> None:
    x, y, options = jnp.asarray(IMAGE), jnp.asarray(EDGES), {"optimizer": optimizer, "method": method}
    fit = wrap(lambda x, y: ac.learn_kernel(x, y, (1, 2), bias=True, loss="mean", **options))(x, y)
    assert float(fit.loss) < 0.1 * float(fit.losses[0])


def test_equal_arguments_give_the_same_optimiser() -> None:
    assert ac.sgd(0.1) is ac.sgd(rate=0.1, momentum=0) is ac.sgd(np.float64(0.1))
    assert ac.sgd(0.1, 0.9) is not ac.sgd(0.1, 0.9, nesterov=True)
    assert ac.adam(1) is ac.adam(1.0, eps=1e-8)
    assert ac.adam(0.1) is not ac.adam(0.2)


def test_a_jitted_fit_is_traced_once() -> None:
    traces = []

    def learn(x: Any, y: Any, optimizer: Any) -> Any:
        traces.append(optimizer)
        return ac.learn_kernel(x, y, (1, 2), steps=2, optimizer=optimizer).loss

    jitted = jax.jit(learn, static_argnames="optimizer")
    for _ in range(3):
        jitted(jnp.asarray(IMAGE), jnp.asarray(EDGES), ac.adam(0.1))
    assert len(traces) == 1
