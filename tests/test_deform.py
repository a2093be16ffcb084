"""`deform_conv` against its definition in plain loops, `conv`, and the derivatives of PyTorch and JAX."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from itertools import product
from math import floor, prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import array_api_strict
import dask.array as da
import jax
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.operations.deform import deform_conv, pull_deform_conv
from arrayconv.operations.sampling import sum_rows
from arrayconv.testing.oracle import each, fit

if TYPE_CHECKING:
    from conftest import Library

NumPyArray = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(7)


def reference(
    x: NumPyArray,
    offset: NumPyArray,
    kernel: NumPyArray,
    bias: NumPyArray | None = None,
    mask: NumPyArray | None = None,
    groups: int = 1,
    **options: Any,
) -> NumPyArray:
    """The definition, one sample after the other, channels first and one batch axis."""
    window, ndim = kernel.shape[2:], kernel.ndim - 2
    stride, dilation = each(options.get("stride", 1), ndim), each(options.get("dilation", 1), ndim)
    fits = fit(options.get("padding", "valid"), x.shape[2:], window, stride, dilation)
    taps, outputs = prod(window), len(kernel) // groups
    fields = offset.shape[1] // (taps * ndim)
    y = np.zeros((len(x), len(kernel), *(axis.outputs for axis in fits)), np.result_type(x, kernel))
    for n, j in product(range(len(x)), np.ndindex(y.shape[2:])):
        for c, (t, tap) in product(range(x.shape[1]), enumerate(np.ndindex(*window))):
            q, g = c * fields // x.shape[1], c * groups // x.shape[1]
            at = [
                j[a] * stride[a] + tap[a] * dilation[a] - fits[a].padding[0] + offset[n, (q * taps + t) * ndim + a, *j]
                for a in range(ndim)
            ]
            value = sample(x[n, c], at) * (1.0 if mask is None else mask[n, q * taps + t, *j])
            own = slice(g * outputs, (g + 1) * outputs)
            y[n, own, *j] += value * kernel[own, c % kernel.shape[1], *tap]
    return y if bias is None else y + bias.reshape(-1, *(1,) * ndim)


def sample(image: NumPyArray, at: list[float]) -> Any:
    """Multilinear, zero outside; a corner of weight zero does not count."""
    total = image.dtype.type(0)
    for bits in product((0, 1), repeat=image.ndim):
        corner = tuple(floor(p) + bit for p, bit in zip(at, bits, strict=True))
        weight = prod(p - floor(p) if bit else 1 - (p - floor(p)) for p, bit in zip(at, bits, strict=True))
        if weight and all(0 <= i < n for i, n in zip(corner, image.shape, strict=True)):
            total += weight * image[corner]
    return total


class Case(NamedTuple):
    """Sizes of a call; channels are 4, of two outputs a group."""

    sizes: tuple[int, ...]
    window: tuple[int, ...]
    fields: int = 1
    groups: int = 1
    with_mask: bool = False
    options: Mapping[str, Any] = MappingProxyType({})
    channels: int = 4


CASES = {
    "1d": Case((9,), (3,), with_mask=True, options={"stride": 2, "padding": ((2, 1),)}),
    "1d-groups": Case((7,), (2,), fields=2, groups=4, options={"dilation": 3, "padding": "same"}),
    "2d": Case((5, 6), (3, 2), with_mask=True, options={"padding": (1, 2), "stride": (2, 1), "dilation": (1, 2)}),
    "2d-groups": Case((5, 4), (2, 2), fields=4, groups=2, with_mask=True),
    "2d-across": Case((4, 4), (2, 1), fields=2, groups=3, channels=12, options={"padding": "full"}),
    "2d-fields": Case((4, 5), (2, 3), fields=2, options={"padding": ((-1, 2), (3, -1))}),
    "2d-depthwise": Case((4, 5), (2, 2), groups=4, with_mask=True, options={"padding": "same_lower"}),
    "3d": Case((4, 3, 5), (2, 1, 2), fields=2, with_mask=True, options={"stride": (1, 2, 2), "padding": "causal"}),
}


def arrays(case: Case, batch: int = 2, dtype: str = "float64", reach: float = 1.5) -> dict[str, Any]:
    """Random arrays of a case, channels first."""
    taps, ndim = prod(case.window), len(case.window)
    options = {"stride": 1, "dilation": 1, "padding": "valid"} | case.options
    out = [
        axis.outputs
        for axis in fit(options["padding"], case.sizes, case.window, options["stride"], options["dilation"])
    ]
    outputs = 2 * case.groups
    shapes = {
        "x": (batch, case.channels, *case.sizes),
        "offset": (batch, case.fields * taps * ndim, *out),
        "kernel": (outputs, case.channels // case.groups, *case.window),
        "bias": (outputs,),
    }
    if case.with_mask:
        shapes["mask"] = (batch, case.fields * taps, *out)
    made = {name: RANDOM.standard_normal(shape) for name, shape in shapes.items()}
    made["offset"] *= reach
    # No position near an integer, where the derivative jumps.
    made["offset"] = np.floor(made["offset"]) + np.clip(made["offset"] % 1, 0.05, 0.95)
    return {name: array.astype(dtype) for name, array in made.items()}


def own(library: Library, array: NumPyArray, lead: int = 1, dtype: str | None = None) -> Any:
    """A library's array; Dask's batch stays in chunks."""
    made = library.asarray(array, dtype)
    return made.rechunk(dict.fromkeys(range(lead, array.ndim), -1)) if library.name == "dask" else made


def run(library: Library, made: dict[str, Any], **options: Any) -> Any:
    """`deform_conv`, compiled where each of its many small steps would be compiled alone."""
    if library.name != "jax":
        return deform_conv(**made, **options)
    return jax.jit(lambda arrays: deform_conv(**arrays, **options))(made)


def pull(library: Library, made: dict[str, Any], dy: Any, **options: Any) -> Any:
    """The result and all cotangents, compiled as in `run`."""

    def both(made: dict[str, Any], dy: Any) -> Any:
        y, pullback = pull_deform_conv(**made, **options)
        return y, pullback(dy)

    return (jax.jit(both) if library.name == "jax" else both)(made, dy)


def call(library: Library, given: dict[str, NumPyArray], dtype: str | None = None, **options: Any) -> Any:
    return run(library, {name: own(library, array, dtype=dtype) for name, array in given.items()}, **options)


# Values


@pytest.mark.parametrize("name", CASES)
def test_is_its_definition(library: Library, name: str) -> None:
    case, given = CASES[name], arrays(CASES[name])
    y = call(library, given, groups=case.groups, **case.options)
    expected = reference(**given, groups=case.groups, **case.options)
    assert dtype_name(y.dtype) == "float64" and type(y) is type(library.asarray(given["x"]))
    np.testing.assert_allclose(library.to_numpy(y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["1d-groups", "2d-across", "3d"])
@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 1, 2)])
def test_any_batch_in_either_layout(library: Library, name: str, batch: tuple[int, ...]) -> None:
    case, given = CASES[name], arrays(CASES[name], prod(batch))
    expected = reference(**given, groups=case.groups, **case.options)
    for channels in ("first", "last"):
        made = {}
        for key, array in given.items():
            if key == "kernel":
                array = np.moveaxis(array, (0, 1), (-1, -2)) if channels == "last" else array
            elif key != "bias":
                array = np.moveaxis(array, 1, -1) if channels == "last" else array
                array = array.reshape(*batch, *array.shape[1:])
            made[key] = own(library, array, 0 if key in ("kernel", "bias") else len(batch))
        y = library.to_numpy(run(library, made, groups=case.groups, channels=channels, **case.options))
        want = expected if channels == "first" else np.moveaxis(expected, 1, -1)
        np.testing.assert_allclose(y, want.reshape(*batch, *want.shape[1:]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "workspace"), [("1d", 1), ("2d-across", 20_000), ("2d-depthwise", 40_000)])
def test_tiles_change_nothing(library: Library, name: str, workspace: int) -> None:
    case, given = CASES[name], arrays(CASES[name], 3)
    whole = library.to_numpy(call(library, given, groups=case.groups, **case.options))
    with ac.settings(workspace=workspace):
        tiled = library.to_numpy(call(library, given, groups=case.groups, **case.options))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-13)


def test_offsets_of_zero_are_conv(library: Library) -> None:
    x, kernel = RANDOM.standard_normal((2, 4, 6, 5)), RANDOM.standard_normal((6, 2, 3, 2))
    for padding in ("valid", "same", 1, ((2, 0), (-1, 3)), "causal"):
        options: dict[str, Any] = {"padding": padding, "stride": (1, 2), "groups": 2}
        expected = ac.conv(x, kernel, **options)
        given = {"x": x, "offset": np.zeros((2, 12, *expected.shape[2:])), "kernel": kernel}
        np.testing.assert_allclose(library.to_numpy(call(library, given, **options)), expected, rtol=0, atol=1e-13)


def test_integer_offsets_are_shifts(library: Library) -> None:
    x, kernel = RANDOM.standard_normal((1, 2, 6, 5)), RANDOM.standard_normal((3, 2, 3, 3))
    for shift in ((1, 0), (-2, 3), (9, -9)):
        widths = [(max(0, -d), max(0, d)) for d in shift]
        shifted = np.pad(x, [(0, 0), (0, 0), *widths])
        shifted = shifted[:, :, max(0, shift[0]) :, max(0, shift[1]) :][:, :, :6, :5]
        offset = np.broadcast_to(np.reshape(np.tile(shift, 9), (18, 1, 1)), (1, 18, 4, 3)).astype("float64")
        y = call(library, {"x": x, "offset": offset, "kernel": kernel})
        np.testing.assert_allclose(library.to_numpy(y), ac.conv(shifted, kernel), rtol=0, atol=1e-13)


def test_samples_fade_into_the_zeros_outside(library: Library) -> None:
    """And offsets of any size have an answer: zero at infinity, NaN where there is none."""
    at = np.array([-1.0, -0.75, -0.25, 1.5, 2.25, 3.0, 1e30, -np.inf, np.inf, np.nan])
    x = np.array([[[1.0, 2.0, 4.0, *[8.0] * 7]]])
    offset = (at - np.arange(10)).reshape(1, 1, 10)
    y = library.to_numpy(call(library, {"x": x, "offset": offset, "kernel": np.ones((1, 1, 1))}))[0, 0]
    np.testing.assert_allclose(y, [0, 0.25, 0.75, 3, 5, 8, 0, 0, 0, np.nan])


@pytest.mark.parametrize(
    ("sizes", "kernel"),
    [((1, 2, 0), (3, 2, 2)), ((1, 0, 4), (3, 0, 2)), ((1, 2, 4), (0, 2, 2)), ((0, 2, 4), (3, 2, 2))],
)
def test_where_there_is_nothing_the_bias_is_left(library: Library, sizes: Any, kernel: Any) -> None:
    out = sizes[2] + 4 - 1
    given = {"x": np.ones(sizes), "offset": np.full((sizes[0], 4, out), 0.3), "kernel": np.ones(kernel)}
    given["offset"] = given["offset"][:, : 4 if sizes[1] else 2]
    bias = np.arange(float(kernel[0]))
    made = {name: own(library, array) for name, array in (given | {"bias": bias}).items()}
    y, grads = pull(library, made, library.asarray(np.ones((sizes[0], kernel[0], out))), padding=2)
    assert y.shape == (sizes[0], kernel[0], out)
    assert [grad.shape for grad in grads] == [array.shape for array in made.values()]
    if 0 in (sizes[1], sizes[2]):
        np.testing.assert_array_equal(library.to_numpy(y), np.broadcast_to(bias[:, None], y.shape))


# Dtypes


def test_dtypes(library: Library) -> None:
    case = CASES["2d"]
    given = arrays(case)
    exact = reference(**given, **case.options)
    for dtype, tolerance in (("float32", 2e-5), *((half, 0.15) for half in library.halves)):
        y = call(library, given, dtype, **case.options)
        assert dtype_name(y.dtype) == dtype
        np.testing.assert_allclose(library.to_numpy(y).astype("float64"), exact, rtol=0, atol=tolerance)


def test_complex_values_at_real_positions(library: Library) -> None:
    case = CASES["2d-groups"]
    given, other = arrays(case), arrays(case)
    for complex_names in (("x", "kernel"), ("x",), ("kernel",)):
        mixed = {name: array + 1j * other[name] if name in complex_names else array for name, array in given.items()}
        y = call(library, mixed, groups=case.groups)
        assert dtype_name(y.dtype) == "complex128"
        np.testing.assert_allclose(library.to_numpy(y), reference(**mixed, groups=case.groups), rtol=0, atol=1e-12)


def test_far_from_the_origin_a_float32_position_keeps_its_fraction(library: Library) -> None:
    """``2**24 + 0.5`` has no float32."""
    x = np.zeros((1, 1, 2**18 + 2), "float32")
    x[..., -2:] = (0, 1)
    offset = np.full((1, 1, 2**18 + 2), 0.001, "float32")
    y = library.to_numpy(call(library, {"x": x, "offset": offset, "kernel": np.ones((1, 1, 1), "float32")}))
    np.testing.assert_allclose(y[0, 0, -2], 0.001, rtol=1e-6)


def test_numpy_constants_are_adopted(library: Library) -> None:
    given = arrays(CASES["2d"])
    for name in ("x", "offset", "kernel"):
        made = {key: own(library, array) if key == name else array for key, array in given.items()}
        y = run(library, made, **CASES["2d"].options)
        assert type(y) is type(made[name])
        np.testing.assert_allclose(library.to_numpy(y), reference(**given, **CASES["2d"].options), rtol=0, atol=1e-12)


# What is not finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("reach", [0.0, 1.5])
def test_what_is_not_finite_stays_local(library: Library, value: float, reach: float) -> None:
    """A sample beside it, in the padding or exactly on a neighbour, does not touch it."""
    case = Case((7, 6), (3, 2), with_mask=True, options={"padding": 2})
    given = arrays(case, reach=reach)
    if reach == 0:
        given["offset"] = np.floor(given["offset"])
    given["x"][0, 1, 0, 5] = given["x"][1, 2, 3, 2] = value
    with np.errstate(invalid="ignore"):
        expected = reference(**given, **case.options)
        y = library.to_numpy(call(library, given, **case.options))
    assert 0 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    touched = ~np.isfinite(expected)
    np.testing.assert_allclose(np.where(touched, 0, y), np.where(touched, 0, expected), rtol=0, atol=1e-12)


# Derivatives


def torch_arrays(given: dict[str, NumPyArray]) -> dict[str, Any]:
    return {name: torch.tensor(array, requires_grad=True) for name, array in given.items()}


def autograd(given: dict[str, Any], dy: Any, **options: Any) -> dict[str, NumPyArray]:
    """Cotangents of all arrays by PyTorch's own differentiation."""
    made = torch_arrays(given)
    y = deform_conv(**made, **options)
    grads = torch.autograd.grad(y, list(made.values()), torch.tensor(dy))
    return {name: np.asarray(grad) for name, grad in zip(made, grads, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_torch_differentiates_twice(name: str) -> None:
    case, given = CASES[name], torch_arrays(arrays(CASES[name], 1))

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        named = dict(zip(given, tensors, strict=True))
        y: torch.Tensor = deform_conv(**named, groups=case.groups, **case.options)
        return y

    tensors = tuple(given.values())
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)


@pytest.mark.parametrize("name", ["1d", "2d-groups"])
def test_jax_differentiates_twice(name: str) -> None:
    case, given = CASES[name], arrays(CASES[name], 1)

    @jax.jit
    def function(named: dict[str, Any]) -> Any:
        return deform_conv(**named, groups=case.groups, **case.options)

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
    dy = RANDOM.standard_normal(deform_conv(**made, **options).shape)
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
    y, pullback = pull_deform_conv(**given, **case.options)
    dy = RANDOM.standard_normal(y.shape) + 1j * RANDOM.standard_normal(y.shape)
    _, pull = jax.vjp(lambda named: deform_conv(**named, **case.options), given)
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
        sums = np.from_dlpack(sum_rows(xp, xp.asarray(index), xp.asarray(values), count))
        np.testing.assert_allclose(sums, expected, rtol=1e-14, atol=1e-14)


# Transformations and lazy arrays


def test_torch_compile_and_func() -> None:
    case = CASES["2d"]
    given: dict[str, Any] = {name: array.detach() for name, array in torch_arrays(arrays(case)).items()}

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = deform_conv(*tensors[:4], mask=tensors[4], **case.options)
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
        function = jax.jit(jax.vmap(lambda named: deform_conv(**named, **case.options), (axes | {name: 0},)))
        expected = [reference(**(given | {name: array}), **case.options) for array in mapped[name]]
        np.testing.assert_allclose(function(mapped), expected, rtol=0, atol=1e-12)


def test_jax_in_32_bits() -> None:
    given = {name: array.astype("float32") for name, array in arrays(CASES["2d"]).items()}
    with jax.enable_x64(False):
        y = jax.jit(lambda named: deform_conv(**named, **CASES["2d"].options))(given)
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, reference(**given, **CASES["2d"].options), rtol=0, atol=2e-5)


