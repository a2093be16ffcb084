"""Least squares against `numpy.linalg.lstsq` of the windows, and kernels recovered from photographs and recordings."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import CALLS, normal, problem
from scipy import signal
from skimage import data

import arrayconv as ac

if TYPE_CHECKING:
    from conftest import Library


def jacobian(op: Any, x: Any, shape: tuple[int, ...], bias: Any, options: dict[str, Any]) -> Any:
    """y_hat's derivative by all numbers of the kernel, and of the bias where its shape is given."""
    nothing = np.zeros(shape)
    columns = [op(x, unit.reshape(shape), **options) for unit in np.eye(nothing.size)]
    if bias is not None and bias.ndim:
        columns += [op(x, nothing, unit, **options) for unit in np.eye(bias.size)]
    elif bias is not None:
        columns.append(np.ones_like(columns[0]))
    return np.stack([column.ravel() for column in columns], axis=1)


def larger(name: str) -> tuple[Any, Any, Any, tuple[int, ...], Any, dict[str, Any]]:
    """A call with more data than unknowns: op, x, y, the kernel's shape, a bias, options."""
    op, x, _, (kernel, bias), options = problem(name)
    x = normal(4 * x.shape[0], *x.shape[1:])
    return op, x, normal(*op(x, kernel, **options).shape, seed=1), kernel.shape, bias, options


