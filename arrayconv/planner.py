"""The choice: shapes, dtypes and settings in, a `Program` out. It never sees an array's values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache, lru_cache, partial
from math import inf
from typing import Any, NamedTuple

from .algorithms import ALGORITHMS, run
from .algorithms.algorithm import Algorithm, budget_of
from .algorithms.native import dgrad_seconds
from .algorithms.rates import part_share
from .algorithms.wgrad import wgrad_seconds
from .arguments import read_int, read_word
from .backend import Backend, Planning, Run, Steps, library_backend
from .geometry import Geometry
from .layout import Layout
from .program import ACCURACIES, Problem, Program, Settings
from .transposes import correlate_input, correlate_taps
from .tuning import Tuning, measured_seconds

Array = Any

#: Half types are summed in float32 on every library (DESIGN's rule for floats, and ONNX's and cuDNN's practice).
ACCUMULATORS = {"float16": "float32", "bfloat16": "float32"}

_DEFAULTS = Settings()
_SETTINGS: ContextVar[Settings] = ContextVar("arrayconv_settings", default=_DEFAULTS)


@contextmanager
def settings(
    *, workspace: int | None = None, accuracy: str | None = None, tuning: Tuning | None = None
) -> Iterator[Settings]:
    """Settings for every call that is planned inside the ``with`` block, in this thread or task.

    Args:
        workspace: most bytes of temporary memory for one call (default 64 MiB). The library's own convolution keeps its
            own scratch, and a boundary other than zero may cost one padded copy beside.
        accuracy: ``"elementwise"`` keeps every output within the error of the library's own convolution;
            ``"normwise"`` bounds the error relative to the largest possible output, ``max|x| * sum|kernel|``, only
            (`arrayconv.testing.error_bound`), and admits faster methods: Winograd's, transforms in single precision.
        tuning: measured seconds, from `tune` or `Tuning.load`, that replace estimates; an empty ``Tuning()`` undoes an
            outer one.

    A `plan` and a jitted function keep the settings under which they were made.

    Raises:
        TypeError: a ``tuning`` that is none.
        ValueError: ``workspace`` below 1 or an unknown ``accuracy``.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> with ac.settings(workspace=2**20):
    ...     ac.correlate(np.ones(4), np.ones(2))
    array([2., 2., 2.])
    """
    if not isinstance(tuning, Tuning | None):
        raise TypeError(
            f"settings: tuning must be a Tuning, got {tuning!r}; arrayconv.tune makes one, Tuning.load reads one"
        )
    outer = _SETTINGS.get()
    chosen = Settings(
        outer.workspace if workspace is None else read_int("settings", "workspace", workspace, 1),
        outer.accuracy if accuracy is None else read_word("settings", "accuracy", accuracy, ACCURACIES),
        outer.tuning if tuning is None else tuning,
    )
    token = _SETTINGS.set(chosen)
    try:
        yield chosen
    finally:
        _SETTINGS.reset(token)


def current_settings() -> Settings:
    """The settings in force in this context."""
    return _SETTINGS.get()


def algorithms() -> tuple[str, ...]:
    """The names that ``algorithm=`` takes beside ``"auto"``.

    >>> import arrayconv as ac
    >>> "native" in ac.algorithms()
    True
    """
    return tuple(name for name in ALGORITHMS if name != "empty")


def make_problem(geometry: Geometry, dtype: str, backend: Backend, device: str, chosen: Settings) -> Problem:
    """The problem of an operation: its accumulator follows from its dtype and library."""
    accumulator = ACCUMULATORS.get(dtype) or backend.accumulators.get(dtype, dtype)
    return Problem(geometry, dtype, accumulator, backend.name, device, chosen)


@lru_cache(maxsize=4096)
def make_program(
    problem: Problem, backend: Backend, requested: str = "auto", op: str = "conv", laid: float = 0.0
) -> Program:
    """The requested algorithm, or for "auto" the cheapest that serves; ``laid`` as `options` takes it."""
    rows = options(problem, backend, requested, beaten=False, laid=laid)
    if not rows:
        raise ValueError(f"{op}: {_refusal(problem, backend, requested)}")
    best = min(rows, key=lambda row: (row.name not in ("empty", requested), row.rank))
    return _program(problem, backend, requested, best, rows if requested == "auto" else None)


def _refusal(problem: Problem, backend: Backend, requested: str) -> str:
    """Why nothing that the request admits can serve."""
    reasons = {row.name: row.reason for row in options(problem, backend, requested) if row.name != "empty"}
    if requested == "auto":
        return f"no algorithm can serve this call: {'; '.join(dict.fromkeys(reasons.values()))}"
    return f"algorithm={requested!r} can't serve this call: {reasons[requested]}; use algorithm='auto'"


class Option(NamedTuple):
    """A line of the planner's table: seconds, estimated or measured, and a rewrite's parts, or why it can't serve."""

    name: str
    seconds: float
    parts: tuple[Program, ...] = ()
    reason: str = ""
    measured: bool = False

    @property
    def serves(self) -> bool:
        return not self.reason

    @property
    def rank(self) -> tuple[bool, float]:
        """What was measured goes first: an estimate says nothing beside it."""
        return not self.measured, self.seconds


