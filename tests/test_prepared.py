"""What an algorithm derives from a program: at the first run, beside the program's value."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS, prepare_all
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, execute, make_problem, make_program
from arrayconv.program import Program

#: Algorithms that NumPy has no use for, and a library that has.
ELSEWHERE = {"native": "jax", "stretch": "jax", "abreast": "jax", "reduce": "jax", "wgrad": "torch"}

DERIVED = Geometry(2, 1, 1, 1, (WindowDimension(200, 3), WindowDimension(210, 4)))


def fresh_program(name: str, library: str = "numpy") -> Program:
    backend = library_backend(library)
    chosen = current_settings()._replace(workspace=2**18, accuracy="normwise")
    axes = tuple(replace(axis, base_dilation=2) for axis in DERIVED.axes)
    geometry = replace(DERIVED, axes=axes) if name in ("phases", "subpixel") else DERIVED
    if name in ("winograd", "reduce"):
        geometry = replace(DERIVED, axes=(WindowDimension(200, 3 if name == "winograd" else 195),) * 2)
    if name == "trim":
        geometry = replace(DERIVED, axes=(WindowDimension(200, 3, 1, 300, 300, 300),) * 2)
    if name in ("stretch", "kn2row"):
        geometry = replace(DERIVED, inputs=17)
    if name == "abreast":
        geometry = replace(DERIVED, outputs=255, axes=(WindowDimension(3, 3), WindowDimension(80, 60)))
    if name in ("lags", "wgrad"):
        geometry = replace(DERIVED, axes=(WindowDimension(60, 55),) * 2)
    dtype = "int64" if name in ("floats", "rounded") else "float32"
    return make_program.__wrapped__(make_problem(geometry, dtype, backend, "cpu", chosen), backend, name)


def tree(program: Program) -> list[Program]:
    return [program, *(inner for part in program.parts for inner in tree(part))]


@pytest.mark.parametrize(("name", "library"), [(name, ELSEWHERE.get(name, "numpy")) for name in ac.algorithms()])
def test_a_program_prepares_itself_when_it_first_runs(name: str, library: str) -> None:
    """Beside its value: no comparison, hash, copy or pickle knows of it."""
    program, other, backend = fresh_program(name, library), fresh_program(name, library), library_backend(library)
    assert program.algorithm == name and all(own.prepared is None for own in tree(program))
    dtype = getattr(backend.xp, program.problem.dtype)
    x, kernel = (backend.xp.ones(shape, dtype=dtype) for shape in arrays_of(program))
    y = np.asarray(execute(program, backend, x, kernel))
    ran = [own.prepared for own in tree(program)]
    assert any(made is not None for made in ran)
    assert program == other and hash(program) == hash(other) and repr(program) == repr(other)
    for copied in (pickle.loads(pickle.dumps(program)), copy(program), replace(program, requested="auto")):
        assert copied.prepared is None
        np.testing.assert_array_equal(np.asarray(execute(copied, backend, x, kernel)), y)
    execute(program, backend, x, kernel)
    assert all(own.prepared is made for own, made in zip(tree(program), ran, strict=True))
    prepare_all(other, backend)
    assert all(
        own.prepared is not None
        for own in tree(other)
        if own.algorithm not in ("phases", "subpixel", "floats", "rounded")
    )


def arrays_of(program: Program) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return program.geometry.x_shape, program.geometry.kernel_shape


def test_threads_prepare_one_program_at_once() -> None:
    program, backend, count = fresh_program("gemm"), library_backend("numpy"), 8
    x, kernel = (np.arange(prod(shape), dtype="float32").reshape(shape) % 7 for shape in arrays_of(program))
    barrier = threading.Barrier(count)

    def run(_: int) -> Any:
        barrier.wait()
        return execute(program, backend, x, kernel)

    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(run, range(count)))
    assert len(program.prepared.tiles) > 1
    for y in results:
        np.testing.assert_array_equal(y, results[0])


def test_neither_a_plan_nor_a_failed_request_prepares_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning costs the same for however many tiles."""
    gemm = ALGORITHMS["gemm"]._replace(prepare=lambda *_: pytest.fail("prepared while planning"))
    monkeypatch.setitem(ALGORITHMS, "gemm", gemm)
    assert ac.plan(ac.conv, (3, 2, 501, 503), (2, 2, 3, 3), algorithm="gemm").algorithm == "gemm"
    plan = ac.plan(ac.conv, (3, 2, 501, 503), (2, 2, 3, 3), algorithm="gemm", library="dask")
    assert plan.program.prepared is None
