"""What measured calls are of work, and prices that choose well among them."""

from __future__ import annotations

from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms.algorithm import Algorithm
from arrayconv.algorithms.rates import own_share, part_share
from arrayconv.backend import Backend
from arrayconv.planner import make_program
from arrayconv.program import Problem
from bench.choices import MOVE, Timed, Unit, refine
from bench.planned import head

#: Seconds a unit, by algorithm.
Prices = dict[str, dict[str, float]]

#: A problem, and the seconds of each way that was timed.
Row = tuple[Problem, dict[str, float]]

#: Calls that take less have smaller weight: a wrong choice among them costs microseconds.
SMALL, SMALL_WEIGHT = 1e-4, 0.3

#: Words for multiply-adds, and those that make it elements or runs of them.
PRODUCTS = {
    "product",
    "pointwise",
    "dense",
    "blocked",
    "thick",
    "thin",
    "single",
    "wide",
    "long",
    "grouped",
    "depthwise",
    "dilated",
    "swapped",
    "folded",
    "unfolded",
}
ELEMENTS = {"input", "output", "column", "run", "row"}

#: Seconds of a multiply-add at least: half of what it takes in the best matrix product on the machine that was
#: measured, since whole vectors are counted. What a price has below that belongs to the elements moved beside it, and
#: long windows would be taken for free (PyTorch, transposed, one channel, 573 taps: 171 ms for 3.5). Of some kinds it
#: is not known how many are made.
FASTEST, UNCOUNTED = 2e-12, {"spelled"}


def is_product(unit: str) -> bool:
    """Whether multiply-adds are counted."""
    words = unit.split()
    return bool(PRODUCTS & set(words)) and words[-1] not in ELEMENTS


def floor_of(unit: str) -> float:
    """What its price is never below."""
    return FASTEST if is_product(unit) and not UNCOUNTED & set(unit.split()) else 0.0


def refine_choices(rows: list[Row], backend: Backend, found: Prices, move: float = MOVE) -> Prices:
    """All prices together, with what the planner's choices cost."""
    geometries = [
        [timed(problem, name, seconds, backend) for name, seconds in by_algorithm(times).items() if name in found]
        for problem, times in rows
    ]
    weights = [SMALL_WEIGHT if min(times.values()) < SMALL else 1.0 for _, times in rows]
    prices = {(name, unit): price for name, rates in found.items() for unit, price in rates.items()}
    floors = {(name, unit): floor_of(unit) for name, unit in prices}
    refined = refine(prices, geometries, weights, move, floors)
    return {name: {unit: refined[name, unit] for unit in rates} for name, rates in found.items()}


def by_algorithm(times: dict[str, float]) -> dict[str, float]:
    """The planner's own choice, timed beside the others, is its algorithm's time too."""
    return {head(label): seconds for label, seconds in times.items()}


def timed(problem: Problem, name: str, seconds: float, backend: Backend) -> Timed:
    """An algorithm's own work and that of its parts, as the planner weighs them."""
    algorithm, counts = ALGORITHMS[name], dict[Unit, float]()
    share = part_share(problem.library, problem.device, name)
    parts = [(own, work, share) for own, work in works_of_parts(algorithm, problem, backend)]
    for own, work, share in ((algorithm, problem, 1.0), *parts):
        for unit, count in own.counts(work, backend).items():
            counts[own.name, unit] = counts.get((own.name, unit), 0.0) + share * count
    return Timed(counts, seconds, own_share(problem.library, problem.device, name))


def plain(row: Row, backend: Backend) -> Row:
    """Without conditional algorithms, alone or as parts: random arrays say nothing of those for special ones."""
    problem, times = row
    return problem, {label: own for label, own in times.items() if not _is_conditional(label, problem, backend)}


def _is_conditional(label: str, problem: Problem, backend: Backend) -> bool:
    algorithm = ALGORITHMS[head(label)]
    works = works_of_parts(algorithm, problem, backend)
    return any(own.is_conditional for own in (algorithm, *(own for own, _ in works)))


def works_of_parts(algorithm: Algorithm, problem: Problem, backend: Backend) -> list[tuple[Algorithm, Problem]]:
    """Who does what for a rewrite, whose parts may be rewrites."""
    works = []
    for own_part in () if algorithm.parts is None else algorithm.parts(problem):
        part = make_program(own_part, backend)
        own = ALGORITHMS[part.algorithm]
        works += [(own, part.problem), *works_of_parts(own, part.problem, backend)]
    return works
