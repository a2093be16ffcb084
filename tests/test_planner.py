"""The planner: what a plan prints and promises, settings, and every algorithm's word."""

from __future__ import annotations

import copy
import pickle
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
import torch
from test_vjp import CALLS, LINEAR, Example, first_example, samples

import arrayconv as ac
from arrayconv import planner
from arrayconv.algorithms import ALGORITHMS, phases
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.operations import plan as plans
from arrayconv.operations.table import OPERATIONS
from arrayconv.planner import current_settings, make_problem, make_program, options
from arrayconv.program import Problem
from arrayconv.testing import reference

if TYPE_CHECKING:
    from conftest import Library

LIBRARIES = ("numpy", "torch", "jax", "dask", "array_api_strict")
SHAPES = ((2, 4, 9), (6, 4, 3))


# What a plan says


def rows(plan: ac.Plan) -> dict[str, str]:
    """The printed table: each algorithm's estimate or reason, the chosen one marked by a star."""
    lines = str(plan).split("algorithm   estimate\n")[1].splitlines()
    return {line[:13].strip(): line[13:].strip() for line in lines}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("name", "example"), [call for call in CALLS if call.values[0] in LINEAR])
def test_a_plan_prints_a_row_for_each_algorithm(name: str, example: Example, library: str) -> None:
    plan = ac.plan(OPERATIONS[name].function, *example.shapes, library=library, **example.options)
    table = rows(plan)
    assert {row.removeprefix("* ") for row in table} == {*ac.algorithms()}
    assert [row for row in table if row.startswith("* ")] == [f"* {plan.algorithm}"]
    assert all(entry.endswith((" s", " ms", " us")) or len(entry) > 10 for entry in table.values())


def test_the_head_of_a_plan() -> None:
    plan = ac.plan(ac.conv, (8, 64, 56, 56), (64, 64, 3, 3), stride=2, library="jax")
    assert str(plan).splitlines()[:6] == [
        "conv (8, 64, 56, 56) x (64, 64, 3, 3) -> (8, 64, 27, 27), float32 on jax (cpu)",
        "  multiply-adds  214,990,848",
        f"  bytes          {4 * (8 * 64 * 56 * 56 + 64 * 64 * 9 + 8 * 64 * 27 * 27):,} of arguments and result",
        f"  workspace      {plan.program.workspace:,} of {2**26:,}",
        "  accuracy       elementwise",
        f"  algorithm      {plan.algorithm}",
    ]


def test_estimates_are_sorted_and_the_cheapest_is_chosen() -> None:
    for shapes in (SHAPES, ((1, 1, 512, 512), (1, 1, 3, 3)), ((8, 64, 28, 28), (64, 64, 3, 3))):
        for library in LIBRARIES:
            table = list(rows(ac.plan(ac.conv, *shapes, library=library)))
            assert table[0].startswith("* ")


def test_a_requested_algorithm_is_the_marked_one() -> None:
    for algorithm in ("gemm", "direct"):
        plan = ac.plan(ac.conv, *SHAPES, algorithm=algorithm)
        assert plan.algorithm == algorithm and f"* {algorithm}" in rows(plan)


def test_planning_is_deterministic_and_cached() -> None:
    first, again = (ac.plan(ac.conv, *SHAPES, padding="same") for _ in range(2))
    assert first == again and str(first) == str(again) and hash(first) == hash(again)
    assert first.program is again.program
    with ac.settings(workspace=2**20):
        other = ac.plan(ac.conv, *SHAPES, padding="same")
    assert other != first and other.program.problem.settings.workspace == 2**20


# What a plan is made from


def test_arrays_serve_as_well_as_shapes(library: Library) -> None:
    for name in LINEAR:
        example = first_example(name)
        arrays = [library.asarray(array) for array in samples(example, "float32")]
        op = OPERATIONS[name].function
        plan = ac.plan(op, *arrays, **example.options)
        assert plan == ac.plan(op, *example.shapes, library=library.name, **example.options)
        assert plan.output_shape == tuple(op(*arrays, **example.options).shape)
        expected = library.to_numpy(op(*arrays, **example.options))
        np.testing.assert_array_equal(library.to_numpy(plan(*arrays)), expected)


def test_arrays_are_not_read() -> None:
    """torch's meta tensors have no elements."""
    x, kernel = torch.empty(SHAPES[0], device="meta"), torch.empty(SHAPES[1], device="meta")
    assert ac.plan(ac.conv, x, kernel).output_shape == (2, 6, 7)


