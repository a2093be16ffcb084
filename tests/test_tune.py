"""`tune`: what it measures, for how long, what it shows and refuses; on the command line too."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dask.array
import jax
import numpy as np
import pytest
import torch
from test_tuning import DIRECT, LIBRARIES, PLAN, PROBLEM, SHAPES, serving

import arrayconv as ac
from arrayconv import cli
from arrayconv.backend import library_backend
from arrayconv.operations import tune as timing
from arrayconv.planner import options
from arrayconv.program import Settings

if TYPE_CHECKING:
    from conftest import Library

#: A call alone: without gradients, and in JAX not as floats.
ALONE = {"dtype": "int8", "library": "jax"}

#: What serves it, from the cheapest estimate on.
INTEGERS = serving(ac.plan(ac.conv, *SHAPES, **ALONE).program.problem)

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
    """Integers: the call alone, and its sums of floats."""
    if library.name == "dask":
        with pytest.raises(ValueError, match=r"tune: dask plans each block .* the shapes of a block: library='numpy'"):
            ac.tune(ac.conv, *SHAPES, library="dask")
        return
    arrays = [library.asarray(np.ones(shape), "int32") for shape in SHAPES]
    tuning = ac.tune(ac.conv, *arrays)
    problem = ac.plan(ac.conv, *arrays).program.problem
    seconds = tuning.seconds(problem)
    inner = [part.problem for row in options(problem, library_backend(library.name)) for part in row.parts]
    assert len(tuning) == 1 + len(inner) and all(map(tuning.seconds, inner))
    assert seconds and set(seconds) <= set(serving(problem))
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
    problem = ac.plan(*arguments, dtype=dtype, library=name, **given).program.problem
    if dtype == "uint16":
        assert {entry.case.problem.geometry for entry in tuning.entries} == {problem.geometry}
        return
    back = problem.with_geometry(problem.geometry.input_transpose())
    assert "phases" in tuning.seconds(back) and tuning.seconds(problem)
    rewritten = next(row for row in options(back, library_backend(name)) if row.name == "phases")
    assert rewritten.parts and all(tuning.seconds(part.problem) for part in rewritten.parts)


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
        tuning = ac.tune(ac.conv, *SHAPES, **ALONE)
        assert ac.plan(ac.conv, *SHAPES, **ALONE).algorithm != "fft"
    assert {entry.case.problem.settings for entry in tuning.entries} == {Settings(workspace=2**20)}


def test_candidates_in_turn(clock: Any) -> None:
    """Once to warm up, once to see how long it takes, then in turn those that are near the best."""
    calls = clock(**dict.fromkeys(INTEGERS, 1e-4) | {"gemm": 2.5e-4})
    ac.tune(ac.conv, *SHAPES, **ALONE)
    count = 2 * len(INTEGERS)
    assert calls[:count] == [(name, 1) for name in INTEGERS for _ in range(2)]
    assert calls[count:] == [(name, 4 if name == "gemm" else 10) for name in INTEGERS] * timing.SAMPLES
    calls = clock(**dict.fromkeys(INTEGERS, 1e-4) | {"gemm": 4e-4})
    ac.tune(ac.conv, *SHAPES, **ALONE)
    assert calls[count:] == [(name, 10) for name in INTEGERS if name != "gemm"] * timing.SAMPLES


def test_measuring_is_bounded(clock: Any) -> None:
    for seconds, samples in ((1e-5, timing.SAMPLES), (0.1, 3), (10.0, 1)):
        calls = clock(**dict.fromkeys(INTEGERS, seconds))
        ac.tune(ac.conv, *SHAPES, **ALONE)
        assert len(calls) == len(INTEGERS) * (2 + samples)


def test_the_hopeless_are_left_out(clock: Any) -> None:
    best, *others = INTEGERS
    assert others
    calls = clock(**{best: 1e-9})
    tuning = ac.tune(ac.conv, *SHAPES, **ALONE)
    assert {name for name, _ in calls} == {best}
    with ac.settings(tuning=tuning):
        plan = ac.plan(ac.conv, *SHAPES, **ALONE)
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
    (
        lambda: ac.tune(ac.conv, *SHAPES, strides=2),
        TypeError,
        "tune: conv has no option strides=2; its options are",
    ),
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
    geometry = PROBLEM.geometry
    problems = [PROBLEM, *map(PROBLEM.with_geometry, (geometry.input_transpose(), geometry.kernel_transpose()))]
    names = {name for problem in problems for name in serving(problem)}
    assert steps.count(1) == steps[0]["total"] and names == {step for step in steps[1:-1] if step != 1}


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
    assert re.search(r"\n\* direct +500 us measured\n(.*\n)*  gemm +1\.25 ms measured\n", measured)
    assert cli.main([*words, "--tuning", str(path)]) == 0
    assert capsys.readouterr().out == measured
    assert cli.main(words) == 0
    assert "measured" not in capsys.readouterr().out
    path.write_text("{", encoding="utf-8")
    for name, message in ((str(path), "Tuning.load: "), (str(tmp_path / "none.json"), "No such file")):
        assert cli.main([*words, "--tuning", name]) == 2
        assert message in capsys.readouterr().err
