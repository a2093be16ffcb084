"""The benchmark's prices of a kind of processor that few calls were measured on."""

from __future__ import annotations

import random

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.algorithms.rates import BASE, PROCESSORS, prices
from arrayconv.backend import library_backend
from bench import choices, fit, near, planned, regret
from bench.priced import Prices, Row, floor_of, plain

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


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_no_product_is_taken_for_free(library: str, kind: str) -> None:
    for name, rates in prices(kind)[library].items():
        cheap = {unit: price for unit, price in rates.items() if price < floor_of(unit)}
        assert not cheap, name
    assert floor_of("base dilated single 1d") > floor_of("base dilated single 1d output") == floor_of("dense run") == 0


def test_a_price_s_floor_holds_against_what_was_measured() -> None:
    """Ten times the work took as long, so that the price would go to nothing."""
    rows = [[choices.Timed({("a", "dense"): work, ("a", "call"): 1.0}, 1.0, 1.0)] for work in (1.0, 10.0)]
    start = {("a", "dense"): 0.1, ("a", "call"): 1.0}
    free = choices.refine(start, rows, [1.0, 1.0], move=0.01)
    held = choices.refine(start, rows, [1.0, 1.0], move=0.01, floors={("a", "dense"): 0.05})
    assert free["a", "dense"] < 0.04
    assert held["a", "dense"] == pytest.approx(0.05)


def test_long_windows_of_a_transposed_signal_are_not_left_to_torch() -> None:
    """171 ms there, and 4 by phases."""
    program = ac.plan(ac.conv_transpose, (32, 1, 7098), (1, 1, 573), stride=3, library="torch").program
    assert program.algorithm in ("phases", "subpixel")


def test_what_a_library_was_lent_is_not_its_own() -> None:
    """A kind of work that is counted no more would stay in the borrowers' tables."""
    table = {"torch": {"wgrad": {"call": 1.0}, "gemm": {"call": 2.0}}, "jax": {"wgrad": {"call": 1.0}, "gemm": {}}}
    assert fit.without_lent(table, "jax") == {"gemm": {}}
    assert fit.without_lent(table, "torch") == table["torch"]
