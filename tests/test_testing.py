"""The oracle against worked figures and other people's libraries, and proof that the assertions do assert."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import find, given
from hypothesis import strategies as st
from scipy import ndimage, signal

from arrayconv.testing import (
    Case,
    assert_within_bound,
    error_bound,
    geometries,
    libraries,
    problems,
    reference,
    wrap_integers,
)
from arrayconv.testing.oracle import OPERATIONS
from arrayconv.testing.strategies import SIGNATURES

RANDOM = np.random.default_rng(0)
NDIMAGE_MODES = {"constant": "constant", "edge": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "wrap"}


def test_every_library_is_installed() -> None:
    assert libraries() == ("numpy", "torch", "jax", "dask", "array_api_strict")


def test_reference_gives_the_notebook_figures() -> None:
    y = reference("corr2d", np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2))
    np.testing.assert_array_equal(y, [[19, 25], [37, 43]])


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("taps", [3, 4])
def test_reference_agrees_with_numpy_and_scipy_in_one_dimension(mode: str, taps: int) -> None:
    x, kernel = RANDOM.integers(-9, 9, 11), RANDOM.integers(-9, 9, taps)
    padding = "same_lower" if mode == "same" else mode
    np.testing.assert_array_equal(reference("correlate", x, kernel, padding=padding), np.correlate(x, kernel, mode))
    np.testing.assert_array_equal(reference("convolve", x, kernel, padding=padding), np.convolve(x, kernel, mode))
    scipys = signal.correlate(x, kernel, mode, method="direct")
    np.testing.assert_array_equal(reference("correlate", x, kernel, padding=padding), scipys)


@pytest.mark.parametrize("boundary", NDIMAGE_MODES)
@pytest.mark.parametrize("taps", [(3, 5), (7, 9)])
def test_reference_agrees_with_ndimage_at_every_boundary(boundary: str, taps: tuple[int, int]) -> None:
    x, kernel = RANDOM.integers(-9, 9, (4, 5)), RANDOM.integers(-9, 9, taps)
    y = reference("correlate", x, kernel, padding="same", boundary=boundary)
    np.testing.assert_array_equal(y, ndimage.correlate(x, kernel, mode=NDIMAGE_MODES[boundary]))


@pytest.mark.parametrize("boundary", NDIMAGE_MODES)
@pytest.mark.parametrize("widths", [(0, 0), (2, 1), (9, 11), (-1, 3), (2, -3)])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_reference_pads_as_numpy_does(boundary: str, widths: tuple[int, int], size: int) -> None:
    if size + sum(widths) < 1:
        widths = (widths[0], 1 - size - widths[0])
    x = np.arange(1, size + 1)
    y = reference("correlate", x, np.array([1]), padding=(widths,), boundary=boundary)
    padded = np.pad(x, [max(0, width) for width in widths], mode=boundary)
    start, stop = (max(0, -width) for width in widths)
    np.testing.assert_array_equal(y, padded[start : len(padded) - stop])


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_reference_agrees_with_torch(ndim: int, transposed: bool) -> None:
    op, name = ("conv_transpose", f"conv_transpose{ndim}d") if transposed else ("conv", f"conv{ndim}d")
    x, kernel = RANDOM.standard_normal((2, 4, *(5, 6, 7)[:ndim])), RANDOM.standard_normal((4, 4, *(3, 2, 1)[:ndim]))
    kernel = kernel if transposed else kernel[:, :2]
    bias = RANDOM.standard_normal(8 if transposed else 4)
    options: dict[str, Any] = {"stride": (2, 3, 1)[:ndim], "padding": (1, 2, 0)[:ndim], "dilation": 2, "groups": 2}
    if transposed:
        options["output_padding"] = (1, 0, 0)[:ndim]
    arrays = [torch.from_numpy(array) for array in (x, kernel, bias)]
    expected = getattr(torch.nn.functional, name)(*arrays, **options).numpy()
    np.testing.assert_allclose(reference(op, x, kernel, bias, **options), expected, rtol=0, atol=1e-13)
    last = reference(op, np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2)), bias, channels="last", **options)
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), expected, rtol=0, atol=1e-13)


@given(st.data())
def test_reference_of_conv_transpose_is_the_transpose(data: st.DataObject) -> None:
    call = data.draw(problems("conv_transpose", dtype="int8"))
    options = {name: value for name, value in call.options.items() if name != "output_padding"}
    y = reference("conv_transpose", call.x, call.kernel, **call.options)
    x = RANDOM.integers(-9, 9, y.shape)
    forward = reference("conv", x, call.kernel, **options)
    assert np.sum(forward * call.x.astype(object)) == np.sum(x.astype(object) * y)


def test_reference_takes_axes_and_ignores_algorithms() -> None:
    x, kernel = RANDOM.integers(-9, 9, (4, 3, 5)), RANDOM.integers(-9, 9, (2, 3))
    y = reference("correlate", x, kernel, axes=(2, 0), algorithm="direct", dtype="int32")
    expected = np.moveaxis([signal.correlate(x[:, i].T, kernel, "valid", "direct") for i in range(3)], 0, 1)
    np.testing.assert_array_equal(y, np.moveaxis(expected, (0, 2), (2, 0)))


def test_depthwise_reference_is_a_grouped_conv() -> None:
    x, kernel = RANDOM.standard_normal((2, 3, 6)), RANDOM.standard_normal((3, 2, 4))
    expected = reference("conv", x, kernel.reshape(6, 1, 4), groups=3)
    np.testing.assert_array_equal(reference("depthwise_conv", x, kernel), expected)
    last = reference("depthwise_conv", x.mT, np.moveaxis(kernel, (0, 1), (-2, -1)), channels="last")
    np.testing.assert_array_equal(last.mT, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_wrap_integers_wraps_as_two_s_complement(dtype: str) -> None:
    values = [0, 1, -1, 127, 128, -129, 2**63 - 1, -(2**63), 10**30]
    bits = np.iinfo(dtype).bits
    expected = np.array([value % 2**bits for value in values], dtype=f"uint{bits}").astype(dtype)
    np.testing.assert_array_equal(wrap_integers(np.array(values, dtype=object), dtype), expected)


def test_wrong_results_are_refused() -> None:
    x, kernel = np.array([1.0, np.nan, 3.0, 4.0, 5.0]), np.array([1.0, 1.0])
    right = np.array([np.nan, np.inf, 7.0, 9.0])
    options: dict[str, Any] = {"op": "correlate"}
    assert_within_bound(right, x, kernel, **options)
    assert_within_bound(right.astype(np.float32), x, kernel, **options)
    for position, value in ((1, 3.0), (2, np.nan), (2, 7.0 + 1e-12), (3, 8.0), (3, np.inf)):
        wrong = right.copy()
        wrong[position] = value
        with pytest.raises(AssertionError, match=rf"correlate: 1 of 4 outputs are wrong, first at \({position},\)"):
            assert_within_bound(wrong, x, kernel, **options)
    with pytest.raises(AssertionError, match=r"correlate: shape \(3,\), expected \(4,\)"):
        assert_within_bound(right[1:], x, kernel, **options)
    with pytest.raises(AssertionError, match=r"got -56, expected -55, off by 1 of 0 allowed"):
        assert_within_bound(np.array([-56], np.int8), np.array([100, 101]), np.array([1, 1]), op="correlate")


def test_numbers_beyond_a_dtype_may_be_infinite() -> None:
    x, kernel = np.full(2, 60000, np.float16), np.ones(2, np.float16)
    assert_within_bound(np.array([np.inf], np.float16), x, kernel, op="correlate")
    with pytest.raises(AssertionError, match="off by inf"):
        assert_within_bound(np.array([np.inf], np.float32), x, kernel, op="correlate", dtype="float32")


def test_the_bound_follows_its_formula() -> None:
    x, kernel, bias = np.array([[1.0, -2.0, 1e9]]), np.array([[[3.0, -1.0]]]), np.array([4.0])
    eps, tiny, transforms = np.finfo("f4").eps, np.finfo("f4").tiny, 8 * np.finfo("f8").eps * 1e9 * 4
    expected = 3 * (2 * eps * np.array([[5 + 4, 6 + 1e9 + 4]]) + tiny) + transforms
    np.testing.assert_allclose(error_bound(x, kernel, "float32", bias), expected)


@given(geometries(min_ndim=1, max_ndim=4))
def test_geometries_are_valid(case: Case) -> None:
    assert case.boundary == "constant" or (case.padding != "valid" and min(case.sizes) > 0)
    y = reference(
        "correlate", np.ones((*case.batch, *case.sizes), np.int8), np.ones(case.window, np.int8), **case.options
    )
    assert y.shape[: len(case.batch)] == case.batch
    assert min(y.shape[len(case.batch) :]) > 0


@pytest.mark.parametrize(
    "kind",
    [
        lambda case: 0 in case.sizes,
        lambda case: 0 in case.batch,
        lambda case: case.batch == (),
        lambda case: isinstance(case.padding, tuple) and isinstance(case.padding[0], tuple) and case.padding[0][0] < 0,
        lambda case: isinstance(case.padding, int) and case.padding < 0,
        lambda case: case.groups > 1 and case.channels == "last" and case.boundary == "wrap",
        lambda case: isinstance(case.stride, tuple) and isinstance(case.dilation, tuple) and len(set(case.stride)) > 1,
        lambda case: case.padding == "causal" and len(case.sizes) == 3,
    ],
)
def test_geometries_reach_every_corner(kind: Any) -> None:
    assert kind(find(geometries(), kind))


@pytest.mark.parametrize("op", SIGNATURES)
@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "complex64"])
@given(data=st.data())
def test_problems_are_calls_that_the_oracle_takes(op: str, dtype: str, data: st.DataObject) -> None:
    call = data.draw(problems(op, dtype=dtype, max_ndim=2))
    assert call.x.dtype == call.kernel.dtype == ("float32" if dtype == "bfloat16" else dtype)
    rows = OPERATIONS[op].rows(call.kernel, **{k: v for k, v in call.options.items() if k in ("channels", "groups")})
    if call.bias is not None:
        assert call.bias.shape == rows.shape[:1]
    y = reference(op, call.x, call.kernel, call.bias, **call.options)
    ones = reference(op, np.ones_like(call.x), np.ones_like(call.kernel), **call.options)
    assert y.shape == ones.shape
    assert ones.size == 0 or np.max(np.abs(ones)) <= rows.shape[1]


def test_problems_reach_every_layout_and_non_finite_values() -> None:
    assert find(problems(finite=False), lambda call: bool(np.isnan(call.x).any())).x.size > 0
    assert find(problems(), lambda call: call.x.size > 1 and min(call.x.strides) < 0).x.size > 1
    assert not find(problems(), lambda call: not call.kernel.flags.writeable).kernel.flags.writeable


def test_strategies_without_hypothesis_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        geometries()
