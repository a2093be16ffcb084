"""Prices of a kind of processor of which few calls were measured, from those of the kind with many.

A library is faster or slower there in all that it does, which is its pace; at that pace prices are moved as little as
these calls ask. A library keeps the prices that there are where the new ones don't choose better among calls that they
were not made from.
"""

from __future__ import annotations

import random
from math import log

import numpy as np

from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms.rates import BASE, prices
from arrayconv.backend import Backend, library_backend
from bench.priced import Prices, Row, by_algorithm, plain, refine_choices, timed

#: What a price's move by a factor of e weighs, and parts of the calls of which one at a time judges the others' prices.
MOVE, FOLDS = 3.0, 5


def near_prices(library: str, rows: list[Row]) -> tuple[float, Prices | None]:
    """A library's pace beside `BASE`, and its own prices, None where those of `BASE` are as good."""
    backend, base = library_backend(library), prices(BASE)[library]
    rows = [row for row in (plain(row, backend) for row in rows) if len(row[1]) > 1]
    pace = pace_of(base, rows, backend)
    rows = [(problem, {label: taken / pace for label, taken in times.items()}) for problem, times in rows]
    random.Random(0).shuffle(rows)
    before, after = [], []
    for i in range(FOLDS):
        judges, others = rows[i::FOLDS], [row for j, row in enumerate(rows) if j % FOLDS != i]
        before += regrets(base, judges, backend)
        after += regrets(moved(base, others, backend), judges, backend)
    print(
        f"{library:<6} {len(rows)} calls, {pace:.2f} times the seconds of {BASE}; by its prices: {spread(before)}; "
        f"by their own: {spread(after)}"
    )
    return pace, moved(base, rows, backend) if np.mean(after) < 0.9 * np.mean(before) else None


def pace_of(base: Prices, rows: list[Row], backend: Backend) -> float:
    """Seconds for one that is estimated, in the middle."""
    guessed = [estimates(base, row, backend) for row in rows]
    ratios = [log(taken / own[name]) for row, own in zip(rows, guessed, strict=True) for name, taken in own_times(row)]
    return float(np.exp(np.median(ratios)))


def moved(base: Prices, rows: list[Row], backend: Backend) -> Prices:
    """Those of conditional algorithms stay."""
    others = {name: rates for name, rates in base.items() if not ALGORITHMS[name].is_conditional}
    return base | refine_choices(rows, backend, others, MOVE)


def own_times(row: Row) -> list[tuple[str, float]]:
    return list(by_algorithm(row[1]).items())


def estimates(found: Prices, row: Row, backend: Backend) -> dict[str, float]:
    """Seconds of each algorithm that was timed."""
    works = {name: timed(row[0], name, seconds, backend) for name, seconds in own_times(row)}
    return {
        name: work.share * sum(found[own][unit] * count for (own, unit), count in work.counts.items())
        for name, work in works.items()
    }


def regrets(found: Prices, rows: list[Row], backend: Backend) -> list[float]:
    """Logarithms of the chosen algorithm's seconds over the best one's."""
    logs = []
    for row in rows:
        guessed, seconds = estimates(found, row, backend), dict(own_times(row))
        logs.append(log(seconds[min(guessed, key=guessed.__getitem__)] / min(seconds.values())))
    return logs


def spread(logs: list[float]) -> str:
    mean, high, top = np.exp(np.array([np.mean(logs), np.quantile(logs, 0.95), np.max(logs)]))
    return f"regret {mean:.3f} in the mean, 95 % {high:.2f}, worst {top:.2f}"
