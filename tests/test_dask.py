"""Dask: nothing is computed early, nothing is merged, and any chunking gives NumPy's numbers."""

from __future__ import annotations

from functools import wraps
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_vjp import CALLS, Example, first_example, sample, samples

import arrayconv as ac
from arrayconv.backends import dask as backend
from arrayconv.operations.table import OPERATIONS
from arrayconv.testing import problems

NumPyArray = np.ndarray[Any, Any]


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was computed while the graph was built")


def lazy(array: NumPyArray, chunks: Any = "auto") -> Any:
    return da.from_array(array, chunks=chunks)


@st.composite
def chunkings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Any way to cut each axis, into single elements too."""
    axes = []
    for n in shape:
        cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=4))) if n > 1 else []
        axes.append(tuple(int(size) for size in np.diff([0, *cuts, n])))
    return tuple(axes)


@st.composite
def chunked_calls(draw: st.DrawFn, name: str) -> tuple[list[NumPyArray], list[Any], dict[str, Any]]:
    """Arrays, the same in chunks, and options: the kernel and the bias are in chunks too."""
    call = draw(problems(name, dtype="int32", max_ndim=2))
    arrays = [array for array in (call.x, call.kernel, call.bias) if array is not None]
    return arrays, [lazy(array, draw(chunkings(array.shape))) for array in arrays], call.options


# Values


@pytest.mark.parametrize("name", ["correlate", "convolve", "conv", "conv_transpose", "depthwise_conv"])
def test_any_chunking_gives_the_same_integers(name: str) -> None:
    op = OPERATIONS[name].function

    @settings(max_examples=15)
    @given(chunked_calls(name))
    def check(drawn: Any) -> None:
        arrays, chunked, options = drawn
        with dask.config.set(scheduler=refuse):
            y = op(*chunked, **options)
        expected = op(*arrays, **options)
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(y.compute(), expected)

    check()


@pytest.mark.parametrize("name", ["correlate", "conv", "conv_transpose"])
def test_any_chunking_gives_the_same_cotangents(name: str) -> None:
    op = OPERATIONS[name].function

    @settings(max_examples=8)
    @given(chunked_calls(name), st.data())
    def check(drawn: Any, data: st.DataObject) -> None:
        arrays, chunked, options = drawn
        y, pullback = ac.vjp(op, *arrays, **options)
        dy = sample(y.shape, "int32")
        chunked_dy = lazy(dy, data.draw(chunkings(dy.shape)))
        with dask.config.set(scheduler=refuse):
            chunked_y, chunked_pullback = ac.vjp(op, *chunked, **options)
            cotangents = chunked_pullback(chunked_dy)
        got = dask.compute(chunked_y, *cotangents)
        for one, expected in zip(got, (y, *pullback(dy)), strict=True):
            np.testing.assert_array_equal(one, expected)

    check()


@pytest.mark.parametrize(("name", "example"), [call for call in CALLS if call.values[0] not in ("pad", "windows")])
def test_every_operation_in_every_chunk_size(name: str, example: Example) -> None:
    op, arrays = OPERATIONS[name].function, samples(example, "int64")
    expected = op(*arrays, **example.options)
    for size in (1, 2, 3, -1):
        with dask.config.set(scheduler=refuse):
            y = op(*(lazy(array, size) for array in arrays), **example.options)
        np.testing.assert_array_equal(y.compute(), expected)


@pytest.mark.parametrize("chunks", [(5, 5), (1, 9), (2, 3, 1, 4), (0, 4, 0, 6), (1,) * 10])
def test_chunks_shorter_than_the_kernel(chunks: tuple[int, ...]) -> None:
    x, kernel = sample((10, 10)), sample((7, 4), seed=1)
    for padding in ("valid", "same", "full", "causal", -1):
        for stride in (1, 3):
            options: dict[str, Any] = {"padding": padding, "stride": stride}
            y = ac.correlate(lazy(x, (chunks, chunks)), kernel, **options)
            np.testing.assert_array_equal(y.compute(), ac.correlate(x, kernel, **options))


def test_floats_keep_their_bound_in_any_chunks() -> None:
    x, kernel = sample((2, 3, 40), "float32"), sample((4, 3, 9), "float32", 1)
    exact = ac.conv(x.astype(float), kernel.astype(float), padding="same")
    for chunks in ((1, 2, 7), (2, 3, 40), (2, 1, 3)):
        for kernel_chunks in ((4, 3, 9), (2, 1, 4)):
            y = ac.conv(lazy(x, chunks), lazy(kernel, kernel_chunks), padding="same")
            assert y.dtype == np.float32
            np.testing.assert_allclose(y.compute(), exact, rtol=0, atol=1e-5)


def test_halves_of_a_chunked_kernel_are_rounded_once() -> None:
    """2,048 and 99 ones: shares rounded to float16 would lose the odd ones."""
    kernel = np.ones(100, "float16")
    kernel[0] = 2048
    y = ac.correlate(lazy(np.ones(101, "float16"), 30), lazy(kernel, 9))
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y.compute(), np.float16([2147, 2147]))


def test_settings_travel_with_the_graph() -> None:
    """A graph built in the block keeps the workspace of the block, in whichever thread it runs."""
    x, kernel = sample((1, 4, 64, 64), "float32"), sample((4, 4, 3, 3), "float32", 1)
    with ac.settings(workspace=2**12):
        y = ac.conv(lazy(x, (1, 4, 32, 32)), kernel, padding="same", algorithm="gemm")
        workspace = ac.plan(ac.conv, lazy(x), lazy(kernel), padding="same").program.problem.settings.workspace
    assert workspace == 2**12
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        record(patch, lambda x, kernel, program, **_: seen.append(program.problem.settings.workspace))
        with ac.settings(workspace=2**12):
            ac.conv(lazy(x, (1, 4, 32, 32)), kernel, padding="same", algorithm="gemm").compute(scheduler="threads")
    assert set(seen) == {2**12} and len(seen) == 4
    np.testing.assert_allclose(y.compute(), ac.conv(x, kernel, padding="same"), rtol=0, atol=1e-4)


def test_blocks_run_in_other_processes() -> None:
    example = first_example("conv")
    arrays = samples(example)
    y, pullback = ac.vjp(ac.conv, *(lazy(array, 3) for array in arrays), **example.options)
    expected_y, expected_pullback = ac.vjp(ac.conv, *arrays, **example.options)
    with dask.config.set(scheduler="processes", num_workers=1):
        got = dask.compute(y, *pullback(y))
    for one, expected in zip(got, (expected_y, *expected_pullback(expected_y)), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_blocks_run_in_threads() -> None:
    x, kernel = sample((40, 50)), sample((3, 4), seed=1)
    y = ac.correlate(lazy(x, 7), kernel, padding="same", boundary="wrap")
    np.testing.assert_array_equal(
        y.compute(scheduler="threads"), ac.correlate(x, kernel, padding="same", boundary="wrap")
    )


# Graphs


def record(patch: pytest.MonkeyPatch, note: Any) -> None:
    """Call ``note`` with the arguments of every block that is run."""
    original = backend.run_block

    @wraps(original)
    def recorded(*args: Any, **options: Any) -> Any:
        note(*args, **options)
        return original(*args, **options)

    patch.setattr(backend, "run_block", recorded)


def block_shapes(*arrays: Any) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The shapes of x and kernel of every block that these arrays need; to be called before they are built."""
    shapes: tuple[list[Any], list[Any]] = ([], [])
    with pytest.MonkeyPatch.context() as patch:
        record(patch, lambda x, kernel, *_, **__: (shapes[0].append(x.shape), shapes[1].append(kernel.shape)))
        dask.compute(*(array() for array in arrays))
    return shapes


