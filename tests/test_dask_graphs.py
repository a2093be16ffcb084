"""The graphs that Dask is given: how many tasks, how much each of them holds, and which chunks come out."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import combinations, product
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.utils import key_split
from test_dask import record

import arrayconv as ac
from arrayconv.backends import dask_parts
from arrayconv.chunks import meeting
from arrayconv.geometry import WindowDimension

Shape = tuple[int, ...]


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


#: Calls whose blocks are counted, with the chunks of x.
COUNTED: dict[str, tuple[Shape, Shape, Any]] = {
    "correlate": ((64, 64), (8, 8), lambda x: ac.correlate(x, np.ones((3, 3)), padding="same")),
    "correlate, 3-D": ((24, 24, 24), (8, 8, 8), lambda x: ac.correlate(x, np.ones((3, 3, 3)), padding="same")),
    "convolve, strided": ((64, 64), (8, 8), lambda x: ac.convolve(x, np.ones((3, 3)), stride=2, dilation=2)),
    "correlate, edge": ((64, 64), (8, 8), lambda x: ac.correlate(x, np.ones((3, 3)), padding="same", boundary="edge")),
    "correlate, wrap": ((64, 64), (8, 8), lambda x: ac.correlate(x, np.ones((3, 3)), padding="same", boundary="wrap")),
    "conv": ((2, 2, 64, 64), (1, 1, 8, 8), lambda x: ac.conv(x, np.ones((4, 2, 3, 3)), np.ones(4), padding="same")),
    "conv, last": (
        (2, 64, 64, 2),
        (1, 8, 8, 1),
        lambda x: ac.conv(x, np.ones((3, 3, 1, 4)), padding="same", channels="last", groups=2),
    ),
    "conv_transpose": ((2, 2, 64, 64), (1, 2, 8, 8), lambda x: ac.conv_transpose(x, np.ones((2, 4, 3, 3)), stride=2)),
    "depthwise_conv": ((2, 2, 64, 64), (1, 2, 8, 8), lambda x: ac.depthwise_conv(x, np.ones((2, 2, 3, 3)))),
    "separable_conv": (
        (2, 2, 64, 64),
        (1, 2, 8, 8),
        lambda x: ac.separable_conv(x, np.ones((2, 2, 3, 3)), np.ones((4, 4))),
    ),
    "subpixel_conv": ((2, 2, 64, 64), (1, 2, 8, 8), lambda x: ac.subpixel_conv(x, np.ones((8, 2, 3, 3)), factor=2)),
    "pixel_shuffle": ((2, 8, 64, 64), (1, 4, 8, 8), lambda x: ac.pixel_shuffle(x, 2)),
    "pixel_unshuffle": ((2, 8, 64, 64), (1, 4, 8, 8), lambda x: ac.pixel_unshuffle(x, 2)),
    "unfold": ((2, 2, 64, 64), (1, 1, 8, 8), lambda x: ac.unfold(x, (3, 3), padding="same")),
    "max_pool": ((2, 2, 64, 64), (1, 1, 8, 8), lambda x: ac.max_pool(x, (3, 3), padding="same")),
    "avg_pool": ((2, 2, 64, 64), (1, 1, 8, 8), lambda x: ac.avg_pool(x, (3, 3), padding="same")),
    "lp_pool": ((2, 2, 64, 64), (1, 1, 8, 8), lambda x: ac.lp_pool(x, (3, 3), padding="same")),
    "pad": ((64, 64), (8, 8), lambda x: ac.pad(x, [(3, 3), (9, -2)], boundary="reflect")),
    "windows": ((64, 64), (8, 8), lambda x: ac.windows(x, (3, 3))),
    "windows, back": (
        (64, 64),
        (8, 8),
        lambda x: ac.vjp(ac.windows, x, window=(3, 3))[1](da.ones((62, 62, 3, 3), chunks=(8, 8, 3, 3)).persist())[0],
    ),
}

#: Tasks that hold a piece of a block for another block.
SLICES = ("halo", "getitem", "rechunk-split")


@pytest.mark.parametrize("small", [0, dask_parts.SMALL_CHUNK])
@pytest.mark.parametrize("name", COUNTED)
def test_a_block_costs_three_tasks_beside_its_halo(name: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Persisted data are tasks too; an alias, which Dask leaves where it has fused tasks, is none."""
    monkeypatch.setattr(dask_parts, "SMALL_CHUNK", small)
    shape, chunks, build = COUNTED[name]
    x = da.ones(shape, chunks=chunks).persist()
    y = build(x)
    graph = dict(dask.optimize(y)[0].__dask_graph__())
    tasks = Counter(key_split(key) for key, task in graph.items() if type(task).__name__ != "Alias")
    slices = sum(tasks[kind] for kind in SLICES)
    assert sum(tasks.values()) - slices - x.npartitions <= 3 * max(x.npartitions, y.npartitions) + 5, tasks
    operands = 2 if name.endswith("back") else 1
    assert slices <= operands * (3**y.ndim - 1) * max(x.npartitions, y.npartitions)
    assert y.npartitions <= 1.3 * x.npartitions, y.chunks  # no slivers
    assert not (small and tasks["halo"])


def test_a_numpy_kernel_is_one_small_array_in_the_graph() -> None:
    x, kernel = da.ones((2, 2, 64, 64), chunks=(1, 2, 8, 8)), np.arange(72.0).reshape(4, 2, 3, 3)
    y = ac.conv(x, kernel, padding="same")
    graph = dict(dask.optimize(y)[0].__dask_graph__())
    assert sum("array" in key_split(key) for key in graph) == 1
    few = ac.conv(x[:, :, :16, :16], kernel, padding="same")
    sizes = [len(pickle.dumps(dask.optimize(array)[0].__dask_graph__())) / array.npartitions for array in (y, few)]
    assert sizes[0] < 1.2 * sizes[1]  # nothing that grows with the blocks goes along with each of them


def test_windows_that_meet_a_part_are_those_that_hold_one_of_its_elements() -> None:
    for kernel, stride, low, dilation in product((1, 2, 4), (1, 2, 5), (-2, 0, 3), (1, 2)):
        axis = WindowDimension(12, kernel, stride, low, 1, dilation)
        for start, stop in combinations(range(13), 2):
            found = meeting(axis, range(start, stop))
            first = [j * stride - low for j in range(axis.output)]
            held = [j for j, i in enumerate(first) if start < i + axis.window and i < stop]
            assert list(found) == held or (not held and len(found) == 1 and found[0] in range(axis.output))


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
