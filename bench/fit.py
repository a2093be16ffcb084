"""The constants of the cost model from what ``python -m bench regret --save NAME`` measured.

Each algorithm's estimate is a sum of counts times seconds a unit. They minimise the squared logarithm of estimate over
measurement, which treats 100 us and 50 ms alike, softened so that single outliers say little. Every constant is drawn
weakly towards `PRIOR`, so that a kind of work which was not drawn has a sensible price.

That is done for one kind of processor; `bench.near` makes those of the others from its prices.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms import rates as shipped
from arrayconv.algorithms.algorithm import Algorithm
from arrayconv.algorithms.rates import BASE, PROCESSORS, kind_of, own_prices, paces, prices, seconds_of, table_of
from arrayconv.backend import Backend, library_backend
from arrayconv.processor import processor
from arrayconv.program import Problem
from bench.data import RESULTS, load_rows
from bench.near import near_prices
from bench.planned import call_problem, head
from bench.priced import SMALL, SMALL_WEIGHT, Prices, Row, floor_of, is_product, plain, refine_choices, works_of_parts
from bench.regret import DRAWS, USUAL, draw_geometry
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

#: What prices are fitted from; ``regret`` itself is left to judge them.
DATA = ("fit", "more", "wide", "usual", "broad", *DRAWS, "integer", "complex", "float64")

#: How strongly a constant is drawn towards its prior: a factor of e counts as much as this relative error of one row.
PULL = 0.05

#: Whose prices an algorithm has in a library where it was not measured (JAX's transforms, which need 64-bit types).
LENDER = "torch"

HEADER = '''"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Measured on two cores; the row "{kind}" of `rates.PROCESSORS`.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {{
'''

PACES = """
#: Seconds by library for one of the row "{base}"; the prices above are those at its pace.
PACES: dict[str, float] = {{{paces}}}
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--processor", choices=PROCESSORS, default=processor(), help="whose prices (default: this machine's)"
    )
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="the others' stay (default: all three)")
    parser.add_argument(
        "--algorithm", action="append", choices=ac.algorithms(), help=f"its prices alone, of {BASE} (default: all)"
    )
    names = f"what regret --save was given (default: those of {', '.join(DATA)} that there are, KIND-NAME off {BASE})"
    parser.add_argument("--data", nargs="+", default=(), help=names)


def run(args: Namespace) -> int:
    is_base, wanted, alone = args.processor == BASE, args.library or LIBRARIES, args.algorithm
    if alone and not is_base:
        raise SystemExit(f"fit: --algorithm {alone[0]} is of the processor {BASE}; leave it out or --processor")
    table = {name: dict(rates) for name, rates in own_prices(args.processor).items() if is_base or name not in wanted}
    table |= {name: without_lent(table, name) for name in LIBRARIES} if is_base else {}
    found_paces = dict(paces(args.processor))
    names = args.data or [name if is_base else f"{args.processor}-{name}" for name in DATA]
    for name in wanted:
        rows = by_table(row for data in names for row in read_rows(data, name))
        for key, own in rows.items():
            if is_base:
                table[key] = table.get(key, {}) | (fit_alone(key, own, alone) if alone else fit_rows(key, own))
            elif key == name:
                found_paces[name], found = near_prices(name, own)
                table |= {} if found is None else {name: found}
    for algorithm, rates in (UNMEASURED | table[LENDER]).items() if is_base else ():
        for name in LIBRARIES:
            table[name].setdefault(algorithm, rates)
    tables = [{name: rates for name, rates in table.items() if (name in LIBRARIES) is own} for own in (True, False)]
    for name, part in zip(PROCESSORS[args.processor], tables, strict=False):  # of a kind with few data, only the first
        path = Path(shipped.__file__).with_name(f"{name.rpartition('.')[2]}.py")
        end = "" if is_base else PACES.format(base=BASE, paces=pairs(found_paces))
        path.write_text(HEADER.format(kind=args.processor) + body(part) + "}\n" + end, encoding="utf-8")
        print(f"wrote {path}")
    return 0


def without_lent(table: dict[str, Prices], library: str) -> Prices:
    """A library's own prices: those that it has from the lender follow the lender's."""
    lent = table[LENDER] if library != LENDER else {}
    return {algorithm: rates for algorithm, rates in table[library].items() if rates != lent.get(algorithm)}


