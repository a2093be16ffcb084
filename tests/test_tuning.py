"""Measured plans: what a tuning changes in a choice, its file, and what `tune` measures and refuses."""

from __future__ import annotations

import json
import pickle
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dask.array
import jax
import numpy as np
import pytest
import torch

import arrayconv as ac
from arrayconv import cli
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
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
        for part in ac.plan(ac.conv_transpose, *shapes, stride=2).program.parts:
            tuning |= by_hand(part.problem, **{name: 2.0})
        with ac.settings(tuning=tuning):
            plan = ac.plan(ac.conv_transpose, *shapes, stride=2)
        assert {part.algorithm for part in plan.program.parts} == {name}
        rows = options(plan.program.problem, plan.backend)
        assert min(row.seconds for row in rows) == pytest.approx(2 * len(plan.program.parts), rel=1e-3)


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


# The file


def unlike(problem: Problem) -> Problem:
    """Every field another one than by default."""
    axes = (WindowDimension(3, 5, 7, -2, 4, 2, 6), WindowDimension(0, 1))
    geometry = Geometry(batch=8, groups=9, inputs=10, outputs=11, axes=axes)
    return Problem(geometry, "int8", "int32", "abacus", "beads", Settings(123, "normwise"))


def test_a_file_keeps_every_field(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    tuning = GEMM | by_hand(unlike(PROBLEM), fft=1 / 3, native=5e-324, direct=2)
    tuning.save(path)
    again = ac.Tuning.load(str(path))
    assert again == tuning and hash(again) == hash(tuning)
    assert again.seconds(unlike(PROBLEM)) == {"fft": 1 / 3, "native": 5e-324, "direct": 2.0}
    assert [child.name for child in tmp_path.iterdir()] == ["tuning.json"]
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["arrayconv"] == ac.__version__ and len(content["entries"]) == 2
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) < 400, "a field a line"
    ac.Tuning().save(path)
    assert ac.Tuning.load(path) == ac.Tuning()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tuning.json"
    GEMM.save(path)

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        DIRECT.save(path)
    assert ac.Tuning.load(path) == GEMM and len(list(tmp_path.iterdir())) == 1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        ac.Tuning.load(tmp_path / "nothing.json")


def put(*path: Any) -> Any:
    """An edit: the last of ``path`` at the place that the others name."""

    def edit(content: Any) -> Any:
        *way, last, value = path
        for step in way:
            content = content[step]
        content[last] = value

    return edit


def drop(*path: Any) -> Any:
    def edit(content: Any) -> Any:
        for step in path[:-1]:
            content = content[step]
        del content[path[-1]]

    return edit


ENTRY, AXIS = ("entries", 0), ("entries", 0, "geometry", "axes", 0)

