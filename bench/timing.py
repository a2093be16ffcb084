"""Calls timed in turn, A B A B, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Any

Thunk = Callable[[], Any]

#: Seconds below which a call is repeated within one reading of the clock; where libraries take turns, in all readings.
SHORTEST, RIVALS = 2e-4, 1.5e-2

#: Seconds below which a call runs untimed before each reading: the one before it has left its own data in the caches,
#: and given memory back to the system.
BRIEF = 0.2

#: Where two libraries take turns: seconds of sleep before each reading, and of untimed calls after it. The threads of
#: the library that ran last look for work for up to 100 ms before they sleep, and until then halve the speed of the
#: next.
REST, WAKE = 0.1, 0.03


def time_in_turn(
    thunks: dict[str, Thunk], seconds: float, first: tuple[str, ...] = (), *, rivals: bool = False, rounds: int = 3
) -> dict[str, list[float]]:
    """Seconds of each run of each thunk, round by round.

    All take part in so many ``rounds`` (in one, where that takes long already); then ``first`` go on until the time is
    over, and the others while they have had no more than their share of it. ``rivals``: they are of several libraries,
    or of one whose threads spin.
    """
    single = {name: once(thunk) for name, thunk in thunks.items()}
    shortest = RIVALS / rounds if rivals else SHORTEST
    counts = {name: max(1, ceil(shortest / taken)) for name, taken in single.items()}
    least = rounds if sum(single.values()) < 2 * seconds + 0.5 else 1
    times: dict[str, list[float]] = {name: [] for name in thunks}
    spent = dict.fromkeys(thunks, 0.0)
    share, start, done = seconds / len(thunks), time.perf_counter(), 0
    time.sleep(REST)
    while done < least or (time.perf_counter() - start < seconds and done < 2000):
        for name, thunk in thunks.items():
            if done >= least and name not in first and spent[name] > share:
                continue
            if rivals:
                time.sleep(REST)
            if single[name] < BRIEF:
                _wake(thunk, WAKE if rivals else 0.0)
            taken = repeat(thunk, counts[name])
            spent[name] += taken
            times[name].append(taken / counts[name])
        done += 1
    return times


def repeat(thunk: Thunk, count: int) -> float:
    before = time.perf_counter()
    for _ in range(count):
        thunk()
    return time.perf_counter() - before


def _wake(thunk: Thunk, seconds: float) -> None:
    """Untimed calls, at least one."""
    before = time.perf_counter()
    thunk()
    while time.perf_counter() - before < seconds:
        thunk()


def once(thunk: Thunk) -> float:
    """Seconds of one run, the better of two where that is quick."""
    taken = repeat(thunk, 1)
    if taken < 0.1:
        taken = min(taken, repeat(thunk, 1))
    return max(1e-7, taken)
