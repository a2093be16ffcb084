"""Measured plans: the algorithms that serve a call, timed in turn on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from time import perf_counter
from typing import Any

import numpy as np

from ..backend import Backend
from ..planner import execute, make_program, options
from ..program import Problem, Program
from ..transposes import kernel_for_input, swap_leading, x_for_kernel
from ..tuning import Entry, Tuning, case_of
from .plan import Plan, make_plan

Array = Any
#: Makes canonical x and kernel of a problem when it is their turn.
Make = Callable[[], tuple[Array, Array]]

#: An algorithm whose estimate is so many times the best measured seconds is left out.
HOPELESS = 20.0
#: One that took so many times as long as the best is not called again.
BEHIND = 3.0
#: Most samples of an algorithm, least seconds of a sample (short calls are repeated), most seconds of all samples.
SAMPLES, SAMPLE, LIMIT = 15, 1e-3, 0.25


def tune(
    op: Callable[..., Any],
    *shapes_or_arrays: Any,
    dtype: Any = "float32",
    library: str = "numpy",
    device: str = "cpu",
    **op_options: Any,
) -> Tuning:
    """The seconds that each algorithm takes for ``op`` on this machine, for ``settings(tuning=...)``.

    Timed are the call itself and, unless its dtype is an integer, both its gradients; where one of them is rewritten
    into smaller convolutions, or integers into floats, these too. Every algorithm that serves is called once to warm
    up, and then in turn with the others, some 0.25 s each or two calls, of which the median counts. Those are left out
    whose estimate is more than 20 times the best so far. The planner then takes the best of those measured. Nothing
    else may run meanwhile.

    Workspace and accuracy are those of the settings in force, and what was measured serves under the same ones. A
    progress bar shows on a terminal's standard error where tqdm is installed.

    Args:
        op: a linear operation of arrayconv, such as `conv`.
        shapes_or_arrays: for x, kernel and possibly bias, a shape, or an array. Arrays alone are timed with their own
            values and only read; where there is a shape, all arrays are random ones.
        dtype: of the arrays, where shapes are given.
        library: the arrays' library, where shapes are given.
        device: where shapes are given, the kind of device as the library calls it.
        op_options: the operation's keyword options, without ``algorithm``.

    Returns:
        A `Tuning`, empty where there is nothing to compute. Tunings of several calls are merged by ``|``.

    Raises:
        TypeError: arrays that are being traced or transformed, and what `plan` raises.
        ValueError: Dask (its blocks are planned one by one), a device that is not there, and what `plan` raises.

    >>> import arrayconv as ac
    >>> tuning = ac.tune(ac.correlate, (40,), (3,))
    >>> tuning
    Tuning(3 problems)
    >>> with ac.settings(tuning=tuning):
    ...     ac.plan(ac.correlate, (40,), (3,)).algorithm in ac.algorithms()
    True
    """
    if op_options.get("algorithm", "auto") != "auto":
        raise ValueError(f"tune: algorithm={op_options['algorithm']!r} leaves no choice to measure; leave it out")
    planned, arrays = make_plan("tune", op, shapes_or_arrays, dtype, library, device, op_options)
    backend = planned.backend
    if backend.has_blocks:
        raise ValueError(
            f"tune: {backend.name} plans each block on its own, for the block's library; tune that, with the shapes of "
            f"a block: library='numpy'"
        )
    problems = find_problems(planned, arrays, device)
    tuning = Tuning()
    with _bar(sum(len(serving(problem, backend)) for problem in problems)) as show:
        for problem, make in problems.items():
            seconds = time_problem(_under(problem, tuning), backend, make, show)
            rounded = tuple((name, float(f"{value:.3e}")) for name, value in seconds.items())
            tuning |= Tuning((Entry(case_of(problem), rounded),))
    return tuning


def _under(problem: Problem, tuning: Tuning | None) -> Problem:
    return replace(problem, settings=problem.settings._replace(tuning=tuning))


def find_problems(planned: Plan, arrays: list[Array], device: str) -> dict[Problem, Make]:
    """The call and its gradients, each after the parts into which it is rewritten, and how their arrays are made."""
    backend, problem = planned.backend, _under(planned.program.problem, None)
    xp, geometry, like = backend.xp, problem.geometry, arrays[0] if arrays else _scalar_on(backend, device)
    if arrays:
        x, kernel = planned.call.canonical(backend, *map(backend.detach, arrays[:2]))
    else:
        x, kernel = _random_pair(problem, backend, like)
    found: dict[Problem, Make] = {}

    def collect(problem: Problem, make: Make) -> None:
        rows = options(problem, backend)
        if any(row.name == "empty" and row.serves for row in rows):
            return
        for part in (part for row in rows for part in row.parts):
            collect(part.problem, partial(_random_pair, part.problem, backend, like))
        found.setdefault(problem, make)

    collect(problem, lambda: (x, kernel))
    if not problem.is_integer:
        dy = _random(backend, like, problem.dtype, geometry.y_shape)
        back = problem.with_geometry(geometry.input_transpose())
        collect(back, lambda: (dy, kernel_for_input(xp, geometry, kernel)))
        back = problem.with_geometry(geometry.kernel_transpose())
        collect(back, lambda: (x_for_kernel(xp, geometry, x), swap_leading(xp, dy)))
    return found


def serving(problem: Problem, backend: Backend) -> list[str]:
    """The algorithms that serve, from the cheapest estimate on."""
    rows = sorted(options(problem, backend), key=lambda row: row.seconds)
    return [row.name for row in rows if row.serves]


def time_problem(problem: Problem, backend: Backend, make: Make, show: Callable[[str], None]) -> dict[str, float]:
    """Median seconds of a call, an algorithm; ``show`` is told of each before it starts."""
    x, kernel = make()
    estimates = {row.name: row.seconds for row in options(problem, backend)}
    first: dict[str, float] = {}
    clocks: dict[str, Callable[[int], float]] = {}
    for name in serving(problem, backend):
        show(name)
        if estimates[name] > HOPELESS * min(first.values(), default=inf):
            continue
        clocks[name] = clock = partial(time_calls, backend, make_program(problem, backend, name), x, kernel)
        clock(1)
        first[name] = clock(1)
    near = [name for name, seconds in first.items() if seconds <= BEHIND * min(first.values())]
    samples: dict[str, list[float]] = {name: [] for name in near}
    for turn in range(SAMPLES):
        for name, taken in samples.items():
            if turn * max(first[name], SAMPLE) < LIMIT:
                taken.append(clocks[name](max(1, int(SAMPLE / first[name]))))
    return first | {name: float(np.median(taken)) for name, taken in samples.items()}


def time_calls(backend: Backend, program: Program, x: Array, kernel: Array, calls: int) -> float:
    """Seconds of a call, each waited for."""
    start = perf_counter()
    for _ in range(calls):
        y = execute(program, backend, x, kernel)
        try:
            backend.wait(y)
        except TypeError as error:
            raise TypeError(f"tune: {error}; call tune outside of transformations, with shapes for example") from error
    return (perf_counter() - start) / calls


def _scalar_on(backend: Backend, device: str) -> Array:
    """What tells `Backend.from_numpy` where to go."""
    try:
        scalar = backend.scalar_on(device)
        found = backend.device_kind(scalar)
    except (RuntimeError, AssertionError) as error:  # PyTorch built without that device raises the second
        raise ValueError(f"tune: device={device!r} is not there for {backend.name}: {error}") from error
    if found != device:
        raise ValueError(f"tune: device={device!r} is not where {backend.name} runs, which is {found!r}")
    return scalar


def _random_pair(problem: Problem, backend: Backend, like: Array) -> tuple[Array, Array]:
    geometry = problem.geometry
    x, kernel = (_random(backend, like, problem.dtype, shape) for shape in (geometry.x_shape, geometry.kernel_shape))
    return x, kernel


def _random(backend: Backend, like: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    """Small integers, or normal numbers."""
    generator = np.random.default_rng(0)
    values: np.ndarray[Any, Any]
    if "int" in dtype:
        values = generator.integers(0, 10, shape, np.int8)
    else:
        values = generator.standard_normal(shape, np.float32)
        if "complex" in dtype:
            values = values + np.complex64(1j) * generator.standard_normal(shape, np.float32)
    return backend.cast(backend.from_numpy(values, like), backend.dtype(dtype))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    """tqdm's bar on a terminal's standard error; without tqdm nothing shows."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda name: None
        return
    with tqdm(total=total, desc="tune", unit="run", leave=False, disable=None) as bar:

        def show(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        yield show
