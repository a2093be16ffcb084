"""`unfold` and `fold` against their definition, PyTorch, each other and `conv`, on every library."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import dask
import dask.array
import jax
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.testing import geometries
from arrayconv.testing.strategies import Case

if TYPE_CHECKING:
    from conftest import Library

RANDOM = np.random.default_rng(8)
NumPyArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]

CASES = geometries(boundaries=("constant",))
#: window, stride, padding, dilation of calls that PyTorch can make too.
TORCH_CALLS = [
    ((3, 2), 1, 0, 1),
    ((3, 3), (2, 1), (1, 2), (1, 2)),
    ((2, 2), (3, 5), 1, (3, 1)),
    ((4, 3), (2, 4), (3, 0), (1, 2)),
    ((1, 1), 1, 0, 1),
    ((7, 8), 1, 0, 1),
]


def integers(shape: Shape, dtype: str = "int64") -> NumPyArray:
    return RANDOM.integers(0 if "u" in dtype else -5, 6, shape).astype(dtype)


def shape_of(case: Case) -> Shape:
    channels = case.groups * case.inputs
    return (*case.batch, *case.sizes, channels) if case.channels == "last" else (*case.batch, channels, *case.sizes)


def options_of(case: Case) -> dict[str, Any]:
    return {
        "stride": case.stride,
        "padding": case.padding,
        "dilation": case.dilation,
        "channels": case.channels,
    }


def grids(case: Case) -> list[NumPyArray]:
    """For each spatial axis the element that tap t of output j reads, ``(*window, *out)``; n where that is padding."""
    ndim = len(case.sizes)
    pairs = ac.resolve_padding(case.padding, case.sizes, case.window, stride=case.stride, dilation=case.dilation)
    out = ac.output_shape(case.sizes, case.window, stride=case.stride, padding=pairs, dilation=case.dilation)
    where = np.indices((*case.window, *out))
    strides, dilations = (np.broadcast_to(each, ndim) for each in (case.stride, case.dilation))
    found = []
    for axis, n in enumerate(case.sizes):
        read = where[ndim + axis] * strides[axis] + where[axis] * dilations[axis] - pairs[axis][0]
        found.append(np.where((read < 0) | (read >= n), n, read))
    return found


def defined_unfold(case: Case, x: NumPyArray) -> NumPyArray:
    """By the index of every element, out of an x with a zero behind each axis."""
    ndim, last = len(case.sizes), case.channels == "last"
    x = np.moveaxis(x, -1, -ndim - 1) if last else x
    x = np.pad(x, [(0, 0)] * (x.ndim - ndim) + [(0, 1)] * ndim)
    columns = x[(..., *grids(case))]
    lead, count, out = columns.shape[: -2 * ndim - 1], columns.shape[-2 * ndim - 1], prod(columns.shape[-ndim:])
    if last:
        columns = np.moveaxis(columns, -2 * ndim - 1, -1)
        taps, spatial = range(len(lead), len(lead) + ndim), range(len(lead) + ndim, len(lead) + 2 * ndim)
        columns = columns.transpose(*range(len(lead)), *spatial, *taps, -1 % columns.ndim)
        return columns.reshape(*lead, out, prod(case.window) * count)
    return columns.reshape(*lead, count * prod(case.window), out)


def test_unfold_is_its_definition(library: Library) -> None:
    def check(case: Case) -> None:
        x = integers(shape_of(case), "int32")
        y = ac.unfold(library.asarray(x), case.window, **options_of(case))
        assert type(y) is type(library.asarray(x)) and y.dtype == library.xp.int32
        np.testing.assert_array_equal(library.to_numpy(y), defined_unfold(case, x))

    library.for_all(CASES, check)


def test_fold_is_the_transpose_of_the_definition(library: Library) -> None:
    """Of unfold as a matrix, one column for each element of x."""

    def check(case: Case) -> None:
        case = case._replace(batch=case.batch and (1,), groups=1)
        shape = shape_of(case)
        units = np.eye(prod(shape), dtype="int64").reshape(prod(shape), *shape)
        matrix = np.stack([defined_unfold(case, unit) for unit in units]) if units.size else np.zeros((0, 1))
        if not matrix.size:
            return
        columns = integers(matrix.shape[1:])
        y = ac.fold(library.asarray(columns), case.sizes, case.window, **options_of(case))
        assert y.dtype == library.xp.int64
        expected = matrix.reshape(len(units), -1) @ columns.reshape(-1)
        np.testing.assert_array_equal(library.to_numpy(y), expected.reshape(shape))

    library.for_all(CASES, check)


def test_each_is_the_transpose_of_the_other(library: Library) -> None:
    """``<unfold(x), c> == <x, fold(c)>`` exactly, by the functions and by `vjp`."""

    def check(case: Case) -> None:
        options = options_of(case)
        x = integers(shape_of(case))
        columns, pull = ac.vjp(ac.unfold, library.asarray(x), case.window, **options)
        c = integers(tuple(columns.shape))
        back, push = ac.vjp(ac.fold, library.asarray(c), case.sizes, case.window, **options)
        left, right = library.to_numpy(columns), library.to_numpy(back)
        assert np.vdot(left, c) == np.vdot(x, right)
        np.testing.assert_array_equal(library.to_numpy(pull(library.asarray(c))[0]), right)
        np.testing.assert_array_equal(library.to_numpy(push(library.asarray(x))[0]), left)

    library.for_all(CASES, check)


@pytest.mark.parametrize("stride", [1, 2, 3, 50, 10**9])
@pytest.mark.parametrize(("dilation", "channels"), [(1, "first"), (2, "last"), (3, "first")])
def test_long_windows(library: Library, stride: int, dilation: int, channels: str) -> None:
    """More taps than are worth a slice each, with every relation of stride and dilation."""
    size = 70 * dilation + 101
    case = Case((2,), (size,), (99,), 1, 2, 1, channels, stride, dilation, ((9, -2),), "constant")
    x = integers(shape_of(case))
    columns, pull = ac.vjp(ac.unfold, library.asarray(x), (99,), **options_of(case))
    np.testing.assert_array_equal(library.to_numpy(columns), defined_unfold(case, x))
    c = integers(tuple(columns.shape))
    assert np.vdot(library.to_numpy(columns), c) == np.vdot(x, library.to_numpy(pull(library.asarray(c))[0]))
    ones = library.asarray(np.ones(columns.shape, "int64"))
    counts = np.bincount(grids(case)[0].reshape(-1), minlength=size + 1)[:size]
    y = library.to_numpy(ac.fold(ones, (size,), (99,), **options_of(case)))
    np.testing.assert_array_equal(y[1, :, 1] if channels == "last" else y[1, 1], counts)


@pytest.mark.parametrize(("window", "stride", "padding", "dilation"), TORCH_CALLS)
def test_agrees_with_torch(library: Library, window: Shape, stride: Any, padding: Any, dilation: Any) -> None:
    x = RANDOM.standard_normal((2, 3, 7, 8))
    given: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = torch.nn.functional.unfold(torch.tensor(x), window, **given)
    y = ac.unfold(library.asarray(x), window, **given)
    np.testing.assert_array_equal(library.to_numpy(y), expected)
    back = ac.fold(y, (7, 8), window, **given)
    np.testing.assert_allclose(
        library.to_numpy(back), torch.nn.functional.fold(expected, (7, 8), window, **given), rtol=1e-12, atol=1e-12
    )


def test_every_dtype(library: Library) -> None:
    x = np.arange(12).reshape(2, 6)
    expected = ac.unfold(x, (3,))
    counts = ac.fold(np.ones(expected.shape), (6,), (3,))
    for dtype in library.dtypes:
        y = ac.unfold(library.asarray(x, dtype), (3,))
        back = ac.fold(library.asarray(np.ones(expected.shape), dtype), (6,), (3,))
        assert dtype_name(y.dtype) == dtype_name(back.dtype) == dtype
        np.testing.assert_array_equal(library.to_numpy(y).astype(dtype_of(dtype)), expected)
        np.testing.assert_array_equal(library.to_numpy(back).astype(dtype_of(dtype)), counts)


def dtype_of(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def test_halves_are_summed_in_float32(library: Library) -> None:
    """1 is less than half a step at 2048 and at 256, so it is lost unless the sum is wider."""
    for dtype, large in (("float16", 2048), ("bfloat16", 256)):
        if dtype in library.halves:
            columns = np.array([[0, 0, large], [0, 1, 0], [1, 0, 0]])
            y = ac.fold(library.asarray(columns, dtype), (5,), (3,))
            assert library.to_numpy(y).astype("float32")[0, 2] == large + 2


def test_integers_wrap(library: Library) -> None:
    y = ac.fold(library.asarray(np.full((2, 3), 200), "uint8"), (4,), (2,))
    np.testing.assert_array_equal(library.to_numpy(y), [[200, 144, 144, 200]])


@pytest.mark.parametrize("channels", ["first", "last"])
def test_a_convolution_is_one_product(library: Library, channels: str) -> None:
    x, kernel = RANDOM.standard_normal((2, 3, 6, 5)), RANDOM.standard_normal((4, 3, 3, 2))
    options: dict[str, Any] = {"stride": (2, 1), "padding": "same", "dilation": (1, 2), "channels": channels}
    if channels == "last":
        x, kernel = np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2))
    columns = library.to_numpy(ac.unfold(library.asarray(x), (3, 2), **options))
    y = columns @ kernel.reshape(-1, 4) if channels == "last" else kernel.reshape(4, -1) @ columns
    expected = ac.conv(x, kernel, **options)
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("window", [(1, 1), (2, 3), (4, 6), (1, 6), (4, 1)])
def test_results_are_new_arrays(window: Shape) -> None:
    """Also where a reshape would do, which gives a view."""
    x = np.arange(24.0).reshape(1, 4, 6)
    for options in ({}, {"stride": window}, {"channels": "last"}):
        array = x[..., None] if "channels" in options else x
        y = ac.unfold(array, window, **options)
        back = ac.fold(y, (4, 6), window, **options)
        assert not np.shares_memory(y, x) and not np.shares_memory(back, y)
        assert y.flags.writeable and back.flags.writeable
        tensor = torch.tensor(array)
        columns = ac.unfold(tensor, window, **options)
        columns.zero_()
        ac.fold(columns, (4, 6), window, **options).add_(1)
        np.testing.assert_array_equal(tensor, array)
        assert not columns.any()


def test_tiles_and_counts() -> None:
    x = integers((2, 3, 8, 6))
    tiles = ac.unfold(x, (4, 3), stride=(4, 3))
    np.testing.assert_array_equal(ac.fold(tiles, (8, 6), (4, 3), stride=(4, 3)), x)
    ones = np.ones_like(x)
    counts = ac.fold(ac.unfold(ones, (3, 2)), (8, 6), (3, 2))
    np.testing.assert_array_equal(counts[0, 0, :, 0], [1, 2, 3, 3, 3, 3, 2, 1])
    np.testing.assert_array_equal(ac.fold(ac.unfold(x, (3, 2)), (8, 6), (3, 2)), x * counts)


def test_without_batch_or_elements(library: Library) -> None:
    for shape in ((3, 5, 4), (2, 1, 3, 5, 4), (0, 3, 5, 4), (2, 0, 5, 4)):
        x = integers(shape)
        y = ac.unfold(library.asarray(x), (2, 3), padding=1)
        assert y.shape == (*shape[:-3], shape[-3] * 6, 24)
        back = ac.fold(y, (5, 4), (2, 3), padding=1)
        counts = ac.fold(np.ones((6, 24), "int64"), (5, 4), (2, 3), padding=1)
        np.testing.assert_array_equal(library.to_numpy(back), x * counts)
    empty = ac.unfold(library.asarray(np.zeros((2, 1, 0))), (3,), padding="full")
    np.testing.assert_array_equal(library.to_numpy(empty), np.zeros((2, 3, 2)))
    assert ac.fold(empty, (0,), (3,), padding="full").shape == (2, 1, 0)


CALL: dict[str, Any] = {"stride": (2, 3), "padding": ((1, -1), (0, 2)), "dilation": (1, 2)}


@pytest.mark.parametrize("channels", ["first", "last"])
def test_in_jax(channels: str) -> None:
    x = RANDOM.standard_normal((2, 3, 6, 5) if channels == "first" else (2, 6, 5, 3))
    unfold = partial(ac.unfold, window=(3, 2), channels=channels, **CALL)
    fold = partial(ac.fold, spatial_shape=(6, 5), window=(3, 2), channels=channels, **CALL)
    y, pullback = ac.vjp(ac.unfold, x, (3, 2), channels=channels, **CALL)
    c = RANDOM.standard_normal(y.shape)
    (dx,) = pullback(c)
    np.testing.assert_array_equal(jax.jit(unfold)(x), y)
    np.testing.assert_array_equal(jax.vmap(unfold)(x), y)
    np.testing.assert_allclose(jax.vmap(jax.jit(fold))(c), dx, atol=1e-12)
    np.testing.assert_allclose(jax.vjp(unfold, jax.numpy.asarray(x))[1](c)[0], dx, atol=1e-12)
    np.testing.assert_allclose(jax.vjp(fold, jax.numpy.asarray(c))[1](x)[0], y, atol=1e-12)
    check_grads(unfold, (x,), order=2)
    check_grads(fold, (c,), order=2)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, on first use
@pytest.mark.parametrize("channels", ["first", "last"])
def test_in_torch(channels: str) -> None:
    x = torch.tensor(RANDOM.standard_normal((2, 3, 6, 5) if channels == "first" else (2, 6, 5, 3)), requires_grad=True)
    unfold = partial(ac.unfold, window=(3, 2), channels=channels, **CALL)
    fold = partial(ac.fold, spatial_shape=(6, 5), window=(3, 2), channels=channels, **CALL)
    y = unfold(x)
    c = torch.tensor(RANDOM.standard_normal(tuple(y.shape)), requires_grad=True)
    assert torch.autograd.gradcheck(unfold, (x,), check_forward_ad=True)
    assert torch.autograd.gradcheck(fold, (c,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: unfold(x) ** 2, (x,))
    torch.testing.assert_close(torch.autograd.grad(y, x, c)[0], fold(c))
    torch.testing.assert_close(torch.func.vmap(unfold)(x), y)
    torch.testing.assert_close(torch.func.vmap(fold)(c), fold(c))
    torch.compiler.reset()  # partial functions share one code object, and its recompilations are limited
    for op, array in ((unfold, x), (fold, c)):
        compiled = torch.compile(op, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(array), op(array))
        part = array.detach()[:1]
        torch.testing.assert_close(compiled(part), op(part))


@pytest.mark.parametrize("chunks", [(8, 8, 8), (1,) * 24, (3, 0, 20, 1), (24,)])
@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize(
    "options", [{}, {"stride": (4, 2)}, {"stride": 7, "dilation": 2, "padding": ((9, -3), (-2, 1))}]
)
def test_any_chunks_of_dask(options: dict[str, Any], channels: str, chunks: Shape) -> None:
    """Nothing is computed early, and one chunk of x gives one chunk of columns."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    x = integers((2, 24, 13, 3)) if channels == "last" else integers((2, 3, 24, 13))
    expected, pullback = ac.vjp(ac.unfold, x, (4, 2), channels=channels, **options)
    c = integers(expected.shape)
    spatial, channel = (1, 3) if channels == "last" else (2, 1)
    sizes = {0: 1, spatial: chunks, spatial + 1: 5, channel: 2}
    with dask.config.set(scheduler=refuse):
        y, pull = ac.vjp(ac.unfold, dask.array.from_array(x, chunks=sizes), (4, 2), channels=channels, **options)
        (dx,) = pull(dask.array.from_array(c, chunks=(1, 7, 5)))
        back = ac.fold(y, dx.shape[spatial : spatial + 2], (4, 2), channels=channels, **options)
    np.testing.assert_array_equal(y.compute(), expected)
    np.testing.assert_array_equal(dx.compute(), pullback(c)[0])
    np.testing.assert_array_equal(back.compute(), pullback(expected)[0])
    if chunks == (8, 8, 8):
        assert y.numblocks[spatial] >= 2 and back.numblocks[spatial] >= 2 and len(back.dask) < 250


