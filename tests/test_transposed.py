"""`conv_transpose`, `depthwise_conv`, `separable_conv`: against the oracle, PyTorch, and what a transpose means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import arrayconv as ac
from arrayconv.testing import Call, problems

if TYPE_CHECKING:
    from conftest import Library

F = torch.nn.functional
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TORCH = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def check(library: Library, call: Call, **options: Any) -> None:
    library.check(getattr(ac, call.op), call.x, call.kernel, call.bias, **call.options | options)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("op", [ac.conv_transpose, ac.depthwise_conv], ids=lambda op: op.__name__)
def test_random_calls(library: Library, op: Any, dtype: str) -> None:
    library.for_all(problems(op, dtype=dtype, max_ndim=2), lambda call: check(library, call))


@pytest.mark.parametrize("algorithm", ["auto", *ac.algorithms()])
def test_every_algorithm(library: Library, algorithm: str) -> None:
    random = np.random.default_rng(3)
    x, kernel, bias = (random.standard_normal(shape) for shape in ((2, 4, 3, 5), (4, 3, 2, 3), (6,)))
    options: dict[str, Any] = {"stride": (3, 2), "padding": ((1, 0), (-1, 2)), "groups": 2, "output_padding": (2, 0)}
    for dtype in ("float32", "int32"):
        arrays = [np.round(array * 3).astype(dtype) for array in (x, kernel, bias)]
        assert library.check(ac.conv_transpose, *arrays, algorithm=algorithm, **options) or algorithm != "auto"


@st.composite
def layers(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of x and kernel, and options, that PyTorch's transposed convolution takes."""
    ndim, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    inner, outer, batch = (draw(st.integers(1, 3)) for _ in range(3))
    sizes, kernel, stride, dilation = (tuple(draw(st.integers(1, most)) for _ in range(ndim)) for most in (4, 3, 3, 2))
    padding = tuple(draw(st.integers(0, (d * (k - 1)) // 2)) for k, d in zip(kernel, dilation, strict=True))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": extra, "groups": groups}
    return (batch, groups * outer, *sizes), (groups * outer, inner, *kernel), options


@given(layers(), st.integers(0, 99))
def test_is_pytorchs(layer: Any, seed: int) -> None:
    x_shape, kernel_shape, options = layer
    sizes = zip(x_shape[2:], kernel_shape[2:], *(options[name] for name in list(options)[:4]), strict=True)
    expected_shape = [
        ac.transposed_size(n, k, stride=s, padding=p, dilation=d, output_padding=e) for n, k, s, p, d, e in sizes
    ]
    if min(expected_shape) < 1:  # PyTorch refuses empty results
        return
    random = np.random.default_rng(seed)
    x, kernel = random.standard_normal(x_shape), random.standard_normal(kernel_shape)
    bias = random.standard_normal(options["groups"] * kernel_shape[1])
    expected = TORCH[len(x_shape) - 2](*map(torch.from_numpy, (x, kernel, bias)), **options)
    y = ac.conv_transpose(x, kernel, bias, **options)
    assert list(y.shape[2:]) == expected_shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    last = [np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2)), bias]
    np.testing.assert_allclose(
        np.moveaxis(ac.conv_transpose(*last, channels="last", **options), -1, 1), expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("algorithm", ["auto", "native", "phases", "subpixel"])
def test_output_padding_below_the_dilation(library: Library, algorithm: str) -> None:
    """What is added lies beyond the last tap, or is cropped less."""
    x, kernel = np.arange(8.0).reshape(1, 2, 4), np.arange(1.0, 7.0).reshape(2, 1, 3)
    for padding in (0, ((1, 3),)):
        options: dict[str, Any] = {"dilation": 4, "stride": 2, "output_padding": 3, "padding": padding}
        assert library.check(ac.conv_transpose, x, kernel, algorithm=algorithm, **options) or algorithm != "auto"


def test_an_empty_result(library: Library) -> None:
    x, kernel = np.ones((2, 3, 1)), np.ones((3, 2, 3))
    cases: list[dict[str, Any]] = [{"padding": ((2, 1),)}, {"padding": ((4, 0),), "stride": 2, "output_padding": 1}]
    for options in cases:
        assert library.check(ac.conv_transpose, x, kernel, **options)
        y, pullback = ac.vjp(ac.conv_transpose, library.asarray(x), library.asarray(kernel), **options)
        assert tuple(y.shape) == (2, 2, 0)
        assert [tuple(own.shape) for own in pullback(y)] == [x.shape, kernel.shape]


@given(problems(ac.conv, dtype="int32", boundaries=("constant",)))
def test_is_the_transpose_of_conv(call: Call) -> None:
    """``<conv(x), y> == <x, conv_transpose(y)>``, exactly, for what the words mean in numbers."""
    last = call.options["channels"] == "last"
    ndim = call.kernel.ndim - 2
    sizes = call.x.shape[-ndim - 1 : -1] if last else call.x.shape[-ndim:]
    window = call.kernel.shape[:-2] if last else call.kernel.shape[2:]
    spacing = {name: call.options[name] for name in ("stride", "dilation")}
    padding = ac.resolve_padding(call.options["padding"], sizes, window, **spacing)
    options = {**spacing, "padding": padding, "groups": call.options["groups"], "channels": call.options["channels"]}
    x, kernel = call.x.astype("int64") % 7, call.kernel.astype("int64") % 5
    y = ac.conv(x, kernel, **options)
    if 0 in y.shape or 0 in sizes:
        return
    out = y.shape[-ndim - 1 : -1] if last else y.shape[-ndim:]
    least = [  # below zero where only an output padding makes an array of it
        (n - 1) * s + (k - 1) * d + 1 - sum(p)
        for n, k, s, p, d in zip(
            out, window, _each(spacing["stride"], ndim), padding, _each(spacing["dilation"], ndim), strict=True
        )
    ]
    extra = tuple(n - m for n, m in zip(sizes, least, strict=True))
    back = ac.conv_transpose(y, kernel, output_padding=extra, **options)
    assert back.shape == x.shape
    assert np.sum(y * y) == np.sum(back * x)


def _each(value: Any, ndim: int) -> tuple[int, ...]:
    return (value,) * ndim if isinstance(value, int) else tuple(value)


@pytest.mark.parametrize("word", ["same", "same_lower"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 3), (3, 2), (4, 2), (5, 1), (1, 4)])
def test_same_multiplies_the_size(library: Library, word: str, kernel: int, stride: int) -> None:
    x, taps = np.arange(8).reshape(1, 2, 4), np.arange(2 * kernel).reshape(2, 1, kernel)
    assert library.check(ac.conv_transpose, x, taps, stride=stride, padding=word)
    assert ac.conv_transpose(x, taps, stride=stride, padding=word).shape == (1, 1, 4 * stride)


def test_no_inserted_zero_is_multiplied() -> None:
    """Each residue modulo the stride is a convolution of its own, without base dilation."""
    plan = ac.plan(ac.conv_transpose, (1, 8, 16, 16), (8, 4, 4, 4), stride=2, algorithm="phases")
    assert len(plan.program.parts) == 4
    assert all(axis.base_dilation == 1 for part in plan.program.parts for axis in part.geometry.axes)
    assert sum(part.geometry.multiply_adds for part in plan.program.parts) <= 1.2 * 16 * 16 * 8 * 4 * 16


def test_depthwise_is_pytorchs(library: Library) -> None:
    random = np.random.default_rng(5)
    x, kernel, bias = (random.standard_normal(shape) for shape in ((2, 3, 7, 6), (3, 2, 3, 3), (6,)))
    options: dict[str, Any] = {"stride": 2, "padding": 1, "dilation": (1, 2)}
    flat = kernel.reshape(6, 1, 3, 3)
    expected = F.conv2d(*map(torch.from_numpy, (x, flat, bias)), groups=3, **options)
    assert library.check(ac.depthwise_conv, x, kernel, bias, **options)
    y = ac.depthwise_conv(library.asarray(x), library.asarray(kernel), library.asarray(bias), **options)
    np.testing.assert_allclose(library.to_numpy(y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_separable_is_two_convolutions(library: Library, channels: str) -> None:
    random = np.random.default_rng(6)
    x, depthwise = random.standard_normal((2, 3, 7, 6)), random.standard_normal((3, 2, 3, 3))
    pointwise, bias = random.standard_normal((5, 6)), random.standard_normal(5)
    middle = F.conv2d(torch.from_numpy(x), torch.from_numpy(depthwise.reshape(6, 1, 3, 3)), groups=3, padding=1)
    expected = F.conv2d(middle, torch.from_numpy(pointwise[:, :, None, None]), torch.from_numpy(bias)).numpy()
    if channels == "last":
        x, depthwise = np.moveaxis(x, 1, -1), np.moveaxis(depthwise, (0, 1), (-2, -1))
        expected = np.moveaxis(expected, 1, -1)
    own = [library.asarray(array) for array in (x, depthwise, pointwise, bias)]
    y, pullback = ac.vjp(ac.separable_conv, *own, padding=1, channels=channels)
    np.testing.assert_allclose(library.to_numpy(y), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        library.to_numpy(ac.separable_conv(*own, padding=1, channels=channels)), expected, rtol=0, atol=1e-12
    )
    shares = [library.to_numpy(share) for share in pullback(y)]
    total = float(np.sum(expected**2))
    linear = [np.sum(share * array) for share, array in zip(shares, (x, depthwise, pointwise), strict=False)]
    constant = float(np.sum(shares[3] * bias))
    np.testing.assert_allclose(linear, total - constant, rtol=1e-10)


def compare_layers(library: Library, layer: Any, seed: int) -> None:
    """Any kind of arrays against PyTorch's three layers, of the shapes and options that PyTorch takes."""
    x_shape, kernel_shape, options = layer
    axes = list(zip(x_shape[2:], kernel_shape[2:], *(options[name] for name in list(options)[:4]), strict=True))
    random, ndim, own = np.random.default_rng(seed), len(x_shape) - 2, library.asarray
    x, kernel = random.standard_normal(x_shape), random.standard_normal(kernel_shape)
    spacing = {name: options[name] for name in ("stride", "padding", "dilation")}
    if all(
        (n - 1) * s + d * (k - 1) + 1 - 2 * p + e >= 1 for n, k, s, p, d, e in axes
    ):  # PyTorch refuses empty results
        expected = TORCH[ndim](*map(torch.from_numpy, (x, kernel)), **options)
        y = ac.conv_transpose(own(x), own(kernel), **options)
        np.testing.assert_allclose(library.to_numpy(y), expected, rtol=0, atol=1e-12)
    if any(n + 2 * p < d * (k - 1) + 1 for n, k, _, p, d, _ in axes):  # the kernel is longer than the padded input
        return
    depthwise = random.standard_normal((x_shape[1], 2, *kernel_shape[2:]))
    pointwise = random.standard_normal((3, 2 * x_shape[1]))
    flat = depthwise.reshape(2 * x_shape[1], 1, *kernel_shape[2:])
    middle = CONV[ndim](*map(torch.from_numpy, (x, flat)), groups=x_shape[1], **spacing)
    y = ac.depthwise_conv(own(x), own(depthwise), **spacing)
    np.testing.assert_allclose(library.to_numpy(y), middle, rtol=0, atol=1e-12)
    expected = CONV[ndim](middle, torch.from_numpy(pointwise.reshape(*pointwise.shape, *(1,) * ndim)))
    y = ac.separable_conv(own(x), own(depthwise), own(pointwise), **spacing)
    np.testing.assert_allclose(library.to_numpy(y), expected, rtol=0, atol=1e-12)


def test_random_layers_are_pytorchs(library: Library) -> None:
    library.for_all(st.tuples(layers(), st.integers(0, 99)), lambda drawn: compare_layers(library, *drawn))


def test_separable_in_other_types() -> None:
    x, depthwise, pointwise = np.full((1, 2, 4), 100, "uint8"), np.ones((2, 1, 2), "uint8"), np.ones((1, 2), "uint8")
    np.testing.assert_array_equal(ac.separable_conv(x, depthwise, pointwise, dtype="int32"), np.full((1, 1, 3), 400))
    assert ac.separable_conv(x, depthwise, pointwise)[0, 0, 0] == 400 % 256
    half = [array.astype("float16") for array in (x, depthwise, pointwise)]
    y = ac.separable_conv(*half)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.full((1, 1, 3), 400))


X, KERNEL = np.ones((2, 4, 6)), np.ones((4, 3, 2))
ERRORS = [
    (lambda: ac.conv_transpose(X, KERNEL, boundary="wrap"), ValueError, "conv_transpose: boundary='wrap' has no"),
    (lambda: ac.conv_transpose(X, np.ones((5, 3, 2))), ValueError, "conv_transpose: kernel expects 5 input channels"),
    (lambda: ac.conv_transpose(X, KERNEL, groups=3), ValueError, "groups=3 must divide the 4 input channels"),
    (lambda: ac.conv_transpose(X, KERNEL, output_padding=1), ValueError, "output_padding=1 .* below the stride of 1"),
    (
        lambda: ac.conv_transpose(X, KERNEL, output_padding=1, stride=2, padding="same"),
        ValueError,
        "and 0 with padding='same'",
    ),
    (lambda: ac.conv_transpose(X, KERNEL, padding=9), ValueError, r"conv_transpose: padding=\(9, 9\) .* crops more"),
    (lambda: ac.conv_transpose(X[..., :0], KERNEL), ValueError, "every axis needs at least one element"),
    (lambda: ac.conv_transpose(X, KERNEL, np.ones(4)), ValueError, r"bias must have shape \(3,\)"),
    (lambda: ac.depthwise_conv(X, np.ones((3, 1, 2))), ValueError, "depthwise_conv: kernel is for 3 channels, x has 4"),
    (
        lambda: ac.separable_conv(X, np.ones((4, 1, 2)), np.ones((5, 3))),
        ValueError,
        r"pointwise must have shape \(O",
    ),
    (
        lambda: ac.separable_conv(X, np.ones((4, 1, 2)), [[1.0] * 4]),
        TypeError,
        "separable_conv: pointwise must be",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_gradients_of_jax_and_torch() -> None:
    from jax.test_util import check_grads

    random = np.random.default_rng(7)
    x, kernel = random.standard_normal((1, 2, 3, 4)), random.standard_normal((2, 3, 2, 3))

    def op(x: Any, kernel: Any) -> Any:
        return ac.conv_transpose(x, kernel, stride=(2, 3), padding=((1, 0), (0, 2)), output_padding=(0, 1))

    check_grads(op, (jax.numpy.asarray(x), jax.numpy.asarray(kernel)), order=2)
    own = tuple(torch.tensor(array, requires_grad=True) for array in (x, kernel))
    assert torch.autograd.gradcheck(op, own)
    assert torch.autograd.gradgradcheck(op, own)


def test_gradients_of_separable_in_jax_and_torch() -> None:
    from jax.test_util import check_grads

    random = np.random.default_rng(9)
    shapes = ((1, 2, 4, 3), (2, 2, 2, 2), (3, 4), (3,))
    arrays = [random.standard_normal(shape) for shape in shapes]

    def op(*arrays: Any) -> Any:
        return ac.separable_conv(*arrays, stride=(2, 1), padding="same", boundary="reflect")

    check_grads(op, tuple(map(jax.numpy.asarray, arrays)), order=2)
    own = tuple(torch.tensor(array, requires_grad=True) for array in arrays)
    assert torch.autograd.gradcheck(op, own)
    assert torch.autograd.gradgradcheck(op, own)
