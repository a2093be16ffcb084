"""Times algorithms again on the geometries that ``python -m bench regret --save`` measured; all else is kept.

After a change of one algorithm its prices can be fitted anew without the others being measured once more.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from math import sqrt
from pathlib import Path
from typing import Any

from tqdm import tqdm

import arrayconv as ac
from arrayconv.backend import library_backend
from arrayconv.planner import make_program, options
from arrayconv.program import Problem
from bench import data
from bench.draws import DRAWS, USUAL
from bench.fit import DATA
from bench.machine import Neighbours, warm_allocator
from bench.planned import head, label
from bench.regret import bind, make_arrays, time_algorithms, warm
from bench.workloads import LIBRARIES

#: Estimates beyond this many times the fastest of the others say enough.
FAR = 10.0

#: The fastest of the others, and how much faster or slower the machine may have been then.
REFERENCE, MOST = "reference", 4.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("algorithms", nargs="+", choices=ac.algorithms(), help="to be timed")
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="default: all three")
    parser.add_argument("--data", nargs="+", default=list(DATA), help="what regret --save was given (default: all)")
    parser.add_argument("--seconds", type=float, default=0.15, help="for each geometry (default: %(default)s)")
    parser.add_argument(
        "--mean", action="store_true", help="of what has not changed: keep the geometric mean with the earlier reading"
    )


def run(args: Namespace) -> int:
    warm_allocator()
    neighbours = Neighbours()
    for library in args.library or LIBRARIES:
        for name in args.data:
            path = data.RESULTS / f"{name}-{library}.json"
            if path.exists():
                draw = DRAWS.get(name.rpartition("-")[2], USUAL)  # behind a kind of processor, which may stand first
                with ac.settings(accuracy=draw.accuracy):
                    renew(path, library, args.algorithms, args.seconds, args.mean)
    print(f"other processes took {neighbours.share():.0%} of the processors' time")
    return 0


def renew(path: Path, library: str, algorithms: list[str], seconds: float, is_mean: bool) -> None:
    """The file with these algorithms' seconds in the place of their earlier ones, or drawn half-way to them."""
    content = data.load(path)
    rows = content.pop("rows")
    for row, (problem, _) in zip(tqdm(rows, desc=path.stem, leave=False), data.load_rows(path), strict=True):
        earlier = row["seconds"]
        row["seconds"] = {key: taken for key, taken in earlier.items() if head(key) not in algorithms}
        found = measure(problem, library, algorithms, row["seconds"], seconds)
        others = earlier if is_mean else {}
        row["seconds"] |= {key: sqrt(taken * others.get(key, taken)) for key, (taken, _) in found.items()}
        row["estimates"] |= {key: estimate for key, (_, estimate) in found.items()}
        if row["auto"] not in row["seconds"]:  # the planner's choice is another one now
            row["auto"] = min(row["seconds"], key=lambda key: row["estimates"].get(key, float("inf")))
    data.write(path, content | {"again": sorted({*content.get("again", ()), *algorithms})}, rows)


def measure(
    problem: Problem, library: str, algorithms: list[str], others: dict[str, float], seconds: float
) -> dict[str, tuple[float, float]]:
    """Seconds and estimates of those that serve and are not hopeless beside the others.

    Seconds are those of the earlier run's machine: the fastest of the others runs in turn, and tells how it was then.
    """
    backend = library_backend(library)
    serving = {row.name: row.seconds for row in options(problem, backend) if row.serves}
    most = FAR * min((others or serving).values(), default=float("inf"))
    programs = [make_program(problem, backend, name) for name in algorithms if serving.get(name, most) < most]
    if not programs:
        return {}
    reference = min((key for key in others if head(key) in serving), key=others.__getitem__, default=None)
    arrays: list[Any] = make_arrays(problem, library)
    thunks = {label(program): bind(program, library, arrays) for program in programs}
    if reference is not None:
        thunks[REFERENCE] = bind(make_program(problem, backend, head(reference)), library, arrays)
    for thunk in thunks.values():
        warm(thunk)
    times = time_algorithms(thunks, seconds, library)
    now = times.pop(REFERENCE, None)
    pace = 1.0 if reference is None or now is None else min(MOST, max(1 / MOST, others[reference] / now))
    return {key: (taken * pace, serving[head(key)]) for key, taken in times.items()}
