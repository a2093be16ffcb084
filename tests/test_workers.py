"""The threads that run tiles of NumPy's."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.backends.numpy import Workers


def test_as_many_callers_as_cores_are_not_helped() -> None:
    workers, gate, met, seen = Workers(2), threading.Event(), threading.Barrier(3), set[str]()

    def hold(_: int) -> None:
        met.wait(timeout=10)
        gate.wait(timeout=10)

    first = threading.Thread(target=workers.each, args=(hold, range(2)))
    first.start()
    met.wait(timeout=10)  # the first caller and its helper are at work
    workers.each(lambda _: seen.add(threading.current_thread().name), range(20))
    gate.set()
    first.join()
    assert seen == {threading.current_thread().name}


def test_workers_do_every_item_once_and_in_several_threads() -> None:
    workers, seen, met = Workers(2), list[int](), threading.Barrier(2)
    threads = set()

    def work(item: int) -> None:
        if item < 2:
            met.wait(30)
        threads.add(threading.get_ident())
        seen.append(item)

    workers.each(work, range(20))
    assert sorted(seen) == list(range(20)) and len(threads) == 2


def test_work_within_work_runs_in_its_own_thread() -> None:
    workers, seen = Workers(2), list[tuple[int, int]]()
    workers.each(lambda i: workers.each(lambda j: seen.append((i, j)), range(3)), range(4))
    assert sorted(seen) == list(product(range(4), range(3)))


def test_an_error_in_a_worker_is_the_caller_s() -> None:
    def fail(item: int) -> None:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        Workers(2).each(fail, range(4))


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
        Workers(2).each(work, range(2000))
    assert len(seen) < 1000


def test_help_that_failed_to_start_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    def meet(_: int) -> None:
        met.wait(timeout=10)  # breaks unless two threads come

    workers, met = Workers(2), threading.Barrier(2)
    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            workers.each(print, range(4))
    workers.each(meet, range(2))


def test_a_caller_does_not_wait_for_helpers_that_wait_for_others() -> None:
    """All four threads help two callers; the third caller's helper does not begin."""
    workers, gate, held = Workers(4), threading.Event(), threading.Semaphore(0)
    in_time = list[bool]()

    def hold(_: int) -> None:
        held.release()
        in_time.append(gate.wait(timeout=5))

    others = [threading.Thread(target=workers.each, args=(hold, range(count))) for count in (4, 3)]
    for other, threads in zip(others, (4, 2), strict=True):
        other.start()
        assert all(held.acquire(timeout=10) for _ in range(threads))
    workers.each(lambda _: None, range(4))
    gate.set()
    for other in others:
        other.join()
    assert in_time == [True] * 7


def test_the_caller_s_errstate_holds_in_the_threads() -> None:
    def overflow(item: int) -> None:
        np.float32(3e38) * np.float32(10)

    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        Workers(2).each(overflow, range(4))


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
