"""What the fit and its parts refuse, and how they say it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from learning import EDGES, IMAGE, START

import arrayconv as ac
from arrayconv.learn.methods import METHODS

if TYPE_CHECKING:
    from conftest import Library


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")  # of Dask's threads
@pytest.mark.parametrize("method", METHODS)
def test_divergence_names_the_step_and_the_largest_stable_rate(method: str, library: Library) -> None:
    design = ac.windows(IMAGE, (1, 2)).reshape(-1, 2).astype(np.float64)
    limit = 2 / np.linalg.eigvalsh(2 * design.T @ design)[-1]
    x, y, start = (library.asarray(array) for array in (IMAGE, EDGES, np.float32(START)))
    with pytest.raises(
        ValueError, match=rf"learn_kernel: loss is (inf|nan) at step \d+, .* for this data is {limit:.3g}:"
    ):
        ac.learn_kernel(x, y, (1, 2), init=start, optimizer=ac.sgd(1e6), method=method)
    fit = ac.learn_kernel(x, y, (1, 2), init=start, steps=5, optimizer=ac.sgd(0.99 * limit))
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["x", "y", "init"])
def test_data_that_are_not_finite(name: str, method: str) -> None:
    arrays = {"x": IMAGE.copy(), "y": EDGES.copy(), "init": np.float32(START)}
    arrays[name][0, 0] = np.nan
    with pytest.raises(ValueError, match="loss is nan at step 1, before any update; x, y or init holds"):
        ac.learn_kernel(arrays["x"], arrays["y"], (1, 2), init=arrays["init"], method=method)


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
