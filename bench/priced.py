"""What measured calls are of work."""

from __future__ import annotations

from collections.abc import Container, Iterable

from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms.algorithm import Algorithm
from arrayconv.algorithms.rates import is_product, own_share, part_share
from arrayconv.backend import Backend
from arrayconv.planner import make_program, options
from arrayconv.program import Problem
from bench.choices import Timed, Unit
from bench.planned import head, names_in

#: A problem, and the seconds of each way that was timed.
Row = tuple[Problem, dict[str, float]]

#: Seconds of a multiply-add at least: half of what it takes in the best matrix product on the machine that was
#: measured, since whole vectors are counted. What a price has below that belongs to the elements moved beside it, and
#: long windows would be taken for free (PyTorch, transposed, one channel, 573 taps: 171 ms for 3.5). Of some kinds it
#: is not known how many are made.
FASTEST, UNCOUNTED = 2e-12, {"spelled"}


def floor_of(unit: str) -> float:
    """What its price is never below."""
    return FASTEST if is_product(unit) and not UNCOUNTED & set(unit.split()) else 0.0


def by_algorithm(times: dict[str, float]) -> dict[str, float]:
    """The planner's own choice, timed beside the others, is its algorithm's time too."""
    return {head(label): seconds for label, seconds in times.items()}


def named_in(rows: Iterable[Row]) -> set[str]:
    """The algorithms that were timed, alone or as parts."""
    return {name for _, times in rows for label in times for name in names_in(label)}


def timed(problem: Problem, name: str, seconds: float, backend: Backend, known: Container[str] = ALGORITHMS) -> Timed:
    """An algorithm's own work and that of its parts, as the planner weighs them; parts by those that are ``known``."""
    algorithm, counts = ALGORITHMS[name], dict[Unit, float]()
    share = part_share(problem.library, problem.device, name)
    parts = [(own, work, share) for own, work in works_of_parts(algorithm, problem, backend, known)]
    for own, work, share in ((algorithm, problem, 1.0), *parts):
        for unit, count in own.counts(work, backend).items():
            key = own.pricer(work, backend, unit), unit
            counts[key] = counts.get(key, 0.0) + share * count
    return Timed(counts, seconds, own_share(problem.library, problem.device, name))


def plain(row: Row, backend: Backend) -> Row:
    """Without conditional algorithms, alone or as parts: random arrays say nothing of those for special ones."""
    problem, times = row
    return problem, {label: own for label, own in times.items() if not _is_conditional(label, problem, backend)}


def _is_conditional(label: str, problem: Problem, backend: Backend) -> bool:
    algorithm = ALGORITHMS[head(label)]
    works = works_of_parts(algorithm, problem, backend)
    return any(own.is_conditional for own in (algorithm, *(own for own, _ in works)))


def works_of_parts(
    algorithm: Algorithm, problem: Problem, backend: Backend, known: Container[str] = ALGORITHMS
) -> list[tuple[Algorithm, Problem]]:
    """Who does what for a rewrite, whose parts may be rewrites."""
    works = []
    for part in () if algorithm.parts is None else algorithm.parts(problem):
        own = ALGORITHMS[planned_for(part, backend, known)]
        works += [(own, part), *works_of_parts(own, part, backend, known)]
    return works


def planned_for(problem: Problem, backend: Backend, known: Container[str]) -> str:
    """The planner's choice, among those ``known`` when a rewrite was timed: there may be new ones since."""
    name = make_program(problem, backend).algorithm
    if name in known or name == "empty":
        return name
    return min((row.seconds, row.name) for row in options(problem, backend) if row.serves and row.name in known)[1]
