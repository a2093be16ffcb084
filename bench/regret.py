"""How far the planner's choice is from the best single algorithm, on random geometries.

Each is timed by every algorithm that serves and is not hopeless by its own estimate. What is saved is data for the cost
model too: `bench.data.load_rows`.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

import arrayconv as ac
from arrayconv.backend import library_backend
from arrayconv.planner import execute
from arrayconv.program import ITEM_SIZES, Problem, Program
from bench import data
from bench.draws import DRAWS, USUAL, Draw, draw_geometry
from bench.libraries import library
from bench.machine import Neighbours, warm_allocator
from bench.planned import HOPELESS, Candidate, call_problem, candidates, same_run
from bench.timing import Thunk, once, time_in_turn
from bench.workloads import LIBRARIES

NumPyArray = np.ndarray[Any, Any]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="default: all three")
    parser.add_argument("--count", type=int, default=200, help="geometries for each library (default: %(default)s)")
    others = (
        "microseconds, 3 taps under 'normwise', kernels' gradients, groups, layers, 1 tap, filters, networks, "
        "decoders, batches, signals, any size, depthwise layers, transposed ones of any size, networks' gradients"
    )
    parser.add_argument("--draw", choices=DRAWS, help=f"another draw: {others}")
    parser.add_argument(
        "--dtype", nargs="+", choices=ITEM_SIZES, default=["float32"], help="of the arrays, in turn (default: float32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each geometry (default: %(default)s)")
    parser.add_argument(
        "--factor", type=float, default=HOPELESS, help="algorithms estimated beyond FACTOR x the best one are left out"
    )
    parser.add_argument(
        "--save", nargs="?", const="regret", metavar="NAME", help="write bench/results/NAME-LIBRARY.json"
    )


def run(args: Namespace) -> int:
    warm_allocator()
    settings = {key: getattr(args, key) for key in ("count", "dtype", "seed", "seconds", "factor")}
    for name in args.library or LIBRARIES:
        sink = data.Sink(args.save and f"{args.save}-{name}", "regret", settings=settings)
        neighbours = Neighbours()
        measure_all(name, args, sink)
        print(summary(name, sink.rows) + (f"\nsaved {sink.path}" if sink.path else ""))
        print(f"other processes took {neighbours.share():.0%} of the processors' time", flush=True)
    return 0


# The measuring


def measure_all(name: str, args: Namespace, sink: data.Sink) -> None:
    """Rows in the order of the draw, which is the same for every library; after the last one striking ones anew."""
    rng, draw, problems = random.Random(args.seed), DRAWS.get(args.draw, USUAL), list[Problem]()
    with (
        ac.settings(accuracy=draw.accuracy),
        tqdm(total=args.count, desc=f"regret {name}", unit="geometry", leave=False, dynamic_ncols=True) as bar,
    ):
        while len(sink.rows) < args.count:
            geometry = draw_geometry(rng, draw)
            dtype = args.dtype[len(sink.rows) % len(args.dtype)]
            problem = geometry and call_problem(geometry, name, dtype)
            row = problem and measure(problem, name, args.seconds, args.factor, draw)
            if problem and row:
                sink.add(row)
                problems.append(problem)
                bar.update()
        for i, (row, problem) in enumerate(zip(sink.rows, problems, strict=True)):
            if regret(row) > STRIKING:
                sink.rows[i] = row | {"seconds": read_again(row["seconds"], problem, name, args.seconds, args.factor)}
    sink.write()


#: Regret from which all are timed once more, when all others are done, and the better time of each counts: two threads
#: that the system keeps on one core for a while take up to a hundred times as long (32 products of 2 x 5 with 5 x 2916
#: by MKL: 8 ms, and 0.05; by OpenBLAS' threads for some seconds: 3.4 ms, and 1.0).
STRIKING = 1.5


def measure(
    problem: Problem, name: str, seconds: float, factor: float = HOPELESS, draw: Draw = USUAL
) -> dict[str, Any] | None:
    """A row, or None where the fastest algorithm takes too short or too long."""
    auto, found = contest(problem, name, factor)
    if not draw.shortest / 10 <= auto.estimate <= 10 * draw.longest:
        return None
    thunks = bind_all(found, problem, name)
    first = {label: warm(thunk) for label, thunk in thunks.items()}
    if not draw.shortest <= min(first.values()) <= draw.longest:
        return None
    near = {label: thunk for label, thunk in thunks.items() if first[label] <= 10 * min(first.values()) + 1e-3}
    own = next(candidate.label for candidate in found if same_run(auto.program, candidate.program))
    taken = first | time_algorithms(near, seconds, name)
    if min(taken.values()) < draw.shortest:  # a first run takes longer
        return None
    return {
        "library": name,
        "geometry": data.geometry_fields(problem.geometry),
        "dtype": problem.dtype,
        "accumulator": problem.accumulator,
        "device": problem.device,
        "auto": own,
        "seconds": taken,
        "estimates": {candidate.label: candidate.estimate for candidate in found},
    }


def contest(problem: Problem, name: str, factor: float) -> tuple[Candidate, list[Candidate]]:
    """The planner's choice, and what is timed beside it."""
    auto, found = candidates(problem, name, factor)
    if not any(same_run(auto.program, candidate.program) for candidate in found):
        found.append(auto._replace(label=f"auto {auto.label}"))
    return auto, found


