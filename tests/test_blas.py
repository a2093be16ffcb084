"""The threads of NumPy's BLAS while many threads call it: one each, and as before once they are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest

import arrayconv as ac
from arrayconv.backends import blas
from arrayconv.backends.blas import Crowd, find_crowd


class Threads:
    """A BLAS that only knows how many threads it has."""

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self) -> int:
        return self.count

    def write(self, count: int) -> None:
        self.count = count


def enter(crowd: Crowd, count: int, then: Callable[[], Any]) -> Any:
    """What ``then`` gives beside ``count`` callers."""
    if not count:
        return then()
    with crowd.join():
        return enter(crowd, count - 1, then)


@pytest.mark.parametrize(("callers", "expected"), [(1, 8), (4, 8), (5, 1), (8, 1), (20, 1)])
def test_callers_on_most_cores_get_a_thread_each(callers: int, expected: int) -> None:
    threads = Threads(8)
    assert enter(Crowd(threads.read, threads.write), callers, threads.read) == expected
    assert threads.count == 8


def test_a_crowd_is_expected_back_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, threads = [100.0], Threads(2)
    monkeypatch.setattr(blas.time, "monotonic", lambda: now[0])
    crowd = Crowd(threads.read, threads.write)
    enter(crowd, 2, threads.read)
    now[0] += blas.STAY / 2
    assert enter(crowd, 1, threads.read) == 1 and threads.count == 2
    now[0] += blas.STAY
    assert enter(crowd, 1, threads.read) == 2


def test_threads_come_back_after_an_error_and_in_a_forked_child() -> None:
    threads = Threads(2)
    crowd = Crowd(threads.read, threads.write)
    with pytest.raises(ZeroDivisionError):
        enter(crowd, 2, lambda: 1 / 0)
    assert threads.count == 2
    crowd = Crowd(threads.read, threads.write)
    with crowd.join(), crowd.join():
        assert threads.count == 1
        crowd.forget()
        assert threads.count == 2
        crowd._callers = 2  # those of the parent, which leave now


def test_blocks_of_dask_leave_the_threads_of_blas_as_they_were() -> None:
    found = find_crowd()
    before = None if found is None else found._read()
    y = ac.correlate(da.ones((64, 64), chunks=16), np.ones((3, 3))).compute(scheduler="threads", num_workers=4)
    np.testing.assert_array_equal(y, np.full((62, 62), 9.0))
    assert before == (None if found is None else found._read())


def test_another_blas_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "NAMES", ("no_such_{}_function",))
    assert find_crowd() is None
    monkeypatch.setattr(blas, "CROWD", None)
    with blas.one_of_many():
        pass
