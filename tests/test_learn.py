"""Learning: the notebook's numbers on every library, gradients against differences and other people's, the errors."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import arrayconv as ac

if TYPE_CHECKING:
    from conftest import Library

RNG = np.random.default_rng(0)
PRINTED = "19.485 6.868 2.626 1.044 0.423 0.172 0.070 0.029 0.012 0.005"
START = [[0.65482582, 0.5902478]]
IMAGE = np.ones((6, 8), np.float32)
IMAGE[:, 2:6] = 0
EDGES = ac.corr2d(IMAGE, ac.kernels.edges(like=IMAGE))

#: op, x's shape, kernel's shape, options: every way in which a kernel meets its data.
CALLS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "correlate": (ac.correlate, (6, 7), (2, 3), {}),
    "correlate batch": (ac.correlate, (3, 9), (4,), {"stride": 2, "padding": ((1, 2),), "boundary": "reflect"}),
    "correlate axes": (ac.correlate, (5, 3, 6), (2, 2), {"axes": (2, 0), "padding": "same"}),
    "convolve": (ac.convolve, (4, 5, 6), (2, 1, 3), {"dilation": (1, 2, 1), "padding": "full"}),
    "conv": (ac.conv, (2, 3, 6, 7), (4, 3, 3, 2), {"padding": "same", "boundary": "wrap"}),
    "conv groups": (ac.conv, (2, 4, 8), (6, 2, 3), {"groups": 2, "stride": 2}),
    "conv last": (ac.conv, (2, 6, 5, 3), (2, 2, 3, 4), {"channels": "last", "dilation": 2}),
}


@pytest.fixture(autouse=True)
def _same_numbers_for_every_test() -> None:
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def normal(*shape: int, dtype: str = "float64") -> np.ndarray[Any, Any]:
    values = RNG.standard_normal(shape)
    if "complex" in dtype:
        values = values + 1j * RNG.standard_normal(shape)
    return np.asarray(values, dtype)


def bias_for(name: str, dtype: str = "float64") -> np.ndarray[Any, Any]:
    op, _, kernel, options = CALLS[name]
    shapes = {"conv": kernel[-1:] if options.get("channels") == "last" else kernel[:1]}
    return normal(*shapes.get(op.__name__, ()), dtype=dtype)


def problem(name: str, dtype: str = "float64") -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """op, x, y and (kernel, bias) in NumPy, options."""
    op, x_shape, kernel_shape, options = CALLS[name]
    x, kernel = normal(*x_shape, dtype=dtype), normal(*kernel_shape, dtype=dtype)
    y = normal(*op(x, kernel, **options).shape, dtype=dtype)
    return op, x, y, (kernel, bias_for(name, dtype)), options


def predict(op: Any, x: Any, kernel: Any, bias: Any, options: dict[str, Any]) -> Any:
    if bias is None or bias.ndim:
        return op(x, kernel, *(() if bias is None else (bias,)), **options)
    return op(x, kernel, **options) + bias


# The notebook


@pytest.mark.parametrize("op", [ac.correlate, ac.conv])
def test_the_notebooks_numbers(op: Any, library: Library) -> None:
    lead = () if op is ac.correlate else (1, 1)
    arrays = (IMAGE, EDGES, np.array(START, np.float32))
    x, y, start = (library.asarray(array.reshape((*lead, *array.shape))) for array in arrays)
    fit = ac.learn_kernel(x, y, (*lead, 1, 2), op=op, init=start, steps=20, optimizer=ac.sgd(3e-2))
    losses = library.to_numpy(fit.losses)
    assert " ".join(f"{loss:.3f}" for loss in losses[1::2]) == PRINTED
    np.testing.assert_array_equal(library.to_numpy(fit.kernel).round(4).ravel(), np.float32([1.0070, -0.9927]))
    assert (fit.bias, fit.steps) == (None, 20)
    assert fit.kernel.dtype == fit.losses.dtype == fit.loss.dtype == x.dtype
    assert type(fit.kernel) is type(fit.losses) is type(library.asarray(IMAGE))
    assert fit.losses.shape == (20,)
    assert fit.loss.shape == ()


def test_losses_are_those_before_each_update() -> None:
    """Written out as the notebook does it."""
    fit = ac.learn_kernel(IMAGE, EDGES, (1, 2), init=np.float32(START), steps=3, optimizer=ac.sgd(3e-2))
    kernel = torch.tensor(START, dtype=torch.float32, requires_grad=True)
    x, y = torch.tensor(IMAGE)[None, None], torch.tensor(EDGES)
    for i in range(4):
        loss = ((torch.nn.functional.conv2d(x, kernel[None, None])[0, 0] - y) ** 2).sum()
        np.testing.assert_allclose([*fit.losses, fit.loss][i], loss.item(), rtol=1e-5)
        (gradient,) = torch.autograd.grad(loss, kernel)
        if i < 3:
            kernel = (kernel - 3e-2 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(fit.kernel, kernel.detach().numpy(), rtol=1e-5)


def test_layer_is_the_notebooks(library: Library) -> None:
    layer = ac.Conv2D((2, 3))
    x = library.asarray(IMAGE)
    params = layer.init(7, like=x)
    kernel = library.to_numpy(params.kernel)
    np.testing.assert_array_equal(kernel, layer.init(7, like=IMAGE).kernel)
    assert kernel.shape == (2, 3)
    assert 0 <= kernel.min() <= kernel.max() < 1
    assert float(params.bias) == 0
    assert params.kernel.dtype == params.bias.dtype == x.dtype
    moved = params._replace(bias=library.asarray(np.float32(0.5)))
    np.testing.assert_allclose(
        library.to_numpy(layer.apply(moved, x)), ac.corr2d(IMAGE, kernel) + np.float32(0.5), rtol=1e-6
    )


def test_layer_is_a_value() -> None:
    assert ac.Conv2D([1, 2]) == ac.Conv2D((1, 2))  # type: ignore[arg-type]
    assert len({ac.Conv2D((1, 2)), ac.Conv2D((1, 2)), ac.Conv2D((2, 1))}) == 2
    layer = ac.Conv2D((1, 2))
    gradient = jax.grad(lambda params: layer.apply(params, jnp.asarray(IMAGE)).sum())(layer.init(0, like=jnp.ones(1)))
    np.testing.assert_allclose(gradient.bias, 42)


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
    fit = ac.learn_kernel(library.asarray(x), library.asarray(y), (3,), loss=huber, optimizer=ac.sgd(0.05))
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
    for _ in range(4):
        grads = jax.tree.map(lambda p: jnp.asarray(normal(*p.shape, dtype=dtype)), params)
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


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9))])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_optax_serves(optimizer: Any, wrap: Any) -> None:
    x, y = jnp.asarray(IMAGE), jnp.asarray(EDGES)
    fit = wrap(lambda x, y: ac.learn_kernel(x, y, (1, 2), bias=True, optimizer=optimizer, loss="mean"))(x, y)
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


# The fit


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_learns_the_kernel_that_made_y(name: str, bias: bool) -> None:
    op, x, _, (kernel, number), options = problem(name)
    x = normal(*(3 * n if i not in (0, 1, len(x.shape) - 1) else n for i, n in enumerate(x.shape)))
    y = predict(op, x, kernel, number if bias else None, options)
    fit = ac.learn_kernel(x, y, kernel.shape, op=op, bias=bias, steps=400, **options)
    assert np.all(np.diff(fit.losses) <= 1e-12)
    assert fit.loss < 1e-2 * fit.losses[0]
    value, _ = ac.loss_and_grad(op, (fit.kernel, fit.bias), x, y, **options)
    np.testing.assert_allclose(fit.loss, value)
    assert (fit.bias is None) is not bias


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_default_step_is_one_by_the_hessians_norm(scale: float, loss: str) -> None:
    """A photograph-like image, whose taps are nearly alike; the Hessian from the windows."""
    x = (scale * (2 + np.cumsum(RNG.standard_normal((20, 20)), axis=0))).astype(np.float64)
    design = ac.windows(x, (2, 3)).reshape(-1, 6)
    hessian = 2 * design.T @ design * (1 if loss == "sum" else 1 / design.shape[0])
    y, start = normal(19, 18), normal(2, 3)
    fit = ac.learn_kernel(x, y, (2, 3), init=start, steps=1, loss=loss)
    _, grads = ac.loss_and_grad(ac.correlate, (start, None), x, y, loss=loss)
    rate = (start - fit.kernel) / grads.kernel
    np.testing.assert_allclose(rate, 1 / np.linalg.eigvalsh(hessian)[-1], rtol=1e-3)


def test_default_step_with_nothing_to_learn(library: Library) -> None:
    x, y = (library.asarray(array) for array in (np.zeros((4, 5)), np.ones((4, 4))))
    fit = ac.learn_kernel(x, y, (1, 2), steps=3)
    np.testing.assert_allclose(library.to_numpy(fit.losses), 16)
    fit = ac.learn_kernel(x, y, (1, 2), steps=30, bias=True)
    np.testing.assert_allclose(float(fit.bias), 1)


def test_large_numbers_do_not_overflow_the_default_step() -> None:
    x = np.full((40, 40), 1e9, np.float32)
    fit = ac.learn_kernel(x, 2e9 * np.ones((38, 38), np.float32), (3, 3), steps=3)
    np.testing.assert_allclose(fit.kernel.sum(), 2, rtol=1e-3)


def test_bias_and_kernel_start_where_told(library: Library) -> None:
    x, y, kernel = library.asarray(IMAGE), library.asarray(EDGES), library.asarray(np.float32(START))
    bias = library.asarray(np.float32(0.25))
    fit = ac.learn_kernel(x, y, (1, 2), bias=True, init=(kernel, bias), steps=0)
    np.testing.assert_array_equal(library.to_numpy(fit.kernel), np.float32(START))
    assert float(fit.bias) == 0.25
    assert fit.losses.shape == (0,)
    assert fit.steps == 0
    expected, _ = ac.loss_and_grad(ac.correlate, (kernel, bias), x, y)
    np.testing.assert_allclose(float(fit.loss), float(expected))
    fit = ac.learn_kernel(x, y, (1, 2), bias=True, init=kernel, steps=0)
    assert float(fit.bias) == 0


def test_same_start_on_every_library(library: Library) -> None:
    for shape in [(5,), (3, 4), (6, 2, 3), (2, 3, 4, 5)]:
        kernel = ac.init_kernel(shape, like=library.asarray(np.ones(1)), seed=3)
        expected = ac.init_kernel(shape, like=np.ones(1), seed=3)
        np.testing.assert_array_equal(library.to_numpy(kernel), expected)
        bound = np.prod(shape[1:] if len(shape) > 2 else shape) ** -0.5
        assert 0.5 * bound < abs(expected).max() <= bound
    assert not np.array_equal(expected, ac.init_kernel(shape, like=np.ones(1), seed=4))


def test_a_fit_starts_from_init_kernel() -> None:
    fit = ac.learn_kernel(IMAGE, EDGES, (1, 2), seed=5, steps=0)
    np.testing.assert_array_equal(fit.kernel, ac.init_kernel((1, 2), like=IMAGE, seed=5))


def test_callback_sees_every_step(library: Library) -> None:
    seen: list[tuple[int, float, Any]] = []
    x, y = library.asarray(IMAGE), library.asarray(EDGES)
    options: dict[str, Any] = {"optimizer": ac.sgd(3e-2), "steps": 4}
    fit = ac.learn_kernel(x, y, (1, 2), callback=lambda *news: seen.append(news), **options)
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal([loss for _, loss, _ in seen], library.to_numpy(fit.losses))
    for _, loss, kernel in seen:
        np.testing.assert_allclose(float(ac.loss_and_grad(ac.correlate, (kernel, None), x, y)[0]), loss, rtol=1e-6)


def test_tolerance_stops(library: Library) -> None:
    x, y = library.asarray(IMAGE), library.asarray(EDGES)
    options: dict[str, Any] = {"init": library.asarray(np.float32(START)), "steps": 40, "optimizer": ac.sgd(3e-2)}
    losses = library.to_numpy(ac.learn_kernel(x, y, (1, 2), **options).losses)
    fit = ac.learn_kernel(x, y, (1, 2), tolerance=0.37, **options)
    stop = 1 + int(np.argmax(abs(np.diff(losses)) <= 0.37 * losses[:-1]))
    assert 1 < fit.steps == stop < 40
    np.testing.assert_array_equal(library.to_numpy(fit.losses)[:stop], losses[:stop])
    assert np.isnan(library.to_numpy(fit.losses)[stop:]).all()
    np.testing.assert_allclose(float(fit.loss), losses[stop], rtol=1e-6)


def test_tolerance_zero_stops_where_nothing_moves() -> None:
    fit = ac.learn_kernel(IMAGE, EDGES, (1, 2), init=ac.kernels.edges(like=IMAGE), tolerance=0)
    assert fit.steps == 1
    assert fit.loss == 0


@pytest.mark.parametrize(("kind", "dtype"), [("numpy", "float16"), ("torch", "bfloat16"), ("jax", "float16")])
def test_half_types_are_learned_in_float32(kind: str, dtype: str) -> None:
    """60,000 squares of 16 overflow float16; a float16 kernel could not move by 1e-4 of itself."""
    from conftest import LIBRARIES

    library = LIBRARIES[kind]
    image = np.round(4 * normal(300, 200))
    x = library.asarray(image, dtype)
    y = library.asarray(ac.correlate(image, np.array([[2.0, -1.0]])), dtype)
    fit = ac.learn_kernel(x, y, (1, 2), steps=50)
    assert fit.kernel.dtype == x.dtype
    assert fit.losses.dtype == fit.loss.dtype == library.xp.float32
    np.testing.assert_allclose(library.to_numpy(fit.kernel), [[2, -1]], atol=0.02)
    value, grads = ac.loss_and_grad(ac.correlate, (fit.kernel, None), x, y, loss="mean")
    assert grads.kernel.dtype == x.dtype
    assert value.dtype == library.xp.float32


@pytest.mark.parametrize("op", [ac.correlate, ac.convolve])
def test_complex_kernel_is_learned(op: Any, library: Library) -> None:
    x, kernel = normal(40, dtype="complex128"), normal(3, dtype="complex128")
    y = op(x, kernel) + (1 - 2j)
    fit = ac.learn_kernel(library.asarray(x), library.asarray(y), (3,), op=op, bias=True, steps=60)
    np.testing.assert_allclose(library.to_numpy(fit.kernel), kernel, atol=0.05)
    np.testing.assert_allclose(complex(library.to_numpy(fit.bias)), 1 - 2j, atol=0.1)
    assert fit.losses.dtype == library.xp.float64
    assert float(fit.losses[-1]) < 1e-2 * float(fit.losses[0])


def test_result_type_of_x_and_y() -> None:
    fit = ac.learn_kernel(IMAGE, EDGES.astype(np.float64), (1, 2), steps=2)
    assert fit.kernel.dtype == fit.losses.dtype == np.float64
    fit = ac.learn_kernel(torch.tensor(IMAGE), EDGES.astype(np.float64), (1, 2), steps=2)
    assert fit.kernel.dtype == torch.float32


def test_torch_keeps_no_graph() -> None:
    x, y, start = (torch.tensor(array, requires_grad=True) for array in (IMAGE, EDGES, np.float32(START)))
    fit = ac.learn_kernel(x, y, (1, 2), bias=True, init=start, steps=3)
    for array in (fit.kernel, fit.bias, fit.losses, fit.loss):
        assert not array.requires_grad
    assert start.grad is None


def test_inputs_are_not_written_to() -> None:
    arrays = [IMAGE.copy(), EDGES.copy(), np.float32(START)]
    ac.learn_kernel(arrays[0], arrays[1], (1, 2), init=arrays[2], steps=2)
    for array, original in zip(arrays, (IMAGE, EDGES, np.float32(START)), strict=True):
        np.testing.assert_array_equal(array, original)


def test_progress_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    ac.learn_kernel(IMAGE, EDGES, (1, 2), steps=4, progress=True)
    shown = capsys.readouterr().err
    assert "learn_kernel: 100%" in shown
    assert "4/4" in shown
    assert "loss=" in shown


def test_progress_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"learn_kernel: progress=True needs tqdm; run `pip install tqdm`"):
        ac.learn_kernel(IMAGE, EDGES, (1, 2), progress=True)


# JAX's transformations of a whole fit


@pytest.mark.parametrize("options", [{}, {"bias": True, "optimizer": ac.adam(0.05)}, {"tolerance": 0.37}])
def test_a_fit_under_jit_is_the_eager_fit(options: dict[str, Any]) -> None:
    x, y = jnp.asarray(IMAGE), jnp.asarray(EDGES)
    eager = ac.learn_kernel(x, y, (1, 2), steps=30, **options)
    jitted = jax.jit(lambda x, y: ac.learn_kernel(x, y, (1, 2), steps=30, **options))(x, y)
    assert isinstance(jitted, ac.Fit)
    for name in ("kernel", "losses", "loss", "steps"):
        np.testing.assert_allclose(getattr(jitted, name), getattr(eager, name), rtol=1e-3, err_msg=name)
    closed = jax.jit(lambda y: ac.learn_kernel(x, y, (1, 2), steps=30, **options))(y)
    np.testing.assert_allclose(closed.losses, eager.losses, rtol=1e-3)
    assert jax.jit(lambda x, y: ac.learn_kernel(x, y, (1, 2), steps=0))(x, y).losses.shape == (0,)


def test_many_fits_under_vmap() -> None:
    x = normal(3, 20)
    y = np.stack([ac.correlate(x[i], np.array([i, 1.0])) for i in range(3)])
    fits = jax.vmap(lambda x, y: ac.learn_kernel(x, y, (2,), steps=60))(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(fits.kernel, [[0, 1], [1, 1], [2, 1]], atol=0.02)


def test_many_rates_under_vmap() -> None:
    x, y, rates = jnp.asarray(normal(20)), jnp.asarray(normal(19)), jnp.asarray([1e-3, 1e-2])
    losses = jax.vmap(lambda rate: ac.learn_kernel(x, y, (2,), steps=5, optimizer=ac.sgd(rate)).losses)(rates)
    for rate, own in zip(rates, losses, strict=True):
        fit = ac.learn_kernel(x, y, (2,), steps=5, optimizer=ac.sgd(float(rate)))
        np.testing.assert_allclose(own, fit.losses)


def test_a_fit_is_differentiable() -> None:
    x, y = jnp.asarray(normal(12)), jnp.asarray(normal(11))

    def loss(rate: Any) -> Any:
        return ac.learn_kernel(x, y, (2,), steps=3, optimizer=ac.sgd(rate, 0.5)).loss

    difference = (loss(0.01 + 1e-6) - loss(0.01 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(loss)(0.01), difference, rtol=1e-5)


def test_a_diverging_fit_under_jit_shows_it() -> None:
    fit = jax.jit(lambda x, y: ac.learn_kernel(x, y, (1, 2), steps=60, optimizer=ac.sgd(10.0)))(
        jnp.asarray(IMAGE), jnp.asarray(EDGES)
    )
    assert not np.isfinite(fit.losses[-1])


# Errors


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")  # of Dask's threads
def test_divergence_names_the_step_and_the_largest_stable_rate(library: Library) -> None:
    design = ac.windows(IMAGE, (1, 2)).reshape(-1, 2).astype(np.float64)
    limit = 2 / np.linalg.eigvalsh(2 * design.T @ design)[-1]
    x, y, start = (library.asarray(array) for array in (IMAGE, EDGES, np.float32(START)))
    with pytest.raises(
        ValueError, match=rf"learn_kernel: loss is (inf|nan) at step \d+, .* for this data is {limit:.3g}:"
    ):
        ac.learn_kernel(x, y, (1, 2), init=start, optimizer=ac.sgd(1.0))
    fit = ac.learn_kernel(x, y, (1, 2), init=start, optimizer=ac.sgd(0.99 * limit))
    assert float(fit.loss) < float(fit.losses[0])


def test_divergence_at_the_last_step() -> None:
    x, y = np.float32([1e15, 1e15]), np.float32([1.0, 1.0])
    with pytest.raises(ValueError, match="loss is inf after step 1, the steps are too large"):
        ac.learn_kernel(x, y, (1,), steps=1, optimizer=ac.sgd(1.0))


def test_divergence_of_an_own_loss() -> None:
    def loss(y_hat: Any, y: Any) -> Any:
        return ((y_hat - y) ** 2).sum(), 2 * (y_hat - y)

    with pytest.raises(ValueError, match=r"at step \d+, the steps are too large; pass an optimizer of smaller rate"):
        ac.learn_kernel(IMAGE, EDGES, (1, 2), loss=loss, optimizer=ac.sgd(1.0))


@pytest.mark.parametrize("name", ["x", "y", "init"])
def test_data_that_are_not_finite(name: str) -> None:
    arrays = {"x": IMAGE.copy(), "y": EDGES.copy(), "init": np.float32(START)}
    arrays[name][0, 0] = np.nan
    with pytest.raises(ValueError, match="loss is nan at step 1, before any update; x, y or init holds"):
        ac.learn_kernel(arrays["x"], arrays["y"], (1, 2), init=arrays["init"])


def test_callback_under_jit() -> None:
    def learn(x: Any, y: Any) -> Any:
        return ac.learn_kernel(x, y, (1, 2), callback=print).loss

    with pytest.raises(ValueError, match=r"progress and callback need values, .*pass progress=False and callback=None"):
        jax.jit(learn)(jnp.asarray(IMAGE), jnp.asarray(EDGES))


FIT = [
    ({"op": np.correlate}, TypeError, r"op must be one of ac\.correlate, ac\.convolve, ac\.conv.*; pass the function"),
    ({"op": "conv"}, TypeError, "op must be one of .*, got 'conv'"),
    ({"op": ac.corr2d}, TypeError, "op must be one of"),
    ({"kernel_shape": 3}, TypeError, "kernel_shape must be a tuple of ints, got 3"),
    ({"kernel_shape": (1, 0)}, ValueError, r"kernel_shape\[1\] must be >= 1, got 0"),
    (
        {"kernel_shape": (2, 2)},
        ValueError,
        r"y has shape \(6, 7\), correlate of x \(6, 8\) and kernel \(2, 2\) gives \(5, 7\)",
    ),
    ({"steps": -1}, ValueError, "steps must be >= 0, got -1"),
    ({"steps": 2.0}, TypeError, "steps must be an int, got 2.0"),
    ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
    ({"loss": "median"}, ValueError, "loss='median' is not one of 'sum', 'mean'"),
    ({"loss": 2}, TypeError, r"loss must be 'sum' or 'mean' or a function f\(y_hat, y\)"),
    ({"loss": lambda a, b: 1.0}, TypeError, r"loss must return the pair \(value, gradient\), got float"),
    ({"loss": lambda a, b: (a, a)}, ValueError, r"loss must return one number as value, got shape \(6, 7\)"),
    ({"loss": lambda a, b: (1.0, a[0])}, ValueError, r"loss returned a gradient of shape \(7,\), y_hat has \(6, 7\)"),
    ({"optimizer": 0.1}, TypeError, "optimizer must have the functions init and update, got float; pass ac.sgd"),
    ({"optimizer": None, "loss": lambda a, b: (1.0, a)}, ValueError, "optimizer=None knows no safe rate where loss is"),
    ({"tolerance": -0.1}, ValueError, "tolerance must be >= 0, got -0.1"),
    ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
    ({"bias": None}, TypeError, "bias must be True or False, got None"),
    ({"callback": 3}, TypeError, "callback must be a function"),
    ({"method": "newton"}, ValueError, "method='newton' is not one of 'auto', 'steps'"),
    ({"init": IMAGE}, ValueError, r"init has a kernel of shape \(6, 8\), kernel_shape is \(1, 2\)"),
    ({"init": (IMAGE[:1, :2], np.float32(0))}, ValueError, "init has a bias, bias=False would drop it; pass bias=True"),
    (
        {"init": (IMAGE[:1, :2], IMAGE[0, :1]), "bias": True},
        ValueError,
        r"bias has shape \(1,\), .* learns one of \(\)",
    ),
    ({"init": (1, 2, 3)}, TypeError, r"init must be a kernel or a pair \(kernel, bias\), got 3 entries"),
    ({"init": IMAGE[:1, :2] * 1j}, TypeError, "init has dtype complex64, x and y are real; cast x or y to complex"),
    ({"x": IMAGE.astype(int)}, TypeError, "x has dtype int64, learning takes floating types; cast x to float32"),
    ({"y": EDGES.astype(int)}, TypeError, "y has dtype int64, learning takes floating types"),
    ({"x": IMAGE.tolist()}, TypeError, "x must be an array of NumPy"),
    ({"y": torch.tensor(EDGES), "x": jnp.asarray(IMAGE)}, TypeError, "one call takes arrays of one library"),
    ({"stride": 0}, ValueError, "stride must be >= 1, got 0"),
]


@pytest.mark.parametrize(("change", "error", "message"), FIT)
def test_errors_of_the_fit(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"x": IMAGE, "y": EDGES, "kernel_shape": (1, 2), "optimizer": ac.sgd(0.01)} | change
    with pytest.raises(error, match=message):
        ac.learn_kernel(**arguments)


OTHERS = [
    (lambda: ac.sgd(-0.1), ValueError, "sgd: rate must be >= 0, got -0.1"),
    (lambda: ac.sgd("fast"), TypeError, "sgd: rate must be a number, got 'fast' of type str"),
    (lambda: ac.sgd(0.1, 1.0), ValueError, "sgd: momentum must be < 1, got 1.0"),
    (lambda: ac.sgd(0.1, nesterov=True), ValueError, "sgd: nesterov=True does nothing with momentum=0.0"),
    (lambda: ac.sgd(float("nan")), ValueError, "sgd: rate must be finite, got nan"),
    (lambda: ac.adam(0.1, b2=1.5), ValueError, "adam: b2 must be < 1, got 1.5"),
    (lambda: ac.adam(0.1, eps=-1.0), ValueError, "adam: eps must be >= 0, got -1"),
    (lambda: ac.init_kernel((1, 2), like=[1.0]), TypeError, "init_kernel: like must be an array"),
    (lambda: ac.init_kernel(3, like=IMAGE), TypeError, "init_kernel: shape must be a tuple of ints"),
    (lambda: ac.init_kernel((3,), like=IMAGE, seed=0.5), TypeError, "init_kernel: seed must be an int"),
    (lambda: ac.Conv2D((1, 2, 3)), ValueError, r"Conv2D: kernel_shape=\(1, 2, 3\) must have two entries"),
    (lambda: ac.Conv2D((1, 2)).init(-1, like=IMAGE), ValueError, "Conv2D.init: seed must be >= 0, got -1"),
    (lambda: ac.loss_and_grad(ac.correlate, IMAGE, IMAGE, IMAGE), TypeError, r"params must be a pair \(kernel, bias\)"),
    (
        lambda: ac.loss_and_grad(ac.conv, (IMAGE[None, None], IMAGE[0, :2]), IMAGE[None], IMAGE),
        ValueError,
        r"loss_and_grad: bias has shape \(2,\), conv with kernel \(1, 1, 6, 8\) learns one of \(1,\); reshape it",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), OTHERS)
def test_errors_of_the_parts(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_torchs_optimisers_are_refused() -> None:
    stranger = SimpleNamespace(step=print)
    with pytest.raises(TypeError, match="optimizer must have the functions init and update, got SimpleNamespace"):
        ac.learn_kernel(IMAGE, EDGES, (1, 2), optimizer=stranger)
