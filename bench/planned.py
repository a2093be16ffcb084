"""What the planner says of a call: the one file of the benchmark that looks inside arrayconv."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import arrayconv as ac
from arrayconv.backend import Backend, library_backend
from arrayconv.planner import current_settings, derive, make_problem, make_program, options
from arrayconv.program import Problem, Program
from bench.workloads import Workload

#: Algorithms whose estimate is beyond this many times the best one are not tried.
HOPELESS = 30.0


class Candidate(NamedTuple):
    """A program that an algorithm's name, or "auto", leads to."""

    label: str
    program: Program
    estimate: float


def label(program: Program) -> str:
    """``gemm``; ``phases/gemm`` for a rewrite whose parts run so."""
    names = sorted({label(part) for part in program.parts})
    return f"{program.algorithm}/{'+'.join(names)}" if names else program.algorithm


def head(label: str) -> str:
    """The algorithm of a `label`, and of what was timed as the planner's choice: ``phases`` of ``auto phases/gemm``."""
    return label.removeprefix("auto ").partition("/")[0]


def names_in(label: str) -> list[str]:
    """The algorithms of a `label` and of its parts."""
    return label.removeprefix("auto ").replace("+", "/").split("/")


def same_run(a: Program, b: Program) -> bool:
    """Whether two programs do the same, whatever was asked for."""
    return (
        (a.problem, a.algorithm, a.block) == (b.problem, b.algorithm, b.block)
        and len(a.parts) == len(b.parts)
        and all(map(same_run, a.parts, b.parts))
    )


def candidates(problem: Problem, library: str, factor: float = HOPELESS) -> tuple[Candidate, list[Candidate]]:
    """What "auto" runs, and one program for each algorithm that serves and isn't hopeless, no two alike."""
    backend = library_backend(library)
    rows = {row.name: row.seconds for row in options(problem, backend) if row.serves}
    program = make_program(problem, backend)
    auto = Candidate(label(program), program, rows[program.algorithm])
    found: list[Candidate] = []
    for name in rows:
        estimate, named = _named(problem, backend, name)
        is_new = named is not None and not any(same_run(named, other.program) for other in found)
        if named is not None and is_new and estimate <= factor * auto.estimate:
            found.append(Candidate(label(named), named, estimate))
    return auto, found


def _named(problem: Problem, backend: Backend, name: str) -> tuple[float, Program | None]:
    served = [row for row in options(problem, backend, name) if row.serves]
    try:
        program = make_program(problem, backend, name)
    except ValueError:
        return float("inf"), None
    return next(row.seconds for row in served if row.name == program.algorithm), program


def promises_elementwise() -> bool:
    """Whether the settings in force bound the error of each single number."""
    return current_settings().accuracy == "elementwise"


def call_problem(geometry: Any, library: str, dtype: str = "float32") -> Problem:
    """The problem of a planned call on a CPU's arrays, under the settings in force."""
    return make_problem(geometry, dtype, library_backend(library), "cpu", current_settings())


def chosen(workload: Workload, library: str) -> tuple[str, int]:
    """The algorithm that "auto" runs for a workload, and the bytes of its workspace; "" where nothing is planned."""
    if workload.kind in ("deform", "learn"):
        return "", 0
    own = workload.own
    program = ac.plan(own.op, *own.shapes, library=library, **own.options).program
    geometry = program.geometry
    if workload.transform == "examples" and library == "jax":  # whose vmap is planned; PyTorch's maps the planned call
        program = derive(program, replace(geometry, groups=workload.shapes[0][0] * geometry.groups))
    if workload.transform == "gradient":
        programs = [derive(program, geometry.input_transpose()), derive(program, geometry.kernel_transpose())]
        return " + ".join(map(label, programs)), max(part.workspace for part in programs)
    return label(program), program.workspace


def algorithms(workload: Workload, library: str) -> list[str]:
    """The names worth timing one by one."""
    if workload.kind in ("deform", "learn"):
        return []
    own = workload.own
    plan = ac.plan(own.op, *own.shapes, library=library, **own.options)
    rows = {row.name: row.seconds for row in options(plan.program.problem, plan.backend) if row.serves}
    best = min(rows.values())
    names = [name for name in ac.algorithms() if name in rows or plan.program.parts]
    return [name for name in names if rows.get(name, best) <= HOPELESS * best]
