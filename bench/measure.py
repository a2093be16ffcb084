"""Timing in turn: A B A B in one process, on the same arrays, each answer compared with float64."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import ceil
from statistics import median
from typing import Any

import numpy as np

import arrayconv as ac
from bench import natives, peers, planned
from bench.libraries import Call, library
from bench.machine import Ceilings
from bench.reference import Reference, learner_arrays, make_reference
from bench.workloads import Workload, work

Array = Any
NumPyArray = np.ndarray[Any, Any]
Thunk = Callable[[], Any]

#: Seconds below which a call is repeated within one reading of the clock.
SHORTEST = 2e-4

#: Where two libraries take turns: seconds of sleep before each reading, and of untimed calls after it. The threads of the
#: library that ran last look for work for some 50 ms before they sleep, and until then slow the next one down by half.
REST, WAKE = 0.1, 0.03

#: Steps that the notebook's loop is timed for; each takes as long as the one before.
TIMED_STEPS = 20


@dataclass
class Row:
    """One workload on one library, in milliseconds; ``peers`` and ``algorithms`` by name, ``wrong`` by what went wrong.

    ``native_name`` is the fastest of the library's own ways. ``error`` is that of "auto", relative to the answer's
    largest number; ``spread`` the distance between the quartiles of "auto", relative to its median.
    """

    workload: str
    library: str
    group: str
    multiply_adds: int
    bytes: int
    algorithm: str = ""
    workspace: int = 0
    native_name: str = ""
    native: float = float("nan")
    auto: float = float("nan")
    ratio: float = float("nan")
    share: float = float("nan")
    spread: float = float("nan")
    error: float = float("nan")
    runs: int = 0
    peers: dict[str, float] = field(default_factory=dict)
    algorithms: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def best_peer(self) -> tuple[str, float] | None:
        return min(self.peers.items(), key=lambda item: item[1]) if self.peers else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Case:
    """A workload with its arrays and its answer: made once, measured on each library."""

    workload: Workload
    arrays: list[NumPyArray]
    reference: Reference
    rate: float = 0.0

    @classmethod
    def make(cls, workload: Workload) -> Case:
        arrays, rate = workload.arrays(), 0.0
        if workload.kind == "learn":
            arrays, rate = learner_arrays(workload)
        if workload.transform == "gradient":
            shape = ac.plan(workload.op, *workload.shapes, **workload.options).output_shape
            arrays.append(np.random.default_rng(1).standard_normal(shape, dtype=np.float32))
        return cls(workload, arrays, make_reference(workload, arrays), rate)

    def bind(self, name: str, call: Call) -> Thunk:
        """A call on the library's own arrays, transformed and compiled as the workload says; it waits for the result."""
        own = library(name)
        if self.workload.transform == "examples":
            call = own.batch(call)
        elif self.workload.transform == "gradient":
            call = own.gradient(call)
        ready = own.compile(call) if self.workload.kind != "learn" else call
        arrays = [own.make(array) for array in self.arrays]
        return lambda: own.wait(ready(*arrays))

    def planned(self, name: str, algorithm: str = "auto") -> Thunk:
        """arrayconv's call."""
        workload = self.workload
        if workload.kind == "learn":
            own = library(name)
            x, y, start = map(own.make, self.arrays)
            optimizer, window, steps = ac.sgd(self.rate), tuple(start.shape), workload.steps
            fit = workload.op
            return lambda: own.wait(fit(x, y, window, init=start, optimizer=optimizer, steps=steps).kernel)
        options = dict(workload.options)
        if workload.kind != "deform":
            options["algorithm"] = algorithm
        return self.bind(name, lambda *arrays: workload.op(*arrays, **options))

    def natives(self, name: str) -> tuple[dict[str, Thunk], float]:
        """The library's own ways, and how many times their work the workload is."""
        workload = self.workload
        if workload.kind == "learn":
            steps = min(workload.steps, TIMED_STEPS)
            call = natives.torch_descent(steps, self.rate)
            arrays = [library("torch").make(array) for array in self.arrays]
            return {"notebook's loop": lambda: call(*arrays)}, workload.steps / steps
        builder = natives.KINDS[workload.kind][name]
        return {key: self.bind(name, call) for key, call in builder(workload.own).items()}, 1.0


