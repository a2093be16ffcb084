"""The threads that run tiles of NumPy's."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.backends import workers
from arrayconv.backends.blas import Crowd
from arrayconv.backends.workers import Workers


def test_as_many_callers_as_cores_are_not_helped() -> None:
    team, gate, met, seen = Workers(2), threading.Event(), threading.Barrier(3), set[str]()

    def hold(_: int) -> None:
        met.wait(timeout=10)
        gate.wait(timeout=10)

    first = threading.Thread(target=team.each, args=(hold, range(2), 2))
    first.start()
    met.wait(timeout=10)  # the first caller and its helper are at work
    team.each(lambda _: seen.add(threading.current_thread().name), range(20), 2)
    gate.set()
    first.join()
    assert seen == {threading.current_thread().name}


def test_workers_do_every_item_once_and_in_several_threads() -> None:
    team, seen, met = Workers(2), list[int](), threading.Barrier(2)
    threads = set()

    def work(item: int) -> None:
        if item < 2:
            met.wait(30)
        threads.add(threading.get_ident())
        seen.append(item)

    team.each(work, range(20), 2)
    assert sorted(seen) == list(range(20)) and len(threads) == 2


def test_no_more_than_so_many_at_once() -> None:
    """What memory there is may be enough for fewer tiles than there are cores."""
    team, lock, now, most = Workers(4), threading.Lock(), [0], list[int]()

    def work(_: int) -> None:
        with lock:
            now[0] += 1
            most.append(now[0])
        time.sleep(1e-3)
        with lock:
            now[0] -= 1

    for limit in (1, 2, 3):
        most.clear()
        team.each(work, range(30), limit)
        assert len(most) == 30 and max(most) == limit


@pytest.mark.parametrize(("side", "seconds"), [(400, "below"), (2000, "above")])
def test_a_short_call_wakes_no_threads(side: int, seconds: str) -> None:
    """Its tiles, which a cache has room for, are computed one after the other."""
    found = ac.plan(ac.correlate, (side, side), (3, 3), library="numpy", algorithm="diagonals")
    program = found.program
    assert program.block < (1, *found.output_shape)
    assert program.at_once == (1 if seconds == "below" else workers.WORKERS.count)


def test_work_within_work_runs_in_its_own_thread() -> None:
    team, seen = Workers(2), list[tuple[int, int]]()
    team.each(lambda i: team.each(lambda j: seen.append((i, j)), range(3), 2), range(4), 2)
    assert sorted(seen) == list(product(range(4), range(3)))


def test_an_error_in_a_worker_is_the_caller_s() -> None:
    def fail(item: int) -> None:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        Workers(2).each(fail, range(4), 2)


@pytest.mark.parametrize("failing", [True, False], ids=["caller", "helper"])
def test_after_an_error_nobody_begins_another_item(failing: bool) -> None:
    met, seen = threading.Barrier(2), list[int]()

    def work(item: int) -> None:
        if item < 2:
            met.wait(timeout=10)
            if (threading.current_thread() is threading.main_thread()) is failing:
                raise ZeroDivisionError(item)
        time.sleep(1e-3)
        seen.append(item)

    with pytest.raises(ZeroDivisionError):
        Workers(2).each(work, range(2000), 2)
    assert len(seen) < 1000


def test_help_that_failed_to_start_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    def meet(_: int) -> None:
        met.wait(timeout=10)  # breaks unless two threads come

    team, met = Workers(2), threading.Barrier(2)
    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            team.each(print, range(4), 2)
    team.each(meet, range(2), 2)


def test_a_caller_does_not_wait_for_helpers_that_wait_for_others() -> None:
    """All four threads help two callers; the third caller's helper does not begin."""
    team, gate, held = Workers(4), threading.Event(), threading.Semaphore(0)
    in_time = list[bool]()

    def hold(_: int) -> None:
        held.release()
        in_time.append(gate.wait(timeout=5))

    others = [threading.Thread(target=team.each, args=(hold, range(count), 4)) for count in (4, 3)]
    for other, threads in zip(others, (4, 2), strict=True):
        other.start()
        assert all(held.acquire(timeout=10) for _ in range(threads))
    team.each(lambda _: None, range(4), 4)
    gate.set()
    for other in others:
        other.join()
    assert in_time == [True] * 7