def _program(
    problem: Problem, backend: Backend, requested: str, row: Option, rows: list[Option] | None = None
) -> Program:
    """Tiles within the workspace, and the programs that stand beside or under it; ``rows`` as "auto" has them."""
    algorithm = ALGORITHMS[row.name]
    block = algorithm.blocks(problem, backend, budget_of(problem))
    (at_once, workspace), rank, otherwise = algorithm.held(problem, backend, block, row.seconds), 1, None
    workspace += sum(part.workspace for part in row.parts[:1])
    if algorithm.is_conditional:
        rows = options(problem, backend, beaten=False) if rows is None else rows
        other = min([own for own in rows if _stands_in(own.name, row.name)], key=lambda row: row.rank)
        otherwise = _program(problem, backend, "auto", other, rows)
        rank, workspace = algorithm.rank(problem, backend, other.seconds), max(workspace, otherwise.workspace)
    return Program(problem, row.name, requested, block, workspace, row.parts, rank, at_once, otherwise)


def _stands_in(name: str, conditional: str) -> bool:
    """Whether an algorithm may run where the values at hand rule out a conditional one: any that takes all values, and
    those before it in the table, which take more of them.
    """
    names = tuple(ALGORITHMS)
    return not ALGORITHMS[name].is_conditional or names.index(name) < names.index(conditional)


def options(
    problem: Problem, backend: Backend, requested: str = "auto", *, beaten: bool = True, laid: float = 0.0
) -> list[Option]:
    """One `Option` for each algorithm that the request admits; rewrites are asked too, since they run it in parts.

    Without ``beaten`` only those that serve, and none whose least cost is above another's cost. ``laid`` is what all
    but the library's own convolution take for a kernel in the order of the problem (`Backend.laying`).
    """
    asked: Iterable[Algorithm] = ALGORITHMS.values()
    if requested != "auto":
        asked = [own for own in asked if own.name in ("empty", requested) or own.parts is not None]
    if ALGORITHMS["empty"].unsupported(problem, backend) is None:
        others = [Option(own.name, inf, reason=NOTHING) for own in asked if own.name != "empty"]
        return [Option("empty", 0.0), *(others if beaten else ())]
    rows: list[Option] = []
    known, best = measured_seconds(problem), inf
    is_open = not beaten and not known and requested == "auto"
    for algorithm in asked:
        name, limit = algorithm.name, best if is_open else inf
        if algorithm.least is not None and limit < inf and algorithm.least_cost(problem, backend) > limit:
            continue
        reason = algorithm.unsupported(problem, backend)
        if reason is None:
            wish = "auto" if requested == name else requested
            row = _option(algorithm, problem, backend, wish, known.get(name), limit)
            if laid and name != "native":
                row = row._replace(seconds=row.seconds + laid)
            best = min(best, row.seconds)
            if row.serves or beaten:
                rows.append(row)
        elif beaten:
            rows.append(Option(name, inf, (), reason))
    return rows


#: Why nothing but "empty" computes a result without elements, or sums without terms.
NOTHING = "there is nothing to compute"

#: Why a rewrite is not planned to its end.
BEATEN = "another algorithm is faster"


def _option(
    algorithm: Algorithm, problem: Problem, backend: Backend, wish: str, seconds: float | None, limit: float
) -> Option:
    """Of one algorithm that serves, whose seconds may be measured. The parts of a rewrite are planned as long as it is
    not beaten, one of a kind for all of them; ``wish`` is what to run them by.
    """
    name, is_measured = algorithm.name, seconds is not None
    spent = algorithm.cost(problem, backend) if seconds is None else seconds
    if algorithm.parts is None:
        return Option(name, spent, (), "", is_measured)
    if spent > limit:
        return Option(name, inf, reason=BEATEN)
    parts, share = algorithm.parts(problem), part_share(problem.library, problem.device, name)
    counts = Counter(map(_kind, parts))
    models: dict[object, Program] = {}
    programs: dict[Problem, Program] = {}
    try:
        for part in dict.fromkeys(parts):
            if spent > limit:
                return Option(name, inf, reason=BEATEN)
            kind = _kind(part)
            own = _like(models[kind], part, backend) if kind in models else None
            program = make_program.__wrapped__(part, backend, wish) if own is None else own
            if kind not in models and not is_measured:
                spent += counts[kind] * share * expected_seconds(program, backend)
            models[kind] = programs[part] = program
    except ValueError as error:
        return Option(name, inf, reason=str(error))
    return Option(name, spent, tuple([programs[part] for part in parts]), measured=is_measured)