def test_planning_takes_no_longer_for_large_arrays() -> None:
    """A call of a Dask array is planned as a whole, so nothing in a plan may grow with the number of tiles."""
    for algorithm in ("auto", *ac.algorithms()):
        try:
            plan = ac.plan(ac.conv, (64, 64, 1000, 1000), (64, 64, 3, 3), library="torch", algorithm=algorithm)
        except ValueError as error:
            assert "can't serve" in str(error)
        else:
            assert len(pickle.dumps(plan.program)) < 20_000


def test_a_constant_is_adopted_as_in_the_call(library: Library) -> None:
    """NumPy arrays beside another library's: the plan is that of the call."""
    x, kernel = np.ones(SHAPES[0], "float32"), np.ones(SHAPES[1], "float32")
    for arrays in ((library.asarray(x), kernel), (x, library.asarray(kernel))):
        plan = ac.plan(ac.conv, *arrays)
        assert (plan.backend.name, plan.dtype) == (library.name, "float32")


def test_arrays_of_two_types_are_planned_as_they_are_called() -> None:
    x, kernel = np.ones(SHAPES[0], "int8"), np.ones(SHAPES[1], "float64")
    assert ac.plan(ac.conv, x, kernel).program.problem.dtype == "float64"


def test_a_bias_of_none_is_no_bias() -> None:
    assert ac.plan(ac.conv, *SHAPES, None) == ac.plan(ac.conv, *SHAPES) == ac.plan(ac.conv, *SHAPES, bias=None)


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64")])
def test_a_dtype_by_name_or_object(dtype: Any) -> None:
    x, kernel = (np.ones(shape) for shape in SHAPES)
    plan = ac.plan(ac.conv, *SHAPES, dtype=dtype)
    assert plan.dtype == "float64"
    np.testing.assert_array_equal(plan(x, kernel), ac.conv(x, kernel))


def test_a_plan_under_jit() -> None:
    x, kernel = (jax.numpy.ones(shape) for shape in SHAPES)
    y = jax.jit(lambda x, kernel: ac.plan(ac.conv, x, kernel, padding="same")(x, kernel))(x, kernel)
    np.testing.assert_allclose(y, ac.conv(x, kernel, padding="same"), rtol=0, atol=1e-12)


def test_a_plan_is_pickled_and_copied(library: Library) -> None:
    arrays = [library.asarray(np.ones(shape, "float32")) for shape in SHAPES]
    plan = ac.plan(ac.conv, *arrays, padding="same")
    for other in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert other == plan and other.backend is plan.backend
        np.testing.assert_array_equal(library.to_numpy(other(*arrays)), library.to_numpy(plan(*arrays)))