def bind_all(found: list[Candidate], problem: Problem, name: str) -> dict[str, Thunk]:
    arrays = make_arrays(problem, name)
    return {candidate.label: bind(candidate.program, name, arrays) for candidate in found}


def read_again(
    earlier: dict[str, float], problem: Problem, name: str, seconds: float, factor: float
) -> dict[str, float]:
    """The better of two readings, but for what was too far behind in the first."""
    most = 10 * min(earlier.values()) + 1e-3
    thunks = bind_all(contest(problem, name, factor)[1], problem, name)
    near = {label: thunk for label, thunk in thunks.items() if earlier[label] <= most}
    for thunk in near.values():
        warm(thunk)
    again = time_algorithms(near, seconds, name)
    return {label: min(reading, again.get(label, reading)) for label, reading in earlier.items()}


def time_algorithms(thunks: dict[str, Thunk], seconds: float, name: str) -> dict[str, float]:
    """The median of each; where a library's threads spin, of one longer reading after they have stopped."""
    spins = library(name).spins
    times = time_in_turn(thunks, seconds, rivals=spins, rounds=1 if spins else 3)
    return {label: median(taken) for label, taken in times.items()}


#: Integers are below this, as pixels or taps are.
MOST_INTEGER = 100


def make_arrays(problem: Problem, name: str) -> list[Any]:
    """x and kernel, real and imaginary parts normally distributed; integers evenly."""
    rng, make = np.random.default_rng(0), library(name).make

    def draw(shape: tuple[int, ...]) -> NumPyArray:
        if problem.is_integer:
            return rng.integers(0, MOST_INTEGER, shape)
        if problem.is_complex:
            return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return rng.standard_normal(shape, dtype=np.float32)

    geometry = problem.geometry
    return [make(draw(shape).astype(problem.dtype)) for shape in (geometry.x_shape, geometry.kernel_shape)]


def bind(program: Program, name: str, arrays: list[Any]) -> Thunk:
    backend, own = library_backend(name), library(name)
    call: Callable[..., Any] = own.compile(lambda x, kernel: execute(program, backend, x, kernel))
    return lambda: own.wait(call(*arrays))


def warm(thunk: Thunk) -> float:
    """Seconds of a run after the first."""
    thunk()
    return once(thunk)


# What is printed


def regret(row: dict[str, Any]) -> float:
    return float(row["seconds"][row["auto"]] / min(row["seconds"].values()))


def quantiles(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Median, 95 % and worst."""
    found = np.quantile([regret(row) for row in rows], (0.5, 0.95, 1.0))
    return float(found[0]), float(found[1]), float(found[2])


def summary(name: str, rows: list[dict[str, Any]], worst: int = 10) -> str:
    middle, high, top = quantiles(rows)
    lines = [f"{name}: auto / best over {len(rows)} geometries: median {middle:.2f}, 95 % {high:.2f}, worst {top:.2f}"]
    for row in sorted(rows, key=regret, reverse=True)[:worst]:
        lines.append(f"  {regret(row):5.2f}  {describe(row)}")
        lines.extend(f"         {line}" for line in times(row))
    return "\n".join(lines)


def describe(row: dict[str, Any]) -> str:
    """The geometry in a line."""
    geometry = data.read_geometry(row["geometry"])
    axes = " ".join(
        f"{axis.size}({axis.low},{axis.high})*{axis.kernel}"
        + "".join(
            f" {word}{value}"
            for word, value in (("/", axis.stride), ("d", axis.window_dilation), ("up", axis.base_dilation))
            if value > 1
        )
        for axis in geometry.axes
    )
    return (
        f"batch {geometry.batch}, {geometry.groups} x {geometry.inputs} -> {geometry.outputs} channels; {axes}; "
        f"{geometry.multiply_adds:.2g} multiply-adds"
    )


def times(row: dict[str, Any]) -> Iterator[str]:
    """The algorithms, fastest first, with their estimates."""
    ranking = sorted(row["seconds"].items(), key=lambda item: item[1])
    cells = []
    for label, seconds in ranking:
        mark = "*" if label == row["auto"] else ""
        cells.append(f"{mark}{label} {1e3 * seconds:.3g} (est. {1e3 * row['estimates'][label]:.3g}) ms")
    yield "  ".join(cells)