EDITS = [
    (put("arrayconv", "0.0.1"), r"it was measured with arrayconv 0\.0\.1, this is 0"),
    (put("arrayconv", 1), "it was measured with arrayconv 1, this is 0"),
    (drop("arrayconv"), "it must be an object of arrayconv, entries, got entries"),
    (put("more", 1), "it must be an object of arrayconv, entries, got arrayconv, entries, more"),
    (put("entries", {}), "entries must be a list, got dict"),
    (put("entries", [3]), r"entries\[0\] must be an object of library, .*, seconds, got int"),
    (put("entries", [{}]), r"entries\[0\] must be an object of library, .* got an empty one"),
    (drop(*ENTRY, "device"), r"entries\[0\] must be an object of library, .* got library, version, dtype"),
    (put(*ENTRY, "library", 3), r"entries\[0\]: library must be a string, got 3"),
    (put(*ENTRY, "version", None), r"entries\[0\]: version must be a string, got None"),
    (put(*ENTRY, "device", []), r"entries\[0\]: device must be a string, got \[\]"),
    (put(*ENTRY, "dtype", "float31"), r"entries\[0\]: dtype='float31' is not one of"),
    (put(*ENTRY, "accumulator", 1), r"entries\[0\]: accumulator must be one of .* got 1"),
    (put(*ENTRY, "workspace", 0), r"entries\[0\]: workspace must be >= 1, got 0"),
    (put(*ENTRY, "workspace", True), r"entries\[0\]: workspace must be an int, got True"),
    (put(*ENTRY, "accuracy", "best"), r"entries\[0\]: accuracy='best' is not one of 'elementwise', 'normwise'"),
    (put(*ENTRY, "geometry", 4), r"entries\[0\]: geometry must be an object of batch, .* got int"),
    (put(*ENTRY, "geometry", "batch", -1), r"entries\[0\]: geometry: batch must be >= 0, got -1"),
    (put(*ENTRY, "geometry", "groups", 1.5), r"entries\[0\]: geometry: groups must be an int, got 1\.5"),
    (put(*ENTRY, "geometry", "axes", None), r"entries\[0\]: geometry must be a list, got NoneType"),
    (put(*AXIS, "stride", 0), r"entries\[0\]: geometry: axes\[0\]: stride must be >= 1, got 0"),
    (put(*AXIS, "low", "2"), r"entries\[0\]: geometry: axes\[0\]: low must be an int, got '2'"),
    (
        drop(*AXIS, "kernel"),
        r"entries\[0\]: geometry: axes\[0\] must be an object of size, kernel, .* got size, stride",
    ),
    (put(*ENTRY, "seconds", [1.0]), r"entries\[0\]: seconds must be an object, .* got \[1\.0\]"),
    (put(*ENTRY, "seconds", "luck", 1.0), r"entries\[0\]: algorithm='luck' is not one of"),
    (put(*ENTRY, "seconds", "gemm", float("nan")), r"entries\[0\]: seconds of 'gemm' must be a positive .* got nan"),
    (put(*ENTRY, "seconds", "gemm", float("inf")), r"entries\[0\]: seconds of 'gemm' must be a positive .* got inf"),
    (put(*ENTRY, "seconds", "gemm", -1.0), r"entries\[0\]: seconds of 'gemm' must be a positive .* got -1\.0"),
    (put(*ENTRY, "seconds", "gemm", 10**400), r"entries\[0\]: seconds of 'gemm' must be a positive .* got 1000"),
    (put(*ENTRY, "seconds", "gemm", "fast"), r"entries\[0\]: seconds of 'gemm' must be a positive .* got 'fast'"),
    (put(*ENTRY, "seconds", "gemm", True), r"entries\[0\]: seconds of 'gemm' must be a positive .* got True"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS, ids=range(len(EDITS)))
def test_a_corrupt_entry(tmp_path: Path, edit: Any, message: str) -> None:
    path = tmp_path / "tuning.json"
    GEMM.save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"Tuning\.load: .*tuning\.json: {message}.*; measure again with arrayconv\.tune"
    ):
        ac.Tuning.load(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe\xfd", b"[" * 100_000, b"{" + b'"a":1' * 2])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tuning.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Tuning\.load: .*tuning\.json: .*; measure again"):
        ac.Tuning.load(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    GEMM.save(path)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"Tuning\.load: .*tuning\.json: "):
            ac.Tuning.load(path)


# Measuring


#: What serves integers, from the cheapest estimate on.
INTEGERS = serving(ac.plan(ac.conv, *SHAPES, dtype="int8").program.problem)

Calls = list[tuple[str, int]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Instead of the time, these seconds; returns what was called."""

    def use(**seconds: float) -> Calls:
        calls: Calls = []

        def time_calls(backend: Any, program: Any, x: Any, kernel: Any, count: int) -> float:
            assert tuple(x.shape) == program.geometry.x_shape and tuple(kernel.shape) == program.geometry.kernel_shape
            calls.append((program.algorithm, count))
            return seconds.get(program.algorithm, 1e-3)

        monkeypatch.setattr(timing, "time_calls", time_calls)
        return calls

    return use


def test_what_is_measured_is_chosen(library: Library) -> None:
    """Integers: the call alone."""
    if library.name == "dask":
        with pytest.raises(ValueError, match=r"tune: dask plans each block .* the shapes of a block: library='numpy'"):
            ac.tune(ac.conv, *SHAPES, library="dask")
        return
    arrays = [library.asarray(np.ones(shape), "int32") for shape in SHAPES]
    tuning = ac.tune(ac.conv, *arrays)
    problem = ac.plan(ac.conv, *arrays).program.problem
    seconds = tuning.seconds(problem)
    assert len(tuning) == 1 and seconds and set(seconds) <= set(serving(problem))
    assert all(0 < value < 10 for value in seconds.values())
    with ac.settings(tuning=tuning):
        assert ac.plan(ac.conv, *arrays).algorithm == min(seconds, key=seconds.__getitem__)


def test_the_gradients_too(clock: Any) -> None:
    clock(direct=1e-3, gemm=2e-3)
    tuning = ac.tune(ac.conv, *SHAPES, padding="same", stride=1)
    geometry = ac.plan(ac.conv, *SHAPES, padding="same").program.geometry
    geometries = {geometry, geometry.input_transpose(), geometry.kernel_transpose()}
    assert {entry.case.problem.geometry for entry in tuning.entries} == geometries and len(tuning) == 3
    assert all(entry.case.version == np.__version__ for entry in tuning.entries)


@pytest.mark.parametrize("name", [name for name in LIBRARIES if name != "dask"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "uint16"])
def test_every_kind_of_arrays(clock: Any, name: str, dtype: str) -> None:
    """A strided call with a bias and a boundary: parts of rewrites come before the whole."""
    clock(direct=1e-3, gemm=2e-3)
    arguments = (ac.conv, (2, 4, 9, 8), (6, 2, 3, 2), (6,))
    given: dict[str, Any] = {"groups": 2, "stride": 2, "padding": "same", "boundary": "wrap"}
    if name == "array_api_strict" and dtype == "float16":
        with pytest.raises(ValueError, match="tune: dtype='float16' is not a type that array_api_strict has"):
            ac.tune(*arguments, dtype=dtype, library=name, **given)
        return
    tuning = ac.tune(*arguments, dtype=dtype, library=name, **given)
    if dtype == "uint16":
        assert len(tuning) == 1
        return
    problem = ac.plan(*arguments, dtype=dtype, library=name, **given).program.problem
    back = problem.with_geometry(problem.geometry.input_transpose())
    assert "phases" in tuning.seconds(back) and tuning.seconds(problem)
    rewritten = next(row.program for row in options(back, library_backend(name)) if row.name == "phases")
    assert rewritten is not None
    assert all(tuning.seconds(part.problem) for part in rewritten.parts)


@pytest.mark.parametrize("best", ["direct", "gemm"])
def test_a_rewrite_is_timed_with_the_best_of_its_parts(monkeypatch: pytest.MonkeyPatch, best: str) -> None:
    rewritten: list[Any] = []

    def time_calls(backend: Any, program: Any, *rest: Any) -> float:
        rewritten.extend(program.parts)
        return 1e-6 if program.algorithm == best else 1e-5

    monkeypatch.setattr(timing, "time_calls", time_calls)
    ac.tune(ac.conv_transpose, (1, 2, 9), (2, 3, 4), stride=2, dtype="int32")
    assert {part.algorithm for part in rewritten} == {best}


def test_random_numbers_suit_the_dtype() -> None:
    backend = library_backend("numpy")
    for dtype in ("uint8", "int64", "float16", "complex128"):
        values = timing._random(backend, np.zeros(()), dtype, (100,))
        assert values.dtype == dtype and values.shape == (100,)
        assert (values.imag != 0).any() == ("complex" in dtype)
        assert len(np.unique(values)) > 5


def test_arrays_are_timed_as_they_are_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = np.full((1, 2, 5), 7.0), np.full((2, 1, 3), 3.0)
    seen = []
    for array in (x, kernel):
        array.flags.writeable = False
    monkeypatch.setattr(timing, "time_calls", lambda backend, program, *arrays: seen.append(arrays[:2]) or 1e-3)
    ac.tune(ac.depthwise_conv, x, kernel)
    assert (seen[0][0] == 7).all() and (seen[0][1] == 3).all()
    monkeypatch.undo()
    ac.tune(ac.depthwise_conv, x, kernel)
    parameter = torch.nn.Parameter(torch.ones(3))
    ac.tune(ac.correlate, torch.ones(8), parameter)
    assert parameter.grad is None


def test_settings_in_force_are_those_measured(clock: Any) -> None:
    clock(gemm=1e-6)
    with ac.settings(workspace=2**20, tuning=DIRECT):
        tuning = ac.tune(ac.conv, *SHAPES, dtype="int8")
        assert ac.plan(ac.conv, *SHAPES, dtype="int8").algorithm != "fft"
    assert {entry.case.problem.settings for entry in tuning.entries} == {Settings(workspace=2**20)}


def test_candidates_in_turn(clock: Any) -> None:
    """Once to warm up, once to see how long it takes, then in turn those that are near the best."""
    calls = clock(**dict.fromkeys(INTEGERS, 1e-4) | {"gemm": 2.5e-4})
    ac.tune(ac.conv, *SHAPES, dtype="int8")
    count = 2 * len(INTEGERS)
    assert calls[:count] == [(name, 1) for name in INTEGERS for _ in range(2)]
    assert calls[count:] == [(name, 4 if name == "gemm" else 10) for name in INTEGERS] * timing.SAMPLES
    calls = clock(**dict.fromkeys(INTEGERS, 1e-4) | {"gemm": 4e-4})
    ac.tune(ac.conv, *SHAPES, dtype="int8")
    assert calls[count:] == [(name, 10) for name in INTEGERS if name != "gemm"] * timing.SAMPLES


def test_measuring_is_bounded(clock: Any) -> None:
    for seconds, samples in ((1e-6, timing.SAMPLES), (0.1, 3), (10.0, 1)):
        calls = clock(**dict.fromkeys(INTEGERS, seconds))
        ac.tune(ac.conv, *SHAPES, dtype="int8")
        assert len(calls) == len(INTEGERS) * (2 + samples)


def test_the_hopeless_are_left_out(clock: Any) -> None:
    best, *others = INTEGERS
    assert others
    calls = clock(**{best: 1e-9})
    tuning = ac.tune(ac.conv, *SHAPES, dtype="int8")
    assert {name for name, _ in calls} == {best}
    with ac.settings(tuning=tuning):
        plan = ac.plan(ac.conv, *SHAPES, dtype="int8")
        assert plan.algorithm == best and str(plan).count("measured") == 1
        assert set(tuning.seconds(plan.program.problem)) == {best}


def test_nothing_to_compute() -> None:
    assert ac.tune(ac.conv, (0, 4, 9), SHAPES[1]) == ac.Tuning()


def test_each_call_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    backend = replace(library_backend("numpy"), wait=waited.append)
    x, kernel = (np.ones(shape, "float32") for shape in SHAPES)
    assert timing.time_calls(backend, PLAN.program, x, kernel, 3) > 0
    assert [y.shape for y in waited] == [(2, 6, 7)] * 3
    synchronized: list[Any] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", synchronized.append)
    torch_wait = library_backend("torch").wait
    torch_wait(torch.ones(2))
    assert not synchronized
    torch_wait(torch.ones(2, device="meta"))
    assert synchronized == [torch.device("meta")]


X = np.ones(9, "float32")

ERRORS = [
    (lambda: ac.tune(ac.conv, *SHAPES, algorithm="gemm"), ValueError, "tune: algorithm='gemm' leaves no choice"),
    (lambda: ac.tune(ac.pad, (3,), [(1, 1)]), TypeError, "tune: pad is not planned, .* tune one of the linear"),
    (lambda: ac.tune(np.convolve, *SHAPES), TypeError, "tune: op must be a function of arrayconv"),
    (lambda: ac.tune(ac.conv, *SHAPES, strides=2), TypeError, "tune: conv.*'strides'"),
    (lambda: ac.tune(ac.conv, 3, SHAPES[1]), TypeError, "tune: expected a shape or an array, got 3 for x"),
    (lambda: ac.tune(ac.conv, *SHAPES, library="abacus"), ValueError, "tune: library='abacus' is not one of"),
    (lambda: ac.tune(ac.conv, *SHAPES, dtype="bool"), TypeError, "tune: dtype='bool' is not one of"),
    (lambda: ac.tune(ac.conv, *SHAPES, device="tpu"), ValueError, "tune: device='tpu' is not where numpy runs"),
    (lambda: ac.tune(ac.conv, *SHAPES, library="jax", device="tpu"), ValueError, "tune: device='tpu' is not there"),
    (lambda: ac.tune(ac.conv, *SHAPES, library="torch", device="tpu"), ValueError, "tune: device='tpu' is not there"),
    (
        lambda: ac.tune(ac.correlate, dask.array.ones(9), np.ones(2)),
        ValueError,
        "tune: dask plans each block on its own",
    ),
    (
        lambda: jax.jit(lambda x: [ac.tune(ac.correlate, x, X[:2]), x][1])(X),
        TypeError,
        "tune: a traced array .*; call tune outside of transformations",
    ),
    (
        lambda: jax.jit(lambda x: [ac.tune(ac.correlate, (9,), (2,), library="jax"), x][1])(X),
        TypeError,
        "tune: a traced array .*; call tune outside of transformations",
    ),
    (
        lambda: torch.vmap(lambda x: [ac.tune(ac.correlate, x, X[:2]), x][1])(torch.ones(2, 9)),
        TypeError,
        "tune: a tensor inside a torch.func transform .*; call tune outside",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_progress_bar(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm's where it is there: one step a problem and algorithm, left-out ones included."""
    clock(gemm=1e-9, direct=1e-9)
    steps: list[Any] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            steps.append(options)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: Any) -> None:
            steps.append("closed")

        def set_postfix_str(self, name: str, refresh: bool) -> None:
            steps.append(name)

        def update(self) -> None:
            steps.append(1)

    module = ModuleType("tqdm")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    ac.tune(ac.conv, *SHAPES)
    assert steps[0]["disable"] is None and steps[-1] == "closed"
    assert steps.count(1) == steps[0]["total"] and set(serving(PROBLEM)) == {step for step in steps[1:-1] if step != 1}


@pytest.mark.parametrize("tqdm", ["installed", "missing"])
def test_nothing_is_printed_but_on_a_terminal(
    clock: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tqdm: str
) -> None:
    clock()
    if tqdm == "missing":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    ac.tune(ac.conv, *SHAPES)
    assert tuple(capfd.readouterr()) == ("", "")


# The command


def test_the_command_measures_keeps_and_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Any) -> None:
    clock(gemm=1.25e-3, direct=5e-4)
    path = tmp_path / "tuning.json"
    words = ["plan", "2x4x9", "6x4x3", "--dtype", "int32"]
    assert cli.main([*words, "--tune", "--save", str(path)]) == 0
    measured = capsys.readouterr().out
    assert re.search(r"\* direct +500 us measured\n  gemm +1\.25 ms measured", measured)
    assert cli.main([*words, "--tuning", str(path)]) == 0
    assert capsys.readouterr().out == measured
    assert cli.main(words) == 0
    assert "measured" not in capsys.readouterr().out
    path.write_text("{", encoding="utf-8")
    for name, message in ((str(path), "Tuning.load: "), (str(tmp_path / "none.json"), "No such file")):
        assert cli.main([*words, "--tuning", name]) == 2
        assert message in capsys.readouterr().err
