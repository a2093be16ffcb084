"""`corr2d`, `correlate` and `convolve`: every algorithm, boundary and dtype on every library, against the oracle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import ndimage, signal

import arrayconv as ac
from arrayconv.boundary import BOUNDARIES
from arrayconv.testing import assert_within_bound, problems

if TYPE_CHECKING:
    from conftest import Library

RANDOM = np.random.default_rng(1)
OPERATIONS = [ac.correlate, ac.convolve]
ALGORITHMS = ("auto", *ac.algorithms())
OPTIONS: dict[str, Any] = {"stride": (2, 1), "dilation": (1, 2), "padding": ((2, 1), (4, -1))}


def sample(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray[Any, Any]:
    """Integers that every dtype holds, or floats with all their digits."""
    if "int" in dtype:
        return RANDOM.integers(0 if "u" in dtype else -9, 100, shape).astype(dtype)
    values = RANDOM.standard_normal(shape)
    return (values + 1j * RANDOM.standard_normal(shape) if "complex" in dtype else values).astype(
        "float32" if dtype == "bfloat16" else dtype
    )


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_boundary(library: Library, op: Any, boundary: str) -> None:
    for dtype in ("float32", "int16", "complex64"):
        x, kernel = sample((2, 7, 6), dtype), sample((3, 2), dtype)
        assert library.check(op, x, kernel, boundary=boundary, **OPTIONS)


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_in_every_dtype(library: Library, op: Any, algorithm: str) -> None:
    for dtype in library.dtypes:
        x, kernel = sample((2, 7, 6), dtype), sample((3, 2), dtype)
        served = library.check(op, x, kernel, cast=dtype, algorithm=algorithm, **OPTIONS)
        assert served or algorithm != "auto"
        if dtype == "float32" and algorithm == "native":
            assert served == (library.name in ("torch", "jax"))


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("dtype", ["float32", "int32", "complex128"])
def test_random_calls(library: Library, op: Any, dtype: str) -> None:
    library.for_all(problems(op, dtype=dtype), lambda call: library.check(op, call.x, call.kernel, **call.options))


def test_random_calls_in_four_dimensions(library: Library) -> None:
    library.for_all(
        problems(ac.correlate, min_ndim=4, max_ndim=4),
        lambda call: library.check(ac.correlate, call.x, call.kernel, **call.options),
    )


def test_random_calls_by_any_algorithm(library: Library) -> None:
    def check(drawn: Any) -> None:
        call, algorithm = drawn
        library.check(ac.convolve, call.x, call.kernel, algorithm=algorithm, **call.options)

    library.for_all(st.tuples(problems(ac.convolve), st.sampled_from(ac.algorithms())), check)


@pytest.mark.parametrize("axes", [(0,), (1,), (-1,), (2, 0), (0, -1), (1, 2, 0), 1])
def test_axes(library: Library, axes: Any) -> None:
    ndim = 1 if isinstance(axes, int) else len(axes)
    x, kernel = sample((5, 4, 6), "float32"), sample((3, 2, 4)[:ndim], "float32")
    for op in OPERATIONS:
        library.check(op, x, kernel, axes=axes)
        library.check(op, x, kernel, axes=axes, padding="same", boundary="wrap")


def test_corr2d_gives_the_notebook_figures(library: Library) -> None:
    x, kernel = np.arange(9, dtype="float32").reshape(3, 3), np.arange(4, dtype="float32").reshape(2, 2)
    assert library.check(ac.corr2d, x, kernel)
    y = ac.corr2d(library.asarray(x), library.asarray(kernel))
    np.testing.assert_array_equal(library.to_numpy(y), [[19, 25], [37, 43]])
    stripes = np.ones((6, 8), "float32")
    stripes[:, 2:6] = 0
    y = ac.corr2d(library.asarray(stripes), library.asarray(np.array([[1.0, -1.0]], "float32")))
    np.testing.assert_array_equal(library.to_numpy(y), [[0, 1, 0, 0, 0, -1, 0]] * 6)


# Dtypes


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_integers_wrap_as_their_dtype_does(library: Library, dtype: str, algorithm: str) -> None:
    info = np.iinfo(dtype)
    x, kernel = np.full(9, info.max, dtype), np.array([info.max, info.min, info.max // 3, 7], dtype)
    x[3:5] = info.min
    assert library.check(ac.correlate, x, kernel, algorithm=algorithm) or algorithm != "auto"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_integers_beyond_float64_are_exact(library: Library, algorithm: str) -> None:
    x, kernel = np.array([2**53 + 1, 1, -(2**61) + 3, 5]), np.array([1, 3])
    assert library.check(ac.correlate, x, kernel, algorithm=algorithm) or algorithm != "auto"


@pytest.mark.parametrize(
    ("dtype", "wish"),
    [
        ("uint8", "int32"),
        ("int8", "int64"),
        ("uint8", "float32"),
        ("int32", "float64"),
        ("float32", "float64"),
        ("float32", "complex64"),
        ("int16", "int8"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
    ],
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dtype_is_what_sums_and_what_returns(library: Library, dtype: str, wish: str, algorithm: str) -> None:
    for own in {dtype} & set(library.dtypes):
        x = np.full((2, 8), 200 if dtype == "uint8" else 100) + np.arange(8)
        kernel = np.array([100, 90, 80])
        x, kernel = (array.astype("float32" if own == "bfloat16" else own) for array in (x, kernel))
        served = library.check(ac.correlate, x, kernel, cast=own, algorithm=algorithm, dtype=wish)
        assert served or algorithm != "auto"


def test_dtype_takes_the_library_s_own_objects(library: Library) -> None:
    x, kernel = library.asarray(np.array([200, 100], "uint8")), library.asarray(np.array([200, 1], "uint8"))
    y = ac.correlate(x, kernel, dtype=library.xp.int32)
    assert y.dtype == library.xp.int32
    np.testing.assert_array_equal(library.to_numpy(y), [40100])


@pytest.mark.parametrize(
    ("one", "other"), [("float32", "float64"), ("int8", "int32"), ("uint8", "int8"), ("float32", "complex64")]
)
def test_the_result_has_the_library_s_own_promotion(library: Library, one: str, other: str) -> None:
    for x, kernel in ((sample((8,), one), sample((3,), other)), (sample((8,), other), sample((3,), one))):
        assert library.check(ac.correlate, x, kernel)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_halves_are_summed_in_float32(library: Library, algorithm: str) -> None:
    """2,048 and 99 ones: from 2,048 on, one more is lost in float16, and from 256 on in bfloat16."""
    for dtype in library.halves:
        kernel = np.ones(100, "float32")
        kernel[0] = 2048
        served = library.check(ac.correlate, np.ones(101, "float32"), kernel, cast=dtype, algorithm=algorithm)
        assert served or algorithm != "auto"


def test_correlate_does_not_conjugate(library: Library) -> None:
    y = ac.correlate(library.asarray(np.array([1j, 2.0 + 0j])), library.asarray(np.array([1j])))
    np.testing.assert_array_equal(library.to_numpy(y), [-1, 2j])


def test_large_outliers_spoil_nothing_beyond_the_bound(library: Library) -> None:
    x, kernel = sample((500,), "float32"), sample((64,), "float32")
    x[100] = 1e9
    for algorithm in ALGORITHMS:
        assert library.check(ac.correlate, x, kernel, algorithm=algorithm) or algorithm != "auto"
    x[100] = 1e36
    assert library.check(ac.correlate, x, kernel)


# What is not finite


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_local(library: Library, algorithm: str, value: float) -> None:
    for shape, window in (((2, 200), (31,)), ((24, 20), (5, 3))):
        x, kernel = sample(shape, "float32"), sample(window, "float32")
        x[1, 13] = x[-1, -1] = value
        kernel.flat[1] = 0
        options: dict[str, Any] = {"padding": "same", "algorithm": algorithm}
        assert library.check(ac.correlate, x, kernel, **options) or algorithm != "auto"


def test_random_calls_with_what_is_not_finite(library: Library) -> None:
    library.for_all(
        problems(ac.correlate, finite=False),
        lambda call: library.check(ac.correlate, call.x, call.kernel, **call.options),
    )


# How arrays lie in memory


def test_views_are_read_as_they_are(library: Library) -> None:
    xp = library.xp
    base, taps = library.asarray(sample((6, 10, 8), "float32")), library.asarray(sample((3, 4), "float32"))
    for x in (base[::2, 1:, ::3], xp.permute_dims(base, (2, 0, 1)), xp.flip(base, axis=1), base[:, :, 5:]):
        for kernel in (taps, taps[::2, 1:], xp.permute_dims(taps[:, :2], (1, 0)), xp.flip(taps, axis=0)):
            for algorithm in ALGORITHMS:
                try:
                    y = ac.correlate(x, kernel, algorithm=algorithm, padding=1)
                except ValueError as error:
                    assert algorithm != "auto" and "can't serve" in str(error)
                else:
                    assert_within_bound(y, x, kernel, op="correlate", padding=1)


def test_results_share_no_memory_with_their_input() -> None:
    x = np.arange(4.0)
    for options in ({}, {"algorithm": "direct"}, {"algorithm": "gemm"}, {"stride": 2}, {"padding": -1}):
        assert not np.shares_memory(ac.correlate(x, np.ones(1), **options), x)


def test_numpy_arrays_of_every_make(tmp_path: Any) -> None:
    x, kernel = sample((4, 9)), sample((2, 3))
    expected = ac.correlate(x, kernel)
    on_disk = np.memmap(tmp_path / "x", dtype=x.dtype, mode="w+", shape=x.shape)
    on_disk[:] = x
    for other in (on_disk, x.astype(">f8"), np.asfortranarray(x), np.lib.stride_tricks.as_strided(x, writeable=False)):
        y = ac.correlate(other, kernel)
        assert y.dtype == np.float64 and y.dtype.isnative
        np.testing.assert_array_equal(np.asarray(y), expected)


def test_empty_batches(library: Library) -> None:
    for shape in ((0, 5), (3, 0, 5), (0, 0, 5)):
        for algorithm in ALGORITHMS:
            assert library.check(
                ac.correlate, np.ones(shape, "float32"), np.ones(2, "float32"), algorithm=algorithm
            ) or (algorithm != "auto")


def test_threads() -> None:
    """Eight threads with calls of their own, planned and run at once."""
    calls = [(sample((n, 20)), sample((3, k))) for n in range(5, 13) for k in range(1, 9)]

    def run(call: Any) -> Any:
        with ac.settings(workspace=2 ** (8 + call[1].shape[1])):
            return ac.correlate(*call, padding="same", boundary="reflect")

    with ThreadPoolExecutor(8) as pool:
        for (x, kernel), y in zip(calls, pool.map(run, calls), strict=True):
            assert_within_bound(y, x, kernel, op="correlate", padding="same", boundary="reflect")


def test_a_small_workspace_changes_no_value(library: Library) -> None:
    x, kernel = sample((2, 23, 31), "float32"), sample((4, 5), "float32")
    for workspace in (3000, 30000):
        with ac.settings(workspace=workspace):
            for algorithm in ALGORITHMS:
                library.check(ac.correlate, x, kernel, padding="same", stride=(2, 3), algorithm=algorithm)


def test_the_smallest_workspace_still_serves() -> None:
    x, kernel = sample((2, 9, 8), "float32"), sample((4, 5), "float32")
    with ac.settings(workspace=1):
        for algorithm in ("auto", "direct", "gemm"):
            y = ac.correlate(x, kernel, padding="same", algorithm=algorithm)
            assert_within_bound(y, x, kernel, op="correlate", padding="same")


# Other people's libraries


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("taps", [(3, 4), (2, 5)])
def test_agrees_with_scipy_signal(mode: str, taps: tuple[int, int]) -> None:
    x, kernel = sample((9, 8)), sample(taps)
    padding = "same_lower" if mode == "same" else mode
    expected = signal.correlate(x, kernel, mode, "direct")
    np.testing.assert_allclose(ac.correlate(x, kernel, padding=padding), expected, rtol=0, atol=1e-12)
    expected = signal.convolve(x, kernel, mode, "direct")
    np.testing.assert_allclose(ac.convolve(x, kernel, padding=padding), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("taps", [1, 4, 5])
def test_agrees_with_numpy(mode: str, taps: int) -> None:
    x, kernel = sample((9,), "int64"), sample((taps,), "int64")
    padding = "same_lower" if mode == "same" else mode
    np.testing.assert_array_equal(ac.correlate(x, kernel, padding=padding), np.correlate(x, kernel, mode))
    np.testing.assert_array_equal(ac.convolve(x, kernel, padding=padding), np.convolve(x, kernel, mode))


@pytest.mark.parametrize(
    ("boundary", "mode"),
    [("constant", "constant"), ("edge", "nearest"), ("reflect", "mirror"), ("symmetric", "reflect"), ("wrap", "wrap")],
)
@pytest.mark.parametrize("taps", [(3, 5), (11, 13)])
def test_agrees_with_scipy_ndimage(library: Library, boundary: str, mode: str, taps: tuple[int, int]) -> None:
    x, kernel = sample((6, 4), "int32"), sample(taps, "int32")
    expected = ndimage.correlate(x, kernel, mode=mode)
    y = ac.correlate(library.asarray(x), library.asarray(kernel), padding="same", boundary=boundary)
    np.testing.assert_array_equal(library.to_numpy(y), expected)
