"""The benchmark's fit of prices, paces and prices of other types."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS
from arrayconv.algorithms.fitted import SECONDS
from arrayconv.algorithms.rates import Paces, is_product
from arrayconv.backend import library_backend
from bench import choices, draws, fit, planned
from bench.choices import Rivals, Unit
from bench.priced import Row, floor_of, named_in, timed

BACKEND = library_backend("torch")
TORCH = {(name, unit): price for name, units in SECONDS["torch"].items() for unit, price in units.items()}


def draw(count: int = 40) -> list[Row]:
    """Random geometries of groups, and a second for each way."""
    rng, rows = random.Random(3), list[Row]()
    while len(rows) < count:
        geometry = draws.draw_geometry(rng, draws.DRAWS["grouped"])
        if geometry is not None:
            problem = planned.call_problem(geometry, "torch")
            labels = [candidate.label for candidate in planned.candidates(problem, "torch")[1]]
            rows.append((problem, dict.fromkeys(labels, 1.0)))
    return rows


def timed_by(factor: Callable[[Unit], float]) -> list[Rivals]:
    """Those geometries on a machine that takes ``factor`` times the shipped price of each kind of work."""

    def seconds(counts: dict[Unit, float]) -> float:
        return sum(count * TORCH[unit] * factor(unit) for unit, count in counts.items())

    return [
        [own._replace(seconds=seconds(dict(own.counts))) for own in row] for row in fit.rivals(draw(), set(ALGORITHMS))
    ]


def test_another_processor_s_paces_are_found() -> None:
    """It takes twice as long for products and three times for all else."""
    pace = fit.pace_of(timed_by(lambda unit: 2.0 if is_product(unit[1]) else 3.0), TORCH)
    assert tuple(pace) == pytest.approx((2, 3), rel=0.1)  # choices draw it a little away from what is exact


def test_work_at_a_pace_is_as_much_more() -> None:
    rows = [[choices.Timed({("a", "dense"): 5.0, ("a", "dense output"): 7.0}, 1.0, 1.0)]]
    assert fit.at_pace(rows, Paces(2, 3))[0][0].counts == {("a", "dense"): 10.0, ("a", "dense output"): 21.0}


def test_a_fit_makes_the_choices_right() -> None:
    """Where the library's own convolution of groups takes ten times as long."""
    rows = timed_by(lambda unit: 10.0 if unit[1].startswith("blocked") else 1.0)
    start = {unit: TORCH[unit] for unit in fit.counted(rows)}
    found = fit.fit_twice(start, rows, fit.bounds_of(start, {}), fit.PULL)

    def cost(prices: dict[Unit, float]) -> float:
        return sum(fit.regret(row, prices) for row in rows) / len(rows) - 1

    assert cost(start) > 0.1
    assert cost(found) < cost(start) / 4


def test_a_rewrite_is_priced_by_the_parts_that_it_was_timed_with() -> None:
    """One that was timed before there was an algorithm which its parts take today."""
    backend = library_backend("numpy")
    problem = ac.plan(ac.conv_transpose, (1, 512, 3000), (512, 2, 8), stride=4).program.problem
    today = timed(problem, "subpixel", 1.0, backend)
    earlier = timed(problem, "subpixel", 1.0, backend, named_in([(problem, {"auto subpixel/gemm": 1.0})]))
    assert {name for name, _ in today.counts} == {"subpixel", "kn2row"}
    assert {name for name, _ in earlier.counts} == {"subpixel", "gemm"}


def test_a_type_has_the_prices_that_are_far_from_float32_s(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = timed_by(lambda unit: 4.0 if unit == ("gemm", "thin product") else 1.1)
    monkeypatch.setattr(fit, "rivals", lambda own, names: rows)
    found = fit.fit_type("torch", draw(), TORCH)
    assert found["gemm", "thin product"] > 2 * TORCH["gemm", "thin product"]
    assert len(found) < 5


def test_prices_of_special_values_stay() -> None:
    """Random kernels are no products of vectors: what they take says nothing of those that are."""
    rows = [(problem, times | {"separable": 1.0}) for problem, times in draw()]
    assert "native" in fit.often(rows)
    assert "separable" not in fit.often(rows)
    assert fit.kept(SECONDS["torch"], {("native", "call"): 1.0})["separable"] == SECONDS["torch"]["separable"]


def test_what_was_measured_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    fit.report("torch", timed_by(lambda unit: 2.0), TORCH)
    line = capsys.readouterr().out
    assert "40 calls, estimate / measured: 0.50 0.50 0.50; regret 1.0" in line


@pytest.mark.parametrize("library", SECONDS)
def test_no_product_is_taken_for_free(library: str) -> None:
    for name, rates in SECONDS[library].items():
        assert not {unit: price for unit, price in rates.items() if price < floor_of(unit)}, name
    assert floor_of("base dilated single") > floor_of("base dilated output") == floor_of("ynnpack run") == 0


def test_a_price_s_floor_holds_against_what_was_measured() -> None:
    """Ten times the work took as long, so that the price would go to nothing."""
    rows = [[choices.Timed({("a", "dense"): work, ("a", "call"): 1.0}, 1.0, 1.0)] for work in (1.0, 10.0)]
    start = {("a", "dense"): 0.1, ("a", "call"): 1.0}
    free = choices.fit(start, rows, dict.fromkeys(start, (1e-9, 1.0)), move=0.01)
    held = choices.fit(start, rows, {("a", "dense"): (0.05, 1.0), ("a", "call"): (1e-9, 1.0)}, move=0.01)
    assert free["a", "dense"] < 0.04
    assert held["a", "dense"] == pytest.approx(0.05)


def test_long_windows_of_a_transposed_signal_are_not_left_to_torch() -> None:
    """171 ms there, and 4 by phases."""
    program = ac.plan(ac.conv_transpose, (32, 1, 7098), (1, 1, 573), stride=3, library="torch").program
    assert program.algorithm in ("phases", "subpixel")
