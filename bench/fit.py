"""The constants of the cost model from what ``python -m bench regret --save NAME`` measured.

Each algorithm's estimate is a sum of counts times seconds a unit. Prices of a library first minimise the squared
logarithm of estimate over measurement, which treats 100 us and 50 ms alike, softened so that single outliers say little
and drawn weakly towards `PRIOR`, so that a kind of work which was not drawn has a sensible price. Then they move to
where the planner's choices among what was timed are best (`bench.choices`).

Calls on all kinds of processors tell of them, each at its `Paces` beside the one with most calls. Types that a library
has other loops for have prices of their own where these are far from float32's.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from math import log
from pathlib import Path

import numpy as np

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms import rates as shipped
from arrayconv.algorithms.fitted import PACES, SECONDS
from arrayconv.algorithms.fitted_types import SECONDS as TYPES
from arrayconv.algorithms.rates import BASE, LENDER, PROCESSORS, Paces, is_product
from arrayconv.backend import library_backend
from arrayconv.program import Problem
from bench.choices import Rivals, Timed, Unit, fit
from bench.data import RESULTS, load_rows
from bench.draws import DRAWS, USUAL, draw_geometry
from bench.planned import call_problem, head
from bench.priced import Row, by_algorithm, floor_of, named_in, plain, timed
from bench.workloads import LIBRARIES

#: Seconds of one unit before anything was measured: of a call, of what is done a tile or a tap, of an element.
PRIOR = {
    "call": 2e-5,
    "primitive": 2e-5,
    "tile": 2e-5,
    "slice": 5e-6,
    "matrix": 2e-6,
    "line": 1e-7,
    "row": 1e-5,
    "group": 1e-6,
    "part": 2e-5,
    "loop": 2e-5,
    "run": 5e-9,
    "block": 2e-8,
}
ELEMENT, PRODUCT = 5e-10, 2e-11

#: What prices are fitted from, for `BASE`; for another kind of processor its name stands before. ``regret`` itself is
#: left to judge them.
DATA = ("fit", "more", "wide", "usual", "broad", *DRAWS, "integer", "complex", "float64")

#: What the move of a price by a factor of e costs in the first fit: from its prior, and a type's from float32's.
PULL, TYPE_PULL = 0.0025, 1.0

#: Products of integer matrices take so many times those of floats at least: no library has fast ones, which calls of
#: small ones say little of (PyTorch, 64 channels of 40 x 40 with 3 x 3 taps: 3.8).
INTEGER_PRODUCT = 3.0

#: A type has a price of its own if that is so many times float32's, or so many times less.
FAR = 1.5

#: Geometries that an algorithm was timed on, from which its prices are worth fitting.
LEAST = 20

#: The quickest calls, of which the last bounds what a call itself takes.
QUICKEST = 4

#: Least and most that a price is taken for.
TINY, HUGE = 1e-14, 1.0

Prices = dict[Unit, float]

HEADER = '''"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

{0}
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {{
'''

FLOATS = "Of float32, measured on two cores, at the pace of the first of `rates.PROCESSORS`."
OTHERS = "Of other types, where they are far from those of float32."

PACE = """
#: Seconds for one of the above, by kind of processor and library: of products, and of all else.
PACES: dict[str, dict[str, tuple[float, float]]] = {
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="the others' stay (default: all three)")


def run(args: Namespace) -> int:
    seconds, types = dict(SECONDS), dict(TYPES)
    paces = {kind: dict(PACES.get(kind, {})) for kind in PROCESSORS if kind != BASE}
    for library in args.library or LIBRARIES:
        found, own_paces = fit_floats(library)
        seconds[library] = by_name(found) | kept(SECONDS.get(library, {}), found)
        for kind, pace in own_paces.items():
            paces[kind][library] = pace
        for name, rows in by_table(read_rows(BASE, library)).items():
            if name != library:
                types[name] = by_name(fit_type(name, rows, found))
    lines = [f'    "{kind}": {{{pairs(own)}}},\n' for kind, own in paces.items()]
    write("fitted", HEADER.format(FLOATS) + body(seconds) + "}\n" + PACE + "".join(lines) + "}\n")
    write("fitted_types", HEADER.format(OTHERS) + body(types) + "}\n")
    return 0


# What was measured


def read_rows(kind: str, library: str) -> list[Row]:
    """On a kind of processor, all types."""
    names = [f"{data if kind == BASE else f'{kind}-{data}'}-{library}.json" for data in DATA]
    paths = [RESULTS / name for name in names]
    return [row for path in paths if path.exists() for row in load_rows(path) if is_complete(*row)]