@pytest.mark.parametrize(
    ("chunks", "stride", "out"),
    [
        ((5, 5, 5, 5), 1, (5, 5, 5, 5)),
        ((4, 1, 9, 6), 1, (4, 1, 9, 6)),
        ((4, 6, 10), 2, (2, 3, 5)),
        ((20,), 1, (20,)),
    ],
)
def test_output_chunks_follow_the_input_s(chunks: Any, stride: int, out: Any) -> None:
    for taps in (1, 2, 3, 7):
        y = ac.correlate(da.ones((4, 20), chunks=((1, 3), chunks)), np.ones(taps), padding="same", stride=stride)
        assert y.chunks == ((1, 3), out)
    x = da.ones((2, 3, 20), chunks=((1, 1), (2, 1), chunks))
    assert ac.conv(x, np.ones((4, 3, 3)), padding="same", stride=stride).chunks == ((1, 1), (4,), out)
    x = da.ones((2, 20, 3), chunks=((1, 1), chunks, (2, 1)))
    y = ac.conv(x, np.ones((3, 3, 4)), padding="same", stride=stride, channels="last")
    assert y.chunks == ((1, 1), out, (4,))


def graph_sizes(build: Any, counts: tuple[int, ...]) -> list[float]:
    """Tasks for each chunk of the input."""
    return [len(dict(build(count).__dask_graph__())) / count for count in counts]


