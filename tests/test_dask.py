"""Dask: nothing is computed early, nothing is merged, and any chunking gives NumPy's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps
from math import prod
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import pytest
from chunking import lazy, refuse
from hypothesis import given, settings
from hypothesis import strategies as st
from test_vjp import CALLS, Example, first_example, sample, samples

import arrayconv as ac
from arrayconv.backends import dask as backend
from arrayconv.backends import dask_parts
from arrayconv.boundary import BOUNDARIES
from arrayconv.operations.table import OPERATIONS
from arrayconv.testing import assert_within_bound, problems, reference

NumPyArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]


class Local(NamedTuple):
    """A call of an operation of one array."""

    name: str
    shape: Shape
    options: dict[str, Any]


def record(patch: pytest.MonkeyPatch, note: Any) -> None:
    """Call ``note`` with the arguments of every block that is run."""
    original = backend.run_block

    @wraps(original)
    def recorded(*args: Any, **options: Any) -> Any:
        note(*args, **options)
        return original(*args, **options)

    patch.setattr(backend, "run_block", recorded)


@st.composite
def chunkings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Any way to cut each axis, into single elements too."""
    axes = []
    for n in shape:
        cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=4))) if n > 1 else []
        axes.append(tuple(int(size) for size in np.diff([0, *cuts, n])))
    return tuple(axes)


def draw_arrays(draw: st.DrawFn, name: str, dtype: str) -> tuple[list[NumPyArray], dict[str, Any]]:
    """Arrays and options of a call in one to three dimensions; a separable one has a pointwise kernel too."""
    call = draw(problems("depthwise_conv" if name == "separable_conv" else name, dtype=dtype, finite=True))
    arrays = [array for array in (call.x, call.kernel, call.bias) if array is not None]
    if name == "separable_conv":
        channels = prod(call.kernel.shape[-2:] if call.options["channels"] == "last" else call.kernel.shape[:2])
        arrays[2:] = [sample((draw(st.integers(1, 3)), channels), dtype)]
    return arrays, call.options


@st.composite
def chunked_calls(
    draw: st.DrawFn, name: str, dtype: str = "int32"
) -> tuple[list[NumPyArray], list[Any], dict[str, Any]]:
    """Arrays, the same in chunks, and options: the kernel and the bias are in chunks too."""
    arrays, options = draw_arrays(draw, name, dtype)
    return arrays, [lazy(array, draw(chunkings(array.shape))) for array in arrays], options


@contextmanager
def any_halo(data: st.DataObject) -> Iterator[None]:
    """Graphs, built without computing, whose blocks get their neighbours whole, or a task for each piece."""
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler=refuse):
        patch.setattr(dask_parts, "SMALL_CHUNK", data.draw(st.sampled_from((0, dask_parts.SMALL_CHUNK))))
        yield


# Values

LINEAR = ["correlate", "convolve", "conv", "conv_transpose", "depthwise_conv", "separable_conv"]


@pytest.mark.parametrize("name", LINEAR)
def test_any_chunking_gives_the_same_integers_and_cotangents(name: str) -> None:
    op = OPERATIONS[name].function

    @settings(max_examples=10)
    @given(chunked_calls(name), st.data())
    def check(drawn: Any, data: st.DataObject) -> None:
        arrays, chunked, options = drawn
        y, pullback = ac.vjp(op, *arrays, **options)
        dy = sample(y.shape, "int32")
        chunked_dy = lazy(dy, data.draw(chunkings(dy.shape)))
        with any_halo(data):
            chunked_y, chunked_pullback = ac.vjp(op, *chunked, **options)
            cotangents = chunked_pullback(chunked_dy)
        for lazily, expected in zip((chunked_y, *cotangents), (y, *pullback(dy)), strict=True):
            assert (lazily.shape, lazily.dtype) == (expected.shape, expected.dtype)
        for one, expected in zip(dask.compute(chunked_y, *cotangents), (y, *pullback(dy)), strict=True):
            np.testing.assert_array_equal(one, expected)

    check()


@pytest.mark.parametrize("name", ["correlate", "convolve", "conv", "conv_transpose", "depthwise_conv"])
def test_floats_keep_their_bound_in_any_chunking(name: str) -> None:
    op = OPERATIONS[name].function

    @settings(max_examples=8)
    @given(chunked_calls(name, "float32"))
    def check(drawn: Any) -> None:
        arrays, chunked, options = drawn
        with dask.config.set(scheduler=refuse):
            y = op(*chunked, **options)
        assert_within_bound(y.compute(), *arrays, op=name, **options)

    check()