def test_the_caller_s_errstate_holds_in_the_threads() -> None:
    def overflow(item: int) -> None:
        np.float32(3e38) * np.float32(10)

    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        Workers(2).each(overflow, range(4), 2)


def test_a_product_in_a_tile_has_one_thread() -> None:
    before, seen = thread_count(), set[int]()
    Workers(2).each(lambda _: seen.add(thread_count()), range(8), 2)
    assert seen == {1} and thread_count() == before


def thread_count() -> int:
    """Of NumPy's BLAS; 1 where that can't be told."""
    crowd = workers.CROWD
    return 1 if crowd is None else crowd._read()


def test_a_process_whose_blas_is_held_to_one_thread_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CROWD", Crowd(lambda: 1, lambda count: None))
    seen = set[int]()
    Workers(4).each(lambda _: seen.add(threading.get_ident()), range(20), 4)
    assert seen == {threading.get_ident()}


def affinity(thread: int = 0) -> set[int]:
    """Processors of a thread, of this one by default; none where that can't be told."""
    return os.sched_getaffinity(thread) if workers.PROCESSOR is not None else set()


#: Before any test ran.
AFFINITY = affinity()


@pytest.mark.parametrize("failing", [False, True])
def test_threads_are_on_processors_of_their_own(failing: bool) -> None:
    met, seen = threading.Barrier(2), dict[int, set[int]]()

    def look(item: int) -> None:
        met.wait(timeout=10)
        seen[threading.get_ident()] = affinity()
        if failing and item:
            raise ZeroDivisionError(item)

    team = Workers(2)
    team.each(lambda _: met.wait(timeout=10), range(2), 2)  # makes the thread
    met.reset()
    with pytest.raises(ZeroDivisionError) if failing else nullcontext():
        team.each(look, range(2), 2)
    own = seen.pop(threading.get_ident())
    (other,) = seen.values()
    assert affinity() == AFFINITY
    assert (len(own), own | other) == (min(1, len(AFFINITY)), AFFINITY)
    assert len(AFFINITY) < 2 or not own & other


def test_a_sandbox_may_forbid_to_choose_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    seen = list[int]()
    Workers(2).each(seen.append, range(9), 2)
    assert sorted(seen) == list(range(9))


def test_a_thread_does_not_stay_where_it_was_started() -> None:
    """By a caller that keeps to one processor for as long as it calls."""
    team, gate, met = Workers(2), threading.Event(), threading.Barrier(3)
    seen = list[set[int]]()

    def look(_: int) -> None:
        met.wait(timeout=10)
        gate.wait(timeout=10)
        seen.append(affinity())

    caller = threading.Thread(target=team.each, args=(look, range(2), 2))
    caller.start()
    met.wait(timeout=10)
    gate.set()
    caller.join()
    assert sorted(map(len, seen)) == [min(1, len(affinity())), len(affinity())]


@pytest.mark.parametrize("name", ["sched_setaffinity", "PyDLL", "CROWD"])
def test_where_threads_have_no_processors_they_run_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "CROWD":
        monkeypatch.setattr(workers, name, None)
    else:
        monkeypatch.delattr(os if name.startswith("sched") else ctypes, name, raising=False)
    monkeypatch.setattr(workers, "PROCESSOR", workers.find_processor())
    assert workers.PROCESSOR is None
    test_workers_do_every_item_once_and_in_several_threads()


def _convolve_in_child(queue: Any) -> None:
    queue.put(ac.correlate(np.ones((300, 300)), np.ones((3, 3)), algorithm="direct").sum())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    expected = ac.correlate(np.ones((300, 300)), np.ones((3, 3)), algorithm="direct").sum()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_convolve_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)


# The library's own convolution