def by_table(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Those of each type that has prices of its own."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(table_of(row[0].library, kind_of(row[0])), []).append(row)
    return found


def read_rows(data: str, library: str) -> list[Row]:
    path = RESULTS / f"{data}-{library}.json"
    if not path.exists():
        print(f"nothing measured: {path.name}")
        return []
    return [(problem, times) for problem, times in load_rows(path) if is_complete(problem, times)]


def is_complete(problem: Problem, times: dict[str, float]) -> bool:
    """Whether all rewrites that serve were timed: of times without the best one, choices are no guide."""
    backend, measured = library_backend(problem.library), {head(label) for label in times}
    rewrites = [own for own in ALGORITHMS.values() if own.parts is not None and not own.is_conditional]
    return all(own.name in measured or own.unsupported(problem, backend) is not None for own in rewrites)


def unmeasured(*units: str) -> dict[str, float]:
    return {unit: prior(unit) for unit in units}


def pairs(numbers: dict[str, float]) -> str:
    return ", ".join(f'"{name}": {number:.3g}' for name, number in sorted(numbers.items()))


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


def prior(unit: str) -> float:
    """By the last word; products are named after what is multiplied, and all else is elements moved."""
    return PRIOR.get(unit.rpartition(" ")[2], PRODUCT if is_product(unit) else ELEMENT)


#: Geometries that an algorithm was timed on, from which its prices are worth fitting.
LEAST = 20

#: The quickest calls, of which the last bounds what a call itself takes.
QUICKEST = 4

#: What nothing was measured for yet has the prices that a fit starts from.
UNMEASURED = {
    "reduce": unmeasured("call", "slice", "product", "strided product", "run", "moved"),
    "winograd": unmeasured("call", "tile", "matrix", "product", "moved", "input", "output", "kernel"),
}


def fit_rows(name: str, rows: list[Row]) -> Prices:
    """A table: plain algorithms first; a rewrite's own work is what its parts leave unexplained."""
    library = rows[0][0].library
    backend = library_backend(library)

    rows = [plain(row, backend) for row in rows]
    measured = Counter(head(label) for _, times in rows for label in times)
    shipped_rates = prices(BASE)[library] | prices(BASE).get(name, {})
    kept = {own: dict(rates) for own, rates in shipped_rates.items() if measured[own] < LEAST}
    found = dict(kept)
    rows = [(problem, {label: t for label, t in times.items() if head(label) not in kept}) for problem, times in rows]
    for algorithm in sorted(ALGORITHMS.values(), key=lambda algorithm: algorithm.parts is not None):
        if rates := fit_one(name, algorithm, rows, found):
            found[algorithm.name] = rates
    refined = refine_choices([row for row in rows if row[1]], backend, found)
    return refined if name == library else {own: rates for own, rates in refined.items() if own not in kept}


def fit_one(name: str, algorithm: Algorithm, rows: list[Row], found: Prices) -> dict[str, float] | None:
    """An algorithm's own prices beside ``found``, those of its parts; None where it was not timed."""
    library, dtypes = rows[0][0].library, sorted({problem.dtype for problem, _ in rows})
    backend = library_backend(library)
    counts, seconds, offsets = [], [], []
    for problem, times in rows:
        label = next((key for key in times if key.partition("/")[0] == algorithm.name), None)
        if label is None:
            continue
        counts.append(algorithm.counts(problem, backend))
        seconds.append(times[label])
        offsets.append(parts_seconds(algorithm, problem, backend, found))
    if not counts:
        return None
    known = units_of(algorithm, library, backend, dtypes)
    call = inf if name == library else prices(BASE)[library][algorithm.name]["call"]
    rates = fit_algorithm(known, counts, np.array(seconds), np.array(offsets), call)
    report(name, algorithm.name, rates, counts, seconds, offsets)
    return rates


def fit_alone(name: str, rows: list[Row], algorithms: list[str]) -> Prices:
    """Prices of these by what they took, without a look at choices."""
    library = rows[0][0].library
    shipped_rates = prices(BASE)[library] | prices(BASE).get(name, {})
    fitted = {own: fit_one(name, ALGORITHMS[own], rows, shipped_rates) for own in algorithms}
    return {own: rates for own, rates in fitted.items() if rates is not None}


def units_of(algorithm: Algorithm, library: str, backend: Backend, dtypes: list[str], count: int = 1000) -> set[str]:
    """All kinds of work that random geometries are, measured or not: one without a price would be free."""
    rng, units = random.Random(0), set[str]()
    for draw in (USUAL, *DRAWS.values()):
        geometries = filter(None, (draw_geometry(rng, draw) for _ in range(count)))
        for geometry, dtype in product(geometries, dtypes):
            problem = call_problem(geometry, library, dtype)
            four_axes = problem.with_geometry(replace(geometry, axes=geometry.axes[:1] * 4))
            for own in (problem, four_axes):
                if algorithm.unsupported(own, backend) is None:
                    units |= algorithm.counts(own, backend).keys()
    return units


def parts_seconds(algorithm: Algorithm, problem: Problem, backend: Backend, found: Prices) -> float:
    works = works_of_parts(algorithm, problem, backend)
    return sum(seconds_of(found[own.name], own.counts(work, backend)) for own, work in works if own.name in found)


def fit_algorithm(
    known: set[str], counts: list[dict[str, float]], seconds: Any, offsets: Any, call: float
) -> dict[str, float]:
    """Seconds for each unit that is known or that a row counts. A call is that of float32 at most: its Python is."""
    units = sorted(known.union(*counts))
    matrix = np.array([[row.get(unit, 0.0) for unit in units] for row in counts])
    start = np.log([prior(unit) for unit in units])

    weights = np.where(seconds < SMALL, SMALL_WEIGHT, 1.0)

    def residuals(logs: Any) -> Any:
        errors = weights * np.log((matrix @ np.exp(logs) + offsets) / seconds)
        return np.concatenate([errors, PULL * (logs - start)])

    # A call itself takes no longer than the quickest ones measured, a few of which may be bad measurements.
    upper = start + 8
    upper[units.index("call")] = np.log(min(call, np.sort(seconds)[:QUICKEST][-1]))
    start = np.minimum(start, upper - 0.1)
    lower = np.log([max(price, floor_of(unit)) for unit, price in zip(units, np.exp(start - 8), strict=True)])
    best = least_squares(residuals, start, loss="soft_l1", f_scale=0.3, bounds=(lower, upper))
    return {unit: float(value) for unit, value in zip(units, np.exp(best.x), strict=True)}


def report(table: str, name: str, rates: dict[str, float], counts: Any, seconds: Any, offsets: Any) -> None:
    """How far the estimates are: 10 %, median, 90 %."""
    ratios = [
        (sum(count * rates[unit] for unit, count in row.items()) + offset) / measured
        for row, measured, offset in zip(counts, seconds, offsets, strict=True)
    ]
    low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
    print(f"{table:<13} {name:<9} {len(ratios):4} rows, estimate / measured: {low:.2f} {middle:.2f} {high:.2f}")
