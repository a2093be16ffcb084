"""The plot of README: how much faster than native on each library, and how near to the machine's ceilings."""

from __future__ import annotations

from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.summary import Results, is_borrowed
from bench.workloads import LIBRARIES, WORKLOADS

#: Colour-blind safe (Okabe and Ito), and a shape for each library where there is no colour.
MARKS = {"numpy": ("#0072B2", "o", "NumPy"), "torch": ("#D55E00", "s", "PyTorch"), "jax": ("#009E73", "D", "JAX")}

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",  # text as text: small, and read by search and screen readers
    "svg.hashsalt": "bench",  # the same results give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "lines.linestyle": "none",
    "lines.markeredgewidth": 1.1,
}


def draw(results: Results, path: Path) -> None:
    """Workloads from top to bottom, in groups; the format follows from the path's suffix."""
    names = [name for name in WORKLOADS if any((name, library) in results.rows for library in LIBRARIES)]
    places = place(names)
    last = max(places.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 1.3 + 0.2 * (last + 1)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.3))
        left.set_yticks(list(places.values()), list(places))
        left.set_ylim(last + 0.8, -0.8)
        for axes, key, size in ((left, "ratio", 5.0), (right, "share", 4.0)):
            axes.set_xscale("log")
            _points(axes, results, places, key, size)
            axes.axvline(1, color="#333333", linewidth=1, linestyle="-", zorder=1)
            axes.tick_params(axis="both", which="both", length=0)
            axes.grid(color="#e4e4e4", linewidth=0.6, linestyle="-")
        left.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        left.set_xlabel("native / auto: right of 1x arrayconv is faster")
        limits = left.get_xlim()
        left.axvspan(limits[0], 1, color="#f4f4f4", zorder=0)
        left.set_xlim(limits)
        right.set_xticks((1e-4, 1e-2, 1), ("0.01 %", "1 %", "100 %"))
        right.set_xlabel("share of the ceiling")
        figure.legend(handles=_legend(), loc="outside upper center", ncols=len(MARKS) + 1, frameon=False)
        metadata: Any = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata, dpi=110)


def place(names: list[str]) -> dict[str, float]:
    """A line for each workload, half a line between groups."""
    places: dict[str, float] = {}
    line = 0.0
    for _, members in groupby(names, key=lambda name: WORKLOADS[name].group):
        for name in members:
            places[name] = line
            line += 1
        line += 0.5
    return places


def _points(axes: Any, results: Results, places: dict[str, float], key: str, size: float) -> None:
    """Filled where the native call is the library's own, hollow where NumPy stands beside PyTorch."""
    for library, (colour, marker, _) in MARKS.items():
        for hollow in (False, True):
            rows = [row for row in results.of(library) if isfinite(row[key]) and is_borrowed(row) == hollow]
            x, y = [row[key] for row in rows], [places[row["workload"]] for row in rows]
            face = "none" if hollow else colour
            axes.plot(x, y, marker=marker, color=colour, markerfacecolor=face, markersize=size, zorder=3)


def _legend() -> list[Any]:
    def handle(colour: str, marker: str, face: str, label: str) -> Any:
        return mpl.lines.Line2D([], [], color=colour, marker=marker, markerfacecolor=face, markersize=5, label=label)

    handles = [handle(colour, marker, colour, label) for colour, marker, label in MARKS.values()]
    colour, marker, label = MARKS["numpy"]
    return [*handles, handle(colour, marker, "none", f"{label} beside PyTorch")]