@pytest.mark.parametrize("name", ["correlate", "convolve", "conv", "conv_transpose", "depthwise_conv"])
def test_cotangents_of_floats_in_any_chunking_are_those_of_plain_loops(name: str) -> None:
    """``<cotangent, v> = <dy, op(..., v, ...)>`` for each array and any v in its place: linear, but for the bias."""
    op = OPERATIONS[name].function

    @settings(max_examples=4)
    @given(chunked_calls(name, "float32"), st.data())
    def check(drawn: Any, data: st.DataObject) -> None:
        (x, kernel, *bias), chunked, options = drawn
        with any_halo(data):
            y, pullback = ac.vjp(op, *chunked, **options)
            dy = np.random.default_rng(0).standard_normal(y.shape, "float32")
            cotangents = pullback(lazy(dy, data.draw(chunkings(dy.shape))))
        assert [one.dtype for one in cotangents] == ["float32"] * len(chunked)
        zeros = [np.zeros_like(array) for array in bias]
        for place, found in enumerate(dask.compute(*cotangents)):
            v = np.random.default_rng(1).standard_normal(found.shape, "float32")
            given_arrays = [[v, kernel, *zeros], [x, v, *zeros], [np.zeros_like(x), kernel, v]][place]
            change = reference(name, *given_arrays, **options)
            sizes = reference(name, *map(np.abs, given_arrays), **options)
            bound = 1e-5 * float(np.sum(np.abs(dy) * sizes))  # each product is rounded some K times eps, K < 100
            assert abs(float(np.sum(found.astype(float) * v) - np.sum(dy * change))) <= bound

    check()


def pairs(draw: st.DrawFn, count: int, low: int, high: int) -> tuple[tuple[int, int], ...]:
    entry = st.integers(low, high)
    return draw(st.tuples(*[st.tuples(entry, entry)] * count))


def draw_pad(draw: st.DrawFn) -> Local:
    shape = draw(st.tuples(*[st.integers(1, 9)] * 2))
    widths = [(low, max(high, -n - low)) for n, (low, high) in zip(shape, pairs(draw, 2, -3, 14), strict=True)]
    return Local("pad", shape, {"widths": widths, "boundary": draw(st.sampled_from(list(BOUNDARIES)))})


def draw_window(draw: st.DrawFn, least: int = 0) -> tuple[Shape, dict[str, Any]]:
    """Spatial sizes that hold the window, and what moves it."""
    each = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
    window, stride, dilation = zip(*draw(st.tuples(each, each)), strict=True)
    spans = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    sizes = tuple(draw(st.integers(max(least, span), span + 7)) for span in spans)
    return sizes, {"window": window, "stride": stride, "dilation": dilation}


def draw_windows(draw: st.DrawFn) -> Local:
    sizes, options = draw_window(draw)
    return Local("windows", (draw(st.integers(1, 3)), *sizes), options)


def draw_columns(name: str, draw: st.DrawFn) -> Local:
    sizes, options = draw_window(draw)
    channels = draw(st.sampled_from(("first", "last")))
    shape = (2, 3, *sizes) if channels == "first" else (2, *sizes, 3)
    return Local(name, shape, {**options, "channels": channels, "padding": draw(st.sampled_from(("valid", "same")))})


def draw_pixels(name: str, draw: st.DrawFn) -> Local:
    factor = draw(st.tuples(*[st.integers(1, 3)] * 2))
    sizes = draw(st.tuples(*[st.integers(1, 4)] * 2))
    count = draw(st.integers(1, 3))
    if name == "pixel_shuffle":
        count *= factor[0] * factor[1]
    else:
        sizes = (sizes[0] * factor[0], sizes[1] * factor[1])
    channels = draw(st.sampled_from(("first", "last")))
    shape = (2, count, *sizes) if channels == "first" else (2, *sizes, count)
    return Local(name, shape, {"factor": factor, "channels": channels})


