"""What the library set out to reach, row by row, and whether the results do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from bench.regret import quantiles
from bench.summary import Results, Row, is_borrowed
from bench.workloads import LIBRARIES

#: Milliseconds that a planned call may cost above the native one, and the part of it.
CALL, SLACK = 0.008, 1.05

#: Bytes of temporary memory, the default of `arrayconv.settings`.
WORKSPACE = 2**26


class Verdict(NamedTuple):
    """A target, the figure, and the factor that is missing: at most 1 where it is met, NaN where nothing is known."""

    target: str
    figure: str
    short: float

    @property
    def word(self) -> str:
        if isnan(self.short):
            return "not measured"
        return "met" if self.short <= 1 else f"missed by {self.short:.2f}x"


def at_least(target: str, value: float, goal: float) -> Verdict:
    return Verdict(f"{target} >= {goal:g}", f"{value:.3g}", goal / value)


def at_most(target: str, value: float, goal: float, unit: str = "") -> Verdict:
    return Verdict(
        f"{target} <= {goal:g}{unit}", f"{value:.3g}{unit}", value / goal if value > 0 or isnan(value) else 0.0
    )


def never_slower(target: str, rows: list[Row]) -> Verdict:
    """auto <= native x 1.05, or native + 8 us where that is more."""
    excess = {row["workload"]: row["auto"] / max(SLACK * row["native"], row["native"] + CALL) for row in rows}
    slow = sorted((row for row in rows if excess[row["workload"]] > 1), key=lambda row: float(row["ratio"]))
    figure = f"{len(rows) - len(slow)} of {len(rows)}"
    if slow:
        figure += "; auto / native: " + ", ".join(f"{row['workload']} {1 / row['ratio']:.2f}" for row in slow[:6])
        figure += ", ..." if len(slow) > 6 else ""
    return Verdict(target, figure, max(excess.values(), default=nan))


def worst_ratio(rows: list[Row], against: Callable[[Row], float]) -> float:
    """The largest auto / other of some rows; NaN where none has the other."""
    return max((row["auto"] / against(row) for row in rows if against(row) > 0), default=nan)


def native(row: Row) -> float:
    return float(row["native"])


def opencv(row: Row) -> float:
    return float(row["peers"].get("opencv", nan))


def verdicts(results: Results) -> Iterator[Verdict]:
    """Every row of the targets, in their order."""
    for library in LIBRARIES:
        rows = [row for row in results.of(library, lambda group: group != "learn") if not is_borrowed(row)]
        yield never_slower(f"{library}: auto <= native x 1.05 or + 8 us, of workloads", rows)
    for library, name, goal in GOALS:
        yield at_least(f"{library}: mean of native / auto, {name}", results.mean(library, name), goal)
    fir = results.rows.get(("fir 1024", "torch"), {"ratio": nan})
    yield at_least("torch: native / auto, fir 1024", fir["ratio"], 20)
    yield from _numpy(results)
    for library in LIBRARIES:
        rows = results.regrets.get(library, [])
        found = quantiles(rows) if rows else (nan,) * 3
        for name, value, goal in zip(("median", "95 %", "worst"), found, (1.1, 1.4, 2.0), strict=True):
            yield at_most(f"{library}: regret, {name}", value, goal)
    for steps, goal in ((500, 250), (20, 12)):
        for library in LIBRARIES:
            row = results.rows.get((f"learn {steps} steps", library), {"ratio": nan})
            yield at_least(f"{library}: notebook's loop / learn_kernel, {steps} steps", row["ratio"], goal)
    yield from _costs(results)


#: Library, mean and goal; those of gradients are half of those forward.
GOALS = (
    ("jax", "all", 6.0),
    ("jax", "images, one channel", 15.0),
    ("jax", "depthwise layers", 30.0),
    ("jax", "volumes", 100.0),
    ("jax", "dense layers", 1.5),
    ("jax", "gradients", 3.0),
    ("torch", "all", 3.0),
    ("torch", "images, one channel", 8.0),
    ("torch", "gradients", 1.5),
    ("numpy", "all", 4.0),
)


def _numpy(results: Results) -> Iterator[Verdict]:
    dense = results.of("numpy", lambda group: group == "dense")
    yield at_most("numpy: auto / torch, worst dense layer", worst_ratio(dense, native), 2.2)
    normwise = [row for row in results.normwise.values() if row["library"] == "numpy" and row["group"] == "dense"]
    yield at_most("numpy: the same under accuracy='normwise'", worst_ratio(normwise, native), 1.3)
    large = [row for row in results.of("numpy") if row["workload"] in LARGE]
    yield at_most("numpy: auto / OpenCV, worst image of 15 taps and more", worst_ratio(large, opencv), 1.0)


LARGE = tuple(f"{word} {taps}" for word in ("image", "rgb") for taps in (15, 31, 63))


def _costs(results: Results) -> Iterator[Verdict]:
    for library, goal in (("numpy", 15), ("torch", 8), ("jax", 8)):
        row = results.rows.get(("tiny 1x2", library), {"auto": nan, "native": nan})
        yield at_most(f"{library}: a tiny call above the native one", 1e3 * (row["auto"] - row["native"]), goal, " us")
    yield at_most("import arrayconv above import numpy", results.above_numpy, 20, " ms")
    for library in LIBRARIES:
        rows = results.of(library, lambda group: group not in ("gradient", "learn"))
        planned = max((row["workspace"] for row in rows), default=nan)
        yield at_most(f"{library}: largest planned workspace", planned / 2**20, WORKSPACE / 2**20, " MiB")
        measured = [row["scratch"] for row in rows if row["scratch"] is not None and "native" not in row["algorithm"]]
        yield at_most(f"{library}: largest measured, but for native's", _largest(measured), WORKSPACE / 2**20, " MiB")


def _largest(sizes: list[int]) -> float:
    return float(np.max(sizes)) / 2**20 if sizes else nan


def table(results: Results) -> str:
    """The verdicts in columns."""
    rows = list(verdicts(results))
    width = max(len(row.target) for row in rows)
    lines = [
        f"{row.target:<{width}}  {row.word:<16}  {'' if isnan(row.short) else row.figure}".rstrip() for row in rows
    ]
    met = sum(row.word == "met" for row in rows)
    return "\n".join([*lines, f"{met} of {len(rows)} met"])
