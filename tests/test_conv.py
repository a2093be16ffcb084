"""`conv`, the layer: channels, groups, bias and batch on every library, against the oracle and two other layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import arrayconv as ac
from arrayconv.boundary import BOUNDARIES
from arrayconv.testing import Call, assert_within_bound, problems

if TYPE_CHECKING:
    from conftest import Library

RANDOM = np.random.default_rng(2)
ALGORITHMS = ("auto", *ac.algorithms())


def sample(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray[Any, Any]:
    if "int" in dtype:
        return RANDOM.integers(0 if "u" in dtype else -9, 100, shape).astype(dtype)
    values = RANDOM.standard_normal(shape)
    return (values + 1j * RANDOM.standard_normal(shape) if "complex" in dtype else values).astype(
        "float32" if dtype == "bfloat16" else dtype
    )


def arrays(dtype: str, channels: str = "first", groups: int = 2) -> tuple[np.ndarray[Any, Any], ...]:
    """x (2, 4, 7, 6), kernel (6, 4 / groups, 3, 2) and bias."""
    x, kernel, bias = sample((2, 4, 7, 6), dtype), sample((6, 4 // groups, 3, 2), dtype), sample((6,), dtype)
    if channels == "last":
        return np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2)), bias
    return x, kernel, bias


@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_boundary(library: Library, boundary: str, channels: str) -> None:
    options: dict[str, Any] = {"padding": ((2, 1), (4, -1)), "boundary": boundary, "groups": 2, "channels": channels}
    for dtype in ("float32", "int16"):
        assert library.check(ac.conv, *arrays(dtype, channels), stride=(2, 1), dilation=(1, 2), **options)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_in_every_dtype(library: Library, algorithm: str, groups: int) -> None:
    for dtype in library.dtypes:
        options: dict[str, Any] = {"padding": "same", "groups": groups, "stride": 2, "algorithm": algorithm}
        served = library.check(ac.conv, *arrays(dtype, groups=groups), cast=dtype, **options)
        assert served or algorithm != "auto"
        if dtype == "float32" and algorithm == "native":
            assert served == (library.name in ("torch", "jax"))


@pytest.mark.parametrize("window", [(1,), (3,), (1, 1), (3, 1)], ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_bias_is_added_to_the_result_alone(library: Library, algorithm: str, window: tuple[int, ...]) -> None:
    """In place, where a library can: no result may be the memory of an argument, or of another result."""
    x, kernel, bias = sample((1, 1, *[9] * len(window))), sample((1, 1, *window)), sample((1,))
    if library.check(ac.conv, x, kernel, bias, algorithm=algorithm):
        own = [library.make(array) for array in (x, kernel, bias)]
        first = ac.conv(*own, algorithm=algorithm)
        before = library.to_numpy(first).copy()
        np.testing.assert_array_equal(library.to_numpy(ac.conv(*own, algorithm=algorithm)), before)
        np.testing.assert_array_equal(library.to_numpy(first), before)


@pytest.mark.parametrize("dtype", ["float32", "int8", "complex64"])
def test_random_calls(library: Library, dtype: str) -> None:
    library.for_all(problems(ac.conv, dtype=dtype), lambda call: check(library, call))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_random_calls_in_half_precision(library: Library, dtype: str) -> None:
    if dtype in library.halves:
        library.for_all(problems(ac.conv, dtype=dtype, max_ndim=2), lambda call: check(library, call, cast=dtype))


def test_random_calls_in_four_dimensions(library: Library) -> None:
    library.for_all(problems(ac.conv, min_ndim=4, max_ndim=4), lambda call: check(library, call))


def test_random_calls_by_any_algorithm(library: Library) -> None:
    library.for_all(
        st.tuples(problems(ac.conv, max_ndim=2), st.sampled_from(ac.algorithms())),
        lambda drawn: check(library, drawn[0], algorithm=drawn[1]),
    )


def test_random_calls_with_what_is_not_finite(library: Library) -> None:
    library.for_all(problems(ac.conv, finite=False, max_ndim=2), lambda call: check(library, call))


def check(library: Library, call: Call, **more: Any) -> bool:
    return library.check(ac.conv, call.x, call.kernel, call.bias, **call.options, **more)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_local(library: Library, algorithm: str, value: float) -> None:
    x, kernel, bias = sample((2, 8, 12, 11), "float32"), sample((8, 8, 3, 3), "float32"), sample((8,), "float32")
    x[1, 3, 5, 6] = x[0, 0, 0, 0] = value
    kernel[:, :, 0, 1] = 0
    assert library.check(ac.conv, x, kernel, bias, padding="same", algorithm=algorithm) or algorithm != "auto"


@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 1, 2), (2, 0)])
@pytest.mark.parametrize("channels", ["first", "last"])
def test_any_batch(library: Library, batch: tuple[int, ...], channels: str) -> None:
    x = sample((*batch, 3, 5) if channels == "first" else (*batch, 5, 3), "float32")
    kernel = sample((4, 3, 2) if channels == "first" else (2, 3, 4), "float32")
    for algorithm in ALGORITHMS:
        served = library.check(ac.conv, x, kernel, sample((4,), "float32"), channels=channels, algorithm=algorithm)
        assert served or algorithm != "auto"


@pytest.mark.parametrize("shape", [(64, 64, 20, 18), (16, 3, 33, 31), (1, 1, 90, 80)])
def test_layers_of_a_real_size(library: Library, shape: tuple[int, int, int, int]) -> None:
    """Large enough for every tile, block and transform to come into play."""
    outputs, inputs, height, width = shape
    x, kernel = sample((2, inputs, height, width), "float32"), sample((outputs, inputs, 5, 5), "float32")
    for algorithm in ALGORITHMS:
        try:
            y = ac.conv(library.asarray(x), library.asarray(kernel), padding="same", algorithm=algorithm)
        except ValueError as error:
            assert algorithm != "auto" and "can't serve this call" in str(error)
            continue
        expected = torch.nn.functional.conv2d(*map(torch.from_numpy, (x.astype("f8"), kernel.astype("f8"))), padding=2)
        np.testing.assert_allclose(library.to_numpy(y), expected, rtol=0, atol=2e-3)


# Constants


def test_numpy_constants_are_adopted(library: Library) -> None:
    x, kernel, bias = sample((1, 2, 6), "float32"), sample((3, 2, 2)), sample((3,))
    if library.name == "numpy":
        assert ac.conv(x, kernel, bias).dtype == np.float64
        return
    y = ac.conv(library.asarray(x), kernel, bias)
    assert y.dtype == library.xp.float32
    assert_within_bound(y, x, kernel.astype("float32"), bias.astype("float32"))
    assert ac.conv(x, library.asarray(kernel)).dtype == library.xp.float64
    assert ac.correlate(x, library.asarray(np.ones(2, "complex64"))).dtype == library.xp.complex64
    assert ac.correlate(library.asarray(np.arange(4)), np.array([1, 2])).dtype == library.xp.int64


# Other people's layers


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_agrees_with_torch(ndim: int, groups: int) -> None:
    x, kernel = sample((2, 4, 7, 6, 5)[: 2 + ndim]), sample((8, 4 // groups, 3, 2, 2)[: 2 + ndim])
    bias = sample((8,))
    options: dict[str, Any] = {
        "stride": (2, 1, 3)[:ndim],
        "padding": (2, 1, 0)[:ndim],
        "dilation": (1, 2, 1)[:ndim],
        "groups": groups,
    }
    own = [torch.from_numpy(array) for array in (x, kernel, bias)]
    expected = getattr(torch.nn.functional, f"conv{ndim}d")(*own, **options)
    for algorithm in ALGORITHMS:
        try:
            y = ac.conv(*own, algorithm=algorithm, **options)
        except ValueError as error:
            assert algorithm != "auto" and "can't serve this call" in str(error)
        else:
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ac.conv(x, kernel, bias, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["VALID", "SAME", "SAME_LOWER"])
@pytest.mark.parametrize("channels", ["first", "last"])
def test_agrees_with_xla(padding: str, channels: str) -> None:
    x, kernel, _ = (jax.numpy.asarray(array) for array in arrays("float64", channels))
    layout = ("NCHW", "OIHW", "NCHW") if channels == "first" else ("NHWC", "HWIO", "NHWC")
    for strides in ((1, 1), (2, 3)):
        expected = jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=(1, 2), dimension_numbers=layout, feature_group_count=2
        )
        options: dict[str, Any] = {"stride": strides, "dilation": (1, 2), "groups": 2, "channels": channels}
        y = ac.conv(x, kernel, padding=padding.lower(), **options)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
