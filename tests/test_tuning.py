"""Measured plans: what a tuning changes in a choice, and what it is as a value."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import dask.array
import jax
import numpy as np
import pytest

import arrayconv as ac
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry
from arrayconv.operations import tune as timing
from arrayconv.planner import current_settings, derive, options
from arrayconv.program import Problem, Settings
from arrayconv.tuning import Case, Entry, case_of

if TYPE_CHECKING:
    from conftest import Library

LIBRARIES = ("numpy", "torch", "jax", "dask", "array_api_strict")
SHAPES = ((2, 4, 9), (6, 4, 3))


def by_hand(problem: Problem, **seconds: float) -> ac.Tuning:
    return ac.Tuning((Entry(case_of(problem), tuple(seconds.items())),))


def serving(problem: Problem) -> list[str]:
    return timing.serving(problem, library_backend(problem.library))


PLAN = ac.plan(ac.conv, *SHAPES)
PROBLEM = PLAN.program.problem
GEMM, DIRECT = (by_hand(PROBLEM, **{fast: 1e-6, slow: 1e-3}) for fast, slow in (("gemm", "direct"), ("direct", "gemm")))


# A tuning made by hand decides


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_measured_best_is_chosen_whatever_the_estimates(name: str) -> None:
    problem = ac.plan(ac.conv, *SHAPES, library=name).program.problem
    names = serving(problem)
    assert len(names) > 2
    for best in names:
        with ac.settings(tuning=by_hand(problem, **dict.fromkeys(names, 2e-3) | {best: 1e-3})):
            plan = ac.plan(ac.conv, *SHAPES, library=name)
        assert plan.algorithm == best
        lines = [line for line in str(plan).splitlines() if line.endswith("ms measured")]
        assert len(lines) == len(names) and lines[0].startswith(f"* {best} ")
        assert "measured" not in str(ac.plan(ac.conv, *SHAPES, library=name))


def test_calls_follow(library: Library) -> None:
    x, kernel = (np.arange(np.prod(shape), dtype="int64").reshape(shape) for shape in SHAPES)
    own = library.asarray(x), library.asarray(kernel)
    problem = ac.plan(ac.conv, *own).program.problem
    for best in serving(problem):
        with ac.settings(tuning=by_hand(problem, **{best: 1e-3})):
            assert ac.plan(ac.conv, *own).algorithm == best
            np.testing.assert_array_equal(library.to_numpy(ac.conv(*own)), ac.conv(x, kernel))


def test_an_estimate_says_nothing_beside_a_measurement() -> None:
    for name in serving(PROBLEM):
        with ac.settings(tuning=by_hand(PROBLEM, **{name: 1e8})):
            plan = ac.plan(ac.conv, *SHAPES)
        assert plan.algorithm == name
        assert f"* {name:<11}      1e+08 s  measured" in str(plan)


def test_a_requested_algorithm_is_kept() -> None:
    with ac.settings(tuning=DIRECT):
        assert ac.plan(ac.conv, *SHAPES, algorithm="gemm").algorithm == "gemm"
        assert ac.plan(ac.conv, (0, 4, 9), SHAPES[1]).algorithm == "empty"


@pytest.mark.parametrize(
    "other",
    [
        replace(PROBLEM, geometry=replace(PROBLEM.geometry, batch=3)),
        replace(PROBLEM, dtype="float64"),
        replace(PROBLEM, accumulator="float64"),
        replace(PROBLEM, library="torch"),
        replace(PROBLEM, device="cuda"),
        replace(PROBLEM, settings=PROBLEM.settings._replace(workspace=2**20)),
        replace(PROBLEM, settings=PROBLEM.settings._replace(accuracy="normwise")),
    ],
)
def test_an_entry_serves_its_own_problem_only(other: Problem) -> None:
    for tuning in (GEMM, DIRECT):
        assert set(tuning.seconds(PROBLEM)) == {"gemm", "direct"}
        assert tuning.seconds(other) == {}
        with ac.settings(tuning=by_hand(other, direct=1e-9) | by_hand(other, gemm=1e-9)):
            assert ac.plan(ac.conv, *SHAPES).algorithm == PLAN.algorithm


def test_a_problem_s_key_is_all_of_it() -> None:
    """A new field of these is a new part of the key and of the file: `test_a_file_keeps_every_field`."""
    assert [field.name for field in fields(Problem)][-1] == "settings" and Settings._fields[-1] == "tuning"
    tuned = replace(PROBLEM, settings=PROBLEM.settings._replace(tuning=GEMM))
    assert case_of(tuned) == case_of(PROBLEM) == Case(PROBLEM, np.__version__)


def test_another_version_of_the_library_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "direct" if PLAN.algorithm == "gemm" else "gemm"
    monkeypatch.setattr(np, "__version__", "3.0.0")
    tuning = by_hand(PROBLEM, **{name: 1e-9})
    monkeypatch.undo()
    with ac.settings(tuning=tuning):
        assert ac.plan(ac.conv, *SHAPES).algorithm == PLAN.algorithm


# Programs that are derived from a tuned one


def test_transposes_and_blocks_have_entries_of_their_own() -> None:
    geometry = PROBLEM.geometry
    block = replace(geometry, batch=1)
    derived = [geometry.input_transpose(), geometry.kernel_transpose(), block]
    for name in ("gemm", "direct"):
        tuning = ac.Tuning()
        for part in derived:
            tuning |= by_hand(PROBLEM.with_geometry(part), **{name: 1e-6})
        with ac.settings(tuning=tuning):
            whole, lazy = ac.plan(ac.conv, *SHAPES).program, ac.plan(ac.conv, *SHAPES, library="dask").program
        assert [derive(whole, part).algorithm for part in derived] == [name] * 3
        assert derive(lazy, block, "numpy").algorithm == name
        assert derive(pickle.loads(pickle.dumps(lazy)), block, "numpy").algorithm == name


def test_parts_of_a_rewrite_have_too() -> None:
    shapes = (1, 2, 9), (2, 3, 4)
    for name in ("gemm", "direct"):
        tuning = ac.Tuning()
        for part in ac.plan(ac.conv_transpose, *shapes, stride=2, algorithm="phases").program.parts:
            tuning |= by_hand(part.problem, **{name: 2.0})
        with ac.settings(tuning=tuning):
            plan = ac.plan(ac.conv_transpose, *shapes, stride=2, algorithm="phases")
        assert {part.algorithm for part in plan.program.parts} == {name}
        (row,) = [row for row in options(plan.program.problem, plan.backend) if row.name == "phases"]
        assert row.seconds == pytest.approx(2 * len(plan.program.parts), rel=1e-3)


def test_a_part_s_own_measurement_is_not_its_neighbour_s() -> None:
    shapes = (1, 2, 9, 9), (2, 3, 4, 4)
    own, *others = ac.plan(ac.conv_transpose, *shapes, stride=2, padding=1, algorithm="phases").program.parts
    with ac.settings(tuning=by_hand(own.problem, direct=1e-9)):
        first, *rest = ac.plan(ac.conv_transpose, *shapes, stride=2, padding=1, algorithm="phases").program.parts
    assert first.geometry == own.geometry and first.algorithm == "direct"
    assert [part.algorithm for part in rest] == [part.algorithm for part in others] != ["direct"] * 3


def test_blocks_in_threads() -> None:
    x = dask.array.ones(SHAPES[0], chunks=(1, -1, 5))
    with ac.settings(tuning=GEMM):
        y = ac.conv(x, dask.array.ones(SHAPES[1]))
    np.testing.assert_array_equal(y.compute(scheduler="threads"), np.full((2, 6, 7), 12.0))


# Settings and tracing


@pytest.mark.parametrize("value", ["tuning.json", {}, ()])
def test_settings_take_a_tuning(value: Any) -> None:
    with (
        pytest.raises(TypeError, match=r"settings: tuning must be a Tuning, got .*Tuning.load"),
        ac.settings(tuning=value),
    ):
        pass


def test_nested_settings() -> None:
    with ac.settings(tuning=GEMM):
        with ac.settings(workspace=2**20):
            assert current_settings().tuning is GEMM
        with ac.settings(tuning=DIRECT):
            assert ac.plan(ac.conv, *SHAPES).algorithm == "direct"
        with ac.settings(tuning=ac.Tuning()):
            assert "measured" not in str(ac.plan(ac.conv, *SHAPES))
        assert ac.plan(ac.conv, *SHAPES).algorithm == "gemm"
    assert current_settings().tuning is None


def test_a_thread_has_its_own() -> None:
    inside = threading.Barrier(2)

    def chosen(tuning: ac.Tuning | None) -> str:
        if tuning is None:
            return "measured" if "measured" in str(ac.plan(ac.conv, *SHAPES)) else "estimated"
        with ac.settings(tuning=tuning):
            inside.wait(10)
            return ac.plan(ac.conv, *SHAPES).algorithm

    with ThreadPoolExecutor(3) as pool, ac.settings(tuning=GEMM):
        assert list(pool.map(chosen, (GEMM, DIRECT, None))) == ["gemm", "direct", "estimated"]


def test_a_jax_trace_keeps_its_plan() -> None:
    x, kernel = (jax.numpy.ones(shape, "float32") for shape in SHAPES)
    problem = ac.plan(ac.conv, x, kernel).program.problem
    gemm, direct = (by_hand(problem, **{name: 1e-6}) for name in ("gemm", "direct"))
    seen = []

    @jax.jit
    def call(x: Any, kernel: Any) -> Any:
        seen.append(ac.plan(ac.conv, x, kernel).algorithm)
        return ac.conv(x, kernel).sum()

    for tuning in (direct, gemm):
        with ac.settings(tuning=tuning):
            assert call(x, kernel) == 2 * 6 * 7 * 12
    assert seen == ["direct"]
    for tuning, name in ((gemm, "gemm"), (direct, "direct")):
        with ac.settings(tuning=tuning):
            jaxpr = jax.make_jaxpr(jax.grad(lambda kernel: ac.conv(x, kernel).sum()))(kernel)
        programs = [equation.params["program"] for equation in jaxpr.eqns if equation.primitive.name == "arrayconv"]
        assert programs[0].algorithm == name
        assert {program.problem.settings.tuning for program in programs} == {tuning}


# The value


def test_a_tuning_is_a_value() -> None:
    assert len(GEMM) == 1 and repr(GEMM) == "Tuning(1 problem)" and not len(ac.Tuning())
    assert GEMM == by_hand(PROBLEM, direct=1e-3, gemm=1e-6) != DIRECT
    assert hash(GEMM) == hash(by_hand(PROBLEM, direct=1e-3, gemm=1e-6)) != hash(DIRECT)
    assert GEMM != 1 and len({GEMM, DIRECT, ac.Tuning(GEMM.entries)}) == 2
    assert pickle.loads(pickle.dumps(GEMM)) == GEMM
    assert GEMM.__reduce__() == (ac.Tuning, (GEMM.entries,)), "a hash of strings is another one in another process"
    with pytest.raises(AttributeError):
        GEMM.entries = ()  # type: ignore[misc]


def test_merging() -> None:
    other = by_hand(replace(PROBLEM, dtype="float64"), gemm=1.0)
    assert (GEMM | DIRECT, DIRECT | GEMM) == (DIRECT, GEMM)
    assert len(GEMM | other) == 2 and GEMM | other == other | GEMM
    assert GEMM | ac.Tuning() == ac.Tuning() | GEMM == GEMM
    with pytest.raises(TypeError, match="unsupported operand"):
        GEMM | {}  # type: ignore[operator]


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ({"gemm": 0.0}, "Tuning: seconds of 'gemm' must be a positive number, got 0.0"),
        ({"gemm": float("nan")}, "Tuning: seconds of 'gemm' must be .* got nan"),
        ({"luck": 1.0}, "Tuning: algorithm='luck' is not one of"),
    ],
)
def test_a_tuning_refuses(seconds: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        by_hand(PROBLEM, **seconds)


def test_a_call_hashes_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached call costs the same under a tuning of any size."""
    x, kernel = (np.ones(shape, "float32") for shape in SHAPES)

    def count(self: Any) -> int:
        raise AssertionError("an entry was hashed")

    with ac.settings(tuning=GEMM):
        ac.conv(x, kernel)
        monkeypatch.setattr(Problem, "__hash__", count)
        monkeypatch.setattr(Geometry, "__eq__", count)
        ac.conv(x, kernel)
        assert hash(GEMM) == hash(current_settings().tuning) and current_settings().tuning == GEMM
        with pytest.raises(AssertionError, match="was hashed"):
            by_hand(PROBLEM, gemm=1.0)
