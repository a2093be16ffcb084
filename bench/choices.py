"""The cost model's constants: what fits measurements, moved so that choices are right where estimates can't all be.

Estimates are compared with each other only. Beside their own errors this counts what choices cost: the expected regret
of a geometry, if an algorithm were chosen with the probability ``softmax(-log(estimate) / T)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

Array = Any
Unit = tuple[str, str]

#: Of estimates that are this far apart, in logarithms, the better is chosen e times as often.
TEMPERATURE = 0.15

#: What an expected regret weighs beside an estimate's squared error, and a constant's move by a factor of e.
REGRET, MOVE = 3.0, 2.0

#: Errors beyond this count linearly; regrets beyond this are all alike, since no choice comes near them.
OUTLIER, HOPELESS = 0.3, 3.0

#: Geometries whose best way takes less have smaller weight: a wrong choice among them costs microseconds.
SMALL, SMALL_WEIGHT = 1e-4, 0.3


class Timed(NamedTuple):
    """One algorithm on one geometry: its work, by algorithm and unit, the seconds, and a factor on its estimate."""

    counts: Mapping[Unit, float]
    seconds: float
    share: float


#: All that was timed on one geometry.
Rivals = list[Timed]


def fit(
    start: Mapping[Unit, float],
    geometries: list[Rivals],
    bounds: Mapping[Unit, tuple[float, float]],
    regret: float = REGRET,
    move: float = MOVE,
) -> dict[Unit, float]:
    """New prices near the given ones, from which they ``move`` at a cost, within ``bounds``."""
    units = sorted(start)
    low, high = (np.log([bounds[unit][side] for unit in units]) for side in (0, 1))
    first = np.clip(np.log([start[unit] for unit in units]), low, high)
    cost = cost_of(geometries, units, first, regret, move)
    steps = {"maxiter": 4000, "maxfun": 8000}
    best = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)), options=steps)
    return {unit: float(price) for unit, price in zip(units, np.exp(best.x), strict=True)}


def cost_of(geometries: list[Rivals], units: list[Unit], start: Array, regret: float, move: float) -> Cost:
    rows = [row for geometry in geometries for row in geometry]
    index = {unit: i for i, unit in enumerate(units)}
    places = [(line, index[unit], count) for line, row in enumerate(rows) for unit, count in row.counts.items()]
    lines, columns, counts = map(list, zip(*places, strict=True))
    return Cost(
        csr_array((counts, (lines, columns)), shape=(len(rows), len(units))),
        np.log([row.seconds for row in rows]),
        np.log([row.share for row in rows]),
        np.repeat(np.arange(len(geometries)), [len(geometry) for geometry in geometries]),
        np.array([weight(geometry) for geometry in geometries]),
        start,
        regret,
        move,
    )


def weight(geometry: Rivals) -> float:
    return SMALL_WEIGHT if min(row.seconds for row in geometry) < SMALL else 1.0


class Cost(NamedTuple):
    """Of prices, whose logarithms are optimised: ``work @ prices`` are the estimates of the rows."""

    work: Array
    log_seconds: Array
    log_share: Array
    geometry: Array
    weights: Array
    start: Array
    regret: float
    move: float

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """The cost and its derivative."""
        prices = np.exp(logs)
        estimates = self.work @ prices
        log_estimates = np.log(estimates)
        error_cost, error_slope = self.errors(log_estimates)
        choice_cost, choice_slope = self.choices(log_estimates)
        slope = ((error_slope + self.regret * choice_slope) / estimates) @ self.work * prices
        way = logs - self.start
        return error_cost + self.regret * choice_cost + self.move * way @ way, slope + 2 * self.move * way

    def regrets(self) -> Array:
        """Logarithms of a row's seconds over its geometry's best."""
        best = np.full(len(self.weights), np.inf)
        np.minimum.at(best, self.geometry, self.log_seconds)
        return self.log_seconds - best[self.geometry]

    def errors(self, log_estimates: Array) -> tuple[float, Array]:
        """Of the estimates themselves; those of rows that are never chosen count less."""
        error = log_estimates - self.log_seconds
        weight = self.weights[self.geometry] / (1 + self.regrets() ** 2 / 2)
        root = np.sqrt(1 + (error / OUTLIER) ** 2)
        return float(weight @ (root - 1)) * 2 * OUTLIER**2, weight * 2 * error / root

    def choices(self, log_estimates: Array) -> tuple[float, Array]:
        """Expected regrets; their squares too, since a few bad choices are worse than many slightly bad ones."""
        own, count = self.geometry, len(self.weights)
        score = -(log_estimates + self.log_share) / TEMPERATURE
        highest = np.full(count, -np.inf)
        np.maximum.at(highest, own, score)
        chance = np.exp(score - highest[own])
        chance /= np.bincount(own, chance, count)[own]
        regret = np.minimum(self.regrets(), HOPELESS)
        regret = regret + regret**2
        expected = np.bincount(own, chance * regret, count)
        slope = -self.weights[own] / TEMPERATURE * chance * (regret - expected[own])
        return float(self.weights @ expected), slope
