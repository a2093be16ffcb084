"""One workload on one library: the native call and arrayconv's on the same arrays, answers compared with float64."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import arrayconv as ac
from bench import natives, peers, planned
from bench.libraries import Call, library
from bench.machine import Ceilings
from bench.reference import Reference, learner_arrays, make_reference
from bench.timing import Thunk, once, time_in_turn
from bench.workloads import Workload, work

Array = Any
NumPyArray = np.ndarray[Any, Any]

#: Steps that the notebook's loop is timed for; each takes as long as the one before.
TIMED_STEPS = 20


@dataclass
class Row:
    """One workload on one library, in milliseconds; ``peers`` and ``algorithms`` by name, ``wrong`` by what went wrong.

    ``native_name`` is the fastest of the library's own ways. ``error`` is that of "auto", relative to the answer's
    largest number; ``spread`` the distance between the quartiles of "auto", relative to its median.
    ``workspace`` and ``scratch`` are temporary bytes as planned and as measured.
    """

    workload: str
    library: str
    group: str
    multiply_adds: int
    bytes: int
    algorithm: str = ""
    workspace: int = 0
    scratch: int | None = None
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

    def ready(self, name: str, call: Call) -> tuple[Call, list[Array]]:
        """A call transformed and compiled as the workload says, and the library's own arrays for it."""
        own = library(name)
        if self.workload.transform == "examples":
            call = own.batch(call)
        elif self.workload.transform == "gradient":
            call = own.gradient(call)
        return own.compile(call), [own.make(array) for array in self.arrays]

    def bind(self, name: str, call: Call) -> Thunk:
        """The same as one function of nothing, which waits for the result."""
        own, (ready, arrays) = library(name), self.ready(name, call)
        return lambda: own.wait(ready(*arrays))

    def scratch(self, name: str) -> int:
        """Temporary bytes of arrayconv's call."""
        return library(name).scratch(*self.ready(name, self.call()))

    def call(self, algorithm: str = "auto") -> Call:
        """arrayconv's function of x and kernel."""
        workload, options = self.workload, dict(self.workload.options)
        if workload.kind != "deform":
            options["algorithm"] = algorithm
        return lambda *arrays: workload.op(*arrays, **options)

    def planned(self, name: str, algorithm: str = "auto") -> Thunk:
        """arrayconv's call."""
        workload = self.workload
        if workload.kind == "learn":
            own = library(name)
            x, y, start = map(own.make, self.arrays)
            optimizer, window, steps = ac.sgd(self.rate), tuple(start.shape), workload.steps
            return lambda: own.wait(workload.op(x, y, window, init=start, optimizer=optimizer, steps=steps).kernel)
        return self.bind(name, self.call(algorithm))

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


def _admit(row: Row, reference: Reference, thunks: dict[str, Thunk]) -> dict[str, Thunk]:
    """Those whose first answer, the warm-up, is right."""
    right = {}
    for name, thunk in thunks.items():
        try:
            error, fault = reference.check(thunk(), is_own=name == "auto" or name.startswith("algorithm "))
        except Exception as caught:  # whatever a library or a peer raises is a line of the result, not its end
            error, fault = float("nan"), f"raises {type(caught).__name__}: {caught}"
        if name == "auto":
            row.error = error
        if fault:
            row.wrong[name] = fault
        else:
            right[name] = thunk
    return right


class Wish(NamedTuple):
    """How long, and what beside "auto" and "native"."""

    seconds: float = 2.0
    peers: bool = False
    algorithms: bool = False
    scratch: bool = False


def measure(case: Case, name: str, ceilings: Ceilings, wish: Wish) -> Row:
    """One row of the table."""
    workload = case.workload
    row = Row(workload.name, name, workload.group, *work(workload), *planned.chosen(workload, name))
    thunks, scale = _native(row, case)
    thunks |= _admit(row, case.reference, {"auto": case.planned(name)})
    if wish.algorithms:
        named = {f"algorithm {key}": case.planned(name, key) for key in planned.algorithms(workload, name)}
        thunks |= _admit(row, case.reference, named)
    if not thunks:
        return row
    rivals = workload.kind == "learn" or (name == "numpy" and row.native_name.startswith("torch"))
    times = time_in_turn(thunks, wish.seconds, ("auto", "native"), rivals=rivals)
    _fill(row, times, scale, ceilings)
    if workload.kind != "learn":
        _admit(row, case.reference, {key: thunk for key, thunk in thunks.items() if median(times[key]) < 1})  # the last
        if wish.scratch and "auto" in thunks:
            row.scratch = case.scratch(name)
    if wish.peers:
        others = _admit(row, case.reference, peers.make_peers(workload, case.arrays))
        own = {"auto": thunks["auto"]} if "auto" in thunks else {}
        times = time_in_turn(own | others, wish.seconds, rivals=True) if others else {}
        row.peers = {key: 1e3 * median(times[key]) for key in others}
    return row


def _native(row: Row, case: Case) -> tuple[dict[str, Thunk], float]:
    """The fastest of the library's own ways whose answers are right, and how many times its work the workload is."""
    found, scale = case.natives(row.library)
    if scale == 1:
        found = _admit(row, case.reference, found)
    if not found:
        return {}, scale
    row.native_name = min(found, key=lambda key: once(found[key])) if len(found) > 1 else next(iter(found))
    return {"native": found[row.native_name]}, scale


def _fill(row: Row, times: dict[str, list[float]], scale: float, ceilings: Ceilings) -> None:
    middle = {key: 1e3 * median(values) for key, values in times.items()}
    row.algorithms = {key.partition(" ")[2]: value for key, value in middle.items() if " " in key}
    row.native = scale * middle.get("native", float("nan"))
    row.auto = middle.get("auto", float("nan"))
    row.ratio = row.native / row.auto
    if "auto" in times:
        low, high = np.quantile(times["auto"], (0.25, 0.75))
        row.spread, row.runs = float(high - low) * 1e3 / row.auto, len(times["auto"])
        row.share = ceilings.share(row.multiply_adds, row.bytes, row.auto / 1e3)
