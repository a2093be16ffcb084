"""Normal equations against loops over outputs, against the data themselves, in batches, in pieces, under transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from learning import CALLS, EDGES, IMAGE, START, bias_for, normal, problem

import arrayconv as ac
from arrayconv.boundary import BOUNDARIES
from arrayconv.learn.methods import METHODS
from arrayconv.learn.moments import block_lengths
from arrayconv.testing import reference

if TYPE_CHECKING:
    from conftest import Library


def squares(op: Any, x: Any, y: Any, kernel: Any, bias: Any, options: dict[str, Any]) -> float:
    """The sum of squared errors, by loops."""
    channels = bias is not None and bias.ndim > 0
    y_hat = reference(op, x, kernel, bias if channels else None, **options)
    y_hat = y_hat if bias is None or channels else y_hat + bias
    return float((abs(y_hat - y) ** 2).sum())


def check_losses(name: str, dtype: str, library: Any, bias: bool) -> None:
    """A quadratic of D unknowns that is right at random points is right."""
    op, x, y, (kernel, _), options = problem(name, dtype)
    arrays = library.asarray(x), library.asarray(y)
    gram = ac.gram(op, *arrays, kernel.shape, bias=bias, **options)
    for seed in range(3):
        own = normal(*kernel.shape, dtype=dtype, seed=seed), seed * bias_for(name, dtype) if bias else None
        init = tuple(None if part is None else library.asarray(part) for part in own)
        fit = ac.learn_from(gram, init=init, steps=0, optimizer=ac.sgd(1.0))
        np.testing.assert_allclose(float(fit.loss), squares(op, x, y, *own, options), rtol=1e-12)
        assert type(fit.kernel) is type(arrays[0])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", CALLS)
def test_losses_are_those_of_loops(name: str, dtype: str, bias: bool) -> None:
    from conftest import LIBRARIES

    check_losses(name, dtype, LIBRARIES["numpy"], bias)


@pytest.mark.parametrize("name", ["correlate batch", "conv groups", "conv_transpose"])
def test_losses_are_the_same_on_every_library(name: str, library: Library) -> None:
    check_losses(name, "complex128" if name == "conv groups" else "float64", library, bias=True)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_losses_hold_at_every_boundary(boundary: str) -> None:
    """Padding deeper than the image, on one side."""
    x, y, kernel = normal(4, 5), normal(5, 5, seed=1), normal(4, 3)
    options: dict[str, Any] = {"padding": ((9, -5), (2, 0)), "boundary": boundary}
    gram = ac.gram(ac.correlate, x, y, (4, 3), **options)
    fit = ac.learn_from(gram, init=kernel, steps=0, optimizer=ac.sgd(1.0))
    np.testing.assert_allclose(fit.loss, squares(ac.correlate, x, y, kernel, None, options), rtol=1e-12)


@pytest.mark.parametrize(("size", "window"), [((60, 47), (7, 7)), ((300,), (40,)), ((9, 30, 11), (3, 4, 2))])
@pytest.mark.parametrize("workspace", [2**10, 2**26])
def test_blocks_of_outputs_are_exact(size: Any, window: Any, workspace: int) -> None:
    """Whole and shorter blocks, one tile or hundreds, in integers that no rounding touches."""
    x = np.round(9 * normal(*size))
    design = ac.windows(x, window)
    y = np.round(9 * normal(*design.shape[: len(size)], seed=1))
    design = design.reshape(y.size, -1)
    with ac.settings(workspace=workspace):
        gram = ac.gram(ac.correlate, x, y, window)
    np.testing.assert_array_equal(gram.matrix[0], design.T @ design)
    np.testing.assert_array_equal(gram.vector[0, 0], design.T @ y.ravel())
    assert (gram.square, gram.count) == ((y**2).sum(), y.size)


def test_blocks_are_chosen_by_work_and_room() -> None:
    def geometry(n: int, k: int) -> Any:
        return ac.plan(ac.correlate, (n, n), (k, k)).program.geometry

    assert min(block_lengths(geometry(512, 7), 2**21)) > 1
    assert max(block_lengths(geometry(512, 31), 2**21)) < max(block_lengths(geometry(512, 31), 2**30))
    assert block_lengths(geometry(31, 31), 2**21) == (1, 1)


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("optimizer", [None, ac.adam(0.05), ac.sgd(1e-3, 0.5, nesterov=True)])
@pytest.mark.parametrize("name", CALLS)
def test_the_fit_is_that_by_steps(name: str, optimizer: Any, loss: str) -> None:
    op, x, y, (kernel, _), options = problem(name)
    shared: dict[str, Any] = {"op": op, "bias": True, "loss": loss, "optimizer": optimizer, "steps": 12, **options}
    fits = {method: ac.learn_kernel(x, y, kernel.shape, method=method, **shared) for method in METHODS}
    tolerance = 1e-2 if optimizer is None else 1e-9  # the rate by power iteration is close to that by eigenvalues
    for name in ("kernel", "bias", "losses", "loss"):
        values = getattr(fits["gram"], name), getattr(fits["steps"], name)
        np.testing.assert_allclose(*values, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_hold_where_nothing_is_left(dtype: str) -> None:
    """|y|^2 of which 1e-8, or nothing, is noise: differences of large sums."""
    x, kernel = 100 + normal(40, 50, dtype=dtype), normal(3, 3, dtype=dtype)
    y = ac.correlate(x, kernel) + np.asarray(1e-2 * normal(38, 48), dtype)
    fit = ac.learn_kernel(x, y, (3, 3), init=kernel, steps=40, method="gram")
    value, _ = ac.loss_and_grad(ac.correlate, (fit.kernel, None), x.astype("float64"), y.astype("float64"))
    np.testing.assert_allclose(fit.loss, value, rtol=1e-4 if dtype == "float32" else 1e-12)
    y = ac.correlate(x, kernel)
    fit = ac.learn_kernel(x, y, (3, 3), init=kernel, steps=1, method="gram")
    assert fit.loss <= 10 * (np.finfo(dtype).eps ** 2) * (y**2).sum()


def test_losses_hold_in_single_precision() -> None:
    """JAX without 64-bit types sums in float32, which loses 1e-7 of |y|^2."""
    x, kernel = 10 + normal(60, 70, dtype="float32"), normal(3, 3, dtype="float32")
    y = ac.correlate(x, kernel) + np.asarray(1e-2 * normal(58, 68), "float32")
    with jax.enable_x64(False):
        fit = jax.jit(lambda x, y: ac.learn_kernel(x, y, (3, 3), init=kernel, steps=30, method="gram"))(x, y)
        value, _ = ac.loss_and_grad(
            ac.correlate, (np.asarray(fit.kernel, "float64"), None), np.float64(x), np.float64(y)
        )
        assert fit.loss.dtype == fit.kernel.dtype == jnp.float32
        np.testing.assert_allclose(fit.loss, value, rtol=1e-3)
        gram = ac.gram(ac.correlate, jnp.asarray(x), jnp.asarray(y), (3, 3))
        loose = ac.learn_from(gram, init=kernel, steps=0).loss
        assert gram.matrix.dtype == jnp.float32
        assert 1e-3 * value < abs(loose - value) < 1e-6 * (y**2).sum()


# Sums of Grams


def test_batches_add_up(library: Library) -> None:
    x, y = normal(4, 3, 20), normal(4, 2, 18)
    parts = [
        ac.gram(ac.conv, library.asarray(x[i : i + 2]), library.asarray(y[i : i + 2]), (2, 3, 3), bias=True)
        for i in (0, 2)
    ]
    whole = ac.gram(ac.conv, x, y, (2, 3, 3), bias=True)
    for total in (parts[0] + parts[1], sum(parts)):
        for name in ("matrix", "vector", "square", "count"):
            np.testing.assert_allclose(library.to_numpy(getattr(total, name)), getattr(whole, name), atol=1e-12)
        fit = ac.learn_from(total, loss="mean", steps=30)
        np.testing.assert_allclose(float(fit.loss), ac.learn_from(whole, loss="mean", steps=30).loss)
    assert whole.matrix.shape == (1, 10, 10)
    assert whole.vector.shape == (1, 2, 10)


def test_an_empty_batch_adds_nothing() -> None:
    whole = ac.gram(ac.conv, normal(2, 1, 9), normal(2, 1, 8), (1, 1, 2))
    total = whole + ac.gram(ac.conv, normal(0, 1, 9), normal(0, 1, 8), (1, 1, 2))
    np.testing.assert_array_equal(total.matrix, whole.matrix)
    assert total.count == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_shape": (3,)}, r"kernel_shape is \(2,\) on the left and \(3,\) on the right"),
        ({"bias": True}, "bias is False on the left and True on the right"),
        ({"stride": 2}, "options is .* add Grams of one operation with one set of options"),
        ({"op": ac.convolve}, "op is correlate on the left and convolve on the right"),
        ({"dtype": "float32"}, "dtype is float64 on the left and float32 on the right"),
    ],
)
def test_what_does_not_add_up(change: dict[str, Any], message: str) -> None:
    def gram(op: Any = ac.correlate, dtype: str = "float64", **options: Any) -> ac.Gram:
        shape = options.pop("kernel_shape", (2,))
        x = normal(20, dtype=dtype)
        return ac.gram(op, x, ac.correlate(x, np.zeros(shape, dtype), **_without_bias(options)), shape, **options)

    with pytest.raises(ValueError, match=f"Gram: {message}"):
        gram() + gram(**change)
    with pytest.raises(TypeError, match="unsupported operand"):
        gram() + 1


def _without_bias(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "bias"}


# Dask and PyTorch


def test_dask_reads_each_chunk_once_and_not_before_the_fit() -> None:
    read: list[Any] = []

    def load(source: Any, block_info: Any = None) -> Any:
        read.append(block_info[0]["chunk-location"])
        return source

    arrays = normal(40, 50, dtype="float32"), normal(40, 50, dtype="float32", seed=1)
    x, y = (
        da.from_array(array, chunks=(15, 20)).map_blocks(load, dtype=array.dtype, meta=array[:0, :0])
        for array in arrays
    )
    gram = ac.gram(ac.correlate, x, y, (3, 3), padding="same", boundary="reflect")
    total = gram + gram
    assert not read
    fit = ac.learn_from(total, steps=5)
    assert len(read) == 2 * 9
    assert isinstance(fit.kernel, da.Array)
    read.clear()
    again = ac.learn_kernel(x, y, (3, 3), padding="same", boundary="reflect", steps=5)
    assert len(read) == 2 * 9
    expected = ac.learn_kernel(*arrays, (3, 3), padding="same", boundary="reflect", steps=5)
    np.testing.assert_allclose(again.losses.compute(), expected.losses, rtol=1e-6)
    np.testing.assert_allclose(fit.kernel.compute(), expected.kernel, atol=1e-6)


def test_torch_keeps_no_graph_of_a_gram() -> None:
    x, y = (torch.tensor(array, requires_grad=True) for array in (IMAGE, EDGES))
    gram = ac.gram(ac.correlate, x, y, (1, 2))
    assert not any(leaf.requires_grad for leaf in (gram.matrix, gram.vector, gram.square, gram.count))
    assert gram.matrix.dtype == torch.float64
    assert ac.learn_from(gram, steps=3).kernel.dtype == torch.float32


# The choice, and what is refused


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((7, 7), {"steps": 50}, "gram"),
        ((7, 7), {"steps": 0, "optimizer": ac.sgd(0.1)}, "steps"),
        ((40, 40), {"steps": 2, "optimizer": ac.sgd(0.1)}, "steps"),
        ((3, 3), {"steps": 50, "algorithm": "native"}, "steps"),
        ((3, 3), {"steps": 50, "dtype": "float64"}, "steps"),
        (
            (3, 3),
            {"steps": 50, "loss": lambda a, b: (((a - b) ** 2).sum(), 2 * (a - b)), "optimizer": ac.sgd(0)},
            "steps",
        ),
    ],
)
def test_auto_takes_what_costs_less(
    shape: Any, options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    for name, method in METHODS.items():
        monkeypatch.setitem(METHODS, name, lambda *given, n=name, m=method: taken.append(n) or m(*given))
    x = normal(50, 50, dtype="float32")
    y = np.zeros((51 - shape[0], 51 - shape[1]), "float32")
    if options.get("algorithm") == "native":
        x, y = torch.tensor(x), torch.tensor(y)
    ac.learn_kernel(x, y, shape, **options)
    assert taken == [expected]


GRAM = ac.gram(ac.correlate, IMAGE, EDGES, (1, 2))
REFUSED = [
    (
        lambda: ac.learn_kernel(IMAGE, EDGES, (1, 2), loss=lambda a, b: (0, a), method="gram", optimizer=ac.sgd(1)),
        ValueError,
        "learn_kernel: method='gram' serves the losses 'sum' and 'mean', loss is a function.*pass method='steps'",
    ),
    (
        lambda: ac.gram(ac.correlate, IMAGE, IMAGE, (1, 2)),
        ValueError,
        r"gram: y has shape \(6, 8\), correlate of x \(6, 8\) and kernel \(1, 2\) gives \(6, 7\)",
    ),
    (lambda: ac.gram(ac.correlate, IMAGE, EDGES, (1, 2), dtype="float64"), ValueError, "gram: dtype='float64' has no"),
    (lambda: ac.gram(ac.corr2d, IMAGE, EDGES, (1, 2)), TypeError, "gram: op must be one of"),
    (
        lambda: ac.gram(ac.correlate, IMAGE, EDGES, (1, 2), groups=2),
        TypeError,
        "gram: correlate has no option groups=2",
    ),
    (
        lambda: ac.gram(ac.correlate, IMAGE, EDGES, (1, 2), boundary="mirror"),
        ValueError,
        "boundary='mirror' is not one",
    ),
    (lambda: ac.gram(ac.correlate, IMAGE.astype(int), EDGES, (1, 2)), TypeError, "gram: x has dtype int64"),
    (lambda: ac.gram(ac.correlate, IMAGE, EDGES, (1, 2), bias=1), TypeError, "gram: bias must be True or False"),
    (lambda: ac.learn_from(IMAGE), TypeError, "learn_from: gram must be a Gram, got ndarray; make one by ac.gram"),
    (lambda: ac.learn_from(GRAM, loss=max), TypeError, "learn_from: loss must be one of 'sum', 'mean'"),
    (lambda: ac.learn_from(GRAM, init=IMAGE), ValueError, r"learn_from: init has a kernel of shape \(6, 8\)"),
    (lambda: ac.learn_from(GRAM, init=np.array([[1, 2]])), TypeError, "learn_from: init has dtype int64"),
    (lambda: ac.learn_from(GRAM, init=np.array([[1j, 2]])), TypeError, "learn_from: init has dtype complex128"),
    (lambda: ac.learn_from(GRAM, optimizer=3), TypeError, "learn_from: optimizer must have the functions init"),
    (
        lambda: ac.learn_from(GRAM, init=np.float32(START), optimizer=ac.sgd(1e6)),
        ValueError,
        r"learn_from: loss is inf at step \d+, .* for this data is 0\.0\d+: pass a smaller one",
    ),
    (lambda: ac.solve_from(None), TypeError, "solve_from: gram must be a Gram, got NoneType"),
    (lambda: ac.solve_kernel(IMAGE, EDGES, (1, 2), ridge=-1), ValueError, "solve_kernel: ridge must be >= 0, got -1"),
    (
        lambda: ac.solve_kernel(np.full((6, 7), np.inf), EDGES, (1, 1)),
        ValueError,
        "solve_kernel: loss is nan; x or y holds",
    ),
    (lambda: ac.solve_kernel(IMAGE, EDGES, (2, 2)), ValueError, r"solve_kernel: y has shape \(6, 7\), correlate of x"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