@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_the_kernel_of_least_squares(name: str, bias: bool, ridge: float) -> None:
    op, x, y, shape, number, options = larger(name)
    design = jacobian(op, x, shape, number if bias else None, options)
    size = int(np.prod(shape))
    held = np.sqrt(ridge) * np.eye(size, design.shape[1])
    expected, *_ = np.linalg.lstsq(np.concatenate([design, held]), np.concatenate([y.ravel(), np.zeros(size)]))
    fit = ac.solve_kernel(x, y, shape, op=op, bias=bias, ridge=ridge, **options)
    np.testing.assert_allclose(fit.kernel.ravel(), expected[:size], atol=1e-10)
    np.testing.assert_allclose(fit.loss, ((design @ expected - y.ravel()) ** 2).sum())
    assert (fit.losses.shape, fit.steps) == ((0,), 0)
    if bias:
        assert fit.bias.shape == number.shape
        np.testing.assert_allclose(np.ravel(fit.bias), expected[size:], atol=1e-10)
    gram = ac.gram(op, x, y, shape, bias=bias, **options)
    np.testing.assert_allclose(ac.solve_from(gram, ridge=ridge).kernel, fit.kernel, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_the_kernel_is_the_same_on_every_library(dtype: str, library: Library) -> None:
    op, x, y, (kernel, _), options = problem("correlate batch", dtype)
    expected = ac.solve_kernel(x, y, kernel.shape, op=op, bias=True, **options)
    fit = ac.solve_kernel(library.asarray(x), library.asarray(y), kernel.shape, op=op, bias=True, **options)
    for name in ("kernel", "bias", "loss"):
        own = getattr(fit, name)
        assert type(own) is type(library.asarray(x))
        np.testing.assert_allclose(library.to_numpy(own), getattr(expected, name), rtol=2e-4, err_msg=name)
    assert fit.kernel.dtype == fit.bias.dtype == library.asarray(x).dtype
    assert fit.loss.dtype == fit.losses.dtype == library.asarray(normal(1, dtype=dtype).real).dtype


def test_complex_kernels_solve_the_normal_equations() -> None:
    x, y = normal(60, dtype="complex128"), normal(58, dtype="complex128", seed=1)
    design = np.concatenate([ac.windows(x, (3,)), np.ones((58, 1))], axis=1)
    expected, *_ = np.linalg.lstsq(design, y)
    fit = ac.solve_kernel(x, y, (3,), bias=True)
    np.testing.assert_allclose([*fit.kernel, fit.bias], expected)


@pytest.mark.parametrize(
    ("library", "scale"), [("numpy", 1e-6), ("numpy", 1e6), ("torch", 1.0), ("jax", 1.0)], indirect=["library"]
)
def test_least_norm_where_data_leave_a_choice(scale: float, library: Library) -> None:
    """Columns of one value: taps that lie side by side are interchangeable."""
    x = scale * np.repeat(normal(20, 1), 20, axis=1)
    y = normal(18, 18)
    expected, *_ = np.linalg.lstsq(ac.windows(x, (3, 3)).reshape(-1, 9), y.ravel(), rcond=1e-10)
    with pytest.warns(UserWarning, match="solve_kernel: the data determine 3 of the 9 numbers of .* or a ridge"):
        fit = ac.solve_kernel(library.asarray(x), library.asarray(y), (3, 3))
    np.testing.assert_allclose(library.to_numpy(fit.kernel).ravel(), expected, rtol=1e-6)


def test_nothing_warns_with_a_ridge_or_under_a_transformation() -> None:
    x, y = jnp.asarray(np.repeat(normal(20, 1), 20, axis=1)), jnp.asarray(normal(19, 19))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = jax.jit(lambda x, y: ac.solve_kernel(x, y, (2, 2)))(x, y)
        ac.solve_kernel(x, y, (2, 2), ridge=1e-3)
    np.testing.assert_allclose(fit.kernel[:, 0], fit.kernel[:, 1])


def test_a_bias_of_another_scale_is_found() -> None:
    """Squares of 1e9 beside ones would hide it in rounding."""
    x = 1e9 * (3 + normal(30, 30))
    fit = ac.solve_kernel(x, ac.correlate(x, ac.kernels.edges()) + 7e8, (1, 2), bias=True)
    np.testing.assert_allclose([*fit.kernel[0], fit.bias], [1, -1, 7e8], rtol=1e-9)
    with pytest.warns(UserWarning, match="determine 0 of the 2"):
        fit = ac.solve_kernel(np.full((5, 5), 0.1), np.full((5, 4), 0.3), (1, 2), bias=True)
    np.testing.assert_allclose([*fit.kernel[0], fit.bias], [0, 0, 0.3], atol=1e-14)


def test_derivatives_through_the_solution() -> None:
    """The spectrum of these data has eigenvalues of one value, which have no derivative of their own."""
    x, y = jnp.asarray(np.eye(9)[4]), jnp.asarray(normal(11))

    @jax.jit
    def kernel(t: Any) -> Any:
        return ac.solve_kernel(x + t * normal(9), y, (3,), padding="full", ridge=0.1 + t).kernel.sum()

    np.testing.assert_allclose(jax.jit(jax.grad(kernel))(0.0), (kernel(1e-6) - kernel(-1e-6)) / 2e-6, rtol=1e-6)


# Recoveries


def test_a_blur_is_recovered_to_the_bound_of_cramer_and_rao() -> None:
    """Noise of 40 dB; no unbiased estimate of the kernel has a mean squared error below sigma^2 trace (W'W)^-1."""
    photograph = data.camera()[:256, :256] / 255
    blur = ac.kernels.gaussian(1.5, truncate=2.5) + 0.02 * normal(9, 9)
    clean = ac.correlate(photograph, blur)
    sigma = 10 ** (-40 / 20) * clean.std()
    errors = []
    for seed in range(20):
        y = clean + sigma * normal(*clean.shape, seed=seed)
        errors.append(((ac.solve_kernel(photograph, y, (9, 9)).kernel - blur) ** 2).sum())
    design = ac.windows(photograph, (9, 9)).reshape(-1, 81)
    bound = sigma**2 * np.trace(np.linalg.inv(design.T @ design))
    assert 0.8 < np.sqrt(np.mean(errors) / bound) < 1.2


def test_sobel_is_recovered_from_its_edges(library: Library) -> None:
    image = (data.camera()[::4, ::4] / 255 - 0.5).astype(np.float32)
    kernel = ac.kernels.sobel(like=image)
    x, y = library.asarray(image), library.asarray(ac.correlate(image, kernel, padding="same", boundary="reflect"))
    options: dict[str, Any] = {"padding": "same", "boundary": "reflect"}
    solved = ac.solve_kernel(x, y, (3, 3), **options)
    np.testing.assert_allclose(library.to_numpy(solved.kernel), kernel, atol=1e-5)
    learned = ac.learn_kernel(x, y, (3, 3), steps=2500, **options)
    np.testing.assert_allclose(library.to_numpy(learned.kernel), kernel, atol=2e-2)


def test_a_filter_of_64_taps_is_recovered_from_a_recording() -> None:
    """A sweep with overtones over a noise floor, filtered by a band pass."""
    time = np.arange(40_000) / 16_000
    sweep = sum(signal.chirp(time, 80 * k, time[-1], 1500 * k) / k for k in (1, 2, 3))
    recording = (sweep + 0.03 * normal(time.size)).astype(np.float32)
    taps = signal.firwin(64, [300, 3400], pass_zero=False, fs=16_000)
    filtered = np.convolve(recording.astype(np.float64), taps, "full")[: time.size].astype(np.float32)
    fit = ac.solve_kernel(recording, filtered, (64,), op=ac.convolve, padding="causal")
    np.testing.assert_allclose(fit.kernel, taps, atol=1e-5)


@pytest.mark.parametrize("method", ["solve", "learn"])
def test_each_kernel_of_a_strided_layer_is_recovered(method: str) -> None:
    photograph = np.moveaxis(data.astronaut()[::4, ::4] / 255, -1, 0)
    image = photograph if method == "solve" else normal(3, 64, 64)
    kernel, bias = normal(4, 3, 3, 3), normal(4)
    options: dict[str, Any] = {"op": ac.conv, "stride": 2, "padding": 1, "boundary": "reflect", "bias": True}
    y = ac.conv(image, kernel, bias, stride=2, padding=1, boundary="reflect")
    if method == "solve":
        fit = ac.solve_kernel(image, y, kernel.shape, **options)
    else:
        fit = ac.learn_kernel(image, y, kernel.shape, steps=200, **options)
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-6)
    np.testing.assert_allclose(fit.bias, bias, atol=1e-6)