def time_in_turn(
    thunks: dict[str, Thunk], seconds: float, first: tuple[str, ...] = (), *, rivals: bool = False
) -> dict[str, list[float]]:
    """Seconds of each run of each thunk, round by round.

    All take part in three rounds (in one, where that takes long already); then ``first`` go on until the time is over,
    and the others while they have had no more than their share of it. ``rivals``: they are of several libraries.
    """
    single = {name: _once(thunk) for name, thunk in thunks.items()}
    shortest = 25 * SHORTEST if rivals else SHORTEST
    counts = {name: max(1, ceil(shortest / taken)) for name, taken in single.items()}
    least = 3 if sum(single.values()) < 2 * seconds + 0.5 else 1
    times: dict[str, list[float]] = {name: [] for name in thunks}
    spent = dict.fromkeys(thunks, 0.0)
    share, start, rounds = seconds / len(thunks), time.perf_counter(), 0
    time.sleep(REST)
    while rounds < least or (time.perf_counter() - start < seconds and rounds < 2000):
        for name, thunk in thunks.items():
            if rounds >= least and name not in first and spent[name] > share:
                continue
            if rivals:
                _wake(thunk)
            taken = _repeat(thunk, counts[name])
            spent[name] += taken
            times[name].append(taken / counts[name])
        rounds += 1
    return times


def _repeat(thunk: Thunk, count: int) -> float:
    before = time.perf_counter()
    for _ in range(count):
        thunk()
    return time.perf_counter() - before


def _wake(thunk: Thunk) -> None:
    """Everybody's threads asleep, then those of this call awake."""
    time.sleep(REST)
    before = time.perf_counter()
    while time.perf_counter() - before < WAKE:
        thunk()


def _once(thunk: Thunk) -> float:
    return max(1e-7, _repeat(thunk, 1))


def _admit(row: Row, reference: Reference, thunks: dict[str, Thunk]) -> dict[str, Thunk]:
    """Those whose first answer, the warm-up, is right."""
    right = {}
    for name, thunk in thunks.items():
        try:
            error, fault = reference.check(thunk())
        except Exception as caught:  # whatever a library or a peer raises is a line of the result, not its end
            error, fault = float("nan"), f"raises {type(caught).__name__}: {caught}"
        if name == "auto":
            row.error = error
        if fault:
            row.wrong[name] = fault
        else:
            right[name] = thunk
    return right


def measure(
    case: Case,
    name: str,
    ceilings: Ceilings,
    seconds: float,
    *,
    with_peers: bool = False,
    with_algorithms: bool = False,
) -> Row:
    """One row of the table."""
    workload, reference = case.workload, case.reference
    madds, size = work(workload)
    algorithm, workspace = planned.chosen(workload, name)
    row = Row(workload.name, name, workload.group, madds, size, algorithm, workspace)
    owned, scale = case.natives(name)
    if scale == 1:
        owned = _admit(row, reference, owned)
    row.native_name = min(owned, key=lambda key: _once(owned[key])) if len(owned) > 1 else next(iter(owned), "")
    thunks = _admit(row, reference, {"auto": case.planned(name)})
    if row.native_name:
        thunks["native"] = owned[row.native_name]
    others: dict[str, Thunk] = {}
    if with_algorithms:
        others |= {f"algorithm {key}": case.planned(name, key) for key in planned.algorithms(workload, name)}
    if with_peers:
        others |= {f"peer {key}": thunk for key, thunk in peers.make_peers(workload, case.arrays).items()}
    thunks |= _admit(row, reference, others)
    if not thunks:
        return row
    rivals = with_peers or workload.kind == "learn" or (name == "numpy" and row.native_name.startswith("torch"))
    times = time_in_turn(thunks, seconds, ("auto", "native"), rivals=rivals)
    _fill(row, times, scale, ceilings)
    if scale == 1:
        _admit(row, reference, thunks)  # the last answers too
    return row


def _fill(row: Row, times: dict[str, list[float]], scale: float, ceilings: Ceilings) -> None:
    middle = {key: 1e3 * median(values) for key, values in times.items()}
    for key, value in middle.items():
        group, _, rest = key.partition(" ")
        if rest:
            {"algorithm": row.algorithms, "peer": row.peers}[group][rest] = value
    row.native = scale * middle.get("native", float("nan"))
    row.auto = middle.get("auto", float("nan"))
    row.ratio = row.native / row.auto
    if "auto" in times:
        low, high = np.quantile(times["auto"], (0.25, 0.75))
        row.spread, row.runs = float(high - low) * 1e3 / row.auto, len(times["auto"])
        row.share = ceilings.share(row.multiply_adds, row.bytes, row.auto / 1e3)
