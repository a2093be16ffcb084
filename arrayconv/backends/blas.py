"""The threads of OpenBLAS, NumPy's usual BLAS, while several threads of Python call it.

It has one gang of threads for the process: a product that takes them waits until another's is done, and for some 100
ms after a product they wait for the next by spinning (its OPENBLAS_THREAD_TIMEOUT). Two threads that filter blocks of
an image, each with products of its own, came to 0.65 of the throughput that they have with a single thread of BLAS
each.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # threading's Lock; the module would be loaded for nothing else
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

#: Seconds for which a crowd is expected back: its members read and write between their blocks.
STAY = 0.1

#: How OpenBLAS's builds name their functions: NumPy's own wheels first.
NAMES = ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}")


class Crowd:
    """Callers that fill most of the cores get one thread of BLAS each, until none of them is left."""

    def __init__(self, read: Callable[[], int], write: Callable[[int], object]) -> None:
        self._read, self._write = read, write
        self._lock, self._callers, self._until = allocate_lock(), 0, 0.0
        self._threads = read()

    @property
    def threads(self) -> int:
        """Those that a product has when there is no crowd."""
        return self._threads if self._callers else self._read()

    @property
    def now(self) -> int:
        """Those that a product has, in a crowd or not."""
        return self._read()

    @contextmanager
    def join(self, callers: int = 1) -> Iterator[None]:
        """A call that may be one of many at once, or several that are."""
        with self._lock:
            if not self._callers:
                self._threads = self._read()
            self._callers += callers
            self._meet()
        try:
            yield
        finally:
            with self._lock:
                self._meet()
                self._callers -= callers
                if not self._callers:
                    self._write(self._threads)

    def _meet(self) -> None:
        now = time.monotonic()
        if 2 * self._callers > self._threads:
            self._until = now + STAY
        if now < self._until:
            self._write(1)

    def forget(self) -> None:
        """What a forked child does: it has no other callers, and one may have held the lock."""
        if self._callers:
            self._write(self._threads)
        self._lock, self._callers, self._until = allocate_lock(), 0, 0.0


def find_functions(*verbs: str) -> list[Any]:
    """Those of the OpenBLAS which NumPy has loaded, none where it has another BLAS, or Python no `ctypes`."""
    try:
        from ctypes import PyDLL

        # What NumPy is linked with has no public name.
        library = PyDLL(str(import_module("numpy._core._multiarray_umath").__file__))
    except (ImportError, OSError):
        return []
    for name in NAMES:
        found = [getattr(library, name.format(verb), None) for verb in verbs]
        if None not in found:
            return found
    return []


def find_crowd() -> Crowd | None:
    """That of OpenBLAS; None: NumPy has another."""
    found = find_functions("get_num_threads", "set_num_threads")
    return Crowd(*found) if found else None


def find_core() -> str:
    """The kind of processor that OpenBLAS has chosen its kernels for; empty: NumPy has another BLAS."""
    found = find_functions("get_corename")
    if not found:
        return ""
    from ctypes import c_char_p

    found[0].restype = c_char_p
    return str(found[0]().decode())


CROWD = find_crowd()
if CROWD is not None and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CROWD.forget)


def one_of_many(callers: int = 1) -> AbstractContextManager[None]:
    """Around a call that may be one of many at once, in threads, or several that are."""
    return nullcontext() if CROWD is None else CROWD.join(callers)


def threads() -> int:
    """Those that a product has now."""
    return 1 if CROWD is None else CROWD.now
