"""The threads on which NumPy's tiles run: its loops, transforms and products release the GIL."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_native_id  # threading's; the module would be loaded for nothing else
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitives import cores
from .blas import CROWD, one_of_many

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


@contextmanager
def _emptied_on_error(queue: Iterator[Any]) -> Iterator[None]:
    """Other threads find nothing more to do."""
    try:
        yield
    except BaseException:
        for _ in queue:
            pass
        raise


class Workers:
    """Threads for tiles. What a thread writes it also reads: a matrix product that two cores share takes twice as long
    where one of them has just written what it reads, and they have no cache in common.

    The calling thread works too. Others help as long as fewer threads call than there are cores: Dask's threads, one a
    block, are enough by themselves; none help where BLAS is held to one thread. A tile that is itself cut into tiles
    runs them in its own thread, since all threads waiting for others would wait for ever. A forked child starts threads
    of its own.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._busy = ContextVar("busy", default=False)  # in a context of its own each thread
        self._lock = allocate_lock()
        self._callers = 0
        self._pool: ThreadPoolExecutor | None = None
        self._helpers, self._processors = list[int](), set[int]()

    def each(self, function: Callable[[Any], None], items: Sequence[Any], most: int) -> None:
        """``function`` of every item, in any order, and of so many at once; after an error nobody begins another."""
        most = min(self.count, len(items), most)
        if most <= 1 or self._busy.get() or is_single():
            for item in items:
                function(item)
            return
        with self._lock:
            self._callers += 1
        try:
            helpers = max(0, min(most - 1, self.count - self._callers))
            with one_of_many(1 + helpers):
                self._share(function, items, helpers)
        finally:
            with self._lock:
                self._callers -= 1

    def _share(self, function: Callable[[Any], None], items: Sequence[Any], count: int) -> None:
        """With so many helpers."""
        queue = iter(items)  # a generator would be busy in another thread; a list's iterator is atomic
        context, busy, helpers = np.geterr(), self._busy.set(True), list[Any]()

        def help_out() -> None:
            with np.errstate(**context), _emptied_on_error(queue):
                while self._callers < self.count and (item := next(queue, self)) is not self:
                    function(item)

        try:
            pool = self._threads()
            is_alone = count > 0 and self._callers == 1  # another caller may share this processor
            with apart(self._helpers, self._processors) if is_alone else nullcontext(), _emptied_on_error(queue):
                for _ in range(count):
                    helpers.append(pool.submit(help_out))
                for item in queue:
                    function(item)
            for helper in helpers:
                if not helper.cancel():  # it has not begun, behind another caller's: nothing is left for it
                    helper.result()
        finally:
            self._busy.reset(busy)
            for helper in helpers:
                helper.cancel() or helper.exception()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # it loads more modules than all of arrayconv

                self._processors = set() if PROCESSOR is None else os.sched_getaffinity(0)
                self._pool = ThreadPoolExecutor(self.count, "arrayconv", self._begin)
            return self._pool

    def _begin(self) -> None:
        self._busy.set(True)
        self._helpers.append(get_native_id())
        keep(0, self._processors)  # not those of the caller that happened to start the thread

    def forget(self) -> None:
        """What a forked child does: its threads were not copied, and another thread may have held the lock."""
        self._lock, self._pool, self._callers, self._helpers = allocate_lock(), None, 0, []


def is_single() -> bool:
    """Whether NumPy's BLAS is held to one thread, by its environment or by threadpoolctl: so are we."""
    return CROWD is not None and CROWD.threads == 1


def find_processor() -> Callable[[], int] | None:
    """What tells a thread its processor, where threads can be kept from one.

    Not where BLAS is another one: it might start threads of its own meanwhile, which would stay on the caller's.
    """
    if CROWD is None or not hasattr(os, "sched_setaffinity"):
        return None
    try:
        from ctypes import PyDLL

        read: Callable[[], int] = PyDLL(None).sched_getcpu
    except (ImportError, OSError, AttributeError):
        return None
    return read


PROCESSOR = find_processor()


def keep(thread: int, processors: set[int]) -> None:
    """A thread, 0 for this one, on these processors, if there are any; a sandbox may forbid it."""
    if processors:
        with suppress(OSError):
            os.sched_setaffinity(thread, processors)


@contextmanager
def apart(helpers: Sequence[int], processors: set[int]) -> Iterator[None]:
    """The caller stays on its processor, and helpers, which may use these, leave it.

    Linux wakes a thread on the processor of the one that wakes it, where a hypervisor has put the others to sleep, or a
    thread of BLAS still spins on the other: calls of 6 ms took 11 for as long as both were there.
    """
    if PROCESSOR is None:
        yield
        return
    own, before = PROCESSOR(), os.sched_getaffinity(0)
    try:
        for helper in helpers:
            keep(helper, processors - {own} or processors)
        keep(0, {own})
        yield
    finally:
        keep(0, before)


WORKERS = Workers(min(8, cores()))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS.forget)