def is_complete(problem: Problem, times: dict[str, float]) -> bool:
    """Whether all rewrites that serve were timed: of times without the best one, choices are no guide."""
    backend, measured = library_backend(problem.library), {head(label) for label in times}
    rewrites = [own for own in ALGORITHMS.values() if own.parts is not None and not own.is_conditional]
    return all(own.name in measured or own.unsupported(problem, backend) is not None for own in rewrites)


def by_table(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Those of each type that has prices of its own."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(shipped.table_of(row[0].library, shipped.kind_of(row[0])), []).append(row)
    return found


def rivals(rows: Sequence[Row], names: set[str]) -> list[Rivals]:
    """What was timed on each geometry, of the algorithms of these names."""
    found, known = [], named_in(rows)
    for problem, times in rows:
        backend = library_backend(problem.library)
        own = by_algorithm(plain((problem, times), backend)[1]).items()
        found.append([timed(problem, name, taken, backend, known) for name, taken in own if name in names])
    return [geometry for geometry in found if geometry]


def often(rows: list[Row]) -> set[str]:
    """The algorithms that were timed on enough geometries; what those for special values take is not fitted."""
    measured = Counter(name for _, times in rows for name in by_algorithm(times))
    return {name for name, count in measured.items() if count >= LEAST and not ALGORITHMS[name].is_conditional}


# Fits


def fit_floats(library: str) -> tuple[Prices, dict[str, tuple[float, float]]]:
    """Prices of float32, and the paces of kinds of processors that were measured."""
    rows = {kind: by_table(read_rows(kind, library)).get(library, []) for kind in PROCESSORS}
    names = often([row for own in rows.values() for row in own])
    geometries = {kind: rivals(own, names) for kind, own in rows.items()}
    start = {unit: prior(unit[1]) for unit in units_of(library, names, ["float32"]) | counted(*geometries.values())}
    bounds = bounds_of(start, quickest(geometries[BASE]))
    found = fit_twice(start, geometries[BASE], bounds, PULL)
    paces = {kind: pace_of(own, found) for kind, own in geometries.items() if own and kind != BASE}
    everywhere = [*geometries[BASE], *(row for kind, pace in paces.items() for row in at_pace(geometries[kind], pace))]
    found = fit_twice(start, everywhere, bounds, PULL)
    for kind, own in geometries.items():
        report(f"{library} on {kind}", at_pace(own, paces.get(kind, Paces())), found)
    return found, {kind: (round(pace.products, 2), round(pace.others, 2)) for kind, pace in paces.items()}


def fit_twice(start: Prices, rows: list[Rivals], bounds: dict[Unit, tuple[float, float]], pull: float) -> Prices:
    """By the errors of estimates alone, and from there with what choices cost; a call stays as quick as it was."""
    first = fit(start, rows, bounds, regret=0.0, move=pull)
    calls = {unit: (bounds[unit][0], price) for unit, price in first.items() if unit[1] == "call"}
    return fit(first, rows, bounds | calls)


def pace_of(rows: list[Rivals], prices: Prices) -> Paces:
    """By which estimates are right there, and choices: the prices of two kinds of work, which estimates are sums of."""
    products, others = ("pace", "products"), ("pace", "others")

    def summed(row: Timed) -> Timed:
        spent = dict.fromkeys((products, others), 0.0)
        for unit, count in row.counts.items():
            spent[products if is_product(unit[1]) else others] += count * prices[unit]
        return row._replace(counts=spent)

    start = dict.fromkeys((products, others), 1.0)
    found = fit(start, [list(map(summed, row)) for row in rows], dict.fromkeys(start, (0.01, 100.0)), move=0.0)
    return Paces(found[products], found[others])


def at_pace(rows: list[Rivals], pace: Paces) -> list[Rivals]:
    """As much more work."""
    return [
        [own._replace(counts={unit: count * pace.of(unit[1]) for unit, count in own.counts.items()}) for own in row]
        for row in rows
    ]


def fit_type(name: str, rows: list[Row], floats: Prices) -> Prices:
    """Those that are far from float32's, and of work that there is for this type alone."""
    names, dtypes = often(rows), sorted({problem.dtype for problem, _ in rows})
    geometries = rivals(rows, names)
    lent = {(own, unit): price for own, units in SECONDS[LENDER].items() for unit, price in units.items()}
    usual = lent | floats
    units = units_of(rows[0][0].library, names, dtypes) | counted(geometries)
    start = {unit: usual.get(unit, prior(unit[1])) for unit in units}
    bounds = bounds_of(start, {unit: price for unit, price in start.items() if unit[1] == "call"})
    if rows[0][0].is_integer:
        slow = [unit for unit in units if unit[0] == "gemm" and is_product(unit[1])]
        bounds |= {unit: (INTEGER_PRODUCT * start[unit], HUGE) for unit in slow}
    found = fit_twice(start, geometries, bounds, TYPE_PULL)
    own = {
        unit: price for unit, price in found.items() if unit not in usual or abs(log(price / start[unit])) > log(FAR)
    }
    report(name, geometries, start | own)
    return own


def counted(*geometries: list[Rivals]) -> set[Unit]:
    return {unit for rows in geometries for row in rows for own in row for unit in own.counts}


def bounds_of(start: Prices, calls: Prices) -> dict[Unit, tuple[float, float]]:
    """A call takes no longer than ``calls`` have it; no product is free."""
    return {unit: (max(TINY, floor_of(unit[1])), calls.get(unit, HUGE)) for unit in start}


def quickest(rows: list[Rivals]) -> Prices:
    """A call of an algorithm takes no longer than the quickest that were measured, a few of which may be wrong."""
    seconds: dict[Unit, list[float]] = {}
    for own in (own for row in rows for own in row):
        for unit in own.counts:
            if unit[1] == "call":
                seconds.setdefault(unit, []).append(own.seconds)
    return {unit: sorted(own)[:QUICKEST][-1] for unit, own in seconds.items()}


def units_of(library: str, names: set[str], dtypes: Iterable[str], count: int = 100) -> set[Unit]:
    """All kinds of work that random geometries are, measured or not: one without a price would be free."""
    backend, rng, units = library_backend(library), random.Random(0), set[Unit]()
    drawn = [draw_geometry(rng, draw) for draw in (USUAL, *DRAWS.values()) for _ in range(count)]
    geometries = [own for one in filter(None, drawn) for own in (one, replace(one, axes=one.axes[:1] * 4))]
    for geometry, dtype, name in product(geometries, dtypes, sorted(names)):
        problem, algorithm = call_problem(geometry, library, dtype), ALGORITHMS[name]
        if algorithm.unsupported(problem, backend) is None:
            units |= {(algorithm.pricer(problem, backend, unit), unit) for unit in algorithm.counts(problem, backend)}
    return units


def prior(unit: str) -> float:
    """By the last word; products are named after what is multiplied, and all else is elements moved."""
    return PRIOR.get(unit.rpartition(" ")[2], PRODUCT if is_product(unit) else ELEMENT)


def estimate(own: Timed, prices: Prices) -> float:
    """Seconds, without its share."""
    return sum(count * prices[unit] for unit, count in own.counts.items())


def regret(row: Rivals, prices: Prices) -> float:
    """Seconds of the choice over those of the best way."""
    chosen = min(row, key=lambda own: own.share * estimate(own, prices))
    return chosen.seconds / min(own.seconds for own in row)


def report(name: str, rows: list[Rivals], prices: Prices) -> None:
    """How far estimates are, and choices among what was timed."""
    if not rows:
        return
    errors = [log(estimate(own, prices) / own.seconds) for row in rows for own in row]
    regrets = [regret(row, prices) for row in rows]
    low, middle, high = np.exp(np.quantile(errors, (0.1, 0.5, 0.9)))
    mean, most = np.exp(np.mean(np.log(regrets))), np.quantile(regrets, 0.95)
    print(
        f"{name:<15} {len(rows):4} calls, estimate / measured: {low:.2f} {middle:.2f} {high:.2f}; "
        f"regret {mean:.3f} in the mean, 95 % {most:.2f}, worst {max(regrets):.1f}"
    )


# Tables


def by_name(prices: Prices) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (name, unit), price in prices.items():
        found.setdefault(name, {})[unit] = price
    return found


def kept(shipped_prices: dict[str, dict[str, float]], found: Prices) -> dict[str, dict[str, float]]:
    """Prices of algorithms that were not fitted: too few calls, or for special values."""
    fitted = {name for name, _ in found}
    return {name: units for name, units in shipped_prices.items() if name not in fitted and name in ac.algorithms()}


def write(name: str, text: str) -> None:
    path = Path(shipped.__file__).with_name(f"{name}.py")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


def pairs(numbers: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f'"{name}": {pair}' for name, pair in sorted(numbers.items()))


def body(table: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for library, algorithms in table.items():
        lines.append(f'    "{library}": {{\n')
        for algorithm, units in algorithms.items():
            prices = [f'"{unit}": {seconds:.3g},' for unit, seconds in sorted(units.items())]
            lines.append(f'        "{algorithm}": {{\n')
            lines.extend(f"            {line}\n" for line in filled(prices, 108))
            lines.append("        },\n")
        lines.append("    },\n")
    return "".join(lines)


def filled(words: list[str], width: int) -> list[str]:
    """As many to a line as it holds."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