def test_arrays_like_those_before_are_not_checked_again(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not like them is, whatever came before."""
    plan, rng = ac.plan(ac.conv, *SHAPES, (6,), library=library.name, padding="same"), np.random.default_rng(0)
    arrays = [library.asarray(rng.integers(0, 9, shape).astype("float32")) for shape in plan.shapes]
    first = library.to_numpy(plan(*arrays))
    np.testing.assert_array_equal(first, reference(ac.conv, *map(library.to_numpy, arrays), padding="same"))
    if library.name in ("numpy", "torch"):
        with monkeypatch.context() as patch:
            patch.setattr(plans, "gather_arrays", None)
            np.testing.assert_array_equal(library.to_numpy(plan(*arrays)), first)
    with pytest.raises(ValueError, match="planned for shapes"):
        plan(*arrays[:2])
    with pytest.raises(TypeError, match="plan: x must be a float32 array"):
        plan(library.asarray(np.ones(SHAPES[0])), *arrays[1:])


# What a plan refuses


PLAN = ac.plan(ac.conv, *SHAPES, (6,))
OTHER = ac.plan(ac.conv, *SHAPES, library="torch")
X, KERNEL, BIAS = (np.ones(shape, "float32") for shape in (*SHAPES, (6,)))

ERRORS = [
    (lambda: PLAN(X[:1], KERNEL, BIAS), ValueError, r"plan: planned for shapes .* got \(\(1, 4, 9\), .* plan again"),
    (lambda: PLAN(X, KERNEL), ValueError, r"plan: planned for shapes .*\(6,\)\), got .*\(6, 4, 3\)\); plan again"),
    (lambda: PLAN(X.astype(float), KERNEL, BIAS), TypeError, "plan: x must be a float32 array of numpy"),
    (lambda: PLAN(X, KERNEL, BIAS.astype(float)), TypeError, "plan: bias must be a float32 array of numpy"),
    (lambda: PLAN(X, torch.tensor(KERNEL), BIAS), TypeError, "plan: kernel must be a float32 array of numpy"),
    (lambda: OTHER(X, KERNEL), TypeError, "plan: one array at least must be of torch, got numpy only; plan again"),
    (lambda: PLAN([1.0], KERNEL, BIAS), TypeError, "plan: x must be a float32 array of numpy"),
    (lambda: ac.plan(np.convolve, *SHAPES), TypeError, "plan: op must be a function of arrayconv"),
    (lambda: ac.plan(np.ones((99, 99)), *SHAPES), TypeError, r"got array\(\[\[1\.[\s\S]{,60}\.\.\.$"),
    (lambda: ac.plan(ac.pad, (3,), [(1, 1)]), TypeError, "plan: pad is not planned"),
    (lambda: ac.plan(ac.conv, (2, 4, 9)), TypeError, "'kernel'"),
    (
        lambda: ac.plan(ac.conv, *SHAPES, strides=2),
        TypeError,
        "plan: conv has no option strides=2; its options are",
    ),
    (lambda: ac.plan(ac.conv, 3, (6, 4, 3)), TypeError, "plan: expected a shape or an array, got 3"),
    (lambda: ac.plan(ac.conv, (2, 4.5, 9), (6, 4, 3)), TypeError, r"plan: .*4\.5"),
    (lambda: ac.plan(ac.conv, (-2, 4, 9), (6, 4, 3)), ValueError, "plan: .*-2"),
    (lambda: ac.plan(ac.conv, *SHAPES, library="nothing"), ValueError, "plan: library='nothing' is not one of"),
    (lambda: ac.plan(ac.conv, *SHAPES, library="math"), ValueError, "plan: library='math' is not one of"),
    (lambda: ac.plan(ac.conv, *SHAPES, library=""), ValueError, "plan: library='' is not one of"),
    (lambda: ac.plan(ac.conv, *SHAPES, dtype="bool"), TypeError, "plan: dtype='bool' is not one of"),
    (lambda: ac.plan(ac.conv, *SHAPES, dtype="bfloat16"), ValueError, "plan: dtype='bfloat16' .* numpy"),
    (lambda: ac.plan(ac.conv, *SHAPES, stride=0), ValueError, "conv: stride must be >= 1, got 0"),
    (lambda: ac.plan(ac.conv, (2, 5, 9), (6, 4, 3)), ValueError, "conv: kernel expects 4 input channels per group"),
    (lambda: ac.plan(ac.conv, *SHAPES, (5,)), ValueError, r"conv: bias must have shape \(6,\)"),
    (lambda: ac.plan(ac.conv, *SHAPES, algorithm="magic"), ValueError, "conv: algorithm='magic' is not one of 'auto'"),
    (
        lambda: ac.plan(ac.conv, *SHAPES, algorithm="native"),
        ValueError,
        "'native' can't serve .* one input channel.*; use",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# Algorithms


@pytest.mark.parametrize("algorithm", ac.algorithms())
@pytest.mark.parametrize("name", [name for name in LINEAR if name != "corr2d"])
def test_an_algorithm_runs_or_says_why_not(library: Library, name: str, algorithm: str) -> None:
    example = first_example(name)
    op, arrays = OPERATIONS[name].function, [library.asarray(array) for array in samples(example)]
    reason = rows(ac.plan(op, *arrays, **example.options)).get(algorithm, "chosen")
    options = example.options | {"algorithm": algorithm}
    try:
        y = op(*arrays, **options)
    except ValueError as error:
        assert str(error) == f"{name}: algorithm={algorithm!r} can't serve this call: {reason}; use algorithm='auto'"
        with pytest.raises(ValueError, match="can't serve this call"):
            ac.plan(op, *arrays, **options)
    else:
        np.testing.assert_array_equal(library.to_numpy(y), op(*samples(example), **example.options))


# Settings


def test_settings_nest_and_reset() -> None:
    outside = current_settings()
    with ac.settings(workspace=2**20) as first:
        assert (first.workspace, first.accuracy) == (2**20, outside.accuracy)
        with ac.settings(accuracy="normwise") as second:
            assert current_settings() is second
            assert (second.workspace, second.accuracy) == (2**20, "normwise")
            with pytest.raises(ZeroDivisionError), ac.settings(workspace=1):
                1 / 0  # noqa: B018
            assert current_settings() is second
        assert current_settings() is first
    assert current_settings() is outside


def test_settings_are_each_threads_own() -> None:
    """Two threads inside their own blocks at once, and one outside of any."""
    inside = threading.Barrier(2)

    def workspace(chosen: int | None) -> int:
        if chosen is None:
            return current_settings().workspace
        with ac.settings(workspace=chosen):
            inside.wait(10)
            return ac.plan(ac.conv, *SHAPES).program.problem.settings.workspace

    with ThreadPoolExecutor(3) as pool, ac.settings(workspace=2**10):
        assert list(pool.map(workspace, (2**12, 2**13, None))) == [2**12, 2**13, 2**26]


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"workspace": 0}, ValueError, "settings: workspace must be >= 1, got 0"),
        ({"workspace": 1e6}, TypeError, "settings: workspace must be an int, got 1000000.0"),
        ({"workspace": True}, TypeError, "settings: workspace must be an int, got True"),
        ({"accuracy": "best"}, ValueError, "settings: accuracy='best' is not one of 'elementwise', 'normwise'"),
        ({"accuracy": 1}, TypeError, "settings: accuracy must be one of .* got 1"),
    ],
)
def test_settings_refuse(chosen: dict[str, Any], error: type[Exception], message: str) -> None:
    before = current_settings()
    with pytest.raises(error, match=message), ac.settings(**chosen):
        pass
    assert current_settings() is before


#: With their own prices and, in PyTorch, their own ways.
DTYPES = "float32", "float32", "float64", "complex64"


def draw_problem(rng: random.Random, library: str) -> Problem:
    def size() -> int:
        return round(10 ** rng.uniform(0, 3))

    axis = WindowDimension(size(), min(size(), 99), rng.choice((1, 1, 2, 5)), 99, 99, rng.choice((1, 1, 3)))
    thin = rng.random() < 0.3
    channels = (1, 1, 1) if thin else (rng.choice((1, 4)), rng.choice((1, 3, 64)), rng.choice((1, 2, 64)))
    geometry = Geometry(rng.choice((1, 8)), *channels, (axis,) * rng.choice((1, 2, 3)))
    geometry = rng.choice((geometry, geometry.input_transpose(), geometry.kernel_transpose()))
    with ac.settings(accuracy=rng.choice(("elementwise", "normwise"))):
        return make_problem(geometry, rng.choice(DTYPES), library_backend(library), "cpu", current_settings())


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_what_is_left_out_is_not_the_best(name: str) -> None:
    """No cost is below the least one, and without what that leaves out the choice is the same."""
    backend, rng, left_out = library_backend(name), random.Random(1), 0
    for _ in range(150):
        problem = draw_problem(rng, name)
        rows = [row for row in options(problem, backend) if row.serves]
        for row in rows:
            algorithm = ALGORITHMS[row.name]
            assert algorithm.least_cost(problem, backend) <= algorithm.cost(problem, backend) * (1 + 1e-9)
        kept = [row for row in options(problem, backend, beaten=False) if row.serves]
        best = min(rows, key=lambda row: row.rank)
        assert best == min(kept, key=lambda row: row.rank)
        assert make_program(problem, backend).algorithm == best.name
        left_out += len(rows) - len(kept)
    assert left_out > 20


def calls_of(function: Callable[[], object]) -> int:
    """Calls of Python functions and builtins: what planning takes, whatever else the machine does."""
    count = 0

    def look(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_parts_of_one_kind_are_planned_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Residues of a transposed layer differ in where their padding lies."""
    backend, axis = library_backend(name), WindowDimension(16, 4, low=2, high=2, base_dilation=2)
    problem = make_problem(Geometry(2, 1, 64, 32, (axis,) * 2), "float32", backend, "cpu", current_settings())
    parts = make_program(problem, backend, "phases").parts
    assert [part.geometry for part in parts] == list(phases.parts(problem.geometry))
    assert len(parts) == 4 and len({part.algorithm for part in parts}) == 1
    make = partial(make_program.__wrapped__, problem, backend, "phases")
    once = calls_of(make)
    monkeypatch.setattr(planner, "_kind", lambda part: part.geometry)
    assert make().parts == parts
    assert once < 0.7 * calls_of(make)
