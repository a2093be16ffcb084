"""Tiles of `gemm` in buffers and threads: every way in which columns are laid, and the threads of BLAS meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.algorithms import prepared
from arrayconv.algorithms.gemm_buffers import FEW, phases
from arrayconv.backend import library_backend
from arrayconv.backends import numpy as backend
from arrayconv.backends.blas import Crowd
from arrayconv.backends.numpy import Multipliers, Workers, is_busy
from arrayconv.geometry import WindowDimension

if TYPE_CHECKING:
    from conftest import Library

RNG = np.random.default_rng(0)


# Columns

#: x, kernel and options; the workspace that cuts the call into tiles; and how its columns are laid.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], int, dict[str, Any]]] = {
    "images": ((3, 4, 20, 18), (6, 4, 3, 3), {"padding": 1}, 2**17, {"merged": False, "taps_first": True}),
    "rows of an image": ((2, 4, 20, 18), (6, 4, 3, 3), {"padding": 1}, 2**15, {"taps_first": True}),
    "few positions": ((9, 8, 7, 7), (6, 8, 3, 3), {"padding": 1}, 2**17, {"merged": True, "taps_first": True}),
    "few windows": ((9, 2, 12, 12), (6, 2, 4, 6), {"stride": (4, 6)}, 2**15, {"merged": True, "taps_first": False}),
    "windows": ((3, 2, 80, 80), (6, 2, 5, 5), {"stride": 5}, 2**17, {"merged": False, "taps_first": False}),
    "groups": ((4, 8, 15, 13), (12, 2, 3, 3), {"groups": 4, "padding": 1}, 2**16, {}),
    "stride 2": ((3, 4, 24, 25), (6, 4, 7, 7), {"stride": 2, "padding": 3}, 2**17, {"taps_first": True}),
    "stride 3, dilation 2": ((3, 2, 40, 41), (4, 2, 3, 4), {"stride": 3, "dilation": 2, "padding": 2}, 2**16, {}),
    "stride 2, dilation 4": ((3, 2, 40, 41), (4, 2, 3, 3), {"stride": 2, "dilation": 4, "padding": 5}, 2**16, {}),
    "pointwise": ((4, 8, 12, 13), (6, 8, 1, 1), {}, 2**15, {"is_view": True}),
    "pointwise, stride 2": ((4, 8, 30, 31), (6, 8, 1, 1), {"stride": 2}, 2**15, {"is_view": False}),
    "one window": ((4, 8, 16, 16), (6, 8, 16, 16), {}, 2**15, {"is_view": True, "places": 1}),
    "signal": ((2, 3, 300), (4, 3, 5), {"padding": 2, "stride": 2}, 2**14, {"taps_first": True}),
    "volume": ((2, 3, 9, 8, 10), (4, 3, 3, 2, 3), {"padding": 1}, 2**16, {"taps_first": True}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("library", ["numpy", "numpy-readonly"], indirect=True)
def test_columns_of_every_layout(library: Library, layout: str) -> None:
    x_shape, kernel_shape, options, workspace, own = LAYOUTS[layout]
    with ac.settings(workspace=workspace):
        program = ac.plan(ac.conv, x_shape, kernel_shape, library="numpy", algorithm="gemm", **options).program
        tiles = prepared(program, library_backend("numpy")).tiles
        assert len(tiles) > 1 and program.workspace <= workspace
        assert own.items() <= tiles[0].details._asdict().items()
        for dtype in ("float32", "float16", "int32", "complex64"):
            x, kernel = (RNG.integers(-9, 9, shape).astype(dtype) for shape in (x_shape, kernel_shape))
            library.check(ac.conv, x, kernel, algorithm="gemm", **options)


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


# Threads


class Threads:
    """A BLAS that only knows how many threads it has."""

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self) -> int:
        return self.count

    def write(self, count: int) -> None:
        self.count = count


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "is_busy", lambda *_: False)


@pytest.mark.usefixtures("quiet")
def test_products_have_one_thread_each_and_those_of_blas_come_back() -> None:
    threads, seen = Threads(2), list[int]()
    multipliers = Multipliers(Workers(2), Crowd(threads.read, threads.write))
    multipliers.each(lambda _: seen.append(threads.count), range(6))
    assert seen == [1] * 6 and threads.count == 2
    multipliers.each(lambda _: seen.append(threads.count), range(1))
    assert seen[6:] == [2]


@pytest.mark.usefixtures("quiet")
def test_threads_of_blas_come_back_after_an_error() -> None:
    threads = Threads(2)
    with pytest.raises(ZeroDivisionError):
        Multipliers(Workers(2), Crowd(threads.read, threads.write)).each(lambda _: 1 / 0, range(4))
    assert threads.count == 2


@pytest.mark.usefixtures("quiet")
def test_threads_of_blas_come_back_when_the_last_caller_leaves() -> None:
    """Callers overlap: the first that leaves must not give the second's products a gang."""
    threads, seen, late = Threads(2), list[int](), threading.Event()
    multipliers = Multipliers(Workers(2), Crowd(threads.read, threads.write))
    inside = threading.Event()

    def wait(item: int) -> None:
        inside.set()
        assert late.wait(timeout=10)
        seen.append(threads.count)

    other = threading.Thread(target=multipliers.each, args=(wait, range(2)))
    other.start()
    assert inside.wait(timeout=10)
    multipliers.each(lambda _: seen.append(threads.count), range(2))
    assert threads.count == 1
    late.set()
    other.join()
    assert seen == [1] * 4 and threads.count == 2


def test_threads_of_blas_beside_a_crowd_and_in_a_forked_child() -> None:
    threads = Threads(8)
    crowd = Crowd(threads.read, threads.write)
    with crowd.join():
        with crowd.spread():
            assert threads.count == 1
        assert threads.count == 8
        with crowd.spread():
            crowd.forget()
            assert threads.count == 8
            crowd._callers = crowd._spreading = 1  # those of the parent, which leave now


def test_tiles_keep_to_a_gang_that_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while; then workers try without looking, since the tiles themselves make it spin."""
    now, busy, threads, seen = [100.0], [True], Threads(2), list[int]()
    monkeypatch.setattr(backend.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(backend, "is_busy", lambda *_: busy[0])
    multipliers = Multipliers(Workers(2), Crowd(threads.read, threads.write))
    for after, expected in ((0, 2), (0.6 * Multipliers.GANG, 2), (0.5 * Multipliers.GANG, 1), (1, 2)):
        now[0] += after
        seen.clear()
        multipliers.each(lambda _: seen.append(threads.count), range(2))
        assert seen == [expected] * 2
    now[0], busy[0] = 200.0, False
    multipliers.each(lambda _: seen.append(threads.count), range(2))
    assert seen[2:] == [1] * 2


def test_a_thread_that_runs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Linux; this thread and known ones are not asked for, and where nobody tells, nobody is busy."""
    assert not is_busy(0, set())
    assert not is_busy(1, {backend.get_native_id()})
    monkeypatch.setattr(backend.os, "listdir", lambda _: [str(2**30)])
    assert not is_busy(4, set())


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
