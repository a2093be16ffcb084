"""The benchmark's prices of a kind of processor that few calls were measured on."""

from __future__ import annotations

import random

import numpy as np
import pytest

from arrayconv.algorithms.rates import BASE, prices
from arrayconv.backend import library_backend
from bench import near, planned, regret
from bench.priced import Prices, Row, plain

BACKEND = library_backend("torch")


def timed_by(true: Prices, count: int = 40) -> list[Row]:
    """Random geometries of groups, on a machine on which every estimate by these prices is right."""
    rng, rows = random.Random(3), list[Row]()
    while len(rows) < count:
        geometry = regret.draw_geometry(rng, regret.DRAWS["grouped"])
        if geometry is not None:
            problem = planned.call_problem(geometry, "torch")
            labels = [candidate.label for candidate in planned.candidates(problem, "torch")[1]]
            row = plain((problem, dict.fromkeys(labels, 1.0)), BACKEND)
            seconds = near.estimates(true, row, BACKEND)
            rows.append((problem, {label: seconds[planned.head(label)] for label in row[1]}))
    return rows


def test_a_library_keeps_its_prices_where_their_choices_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that is half as fast in all that it does makes the same choices."""
    base = prices(BASE)["torch"]
    slow = {name: {unit: 2 * price for unit, price in rates.items()} for name, rates in base.items()}
    pace, own = near.near_prices("torch", timed_by(slow))
    assert pace == pytest.approx(2)
    assert own is None
    assert f"2.00 times the seconds of {BASE}; by its prices: regret 1.000" in capsys.readouterr().out


def test_prices_move_to_what_another_machine_is_slow_with() -> None:
    """Its own convolution of groups takes ten times as long there."""
    base = prices(BASE)["torch"]
    units = {unit: price * (10 if unit.startswith("blocked") else 1) for unit, price in base["native"].items()}
    rows = timed_by(base | {"native": units})
    _, found = near.near_prices("torch", rows)
    assert found is not None
    before, after = (np.mean(near.regrets(own, rows, BACKEND)) for own in (base, found))
    assert before > 0.1
    assert after < before / 4
    assert {name: set(rates) for name, rates in found.items()} == {name: set(rates) for name, rates in base.items()}