def test_dask_computes_nothing_before_it_is_asked() -> None:
    case, given = CASES["2d"], arrays(CASES["2d"], 4)

    def never(block: Any) -> Any:
        raise AssertionError("a chunk was computed")

    x = da.from_array(given["x"], chunks=(2, -1, -1, -1)).map_blocks(never, dtype="float64", meta=np.empty((0,) * 4))
    y, pullback = pull_deform_conv(**(given | {"x": x}), **case.options)
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
        y, pullback = pull_deform_conv(x, offset, kernel, mask=mask)
        results = y.nbytes + sum(array.nbytes for array in pullback(y))
        for run_one, allowed in (
            (lambda: deform_conv(x, offset, kernel, mask=mask), 2 * y.nbytes),
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
        y = deform_conv(**given)
    assert y.requires_grad
    assert sum(kept.values()) < 5 * sum(tensor.nbytes for tensor in given.values())


# Errors


X, OFFSET, KERNEL = np.ones((2, 4, 6, 5)), np.ones((2, 36, 4, 3)), np.ones((6, 4, 3, 3))
ERRORS: list[tuple[type[Exception], dict[str, Any], str]] = [
    (
        ValueError,
        {"offset": np.ones((2, 10, 4, 3))},
        r"offset has 10 channels, expected a multiple of 18: 9 taps \* 2 axes",
    ),
    (ValueError, {"offset": np.ones((2, 0, 4, 3))}, "offset has 0 channels, expected a multiple of 18"),
    (ValueError, {"offset": np.ones((2, 54, 4, 3))}, "3 offset groups .* must divide x's 4 channels"),
    (
        ValueError,
        {"offset": np.ones((2, 18, 6, 5))},
        r"offset has shape \(2, 18, 6, 5\), expected \(2, 18, 4, 3\) .*stride, padding and",
    ),
    (ValueError, {"padding": 1}, r"offset has shape \(2, 36, 4, 3\), expected \(2, 18, 6, 5\)"),
    (ValueError, {"offset": np.ones((1, 18, 4, 3))}, r"expected \(2, 18, 4, 3\) for one offset group: x's batch"),
    (ValueError, {"offset": np.ones((18, 4, 3))}, "offset has shape"),
    (ValueError, {"channels": "last"}, "kernel expects 3 input channels per group, x has 5"),
    (
        ValueError,
        {"mask": np.ones((2, 9, 4, 3))},
        r"mask must have shape \(2, 18, 4, 3\), one factor for each of 9 taps in 2",
    ),
    (ValueError, {"mask": np.ones((2, 18, 4, 4))}, "mask must have shape"),
    (ValueError, {"bias": np.ones(4)}, r"bias must have shape \(6,\), one number an output channel, got \(4,\)"),
    (ValueError, {"groups": 2}, "kernel expects 4 input channels per group, x has 4 in 2 groups"),
    (ValueError, {"groups": 0}, "groups must be >= 1, got 0"),
    (ValueError, {"x": X[:, :, :2]}, "kernel covers 3 elements along spatial axis 0"),
    (ValueError, {"kernel": np.ones((6, 4))}, "kernel must have two channel axes and at least one spatial axis"),
    (ValueError, {"kernel": np.ones((6, 4, 3, 3, 3))}, "x must have a channel axis|kernel expects"),
    (
        ValueError,
        {"x": np.ones((1, 4, 5, 5, 5, 5)), "kernel": np.ones((6, 4, 2, 2, 2, 2))},
        "has 4 spatial axes, deformable convolution serves 1, 2 or 3; move the others into the batch",
    ),
    (ValueError, {"channels": "middle"}, "channels='middle' is not one of 'first', 'last'"),
    (TypeError, {"channels": ["last"]}, "channels must be one of"),
    (TypeError, {"stride": 1.5}, "stride must be an int, got 1.5"),
    (ValueError, {"padding": "some"}, "padding='some' is not one of"),
    (
        TypeError,
        {"x": X.astype("int32")},
        "x has dtype int32, samples between elements need a floating type; cast x to",
    ),
    (TypeError, {"kernel": KERNEL.astype("int8")}, "kernel has dtype int8"),
    (TypeError, {"offset": OFFSET.astype("int64")}, "offset has dtype int64, samples .* need a real floating type"),
    (TypeError, {"offset": OFFSET + 0j}, "offset has dtype complex128"),
    (TypeError, {"mask": np.ones((2, 18, 4, 3)) + 0j}, "mask has dtype complex128"),
    (TypeError, {"mask": np.ones((2, 18, 4, 3), bool)}, "mask has dtype bool"),
    (TypeError, {"bias": np.ones(6) + 0j}, "float64 can't hold bias of complex128"),
    (TypeError, {"offset": None}, "offset must be an array"),
    (TypeError, {"x": [[1.0]]}, "x must be an array"),
    (
        TypeError,
        {"x": torch.ones(2, 4, 6, 5), "mask": jax.numpy.ones((2, 18, 4, 3))},
        "mask is an array of jax, x is one of torch",
    ),
]


@pytest.mark.parametrize(("kind", "wrong", "message"), ERRORS)
def test_errors_say_what_is_wrong(kind: type[Exception], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(kind, match=f"deform_conv: .*(?:{message})"):
        deform_conv(**({"x": X, "offset": OFFSET, "kernel": KERNEL} | wrong))


@pytest.mark.parametrize("name", ["x", "offset", "mask"])
def test_dask_names_the_cure_for_chunks_in_space(name: str) -> None:
    given = {"x": X, "offset": OFFSET, "kernel": KERNEL, "mask": np.ones((2, 18, 4, 3))}
    chunked = {key: da.from_array(array, chunks=-1) for key, array in given.items()}
    chunked[name] = chunked[name].rechunk({2: 2})
    cure = rf"deform_conv: {name} is chunked along .* call {name}.rechunk\(\{{1: -1, 2: -1, 3: -1\}}\) first"
    with pytest.raises(ValueError, match=cure):
        deform_conv(**chunked)
    chunked[name] = chunked[name].rechunk({1: -1, 2: -1, 3: -1})
    assert deform_conv(**chunked).shape == (2, 6, 4, 3)