@pytest.mark.parametrize("boundary", ["constant", "reflect", "wrap"])
def test_the_number_of_tasks_grows_with_the_chunks(boundary: str) -> None:
    def one(count: int, part: int | None = None) -> Any:
        x = da.ones(16 * count, chunks=16)
        if part is None:
            return ac.correlate(x, np.ones(5), padding="same", boundary=boundary)
        y, pullback = ac.vjp(ac.correlate, x, np.ones(5), padding="same", boundary=boundary)
        return pullback(y)[part]

    def images(count: int, part: int | None = None) -> Any:
        x, kernel = da.ones((count, 2, 8, 8), chunks=(1, 2, 8, 8)), np.ones((3, 2, 3, 3))
        if part is None:
            return ac.conv(x, kernel, padding="same", boundary=boundary)
        y, pullback = ac.vjp(ac.conv, x, kernel, padding="same", boundary=boundary)
        return pullback(y)[part]

    for build in (one, images):
        for part in (None, 0, 1):
            first, second = graph_sizes(lambda count, b=build, p=part: b(count, p), (16, 64))
            assert second <= 1.2 * first, (build.__name__, part, first, second)


def test_no_block_holds_more_than_its_halo() -> None:
    x, kernel = da.ones((80, 96), chunks=(10, 16)), np.ones((3, 5))
    for options in ({}, {"padding": "same"}, {"padding": "full"}, {"padding": "same", "boundary": "wrap"}):
        xs, kernels = block_shapes(lambda options=options: ac.correlate(x, kernel, **options))
        assert max(xs) <= (1, 1, 14, 24) and max(shape[-1] for shape in xs) <= 24
        assert set(kernels) == {(1, 1, 3, 5)}


def test_no_block_of_a_gradient_holds_more_than_its_halo() -> None:
    x, kernel = da.ones((4, 2, 40, 48), chunks=(1, 2, 10, 16)), np.ones((3, 2, 3, 3))
    for part in (0, 1):
        y = da.ones((4, 3, 40, 48), chunks=(1, 3, 10, 16))
        xs, kernels = block_shapes(lambda part=part, y=y: ac.vjp(ac.conv, x, kernel, padding="same")[1](y)[part])
        assert max(np.prod(shape) for shape in xs) <= 3 * 12 * 18
        assert max(np.prod(shape) for shape in kernels) <= 3 * 10 * 16


def test_a_chunked_kernel_is_summed_by_its_chunks() -> None:
    x, kernel = da.ones((1, 4, 64), chunks=(1, 4, 16)), da.ones((2, 4, 30), chunks=(2, 1, 10))
    xs, kernels = block_shapes(lambda: ac.conv(x, kernel))
    assert set(kernels) == {(2, 1, 10)} and max(xs) <= (1, 1, 25)


# Errors


def test_unknown_chunk_sizes_are_refused() -> None:
    x = da.arange(10, chunks=5)
    unknown = x[x > 3]
    message = r"x of shape \(nan,\) has unknown chunk sizes, .* call its compute_chunk_sizes\(\) first"
    with pytest.raises(ValueError, match=f"correlate: {message}"):
        ac.correlate(unknown, np.ones(2))
    with pytest.raises(ValueError, match=r"kernel of shape .* unknown chunk sizes"):
        ac.correlate(x, unknown)
    y = ac.correlate(unknown.compute_chunk_sizes(), np.ones(2))
    np.testing.assert_array_equal(y.compute(), [9, 11, 13, 15, 17])
