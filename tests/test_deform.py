"""`deform_conv` against its definition and against `conv`, on every library, and what it says of wrong calls."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import dask.array as da
import jax
import numpy as np
import pytest
import torch
from deforming import CASES, RANDOM, Case, arrays, call, own, pull, reference, run

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.operations import deform_call

if TYPE_CHECKING:
    from conftest import Library


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
@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_not_finite_stays_local(library: Library, value: float, reach: float, groups: int) -> None:
    """A sample beside it, in the padding or exactly on a neighbour, does not touch it; nor a group without it."""
    case = Case((7, 6), (3, 2), groups=groups, with_mask=True, options={"padding": 2})
    given = arrays(case, reach=reach)
    if reach == 0:
        given["offset"] = np.floor(given["offset"])
    given["x"][0, 2, 0, 5] = given["x"][1, 3, 3, 2] = value
    options = {**case.options, "groups": groups}
    with np.errstate(invalid="ignore"):
        expected = reference(**given, **options)
        y = library.to_numpy(call(library, given, **options))
    assert 0 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    touched = ~np.isfinite(expected)
    np.testing.assert_allclose(np.where(touched, 0, y), np.where(touched, 0, expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("recorded", [False, True])
def test_zero_weights_beside_what_is_not_finite_in_torch(recorded: bool) -> None:
    """All weights of a corner are zero where offsets are; a call that autograd records takes other steps."""
    given = arrays(Case((5, 4), (3, 2), with_mask=True, options={"padding": 1}), reach=0.0, dtype="float32")
    given["offset"] = np.zeros_like(given["offset"])
    finite = ac.deform_conv(**given, padding=1)
    given["x"][0, 1, 2, 2], given["x"][1, 3, 0, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        touched = ~np.isfinite(reference(**given, padding=1))
    tensors = {name: torch.tensor(array, requires_grad=recorded) for name, array in given.items()}
    y = ac.deform_conv(**tensors, padding=1)
    assert y.requires_grad is recorded
    np.testing.assert_array_equal(~np.isfinite(y.detach().numpy()), touched)
    np.testing.assert_allclose(np.where(touched, 0, y.detach().numpy()), np.where(touched, 0, finite), atol=1e-5)


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
        ac.deform_conv(**({"x": X, "offset": OFFSET, "kernel": KERNEL} | wrong))


@pytest.mark.parametrize("name", ["x", "offset", "mask"])
def test_dask_names_the_cure_for_chunks_in_space(name: str) -> None:
    given = {"x": X, "offset": OFFSET, "kernel": KERNEL, "mask": np.ones((2, 18, 4, 3))}
    chunked = {key: da.from_array(array, chunks=-1) for key, array in given.items()}
    chunked[name] = chunked[name].rechunk({2: 2})
    cure = rf"deform_conv: {name} is chunked along .* call {name}.rechunk\(\{{1: -1, 2: -1, 3: -1\}}\) first"
    with pytest.raises(ValueError, match=cure):
        ac.deform_conv(**chunked)
    chunked[name] = chunked[name].rechunk({1: -1, 2: -1, 3: -1})
    assert ac.deform_conv(**chunked).shape == (2, 6, 4, 3)


def test_jax_traces_a_shape_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of jit too: the branches for what is not finite would be compiled again in every call."""
    traced: list[tuple[int, ...]] = []
    function = deform_call.row_table

    def row_table(backend: Any, grid: Any, x: Any) -> Any:
        traced.append(x.shape)
        return function(backend, grid, x)

    monkeypatch.setattr(deform_call, "row_table", row_table)
    random = np.random.default_rng(0)
    x, offset, kernel = (random.standard_normal(shape) for shape in ((3, 2, 11, 7), (3, 8, 10, 6), (5, 2, 2, 2)))
    expected = ac.deform_conv(x, offset, kernel)
    traced.clear()
    arrays = [jax.numpy.asarray(array) for array in (x, offset, kernel)]
    for _ in range(3):
        y, pull = ac.vjp(ac.deform_conv, *arrays)
        pull(y)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    assert traced == [(3, 11, 7, 2)] * 2  # of the call, and of its pullback
