"""Pixel shuffles against PyTorch and their definition; the sub-pixel convolution against what it is made of."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from jax.test_util import check_grads

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.boundary import BOUNDARIES
from arrayconv.testing import assert_within_bound

if TYPE_CHECKING:
    from conftest import Library

RANDOM = np.random.default_rng(9)
NumPyArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def integers(shape: Shape) -> NumPyArray:
    return RANDOM.integers(-9, 10, shape)


def defined_shuffle(x: NumPyArray, factor: Shape) -> NumPyArray:
    """``y[..., c, s * r + p] = x[..., c * R + q, s]``, element by element, channels first."""
    ndim = len(factor)
    lead, (count, *sizes) = x.shape[: x.ndim - ndim - 1], x.shape[x.ndim - ndim - 1 :]
    y = np.empty((*lead, count // prod(factor), *(n * r for n, r in zip(sizes, factor, strict=True))), x.dtype)
    for c, *position in np.ndindex(*y.shape[len(lead) :]):
        coarse, sub = zip(*map(divmod, position, factor), strict=True)
        y[(..., c, *position)] = x[(..., c * prod(factor) + np.ravel_multi_index(sub, factor), *coarse)]
    return y


@st.composite
def shuffles(draw: st.DrawFn) -> tuple[Shape, Shape, str]:
    """The fine shape, the factor and the layout of any shuffle."""
    ndim = draw(st.integers(1, 3))
    factor = draw(st.tuples(*[st.integers(1, 3)] * ndim))
    sizes = draw(st.tuples(*[st.integers(1, 3)] * ndim))
    lead = draw(st.sampled_from([(), (2,), (0,), (2, 1, 2)]))
    fine = tuple(n * r for n, r in zip(sizes, factor, strict=True))
    return (*lead, draw(st.integers(1, 3)), *fine), factor, draw(st.sampled_from(["first", "last"]))


def test_shuffles_are_their_definition_and_each_other_s_inverse(library: Library) -> None:
    def check(drawn: tuple[Shape, Shape, str]) -> None:
        shape, factor, channels = drawn
        ndim = len(factor)

        def laid(array: NumPyArray) -> NumPyArray:
            return np.moveaxis(array, -ndim - 1, -1) if channels == "last" else array

        coarse_shape = (*shape[: -ndim - 1], shape[-ndim - 1] * prod(factor))
        coarse = integers((*coarse_shape, *(n // r for n, r in zip(shape[-ndim:], factor, strict=True))))
        fine = defined_shuffle(coarse, factor)
        y, pull = ac.vjp(ac.pixel_shuffle, library.asarray(laid(coarse)), factor, channels=channels)
        x, push = ac.vjp(ac.pixel_unshuffle, library.asarray(laid(fine)), factor, channels=channels)
        for found, expected in ((y, fine), (push(x)[0], fine), (x, coarse), (pull(y)[0], coarse)):
            assert type(found) is type(library.asarray(coarse)) and found.dtype == library.xp.int64
            np.testing.assert_array_equal(library.to_numpy(found), laid(expected))

    library.for_all(shuffles(), check)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_agrees_with_torch(library: Library, factor: int) -> None:
    coarse = RANDOM.standard_normal((2, 36, 3, 4))
    fine = torch.nn.functional.pixel_shuffle(torch.tensor(coarse), factor).numpy()
    np.testing.assert_array_equal(library.to_numpy(ac.pixel_shuffle(library.asarray(coarse), factor)), fine)
    np.testing.assert_array_equal(library.to_numpy(ac.pixel_unshuffle(library.asarray(fine), factor)), coarse)
    for x in (coarse[0], np.stack([coarse, -coarse])):
        y = torch.nn.functional.pixel_shuffle(torch.tensor(x), factor)
        np.testing.assert_array_equal(library.to_numpy(ac.pixel_shuffle(library.asarray(x), (factor, factor))), y)


def test_one_int_means_every_axis_but_batch_and_channels() -> None:
    for shape, factor in (((2, 6, 4), (2,)), ((2, 12, 4, 3), (2, 2)), ((1, 16, 2, 3, 2), (2, 2, 2))):
        x = integers(shape)
        np.testing.assert_array_equal(ac.pixel_shuffle(x, 2), ac.pixel_shuffle(x, factor))
        last = np.moveaxis(x, 1, -1)
        y = ac.pixel_shuffle(last, 2, channels="last")
        np.testing.assert_array_equal(np.moveaxis(y, -1, 1), ac.pixel_shuffle(x, factor))
        np.testing.assert_array_equal(ac.pixel_unshuffle(y, np.int64(2), channels="last"), last)


def test_unshuffle_is_unfold_with_its_windows_in_space() -> None:
    x = integers((2, 3, 6, 8))
    columns = ac.unfold(x, (3, 2), stride=(3, 2))
    np.testing.assert_array_equal(ac.pixel_unshuffle(x, (3, 2)), columns.reshape(2, 18, 2, 4))


def test_every_dtype(library: Library) -> None:
    x, kernel = np.arange(24).reshape(1, 4, 6), np.arange(6).reshape(1, 2, 3)
    for dtype in library.dtypes:
        for op, array, expected in (
            (ac.pixel_shuffle, x, ac.pixel_shuffle(x, 2)),
            (ac.pixel_unshuffle, x, ac.pixel_unshuffle(x, 2)),
            (ac.icnr, kernel, np.concatenate([kernel, kernel])),
        ):
            y = op(library.asarray(array, dtype), 2)
            assert dtype_name(y.dtype) == dtype
            found = library.to_numpy(y).astype("float32" if dtype == "bfloat16" else dtype)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("factor", [(1, 1), (1, 4), (2, 3)])
def test_results_are_new_arrays(factor: Shape) -> None:
    """Also where a reshape would do, which gives a view."""
    for op, shape in ((ac.pixel_shuffle, (prod(factor), 1, 1)), (ac.pixel_unshuffle, (1, *factor))):
        x = np.ones(shape)
        y = op(x, factor)
        assert not np.shares_memory(x, y) and y.flags.writeable
        tensor = torch.tensor(x)
        op(tensor, factor).zero_()
        assert tensor.all()
    kernel = np.ones((1, 1, 2, 2))
    assert not np.shares_memory(ac.icnr(kernel, 1), kernel)


# Sub-pixel convolution

OPTIONS: list[dict[str, Any]] = [
    {"factor": 2, "padding": "same"},
    {"factor": (1, 3), "stride": (2, 1), "dilation": (1, 2), "padding": ((2, 1), (4, -1)), "groups": 2},
    {"factor": (3, 2), "channels": "last", "padding": "full"},
    *({"factor": 2, "padding": 2, "boundary": boundary} for boundary in BOUNDARIES),
]


def arrays(options: dict[str, Any], dtype: str = "float64") -> list[NumPyArray]:
    """x (2, 4, 6, 5), kernel (2 * prod(factor), 4 / groups, 3, 2) and bias."""
    outputs = 2 * prod(np.broadcast_to(options["factor"], 2).tolist())
    shapes = ((2, 4, 6, 5), (outputs, 4 // options.get("groups", 1), 3, 2), (outputs,))
    x, kernel, bias = (integers(shape).astype(dtype) for shape in shapes)
    if options.get("channels") == "last":
        x, kernel = np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2))
    return [x, kernel, bias]


@pytest.mark.parametrize("options", OPTIONS)
def test_subpixel_conv_is_conv_and_a_shuffle(library: Library, options: dict[str, Any]) -> None:
    """Exactly, since floats that hold small integers are exact too."""
    rest = {name: value for name, value in options.items() if name != "factor"}
    channels = options.get("channels", "first")
    factor = tuple(np.broadcast_to(options["factor"], 2).tolist())
    for dtype in ("int32", "float32"):
        given = arrays(options, dtype)
        expected = ac.pixel_shuffle(ac.conv(*given, **rest), factor, channels=channels)
        own = [library.asarray(array) for array in given]
        y = ac.subpixel_conv(*own, **options)
        assert type(y) is type(own[0]) and dtype_name(y.dtype) == dtype
        np.testing.assert_array_equal(library.to_numpy(y), expected)
        wide = ac.subpixel_conv(*own, dtype="float64", **options)
        assert dtype_name(wide.dtype) == "float64"
        np.testing.assert_array_equal(library.to_numpy(wide), expected)


@pytest.mark.parametrize("options", OPTIONS[:4])
def test_cotangents_of_subpixel_conv(library: Library, options: dict[str, Any]) -> None:
    """Those of conv, of the unshuffled cotangent."""
    given = arrays(options, "int64")
    rest = {name: value for name, value in options.items() if name != "factor"}
    factor = tuple(np.broadcast_to(options["factor"], 2).tolist())
    y, pullback = ac.vjp(ac.subpixel_conv, *(library.asarray(array) for array in given), **options)
    dy = integers(tuple(y.shape))
    coarse = ac.pixel_unshuffle(dy, factor, channels=options.get("channels", "first"))
    expected = ac.vjp(ac.conv, *given, **rest)[1](coarse)
    for found, cotangent in zip(pullback(library.asarray(dy)), expected, strict=True):
        np.testing.assert_array_equal(library.to_numpy(found), cotangent)


@pytest.mark.parametrize("algorithm", ["auto", *ac.algorithms()])
def test_subpixel_conv_by_every_algorithm(library: Library, algorithm: str) -> None:
    x, kernel = RANDOM.standard_normal((2, 3, 9, 8)), RANDOM.standard_normal((8, 3, 3, 3))
    try:
        y = ac.subpixel_conv(library.asarray(x), library.asarray(kernel), factor=2, padding="same", algorithm=algorithm)
    except ValueError as error:
        assert algorithm != "auto" and "can't serve this call" in str(error)
    else:
        coarse = ac.pixel_unshuffle(library.to_numpy(y), 2)
        assert_within_bound(coarse, x, kernel, padding="same", op=ac.conv)


def test_any_number_of_axes_and_batches(library: Library) -> None:
    for lead in ((), (0,), (2, 1, 2)):
        for ndim in (1, 2, 3):
            x, kernel = integers((*lead, 3, *(4, 3, 3)[:ndim])), integers((2 * 2**ndim, 3, *(2, 1, 2)[:ndim]))
            y = ac.subpixel_conv(library.asarray(x), library.asarray(kernel), factor=2)
            expected = ac.pixel_shuffle(ac.conv(x, kernel), (2,) * ndim)
            np.testing.assert_array_equal(library.to_numpy(y), expected)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("factor", [2, 3])
def test_is_a_transposed_convolution(library: Library, ndim: int, factor: int) -> None:
    """With fine tap ``u = r * (k - 1 - t) + p`` for tap t and sub-position p: the flipped kernel's own shuffle.

    From ``y[r * j + p] = sum_t x[j + t - low] * kernel[p, t]``: with ``i = j + t - low`` the position is
    ``r * i + u - r * (k - 1 - low)``, so the fine padding is ``r * (k - 1 - low)``.
    """
    x, kernel = integers((2, 3, *(5, 4, 3)[:ndim])), integers((2 * factor**ndim, 3, *(3, 3, 3)[:ndim]))
    y = library.to_numpy(ac.subpixel_conv(library.asarray(x), library.asarray(kernel), factor=factor, padding=1))
    flipped = np.flip(kernel, axis=tuple(range(2, kernel.ndim))).swapaxes(0, 1)
    fine = ac.pixel_shuffle(np.ascontiguousarray(flipped), factor)
    transposed = ac.conv_transpose(library.asarray(x), library.asarray(fine), stride=factor, padding=factor)
    np.testing.assert_array_equal(library.to_numpy(transposed), y)
    theirs = getattr(torch.nn.functional, f"conv_transpose{ndim}d")
    pair = [torch.tensor(array, dtype=torch.float64) for array in (x, fine)]
    np.testing.assert_allclose(theirs(*pair, stride=factor, padding=factor), y, rtol=0, atol=1e-9)


# The initialisation


@pytest.mark.parametrize(("factor", "groups", "channels"), [(2, 1, "first"), ((3, 1), 2, "first"), (2, 1, "last")])
def test_icnr_starts_with_nearest_neighbours(library: Library, factor: Any, groups: int, channels: str) -> None:
    x, kernel = integers((1, 4, 5, 4)), integers((6, 4 // groups, 3, 3))
    factors = tuple(np.broadcast_to(factor, 2).tolist())
    coarse = ac.conv(x, kernel, padding="same", groups=groups)
    expected = np.repeat(np.repeat(coarse, factors[0], axis=2), factors[1], axis=3)
    if channels == "last":
        x, kernel, expected = np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2)), np.moveaxis(expected, 1, -1)
    large = ac.icnr(library.asarray(kernel), factor, channels=channels)
    assert type(large) is type(library.asarray(kernel))
    options: dict[str, Any] = {"factor": factor, "groups": groups, "channels": channels, "padding": "same"}
    y = ac.subpixel_conv(library.asarray(x), large, **options)
    np.testing.assert_array_equal(library.to_numpy(y), expected)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_the_transpose_of_icnr_sums_the_copies(library: Library, channels: str) -> None:
    kernel = integers((2, 3, 2, 4))
    large, pullback = ac.vjp(ac.icnr, library.asarray(kernel), (2, 3), channels=channels)
    dy = integers(tuple(large.shape))
    (dk,) = pullback(library.asarray(dy))
    assert dk.shape == kernel.shape and dk.dtype == library.xp.int64
    assert np.vdot(library.to_numpy(large), dy) == np.vdot(kernel, library.to_numpy(dk))


# Transformations

CALLS = {
    "pixel_shuffle": (partial(ac.pixel_shuffle, factor=(2, 3)), (2, 12, 3, 2)),
    "pixel_shuffle_last": (partial(ac.pixel_shuffle, factor=2, channels="last"), (2, 3, 2, 8)),
    "pixel_unshuffle": (partial(ac.pixel_unshuffle, factor=2), (2, 3, 4, 6)),
    "icnr": (partial(ac.icnr, factor=2), (2, 3, 3, 2)),
    "subpixel_conv": (lambda x: ac.subpixel_conv(x, x[:, :, :3, :2] * 2, factor=(2, 1)), (2, 2, 4, 5)),
}


@pytest.mark.parametrize("name", CALLS)
def test_in_jax(name: str) -> None:
    op, shape = CALLS[name]
    x = RANDOM.standard_normal(shape)
    y = op(x)
    np.testing.assert_allclose(jax.jit(op)(jax.numpy.asarray(x)), y, rtol=1e-12, atol=1e-12)
    stacked = np.stack([x, -x, 2 * x])
    np.testing.assert_allclose(jax.vmap(op)(stacked)[2], op(2 * x), rtol=1e-12, atol=1e-12)
    check_grads(op, (jax.numpy.asarray(x),), order=2)


@pytest.mark.parametrize("name", CALLS)
def test_in_torch(name: str) -> None:
    op, shape = CALLS[name]
    x = torch.tensor(RANDOM.standard_normal(shape), requires_grad=True)
    assert torch.autograd.gradcheck(op, (x,))
    assert torch.autograd.gradgradcheck(lambda x: op(x) ** 2, (x,))
    torch.compiler.reset()  # partial functions share one code object, and its recompilations are limited
    compiled = torch.compile(op, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), op(x))
    detached = x.detach()
    torch.testing.assert_close(torch.func.vmap(op)(torch.stack([detached, -detached]))[0], op(detached))
    gradients = torch.func.vmap(torch.func.grad(lambda x: (op(x) ** 2).sum()))(torch.stack([detached, -detached]))
    torch.testing.assert_close(gradients[0], torch.autograd.grad((op(x) ** 2).sum(), x)[0])


def test_the_planner_knows_subpixel_conv() -> None:
    plan = ac.plan(ac.subpixel_conv, (2, 3, 8, 8), (16, 3, 3, 3), factor=(2, 4), padding="same")
    assert plan.output_shape == (2, 2, 16, 32)
    x, kernel = np.ones((2, 3, 8, 8), "float32"), np.ones((16, 3, 3, 3), "float32")
    np.testing.assert_array_equal(plan(x, kernel), ac.subpixel_conv(x, kernel, factor=(2, 4), padding="same"))


X, KERNEL = np.zeros((2, 6, 4, 3)), np.zeros((6, 6, 1, 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ac.pixel_shuffle([1.0], 1), TypeError, "pixel_shuffle: x must be an array of NumPy"),
        (lambda: ac.pixel_shuffle(X, 2), ValueError, r"factor=\(2, 2\) must divide the channels, x of shape .* has 6"),
        (lambda: ac.pixel_shuffle(X, 2, channels="last"), ValueError, "x of shape .* has 3, not a multiple of 4"),
        (lambda: ac.pixel_shuffle(X, 2.0), TypeError, "pixel_shuffle: factor must be an int, got 2.0"),
        (lambda: ac.pixel_shuffle(X, True), TypeError, "pixel_shuffle: factor must be an int, got True"),
        (lambda: ac.pixel_shuffle(X, 0), ValueError, "pixel_shuffle: factor must be >= 1, got 0"),
        (lambda: ac.pixel_shuffle(X, ()), ValueError, r"pixel_shuffle: factor=\(\) needs x as \(N, C, \*spatial\)"),
        (lambda: ac.pixel_shuffle(X, (1,) * 4), ValueError, "pixel_shuffle: factor=.* a channel axis and an axis for"),
        (lambda: ac.pixel_shuffle(X[0, 0], 2), ValueError, r"pixel_shuffle: factor=2 needs .* got shape \(4, 3\)"),
        (lambda: ac.pixel_shuffle(X, 1, channels="x"), ValueError, "pixel_shuffle: channels='x' is not one of"),
        (lambda: ac.pixel_unshuffle(X > 0, 1), TypeError, "pixel_unshuffle: x has dtype bool"),
        (lambda: ac.pixel_unshuffle(X, 2), ValueError, r"factor=\(2, 2\) must divide the spatial sizes, got \(4, 3\)"),
        (
            lambda: ac.subpixel_conv(X, KERNEL, factor=2),
            ValueError,
            "must divide the channels, kernel of shape .* has 6",
        ),
        (lambda: ac.subpixel_conv(X, KERNEL, factor=(2,)), ValueError, "subpixel_conv: factor has 1 entries, expected"),
        (lambda: ac.subpixel_conv(X, KERNEL, factor=None), TypeError, "subpixel_conv: factor must be an int, got None"),
        (lambda: ac.subpixel_conv(X, KERNEL[0], factor=1), ValueError, "subpixel_conv: kernel expects"),
        (lambda: ac.subpixel_conv(X, KERNEL, KERNEL[0, 0, 0], factor=1), ValueError, r"bias must have shape \(6,\)"),
        (lambda: ac.icnr(KERNEL[0, 0], 2), ValueError, "icnr: kernel must have two channel axes and at least one"),
        (lambda: ac.icnr(KERNEL, (2,)), ValueError, "icnr: factor has 1 entries"),
        (lambda: ac.icnr(KERNEL, -1), ValueError, "icnr: factor must be >= 1, got -1"),
        (lambda: ac.icnr(KERNEL, 2, channels="both"), ValueError, "icnr: channels='both' is not one of"),
        (lambda: ac.icnr([[[1]]], 2), TypeError, "icnr: kernel must be an array of NumPy"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
