"""Result files read together, and the means that README and targets are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import exp, isfinite, log, nan
from pathlib import Path
from typing import Any

from arrayconv.algorithms.rates import PROCESSORS
from bench import data
from bench.workloads import WORKLOADS

Row = dict[str, Any]

#: Workloads that count in a mean, by their group.
MEANS: dict[str, Callable[[str], bool]] = {
    "all": lambda group: group not in ("gradient", "learn", "tiny"),
    "images, one channel": lambda group: group == "image",
    "images, three channels": lambda group: group == "rgb",
    "signals": lambda group: group == "signal",
    "volumes": lambda group: group == "volume",
    "dense layers": lambda group: group == "dense",
    "depthwise layers": lambda group: group == "depthwise",
    "gradients": lambda group: group == "gradient",
}


@dataclass
class Results:
    """Rows of ``run`` by workload and library, those of normwise accuracy apart; rows of ``regret`` by library."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    normwise: dict[tuple[str, str], Row] = field(default_factory=dict)
    regrets: dict[str, list[Row]] = field(default_factory=dict)
    above_numpy: float = nan
    sources: list[dict[str, Any]] = field(default_factory=list)

    def of(self, library: str, is_member: Callable[[str], bool] = lambda group: True) -> list[Row]:
        """A library's rows in the order of the table of workloads."""
        found = [self.rows.get((name, library)) for name in WORKLOADS]
        return [row for row in found if row is not None and is_member(row["group"])]

    def mean(self, library: str, name: str) -> float:
        """Geometric mean of native / auto. NumPy's mean of all is over what SciPy can do, without borrowed calls."""
        rows = self.of(library, MEANS[name])
        return geometric_mean(row["ratio"] for row in rows if name != "all" or not is_borrowed(row))


def is_borrowed(row: Row) -> bool:
    """Whether a NumPy row stands beside PyTorch, since NumPy and SciPy have no such function."""
    return bool(row["library"] == "numpy" and row["native_name"].startswith("torch"))


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of nothing; what isn't finite is left out."""
    logs = [log(value) for value in values if isfinite(value)]
    return exp(sum(logs) / len(logs)) if logs else nan


def read_results(names: list[str]) -> Results:
    """The files of these names, or all that a report is about; of two rows for the same thing the newer holds."""
    paths = [data.RESULTS / f"{name}.json" for name in names] if names else sorted(data.RESULTS.glob("*.json"))
    missing = [path for path in paths if not path.exists()]
    if missing or not paths:
        raise ValueError(f"no results in {missing[0] if missing else data.RESULTS}; make some with --save NAME")
    files = [{"name": path.stem, **data.load(path)} for path in map(Path, paths)]
    return collect([content for content in files if names or is_reported(content)])


def is_reported(content: dict[str, Any]) -> bool:
    """Draws under other names are what prices were fitted from, which is no judgement of them. The results of another
    kind of processor bear its name.
    """
    name, kind = content["name"], content["kind"]
    if name.partition("-")[0] in PROCESSORS:
        return False
    return kind in ("run", "import") or (kind == "regret" and name.startswith("regret-"))


def collect(files: list[dict[str, Any]]) -> Results:
    results = Results()
    for content in sorted(files, key=lambda content: str(content["created"])):
        if content["kind"] == "regret":
            results.regrets[content["rows"][0]["library"]] = content["rows"]
        elif content["kind"] == "import":
            results.above_numpy = content["rows"][0]["above"]
        else:
            is_normwise = content["settings"]["accuracy"] == "normwise"
            rows = results.normwise if is_normwise else results.rows
            rows.update({(row["workload"], row["library"]): row for row in content["rows"]})
            if not is_normwise:
                results.sources.append(content)
    return results
