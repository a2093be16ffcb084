"""The fit: the notebook's numbers on every library, what it promises of its answer, JAX's transformations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from learning import CALLS, EDGES, IMAGE, START, normal, predict, problem

import arrayconv as ac
from arrayconv.learn.methods import METHODS

if TYPE_CHECKING:
    from conftest import Library

PRINTED = "19.485 6.868 2.626 1.044 0.423 0.172 0.070 0.029 0.012 0.005"


# The notebook


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("op", [ac.correlate, ac.conv])
def test_the_notebooks_numbers(op: Any, method: str, library: Library) -> None:
    lead = () if op is ac.correlate else (1, 1)
    arrays = (IMAGE, EDGES, np.array(START, np.float32))
    x, y, start = (library.asarray(array.reshape((*lead, *array.shape))) for array in arrays)
    options: dict[str, Any] = {"init": start, "steps": 20, "optimizer": ac.sgd(3e-2), "method": method}
    fit = ac.learn_kernel(x, y, (*lead, 1, 2), op=op, **options)
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


# The fit


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_learns_the_kernel_that_made_y(name: str, bias: bool, method: str) -> None:
    op, x, _, (kernel, number), options = problem(name)
    x = normal(*(3 * n if i not in (0, 1, len(x.shape) - 1) else n for i, n in enumerate(x.shape)))
    y = predict(op, x, kernel, number if bias else None, options)
    fit = ac.learn_kernel(x, y, kernel.shape, op=op, bias=bias, steps=400, method=method, **options)
    assert np.all(np.diff(fit.losses) <= 1e-12)
    assert fit.loss < 1e-2 * fit.losses[0]
    value, _ = ac.loss_and_grad(op, (fit.kernel, fit.bias), x, y, **options)
    np.testing.assert_allclose(fit.loss, value, rtol=1e-7, atol=1e-28 * (y**2).sum())
    assert (fit.bias is None) is not bias


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_default_step_is_one_by_the_hessians_norm(scale: float, loss: str, method: str) -> None:
    """A photograph-like image, whose taps are nearly alike; the Hessian from the windows."""
    x = (scale * (2 + np.cumsum(normal(20, 20), axis=0))).astype(np.float64)
    design = ac.windows(x, (2, 3)).reshape(-1, 6)
    hessian = 2 * design.T @ design * (1 if loss == "sum" else 1 / design.shape[0])
    y, start = normal(19, 18), normal(2, 3)
    fit = ac.learn_kernel(x, y, (2, 3), init=start, steps=1, loss=loss, method=method)
    _, grads = ac.loss_and_grad(ac.correlate, (start, None), x, y, loss=loss)
    rate = (start - fit.kernel) / grads.kernel
    np.testing.assert_allclose(rate, 1 / np.linalg.eigvalsh(hessian)[-1], rtol=1e-3)


def test_default_step_with_nothing_to_learn(library: Library) -> None:
    x, y = (library.asarray(array) for array in (np.zeros((4, 5)), np.ones((4, 4))))
    fit = ac.learn_kernel(x, y, (1, 2), steps=2)
    np.testing.assert_allclose(library.to_numpy(fit.losses), 16)
    fit = ac.learn_kernel(x, y, (1, 2), steps=2, bias=True)
    np.testing.assert_allclose(float(fit.bias), 1)


def test_large_numbers_do_not_overflow_the_default_step() -> None:
    x = np.full((40, 40), 1e9, np.float32)
    fit = ac.learn_kernel(x, 2e9 * np.ones((38, 38), np.float32), (3, 3), steps=3)
    np.testing.assert_allclose(fit.kernel.sum(), 2, rtol=1e-3)


def test_bias_and_kernel_start_where_told(library: Library) -> None:
    x, y, kernel = library.asarray(IMAGE), library.asarray(EDGES), library.asarray(np.float32(START))
    bias = library.asarray(np.float32(0.25))
    fit = ac.learn_kernel(x, y, (1, 2), bias=True, init=(kernel, bias), steps=0, optimizer=ac.sgd(0.1))
    np.testing.assert_array_equal(library.to_numpy(fit.kernel), np.float32(START))
    assert float(fit.bias) == 0.25
    assert fit.losses.shape == (0,)
    assert fit.steps == 0
    expected, _ = ac.loss_and_grad(ac.correlate, (kernel, bias), x, y)
    np.testing.assert_allclose(float(fit.loss), float(expected))
    fit = ac.learn_kernel(x, y, (1, 2), bias=True, init=kernel, steps=0, optimizer=ac.sgd(0.1))
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


@pytest.mark.parametrize("method", METHODS)
def test_callback_sees_every_step(method: str, library: Library) -> None:
    seen: list[tuple[int, float, Any]] = []
    x, y = library.asarray(IMAGE), library.asarray(EDGES)
    options: dict[str, Any] = {"optimizer": ac.sgd(3e-2), "steps": 4, "method": method}
    fit = ac.learn_kernel(x, y, (1, 2), callback=lambda *news: seen.append(news), **options)
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal([loss for _, loss, _ in seen], library.to_numpy(fit.losses))
    for _, loss, kernel in seen:
        assert type(kernel) is type(fit.kernel)
        np.testing.assert_allclose(float(ac.loss_and_grad(ac.correlate, (kernel, None), x, y)[0]), loss, rtol=1e-6)


def test_tolerance_stops(library: Library) -> None:
    x, y = library.asarray(IMAGE), library.asarray(EDGES)
    options: dict[str, Any] = {"init": library.asarray(np.float32(START)), "steps": 12, "optimizer": ac.sgd(3e-2)}
    losses = library.to_numpy(ac.learn_kernel(x, y, (1, 2), **options).losses)
    fit = ac.learn_kernel(x, y, (1, 2), tolerance=0.37, **options)
    stop = 1 + int(np.argmax(abs(np.diff(losses)) <= 0.37 * losses[:-1]))
    assert 1 < fit.steps == stop < 12
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
    x, kernel = normal(60, dtype="complex128"), normal(3, dtype="complex128")
    y = op(x, kernel) + (1 - 2j)
    fit = ac.learn_kernel(library.asarray(x), library.asarray(y), (3,), op=op, bias=True, steps=25)
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"bias": True, "optimizer": ac.adam(0.05)}, {"tolerance": 0.37}])
def test_a_fit_under_jit_is_the_eager_fit(options: dict[str, Any], method: str) -> None:
    x, y, options = jnp.asarray(IMAGE), jnp.asarray(EDGES), options | {"method": method}
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


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_is_differentiable(method: str) -> None:
    x, y = jnp.asarray(normal(12)), jnp.asarray(normal(11))

    def loss(rate: Any) -> Any:
        return ac.learn_kernel(x, y, (2,), steps=3, optimizer=ac.sgd(rate, 0.5), method=method).loss

    difference = (loss(0.01 + 1e-6) - loss(0.01 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(loss)(0.01), difference, rtol=1e-5)


def test_a_diverging_fit_under_jit_shows_it() -> None:
    fit = jax.jit(lambda x, y: ac.learn_kernel(x, y, (1, 2), steps=60, optimizer=ac.sgd(10.0)))(
        jnp.asarray(IMAGE), jnp.asarray(EDGES)
    )
    assert not np.isfinite(fit.losses[-1])