X = np.zeros((2, 3, 6, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ac.unfold([[1.0]], (1,)), TypeError, "unfold: x must be an array of NumPy"),
        (lambda: ac.unfold(X > 0, (1, 1)), TypeError, "unfold: x has dtype bool"),
        (
            lambda: ac.unfold(X, 3),
            TypeError,
            r"unfold: window must be a tuple of ints, got 3; write for example \(3,\)",
        ),
        (lambda: ac.unfold(X, (3, 2.0)), TypeError, r"unfold: window\[1\] must be an int, got 2.0"),
        (lambda: ac.unfold(X, (3, 0)), ValueError, r"unfold: window\[1\] must be >= 1, got 0"),
        (lambda: ac.unfold(X, ()), ValueError, r"unfold: window=\(\) must have at least one entry"),
        (lambda: ac.unfold(X, (1,) * 4), ValueError, "unfold: x must have a channel axis and 4 spatial axes"),
        (lambda: ac.unfold(X, (7, 1)), ValueError, "unfold: kernel covers 7 elements along spatial axis 0"),
        (lambda: ac.unfold(X, (1, 1), stride=0), ValueError, "unfold: stride must be >= 1, got 0"),
        (lambda: ac.unfold(X, (1, 1), stride=True), TypeError, "unfold: stride must be an int, got True"),
        (lambda: ac.unfold(X, (1, 1), dilation=(1, 2, 3)), ValueError, "unfold: dilation has 3 entries"),
        (lambda: ac.unfold(X, (1, 1), padding="most"), ValueError, "unfold: padding='most' is not one of"),
        (lambda: ac.unfold(X, (1, 1), channels="middle"), ValueError, "unfold: channels='middle' is not one of"),
        (lambda: ac.unfold(X, (1, 1), channels=1), TypeError, "unfold: channels must be one of 'first', 'last', got 1"),
        (
            lambda: ac.fold(X, (6,), (2, 2)),
            ValueError,
            r"fold: spatial_shape=\(6,\) has 1 entries, window=\(2, 2\) has 2",
        ),
        (lambda: ac.fold(X, 6, (2,)), TypeError, "fold: spatial_shape must be a tuple of ints, got 6"),
        (lambda: ac.fold(X, (-6,), (2,)), ValueError, r"fold: spatial_shape\[0\] must be >= 0, got -6"),
        (lambda: ac.fold(X[0, 0, 0], (6,), (2,)), ValueError, "fold: columns must have an axis of rows and one of"),
        (lambda: ac.fold(X, (6,), (4,)), ValueError, r"fold: columns has 6 rows, which window=\(4,\) must divide"),
        (lambda: ac.fold(X, (7,), (2,)), ValueError, r"fold: columns has 5 windows, spatial_shape=\(7,\) has 6"),
        (lambda: ac.fold(X, (7,), (2,), channels="last"), ValueError, "fold: columns has 5 rows"),
        (lambda: ac.fold(X, (1,), (2,)), ValueError, "fold: kernel covers 2 elements"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