def _kind(part: Problem) -> object:
    """What parts of a rewrite have in common that are planned once: all but where their padding lies. What was measured
    is of one geometry alone.
    """
    geometry = part.geometry
    if part.settings.tuning is not None:
        return geometry
    steps = [(axis.stride, axis.window_dilation, axis.base_dilation) for axis in geometry.axes]
    return geometry.x_shape, geometry.kernel_shape, geometry.y_shape, geometry.groups, *steps


def _like(model: Program, problem: Problem, backend: Backend) -> Program | None:
    """The model's algorithm for another part of its kind, unless that is a rewrite or can't serve it."""
    if model.parts or ALGORITHMS[model.algorithm].unsupported(problem, backend) is not None:
        return None
    return _program(problem, backend, model.requested, Option(model.algorithm, 0.0))


def expected_seconds(program: Program, backend: Backend) -> float:
    """Of a part of a rewrite, which may be another rewrite: measured, or else estimated."""
    known = measured_seconds(program.problem).get(program.algorithm)
    if known is not None:
        return known
    problem, algorithm = program.problem, ALGORITHMS[program.algorithm]
    share = part_share(problem.library, problem.device, algorithm.name)
    return algorithm.cost(problem, backend) + share * sum(expected_seconds(part, backend) for part in program.parts)


@lru_cache(maxsize=4096)
def replan(program: Program, geometry: Geometry, library: str) -> Program:
    """A program for a geometry derived from a planned one (a transpose, a batch, a block of a Dask array).

    The user's algorithm is kept where it serves the derived geometry too.
    """
    problem = replace(program.problem, geometry=geometry, library=library)
    backend = library_backend(library)
    try:
        return make_program.__wrapped__(problem, backend, program.requested)
    except ValueError:
        return make_program.__wrapped__(problem, backend, "auto")


def derive(program: Program, geometry: Geometry, library: str | None = None) -> Program:
    """`replan` for the program's own library, or for another one."""
    return replan(program, geometry, library or program.problem.library)


def followed_seconds(program: Program, backend: Backend, is_followed: bool) -> float:
    """`expected_seconds` of a run whose kernel's values are not looked at where something follows it."""
    unseen = program.otherwise if is_followed else None
    return expected_seconds(unseen or program, backend)


PLANNING = Planning(run, derive, followed_seconds, dgrad_seconds, wgrad_seconds)


@cache
def _closed(close: Callable[[Backend, Planning], Run], backend: Backend) -> Run:
    return close(backend, PLANNING)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """A planned call on canonical arrays, through the backend's own closure (JAX's primitive, Dask's blocks)."""
    if backend.close is None or backend.is_compiling():  # a compiler looks into steps
        return run(program, backend, x, kernel)
    return _closed(backend.close, backend)(program, x, kernel)


def bind(program: Program, backend: Backend) -> Callable[[Array, Array], Array]:
    """`execute` of one program, for arrays outside a compiler that traces Python."""
    if backend.close is None:
        return partial(ALGORITHMS[program.algorithm].execute, program, backend)
    return partial(_closed(backend.close, backend), program)


def bind_whole(program: Program, backend: Backend, layout: Layout, otherwise: Steps) -> Steps:
    """``otherwise``, or what a backend has in its place."""
    own = None if backend.whole is None else backend.whole(PLANNING, backend, program, layout, otherwise)
    return otherwise if own is None else own


def execute_input(program: Program, backend: Backend, dy: Array, kernel: Array) -> Array:
    """x's cotangent from y's and the kernel, by a program for `Geometry.input_transpose`."""
    return correlate_input(backend.xp, lambda program, *arrays: execute(program, backend, *arrays), program, dy, kernel)


def execute_taps(program: Program, backend: Backend, x: Array, dy: Array) -> Array:
    """The kernel's cotangent from x and y's, by a program for `Geometry.kernel_transpose`."""
    if backend.close_taps is None:
        return correlate_taps(backend.xp, lambda program, *arrays: execute(program, backend, *arrays), program, x, dy)
    return _closed(backend.close_taps, backend)(program, x, dy)
