"""The record that every algorithm is, and the sizes of the tiles in which most of them work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, prod
from typing import Any, NamedTuple

from ..backend import Backend, Workers
from ..geometry import Geometry
from ..program import Problem, Program
from .rates import Counts, rates_of, seconds_of

Array = Any


class Algorithm(NamedTuple):
    """``unsupported`` gives the reason why a problem can't be served, or None; ``counts`` how much of each kind of work
    it is, from shapes alone, in the units of `rates.py`.

    ``execute`` takes canonical arrays, ``x (N, G * I, *s)`` and ``kernel (G * O, I, *k)``, and gives
    ``y (N, G * O, *o)`` of the problem's dtype. ``unit`` is the temporary bytes for each position of the output, from
    which ``block`` takes the largest piece ``(batch, *out)`` within a budget of bytes, and ``prepare`` makes tiles of
    that; ``places`` of it are held at once, which are all unless it says so. ``fixed`` bytes come on top, once.
    ``groups`` is how many groups of channels a piece has, which is all of them unless it says so. ``parts``: the
    problems that a rewrite hands on. ``crew``: the backend's threads on which tiles may run, if any. ``condition``:
    what values have to be like, of a ``program`` that carries the best of all others for those that are not. ``rank``
    is the largest rank of a kernel at which it takes no longer than that one's seconds. ``least``: counts that those of
    ``counts`` are never below, where these take long. ``inner`` names the algorithm that does its work, at whose prices
    that is, but for ``units``. ``is_sum``: of the result a compiler would compute an element wherever it is read.
    """

    name: str
    unsupported: Callable[[Problem, Backend], str | None]
    counts: Callable[[Problem, Backend], Counts]
    execute: Callable[[Program, Backend, Array, Array], Array]
    unit: Callable[[Problem, Backend], int] = lambda problem, backend: 0
    prepare: Callable[[Problem, Backend, tuple[int, ...]], Any] = lambda problem, backend, block: None
    parts: Callable[[Problem], tuple[Problem, ...]] | None = None
    block: Callable[[Problem, Backend, int], tuple[int, ...]] | None = None
    crew: Callable[[Backend], Workers | None] = lambda backend: None
    places: Callable[[Problem, Backend, tuple[int, ...]], int] = lambda problem, backend, block: prod(block)
    fixed: Callable[[Problem, Backend, tuple[int, ...]], int] = lambda problem, backend, block: 0
    groups: Callable[[Problem, Backend, tuple[int, ...]], int] | None = None
    condition: str = ""
    rank: Callable[[Problem, Backend, float], int] = lambda problem, backend, seconds: 1
    least: Callable[[Problem, Backend], Counts] | None = None
    inner: Callable[[Problem, Backend], str] | None = None
    units: tuple[str, ...] = ()
    is_sum: bool = False

    @property
    def is_conditional(self) -> bool:
        return bool(self.condition)

    def cost(self, problem: Problem, backend: Backend) -> float:
        """Estimated seconds, without those of a rewrite's parts."""
        return seconds_of(self.rates(problem, backend), self.counts(problem, backend))

    def least_cost(self, problem: Problem, backend: Backend) -> float:
        """Seconds that `cost` is never below."""
        return 0.0 if self.least is None else seconds_of(self.rates(problem, backend), self.least(problem, backend))

    def rates(self, problem: Problem, backend: Backend) -> Mapping[str, float]:
        """Seconds a unit."""
        return rates_of(problem, self.name, "" if self.inner is None else self.inner(problem, backend))

    def pricer(self, problem: Problem, backend: Backend, unit: str) -> str:
        """The algorithm at whose price a kind of its work is."""
        return self.name if self.inner is None or unit in self.units else self.inner(problem, backend)

    def workers(self, backend: Backend) -> int:
        """Tiles that are computed at once."""
        return count_of(self.crew(backend))

    def held(self, problem: Problem, backend: Backend, block: tuple[int, ...], seconds: float = inf) -> tuple[int, int]:
        """Pieces of this size that are computed at the same time, one for each of the crew or as many as fit the
        budget, and the temporary bytes of them all; one, of a call that takes fewer ``seconds`` than threads save.
        """
        piece, fixed = self.piece(problem, backend, block), self.fixed(problem, backend, block)
        count = self.workers(backend) if seconds > MEETING else 1
        if count > 1 and piece > 0:
            count = max(1, min(count, (budget_of(problem) - fixed) // piece))
        return count, piece * count + fixed

    def piece(self, problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
        """Temporary bytes of one of them."""
        piece = self.unit(problem, backend) * self.places(problem, backend, block)
        if self.groups is None:
            return piece
        return -(-piece * self.groups(problem, backend, block) // problem.geometry.groups)

    def blocks(self, problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
        """The pieces that fit the budget, of which each worker has its share; what is `fixed` they have together."""
        budget //= self.workers(backend)
        if self.block is not None:
            return self.block(problem, backend, budget)
        return block_shape(problem.geometry, self.unit(problem, backend), budget)


#: Seconds of a call that are not worth waking threads for. Two tiles of 21, 44 and 97 us took 42, 77 and 156 us one
#: after the other, 140, 143 and 187 by two threads; after 3 ms of sleep 70, 113 and 268, and 232, 269 and 723. Six of
#: 97 us took 466, and 346.
MEETING = 4e-4


#: The fields of an algorithm that depend on the way it goes.
CHOSEN = ("unsupported", "counts", "execute", "unit", "prepare", "block", "places", "fixed", "least")


def by_backend(name: str, choose: Callable[[Backend], Algorithm], fields: Sequence[str] = CHOSEN) -> Algorithm:
    """Matrix products in several ways, each with all ``fields``; ``choose`` gives the one that suits a backend."""

    def field(what: str) -> Any:
        def call(first: Any, backend: Backend, *more: Any) -> Any:
            return getattr(choose(backend), what)(first, backend, *more)

        return call

    return Algorithm(name, crew=products_on, **{what: field(what) for what in fields})


def loops_on(backend: Backend) -> Workers | None:
    """The crew of tiles of plain loops and transforms."""
    return backend.workers


def products_on(backend: Backend) -> Workers | None:
    """The crew of tiles of matrix products."""
    return backend.multipliers


def count_of(crew: Workers | None) -> int:
    """Tiles that are computed at once."""
    return 1 if crew is None else crew.count


def positions(geometry: Geometry) -> int:
    """Places of the window, over all images."""
    return geometry.batch * prod(geometry.out)


def pieces(problem: Problem, backend: Backend, unit: int, caches: int = 1) -> float:
    """About how many tiles a call with temporaries of ``unit`` bytes a position is cut into."""
    return 1 + positions(problem.geometry) * unit / cache_budget(problem, backend, problem.settings.workspace, caches)


def in_floats(problem: Problem) -> float:
    """Elements of the accumulator's type as elements of float32."""
    return problem.itemsize / 4


def padded(geometry: Geometry, size: float) -> float:
    """Floats of x that are copied to get zeros, ``size`` of them an element."""
    return prod(geometry.x_shape) * size if geometry.is_padded else 0.0


def shared(crew: Workers | None, tiles: float) -> str:
    """The word for work in about so many tiles that threads share, which has prices of its own."""
    return "shared " if crew is not None and tiles > 2 else ""


#: Floats of x and y above which they come from memory, and new pages of y from the system.
CACHED = 2**20


def beyond_cache(geometry: Geometry, size: float) -> float:
    """Floats of x and y that no cache holds, ``size`` of them an element."""
    return max(0.0, (prod(geometry.x_shape) + prod(geometry.y_shape)) * size - CACHED)


#: Floats above which an array has pages of its own, which the system clears (glibc: 32 MiB).
FRESH = 2**23


def fresh(size: float, count: float) -> float:
    """Floats of ``count`` elements that lie on new pages: all or none."""
    return count * size if count * size > FRESH else 0.0


#: Every algorithm by name; `algorithms/__init__.py` lists them.
ALGORITHMS: dict[str, Algorithm] = {}


def run(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """A program on canonical arrays, by the algorithm that it names."""
    return ALGORITHMS[program.algorithm].execute(program, backend, x, kernel)


def base_dilated(problem: Problem) -> str | None:
    """The reason of algorithms that leave a base dilation to the rewrite `phases`."""
    if problem.geometry.is_base_dilated:
        return "a base dilation is split into phases first"
    return None


#: Percent of the workspace that tiles are planned for: slices, tables and the allocator's rounding take the rest.
MARGIN = 75


def budget_of(problem: Problem) -> int:
    """Bytes for all tiles that are computed at once."""
    return MARGIN * problem.settings.workspace // 100


def cache_budget(problem: Problem, backend: Backend, budget: int, caches: int = 1) -> int:
    """Bytes of temporaries that stay in a CPU's cache, for methods that read them again soon; or of several caches."""
    if backend.cache is None or not problem.is_on_cpu:
        return budget
    return min(budget, caches * backend.cache)


def block_shape(geometry: Geometry, unit: int, budget: int) -> tuple[int, ...]:
    """The largest block of outputs, last axes first, whose temporaries of ``unit`` bytes each fit the budget.

    An axis that is cut is cut evenly: a thin last piece would cost as many calls as a whole one.
    """
    room = max(1, budget // max(1, unit))
    block: list[int] = []
    for count in reversed((geometry.batch, *geometry.out)):
        pieces = -(-max(1, count) // room)
        block.append(-(-max(1, count) // pieces))
        room = room // block[-1] if pieces == 1 else 1
    return tuple(reversed(block))


#: Rounds of tiles from which it matters little that some of a crew have none in the last one.
ROUNDS = 4


def shared_block(geometry: Geometry, block: tuple[int, ...], count: int, whole: int = 1) -> tuple[int, ...]:
    """A block of several cut further along its first axis, so that each of ``count`` threads has as many of them, where
    that can be; ``whole`` outputs of an axis are not parted, nor what lies in one piece.

    One tile is left to the library's threads: ours would take a tenth of a millisecond to meet.
    """
    tiles = tiles_of(geometry, block)
    if tiles == 1 or tiles % count == 0 or tiles > ROUNDS * count:
        return block
    steps = (1, *(whole,) * geometry.ndim)
    first = next((i for i, (own, step) in enumerate(zip(block, steps, strict=True)) if own > step), None)
    if first is None:
        return block
    places, step = (geometry.batch, *geometry.out)[first], steps[first]
    pieces = count * -(-places // (block[first] * count))
    more = (*block[:first], step * -(-places // (pieces * step)), *block[first + 1 :])
    return more if tiles_of(geometry, more) % count == 0 else block


def groups_of(geometry: Geometry, unit: int, block: tuple[int, ...], budget: int) -> int:
    """Groups of a tile whose ``block`` was made for one of them: as many as the budget holds, in even pieces."""
    groups = max(1, geometry.groups)
    room = max(1, budget * groups // max(1, unit * prod(block)))
    return -(-groups // -(-groups // room))


def tiles_of(geometry: Geometry, block: tuple[int, ...], groups: int | None = None) -> int:
    """Tiles of ``block`` and so many groups, or all."""
    whole = (geometry.batch, *geometry.out)
    count = prod([-(-count // n) for count, n in zip(whole, block, strict=True)])
    return count if groups is None else count * -(-geometry.groups // groups)


def prepared(program: Program, backend: Backend) -> Any:
    """What the algorithm's ``prepare`` derives: at the first run, since many programs are planned and never run.

    Threads that meet here derive equal values, and keep one of them.
    """
    if program.prepared is None:
        made = ALGORITHMS[program.algorithm].prepare(program.problem, backend, program.block)
        object.__setattr__(program, "prepared", made)
    return program.prepared


def prepare_all(program: Program, backend: Backend) -> None:
    """A program and its parts ready to run, for a compiler that traces Python and can't see a value kept."""
    prepared(program, backend)
    for part in (*program.parts, program.otherwise):
        if part is not None:
            prepare_all(part, backend)
