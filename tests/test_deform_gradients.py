"""`deform_conv` differentiated: by PyTorch and JAX, by its own rule, under their transformations, and lazily."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import array_api_strict
import dask.array as da
import jax
import numpy as np
import pytest
import torch
from deforming import CASES, RANDOM, Case, arrays, autograd, own, pull, reference, torch_arrays
from jax.test_util import check_grads

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.primitives import sum_equal_rows

if TYPE_CHECKING:
    from conftest import Library


@pytest.mark.parametrize("name", CASES)
def test_torch_differentiates_twice(name: str) -> None:
    case, given = CASES[name], torch_arrays(arrays(CASES[name], 1))

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        named: dict[str, Any] = dict(zip(given, tensors, strict=True))
        y: torch.Tensor = ac.deform_conv(**named, groups=case.groups, **case.options)
        return y

    tensors = tuple(given.values())
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)


@pytest.mark.parametrize("name", ["1d", "2d-groups"])
def test_jax_differentiates_twice(name: str) -> None:
    case, given = CASES[name], arrays(CASES[name], 1)

    @jax.jit
    def function(named: dict[str, Any]) -> Any:
        return ac.deform_conv(**named, groups=case.groups, **case.options)

    check_grads(function, (given,), order=2, modes=("fwd", "rev"), eps=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_pullback_is_autograd_s(library: Library, name: str) -> None:
    case, given = CASES[name], arrays(CASES[name], 3)
    options: dict[str, Any] = {"groups": case.groups, **case.options}
    dy = RANDOM.standard_normal(reference(**given, **options).shape)
    expected = autograd(given, dy, **options)

    made = {key: own(library, array) for key, array in given.items()}
    y, grads = pull(library, made, library.asarray(dy), **options)
    np.testing.assert_allclose(library.to_numpy(y), reference(**given, **options), rtol=0, atol=1e-12)
    assert len(grads) == len(expected)
    for (key, want), grad in zip(expected.items(), grads, strict=True):
        assert type(grad) is type(made[key]) and grad.dtype == made[key].dtype
        np.testing.assert_allclose(library.to_numpy(grad), want, rtol=0, atol=1e-11, err_msg=key)


def test_pullback_in_tiles_of_any_batch(library: Library) -> None:
    case, given = CASES["2d-across"], arrays(CASES["2d-across"], 2)
    made = {}
    for name, array in given.items():
        array = array if name in ("kernel", "bias") else np.moveaxis(array, 1, -1)
        array = np.moveaxis(array, (0, 1), (-1, -2)) if name == "kernel" else array
        made[name] = array.reshape(2, 1, *array.shape[1:]) if name in ("x", "offset") else array
    options: dict[str, Any] = {"groups": case.groups, "channels": "last", **case.options}
    dy = RANDOM.standard_normal(ac.deform_conv(**made, **options).shape)
    expected = autograd(made, dy, **options)

    for workspace in (60_000,) if library.name == "jax" else (1, 20_000, 60_000):
        chunked = {key: own(library, array, 2 if key in ("x", "offset") else 0) for key, array in made.items()}
        with ac.settings(workspace=workspace):
            _, grads = pull(library, chunked, library.asarray(dy), **options)
        for want, grad in zip(expected.values(), grads, strict=True):
            np.testing.assert_allclose(library.to_numpy(grad), want, rtol=0, atol=1e-11)


def test_pullback_of_complex_arrays_follows_jax() -> None:
    case = CASES["1d"]
    given, other = arrays(case), arrays(case)
    given["x"], given["kernel"] = given["x"] + 1j * other["x"], given["kernel"] + 1j * other["kernel"]
    del given["bias"]
    y, pullback = ac.vjp(ac.deform_conv, **given, **case.options)
    dy = RANDOM.standard_normal(y.shape) + 1j * RANDOM.standard_normal(y.shape)
    _, pull = jax.vjp(lambda named: ac.deform_conv(**named, **case.options), given)
    (expected,) = pull(jax.numpy.asarray(dy))
    for name, grad in zip(given, pullback(dy), strict=True):
        assert grad.dtype == given[name].dtype
        np.testing.assert_allclose(grad, expected[name], rtol=0, atol=1e-12)


def test_pullback_in_half_precision_sums_in_float32(library: Library) -> None:
    for dtype in library.halves:
        given = {"x": np.ones((1, 1, 4096)), "offset": np.zeros((1, 1, 4096)), "kernel": np.ones((1, 1, 1))}
        made = {name: own(library, array, dtype=dtype) for name, array in given.items()}
        _, (_, _, d_kernel) = pull(library, made, made["x"])
        assert dtype_name(d_kernel.dtype) == dtype
        np.testing.assert_array_equal(library.to_numpy(d_kernel).astype("float64"), 4096)


@pytest.mark.parametrize("at", [0.0, 1.0, -1.0])
def test_at_an_integer_the_offset_s_derivative_is_the_one_from_the_right(library: Library, at: float) -> None:
    x = np.array([[[1.0, 3.0, 9.0]]])
    given = {"x": x, "offset": np.full((1, 1, 3), at), "kernel": np.ones((1, 1, 1))}
    made = {name: own(library, array) for name, array in given.items()}
    _, (_, grad, _) = pull(library, made, own(library, np.ones((1, 1, 3))))
    padded = np.array([0.0, 1.0, 3.0, 9.0, 0.0, 0.0])[1 + int(at) :]
    np.testing.assert_array_equal(library.to_numpy(grad)[0, 0], np.diff(padded)[:3])
    by_torch = autograd(given, np.ones((1, 1, 3)))
    np.testing.assert_array_equal(by_torch["offset"][0, 0], np.diff(padded)[:3])


def test_rows_are_summed_as_numpy_sums_them() -> None:
    xp = array_api_strict
    for terms, count in ((0, 3), (1, 1), (37, 5), (64, 200)):
        index, values = RANDOM.integers(0, count, terms), RANDOM.standard_normal((terms, 3))
        values[::7] = np.nan
        expected = np.zeros((count, 3))
        np.add.at(expected, index, values)
        sums = np.from_dlpack(sum_equal_rows(xp, xp.asarray(index), xp.asarray(values), count))
        np.testing.assert_allclose(sums, expected, rtol=1e-14, atol=1e-14)


# Transformations and lazy arrays


def test_torch_compile_and_func() -> None:
    case = CASES["2d"]
    given: dict[str, Any] = {name: array.detach() for name, array in torch_arrays(arrays(case)).items()}

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = ac.deform_conv(*tensors[:4], mask=tensors[4], **case.options)
        return y

    tensors = tuple(given.values())
    expected = function(*tensors)
    for workspace in (2**26, 30_000):
        torch.compiler.reset()
        with ac.settings(workspace=workspace):
            compiled = torch.compile(function, fullgraph=True, backend="eager")
            torch.testing.assert_close(compiled(*tensors), expected)
    rows = [tensor[:, None] if i in (0, 1, 4) else tensor for i, tensor in enumerate(tensors)]
    mapped = torch.func.vmap(function, in_dims=(0, 0, None, None, 0))(*rows)
    torch.testing.assert_close(mapped[:, 0], expected)
    grads = torch.func.grad(lambda *own: (function(*own) ** 2).sum(), argnums=(0, 1, 2, 3, 4))(*tensors)
    for tensor in tensors:
        tensor.requires_grad_()
    own = torch.autograd.grad((function(*tensors) ** 2).sum(), tensors)
    for a, b in zip(grads, own, strict=True):
        torch.testing.assert_close(a, b)


def test_jax_maps_over_any_array() -> None:
    case, given = CASES["1d"], arrays(CASES["1d"])
    axes: dict[str, int | None] = {"x": None, "offset": None, "kernel": None, "bias": None, "mask": None}
    for name in axes:
        mapped = given | {name: np.stack([given[name], 2 * given[name]])}
        function = jax.jit(jax.vmap(lambda named: ac.deform_conv(**named, **case.options), (axes | {name: 0},)))
        expected = [reference(**(given | {name: array}), **case.options) for array in mapped[name]]
        np.testing.assert_allclose(function(mapped), expected, rtol=0, atol=1e-12)


def test_jax_maps_over_an_example_that_is_not_finite() -> None:
    """One answer to "is all of it finite" serves all examples."""
    given = arrays(CASES["1d"])
    x = np.stack([given["x"], given["x"]])
    x[1, 0, 0, 4] = np.nan
    function = jax.jit(jax.vmap(lambda x: ac.deform_conv(**(given | {"x": x}), **CASES["1d"].options)))
    expected = [reference(**(given | {"x": own}), **CASES["1d"].options) for own in x]
    np.testing.assert_allclose(function(x), expected, rtol=0, atol=1e-12)


def test_jax_in_32_bits() -> None:
    given = {name: array.astype("float32") for name, array in arrays(CASES["2d"]).items()}
    with jax.enable_x64(False):
        y = jax.jit(lambda named: ac.deform_conv(**named, **CASES["2d"].options))(given)
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, reference(**given, **CASES["2d"].options), rtol=0, atol=2e-5)


def test_dask_computes_nothing_before_it_is_asked() -> None:
    case, given = CASES["2d"], arrays(CASES["2d"], 4)

    def never(block: Any) -> Any:
        raise AssertionError("a chunk was computed")

    x = da.from_array(given["x"], chunks=(2, -1, -1, -1)).map_blocks(never, dtype="float64", meta=np.empty((0,) * 4))
    y, pullback = ac.vjp(ac.deform_conv, **(given | {"x": x}), **case.options)
    assert y.chunks[0] == (2, 2) and y.shape == reference(**given, **case.options).shape
    grads = pullback(y)
    assert [grad.shape for grad in grads] == [array.shape for array in given.values()]
    assert grads[0].chunks == x.chunks
    with pytest.raises(AssertionError, match="a chunk was computed"):
        y.compute()


# Memory


def test_samples_stay_under_the_workspace() -> None:
    """All samples at once would be 37 MiB, thirty times the arrays."""
    x, kernel = RANDOM.standard_normal((2, 16, 48, 48)), RANDOM.standard_normal((16, 16, 3, 3))
    offset, mask = RANDOM.standard_normal((2, 18, 46, 46)), RANDOM.standard_normal((2, 9, 46, 46))
    workspace = 2**22
    with ac.settings(workspace=workspace):
        y, pullback = ac.vjp(ac.deform_conv, x, offset, kernel, mask=mask)
        results = y.nbytes + sum(array.nbytes for array in pullback(y))
        for run_one, allowed in (
            (lambda: ac.deform_conv(x, offset, kernel, mask=mask), 2 * y.nbytes),
            (lambda: pullback(y), 2 * (results - y.nbytes)),
        ):
            tracemalloc.start()
            run_one()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < workspace + allowed


def test_tiles_do_not_pile_up_under_autograd() -> None:
    """What is kept for the backward pass: x's table once, and the arrays themselves."""
    given = torch_arrays(arrays(Case((24, 24), (3, 3), channels=8), 1, "float32"))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with ac.settings(workspace=2**18), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = ac.deform_conv(**given)
    assert y.requires_grad
    assert sum(kept.values()) < 5 * sum(tensor.nbytes for tensor in given.values())