#: Operations of one array that need no more of it than the neighbourhood of a block.
LOCAL = {
    "pad": draw_pad,
    "windows": draw_windows,
    **{name: partial(draw_columns, name) for name in ("unfold", "max_pool", "avg_pool", "lp_pool")},
    **{name: partial(draw_pixels, name) for name in ("pixel_shuffle", "pixel_unshuffle")},
}


@pytest.mark.parametrize("name", LOCAL)
def test_any_chunking_of_a_local_operation_gives_numpy_s_result_and_cotangent(name: str) -> None:
    op, exact = OPERATIONS[name].function, name not in ("avg_pool", "lp_pool")

    @settings(max_examples=15)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        call = LOCAL[name](data.draw)
        x = sample(call.shape, "int32" if exact else "float32")
        y, pullback = ac.vjp(op, x, **call.options)
        dy = sample(y.shape, y.dtype.name, 1)
        chunked, chunked_dy = lazy(x, data.draw(chunkings(x.shape))), lazy(dy, data.draw(chunkings(dy.shape)))
        with any_halo(data):
            chunked_y, chunked_pullback = ac.vjp(op, chunked, **call.options)
            (chunked_dx,) = chunked_pullback(chunked_dy)
        assert (chunked_y.shape, chunked_y.dtype) == (y.shape, y.dtype)
        for one, expected in zip(dask.compute(chunked_y, chunked_dx), (y, *pullback(dy)), strict=True):
            np.testing.assert_allclose(one, expected, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-5)

    check()


@pytest.mark.parametrize(("name", "example"), CALLS)
def test_every_operation_in_every_chunk_size(name: str, example: Example) -> None:
    op, arrays = OPERATIONS[name].function, samples(example, "int64")
    expected = op(*arrays, **example.options)
    for size in (1, 2, 3, -1):
        with dask.config.set(scheduler=refuse):
            y = op(*(lazy(array, size) for array in arrays), **example.options)
        np.testing.assert_array_equal(y.compute(), expected)


@pytest.mark.parametrize(("name", "example"), CALLS)
def test_empty_chunks_change_nothing(name: str, example: Example) -> None:
    """Selections leave them; `map_blocks` of the result shows its blocks, whose type the metadata tell."""
    op, arrays = OPERATIONS[name].function, samples(example, "int16")
    hollow = [lazy(array, tuple((0, n - n // 2, 0, n // 2, 0) for n in array.shape)) for array in arrays]
    y, expected = op(*hollow, **example.options), op(*arrays, **example.options)
    assert y.dtype == y._meta.dtype == expected.dtype
    np.testing.assert_array_equal(y.persist().map_blocks(np.negative).compute(), -expected)


@pytest.mark.parametrize("chunks", [(5, 5), (1, 9), (2, 3, 1, 4), (0, 4, 0, 6), (1,) * 10])
def test_chunks_shorter_than_the_kernel(chunks: tuple[int, ...]) -> None:
    x, kernel = sample((10, 10)), sample((7, 4), seed=1)
    for padding in ("valid", "same", "full", "causal", -1):
        for stride in (1, 3):
            options: dict[str, Any] = {"padding": padding, "stride": stride}
            y = ac.correlate(lazy(x, (chunks, chunks)), kernel, **options)
            np.testing.assert_array_equal(y.compute(), ac.correlate(x, kernel, **options))


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


@pytest.mark.parametrize(("name", "example"), CALLS)
def test_every_operation_refuses_unknown_chunk_sizes(name: str, example: Example) -> None:
    refuse_unknown(OPERATIONS[name].function, samples(example), example.options)


@pytest.mark.parametrize("name", [name for name in LOCAL if name not in ("pad", "windows")])
def test_pools_and_shuffles_refuse_unknown_chunk_sizes(name: str) -> None:
    options: dict[str, Any] = {"factor": 2} if "pixel" in name else {"window": (2, 2)}
    refuse_unknown(OPERATIONS[name].function, [sample((2, 4, 4, 4))], options)


def refuse_unknown(op: Any, arrays: list[NumPyArray], options: dict[str, Any]) -> None:
    """Each array in turn has an axis of unknown length."""
    for i in range(len(arrays)):
        own = [lazy(array) for array in arrays]
        own[i] = own[i][lazy(np.ones(len(arrays[i]), bool))]
        with pytest.raises(ValueError, match=r"unknown chunk sizes, .* call its compute_chunk_sizes\(\) first"):
            op(*own, **options)
