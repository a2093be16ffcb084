"""The cost model's constants, moved a little so that the planner's choices are right where its estimates can't all be.

Estimates are compared with each other only. Beside their own errors this counts what choices cost: the expected regret
of a geometry, if an algorithm were chosen with the probability ``softmax(-log(estimate) / T)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

Array = Any
Unit = tuple[str, str]

#: Of estimates that are this far apart, in logarithms, the better is chosen e times as often.
TEMPERATURE = 0.15

#: What an expected regret weighs beside an estimate's squared error, and a constant's move by a factor of e.
REGRET, MOVE = 3.0, 2.0

#: Errors beyond this count linearly; regrets beyond this are all alike, since no choice comes near them.
OUTLIER, HOPELESS = 0.3, 3.0


class Timed(NamedTuple):
    """One algorithm on one geometry: its work, by algorithm and unit, the seconds, and a factor on its estimate."""

    counts: Mapping[Unit, float]
    seconds: float
    share: float


def refine(
    prices: Mapping[Unit, float],
    geometries: list[list[Timed]],
    weights: list[float],
    move: float = MOVE,
    floors: Mapping[Unit, float] | None = None,
) -> dict[Unit, float]:
    """New prices near the given ones, from which they ``move`` at a cost, and not below ``floors``; ``weights`` are
    those of the geometries.
    """
    units, least = sorted(prices), dict.fromkeys(prices, 0.0) | dict(floors or {})
    index = {unit: i for i, unit in enumerate(units)}
    rows = [row for geometry in geometries for row in geometry]
    work = np.zeros((len(rows), len(units)))
    for line, row in zip(work, rows, strict=True):
        for unit, count in row.counts.items():
            line[index[unit]] += count
    cost = Cost(
        work,
        np.log([row.seconds for row in rows]),
        np.log([row.share for row in rows]),
        np.repeat(np.arange(len(geometries)), [len(geometry) for geometry in geometries]),
        np.array(weights),
        np.log([max(prices[unit], least[unit]) for unit in units]),
        move,
    )
    # A call itself takes no longer than the quickest that was measured, which the given prices know.
    most = [start if unit == "call" else None for (_, unit), start in zip(units, cost.start, strict=True)]
    lowest = [log(least[unit]) if least[unit] > 0 else None for unit in units]
    bounds, steps = list(zip(lowest, most, strict=True)), {"maxiter": 400, "maxfun": 800}
    best = minimize(cost, cost.start, jac=True, method="L-BFGS-B", bounds=bounds, options=steps)
    return {unit: float(price) for unit, price in zip(units, np.exp(best.x), strict=True)}


class Cost(NamedTuple):
    """Of prices, whose logarithms are optimised: ``work @ prices`` are the estimates of the rows."""

    work: Array
    log_seconds: Array
    log_share: Array
    geometry: Array
    weights: Array
    start: Array
    move: float

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """The cost and its derivative."""
        prices = np.exp(logs)
        estimates = self.work @ prices
        log_estimates = np.log(estimates)
        error_cost, error_slope = self.errors(log_estimates)
        choice_cost, choice_slope = self.choices(log_estimates)
        slope = ((error_slope + REGRET * choice_slope) / estimates) @ self.work * prices
        way = logs - self.start
        return error_cost + REGRET * choice_cost + self.move * way @ way, slope + 2 * self.move * way

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
