"""Tiles of `gemm` in a buffer: every way in which columns are laid."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.algorithms import prepared
from arrayconv.algorithms.gemm import runs
from arrayconv.algorithms.gemm_buffers import FEW, phases
from arrayconv.backend import library_backend
from arrayconv.backends.workers import WORKERS
from arrayconv.geometry import Geometry, WindowDimension

if TYPE_CHECKING:
    from conftest import Library

RNG = np.random.default_rng(0)


#: x, kernel and options; the workspace of each thread, which cuts the call into tiles; and how its columns are laid.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], int, dict[str, Any]]] = {
    "images": ((3, 4, 20, 18), (6, 4, 3, 3), {"padding": 1}, 2**16, {"merged": False, "taps_first": True}),
    "rows of an image": ((2, 4, 20, 18), (6, 4, 3, 3), {"padding": 1}, 2**14, {"taps_first": True}),
    "few positions": ((9, 8, 7, 7), (6, 8, 3, 3), {"padding": 1}, 2**16, {"merged": True, "taps_first": True}),
    "few windows": ((9, 2, 12, 12), (6, 2, 4, 6), {"stride": (4, 6)}, 2**14, {"merged": True, "taps_first": False}),
    "windows": ((3, 2, 80, 80), (6, 2, 5, 5), {"stride": 5}, 2**16, {"merged": False, "taps_first": False}),
    "groups": ((4, 8, 15, 13), (12, 2, 3, 3), {"groups": 4, "padding": 1}, 2**15, {}),
    "stride 2": ((3, 4, 24, 25), (6, 4, 7, 7), {"stride": 2, "padding": 3}, 2**16, {"taps_first": True}),
    "stride 3, dilation 2": ((3, 2, 40, 41), (4, 2, 3, 4), {"stride": 3, "dilation": 2, "padding": 2}, 2**15, {}),
    "stride 2, dilation 4": ((3, 2, 40, 41), (4, 2, 3, 3), {"stride": 2, "dilation": 4, "padding": 5}, 2**15, {}),
    "rows for two threads": ((1, 4, 33, 18), (6, 4, 3, 3), {"padding": 1}, 5 * 2**13, {"taps_first": True}),
    "pointwise": ((4, 8, 12, 13), (6, 8, 1, 1), {}, 2**14, {"is_view": True}),
    "pointwise, stride 2": ((4, 8, 30, 31), (6, 8, 1, 1), {"stride": 2}, 2**14, {"is_view": False}),
    "one window": ((4, 8, 16, 16), (6, 8, 16, 16), {}, 2**14, {"is_view": True, "places": 1}),
    "signal": ((2, 3, 300), (4, 3, 5), {"padding": 2, "stride": 2}, 2**13, {"taps_first": True}),
    "volume": ((2, 3, 9, 8, 10), (4, 3, 3, 2, 3), {"padding": 1}, 2**15, {"taps_first": True}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("library", ["numpy", "numpy-readonly"], indirect=True)
def test_columns_of_every_layout(library: Library, layout: str) -> None:
    x_shape, kernel_shape, options, workspace, own = LAYOUTS[layout]
    workspace *= WORKERS.count
    with ac.settings(workspace=workspace):
        program = ac.plan(ac.conv, x_shape, kernel_shape, library="numpy", algorithm="gemm", **options).program
        tiles = prepared(program, library_backend("numpy")).tiles
        assert len(tiles) > 1 and program.workspace <= workspace
        assert own.items() <= tiles[0].details._asdict().items()
        for dtype in ("float32", "float16", "int32", "complex64"):
            x, kernel = (RNG.integers(-9, 9, shape).astype(dtype) for shape in (x_shape, kernel_shape))
            library.check(ac.conv, x, kernel, algorithm="gemm", **options)


@pytest.mark.parametrize("algorithm", ["gemm", "toeplitz"])
@pytest.mark.parametrize(
    ("shape", "workspace"), [((4, 26, 24, 25), 2**17), ((4, 26, 700), 2**17), ((2, 26, 17, 14, 24), 2**19)]
)
def test_tiles_of_some_groups(library: Library, algorithm: str, shape: tuple[int, ...], workspace: int) -> None:
    """Of an uneven number of them, one channel to two; a library's own convolution takes them all."""
    kernel_shape = (26, 2, *(3,) * (len(shape) - 2))
    options: dict[str, Any] = {"groups": 13, "padding": 1, "stride": 2, "algorithm": algorithm}
    workspace *= WORKERS.count
    with ac.settings(workspace=workspace):
        if library.name in ("numpy", "numpy-readonly"):
            program = ac.plan(ac.conv, shape, kernel_shape, library="numpy", **options).program
            groups = [tile.geometry.groups for tile in prepared(program, library_backend("numpy")).tiles]
            assert sum(groups) >= 13 > max(groups) and program.workspace <= workspace
        x, kernel = (RNG.integers(-9, 9, own).astype("float32") for own in (shape, kernel_shape))
        library.check(ac.conv, x, kernel, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("library", ["numpy", "numpy-readonly"], indirect=True)
def test_what_is_not_finite_stays_in_its_windows(library: Library, bad: float) -> None:
    """A buffer that is used again must hold nothing of the tile before."""
    x = RNG.standard_normal((6, 3, 20, 20)).astype("float32")
    x[0, :, 3, 4] = bad
    with ac.settings(workspace=2**15):
        library.check(ac.conv, x, np.ones((2, 3, 3, 3), "float32"), algorithm="gemm", stride=2)


@pytest.mark.parametrize(("stride", "dilation", "taps"), [(2, 1, 7), (3, 1, 2), (3, 2, 5), (2, 2, 3), (2, 3, 4)])
def test_phases_hold_every_tap_once(stride: int, dilation: int, taps: int) -> None:
    axis = WindowDimension(50, taps, stride, window_dilation=dilation)
    read = {
        tap: phase.start + stride * (phase.offset + place * phase.dilation)
        for phase in phases(axis)
        for place, tap in enumerate(range(taps)[phase.taps])
    }
    assert read == {tap: tap * dilation for tap in range(taps)}
    assert all(phase.start < stride for phase in phases(axis))


def test_images_of_few_positions_share_a_product() -> None:
    few = ac.plan(ac.conv, (8, 512, 7, 7), (512, 512, 3, 3), padding=1, library="numpy", algorithm="gemm").program
    assert FEW > 7 * 7 and few.block[0] > 1


def test_tiles_give_the_same_from_several_callers() -> None:
    x, kernel = RNG.integers(-9, 9, (4, 16, 30, 30)).astype("float32"), np.ones((8, 16, 3, 3), "float32")
    expected, found = ac.conv(x, kernel, algorithm="direct"), list[Any]()

    def call() -> None:
        with ac.settings(workspace=2**18):
            found.append(ac.conv(x, kernel, algorithm="gemm"))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4
    for y in found:
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    "axes",
    [
        [WindowDimension(9, 3)],
        [WindowDimension(9, 3, 2)],
        [WindowDimension(9, 3, 1, 0, 0, 2)],
        [WindowDimension(9, 3), WindowDimension(5, 1)],
        [WindowDimension(9, 3), WindowDimension(5, 2)],
        [WindowDimension(9, 3, 2), WindowDimension(5, 1)],
        [WindowDimension(9, 3), WindowDimension(5, 1, 2)],
        [WindowDimension(9, 3, 1, 0, 0, 2), WindowDimension(4, 4)],
        [WindowDimension(9, 3), WindowDimension(4, 4)],
        [WindowDimension(7, 2), WindowDimension(9, 1), WindowDimension(5, 1)],
    ],
)
def test_runs_are_elements_as_far_apart_from_each_other(axes: list[WindowDimension], is_first: bool) -> None:
    """By the places that the windows read one after the other, up to the first that lies elsewhere."""
    geometry = Geometry(1, 1, 1, 1, tuple(axes))
    places = np.arange(np.prod(geometry.sizes)).reshape(geometry.sizes)
    windows = library_backend("numpy").windows(
        places, geometry.window, [axis.stride for axis in axes], [axis.window_dilation for axis in axes]
    )
    shown = windows[(..., *[0] * len(axes))] if is_first else windows[(0,) * len(axes)]
    steps = np.diff(shown.reshape(-1))
    broken = np.flatnonzero(steps != steps[0])
    assert runs(geometry, is_first)[0] == (broken[0] + 1 if len(broken) else shown.size)
