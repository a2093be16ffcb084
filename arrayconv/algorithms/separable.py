"""A kernel of low rank: for each product of vectors one pass an axis, which is a product with a banded matrix.

Whether a kernel is a sum of few products (`products.py`), its values tell, and planning never reads values. So a
program of this algorithm carries the best program of all others, and how many products pay beside that: each call looks
at its kernel, and where that takes more of them, or is hidden by a transformation, the other program runs.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend, library_backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem, Program
from .algorithm import Algorithm, base_dilated, block_shape, cache_budget, in_floats, run
from .guard import guarded
from .products import Product, products
from .rates import Counts, rates_of, seconds_of
from .tiles import Tile, Tiling, make_tiling, run_tiled
from .values import hidden, shown

Array = Any
NumPyArray = np.ndarray[Any, Any]

#: Outputs of one axis that are one product; a pass takes the best.
BLOCKS = (8, 16, 32, 64, 128, 256)

#: Rows of a product at which it runs at half its rate, and products in the time of a call.
HALF_ROWS, CALL = 16, 10**5

#: Looks that the passes have to save: most kernels are no products, and theirs are in vain.
LOOKS = 20

#: Products at most, and the share of the other program's seconds that their passes may take: estimates err.
MOST, SHARE = 8, 0.7

#: The share of them that a search for more products than one may take in vain; each is a third of a look.
IN_VAIN = 0.01


class Pass(NamedTuple):
    """A spatial axis, its outputs in blocks, the inputs that a block meets, and from them to those of the next."""

    place: int
    block: int
    blocks: int
    reach: int
    spacing: int


class Details(NamedTuple):
    """The zeros around a tile, beyond the last whole blocks too, and its passes."""

    widths: tuple[tuple[int, int], ...]
    passes: tuple[Pass, ...]


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if geometry.groups * geometry.inputs * geometry.outputs != 1:
        return "it takes one channel in and one out"
    if problem.is_exact:
        return "factors of integers need not be integers"
    if sum(n > 1 for n in geometry.window) < 2:
        return "fewer than two axes have several taps"
    if (reason := hidden(problem, backend, "kernel's") or base_dilated(problem)) is not None:
        return reason
    most = problem.settings.workspace // 2
    if window_bytes(problem) > most and (least := held(problem, backend, (1,) * (1 + geometry.ndim))) > most:
        return f"one window and the kernel take {least} bytes; settings(workspace=...) admits more"
    return None


def window_bytes(problem: Problem) -> int:
    """No less than is held of one window, in the smallest blocks: of six arrays none is above the first."""
    reached = [axis.window + (BLOCKS[0] - 1) * axis.stride for axis in problem.geometry.axes]
    return 6 * prod(reached) * problem.itemsize + LOOK_BYTES * problem.geometry.taps


def order(geometry: Geometry) -> list[int]:
    """The axes that need a pass, first those that leave the least."""
    axes = geometry.axes
    places = [i for i, axis in enumerate(axes) if axis.kernel > 1 or axis.stride > 1]
    return sorted(places, key=lambda i: axes[i].output / axes[i].padded)


def best_block(axis: WindowDimension, others: int, calls: int) -> int:
    """A band's zeros against the calls of many products and the rate of thin ones; ``others``: elements beside."""
    output, stride, window, spent = axis.output, axis.stride, axis.window, calls * CALL
    efforts = [
        -(-output // block) * (others * ((block - 1) * stride + window) * (block + HALF_ROWS) + spent)
        for block in BLOCKS
    ]
    return BLOCKS[efforts.index(min(efforts))]


@lru_cache(maxsize=1024)
def details(geometry: Geometry) -> Details:
    """The passes of a tile."""
    axes = geometry.axes
    sizes, widths, passes = [axis.padded for axis in axes], [(axis.low, axis.high) for axis in axes], []
    for place in order(geometry):
        axis = axes[place]
        others = geometry.batch * prod(sizes[:place]) * prod(sizes[place + 1 :])
        calls = 1 if place == geometry.ndim - 1 else geometry.batch * prod(sizes[:place])
        block = best_block(axis, others, calls)
        blocks = -(-axis.output // block)
        passes.append(Pass(place, block, blocks, (block - 1) * axis.stride + axis.window, block * axis.stride))
        widths[place] = (axis.low, axis.high + (blocks * block - axis.output) * axis.stride)
        sizes[place] = axis.output
    return Details(tuple(widths), tuple(passes))


@lru_cache(maxsize=1024)  # what it costs and the ranks that pay all ask for it
def volumes(geometry: Geometry) -> tuple[int, ...]:
    """Elements of the padded input and of each pass's result, whole blocks."""
    widths, passes = details(geometry)
    sizes = [axis.size + low + high for axis, (low, high) in zip(geometry.axes, widths, strict=True)]
    found = [geometry.batch * prod(sizes)]
    for step in passes:
        sizes[step.place] = step.blocks * step.block
        found.append(geometry.batch * prod(sizes))
        sizes[step.place] = geometry.axes[step.place].output
    return tuple(found)


@lru_cache(maxsize=1024)  # as blocks are sought, and of the one that is found
def tile_volume(geometry: Geometry, block: tuple[int, ...]) -> int:
    """Elements of a tile, its halo included, and of its passes."""
    batch, *outputs = block
    axes = [axis.block(range(n), range(axis.kernel))[1] for axis, n in zip(geometry.axes, outputs, strict=True)]
    found = volumes(Geometry(batch, 1, 1, 1, tuple(axes)))
    return 2 * found[0] + max(a + 2 * b for a, b in pairwise(found)) + found[-1]  # the last: a sum of terms


#: Bytes of a look at the kernel, a tap.
LOOK_BYTES = 64


def held(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of a tile, beside those of the look at the kernel."""
    return problem.itemsize * tile_volume(problem.geometry, block) + LOOK_BYTES * problem.geometry.taps


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Tiles that stay in the cache but are not shorter than their halo, as far as the memory goes."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    own = list(block_shape(geometry, (3 + 2 * spread) * problem.itemsize, cache_budget(problem, backend, budget)))
    for i, axis in enumerate(geometry.axes, 1):
        own[i] = max(own[i], min(axis.output, axis.window))
    while held(problem, backend, tuple(own)) > budget and max(own) > 1:
        longest = own.index(max(own)) if own[0] == 1 else 0
        own[longest] = -(-own[longest] // 2)
    return tuple(own)


def work(problem: Problem, terms: int, looks: int) -> Counts:
    """Of so many looks at the kernel, and of the passes over so many products and their sum."""
    geometry, size = problem.geometry, in_floats(problem)
    found = volumes(geometry)
    steps = list(zip(details(geometry).passes, found[1:], strict=True))
    return {
        "call": 1.0,
        "pass": terms * sum(1.0 + step.blocks for step, _ in steps),
        "product": terms * sum(volume * step.reach * (1 + HALF_ROWS / step.block) for step, volume in steps) * size,
        "moved": (found[0] + terms * sum(found[1:]) + 2 * (terms - 1) * found[-1]) * size,
        "look": looks,
        "tap": looks * geometry.taps,
    }


def counts(problem: Problem, backend: Backend) -> Counts:
    """Those of one product, and more looks than one."""
    return work(problem, 1, LOOKS)


def least(problem: Problem, backend: Backend) -> Counts:
    """The looks alone."""
    return {"call": 1.0, "look": LOOKS, "tap": LOOKS * problem.geometry.taps}


def rank(problem: Problem, backend: Backend, seconds: float) -> int:
    """The most products whose passes pay beside ``seconds`` without them."""
    rates = rates_of(problem, SEPARABLE.name)
    one, two = (seconds_of(rates, work(problem, terms, 1)) for terms in (1, 2))
    pays, found = (SHARE * seconds - one) / (two - one), IN_VAIN * seconds / (rates["look"] / 3)
    return 1 + max(0, int(min(pays, found, MOST - 1)))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, backend, block, details, pads=False)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    problem, values = program.problem, shown(backend, kernel)
    found = None
    if values is not None:
        first = order(problem.geometry)[0]
        found = products(values[0][0, 0], program.rank, first, problem.accumulator, problem.settings.accuracy)

    def other(x: Array) -> Array:
        assert program.otherwise is not None
        return run(program.otherwise, backend, x, kernel)

    if found is None:
        return other(x)
    if len(found) == 1:
        return passes(program, backend, x, kernel, found)
    # Terms that cancel may overflow one by one.
    return backend.unless_finite(lambda x: passes(program, backend, x, kernel, found), other, x)


def passes(program: Program, backend: Backend, x: Array, kernel: Array, found: list[Product]) -> Array:
    """The sum over the products; one alone is guarded."""
    host = library_backend("numpy")
    bands: dict[tuple[int, Pass], Array] = {}

    def matrix(term: int, step: Pass, x: Array) -> Array:
        if (term, step) not in bands:
            axis = program.geometry.axes[step.place]
            taps = found[term][step.place][None, None]
            made = host.band(taps, 2, step.block, axis.stride, axis.window_dilation)
            bands[term, step] = backend.from_numpy(made[:, 0], x)
        return bands[term, step]

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        def term(i: int, x: Array) -> Array:
            for step in tile.details.passes:
                x = banded(backend, x, matrix(i, step, x), step, tile.geometry.axes[step.place].output)
            return x

        def correlation(x: Array) -> Array:
            x = _fresh(backend, x, tile.details.widths)
            y = term(0, x)
            for i in range(1, len(found)):
                y = y + term(i, x)
            return y[(..., *(slice(0, n) for n in tile.geometry.out))]

        return correlation(x) if len(found) > 1 else guarded(backend, tile.geometry, x, correlation)

    return run_tiled(program, backend, x, kernel, compute)


def _fresh(backend: Backend, x: Array, widths: tuple[tuple[int, int], ...]) -> Array:
    """Padded, by a row that no block meets if by nothing else: a new buffer is in the order that products like."""
    if not any(low > 0 or high > 0 for low, high in widths):
        (low, high), *others = widths
        widths = ((low, high + 1), *others)
    return backend.pad(x, widths)


def banded(backend: Backend, x: Array, matrix: Array, step: Pass, length: int) -> Array:
    """One axis of ``x (N, 1, *s)`` made ``length`` long: all its blocks are one batch of products."""
    xp, place = backend.xp, 2 + step.place
    lead, size, rest = x.shape[:place], x.shape[place], x.shape[place + 1 :]
    if not rest:
        rows = backend.windows(xp.reshape(x, (prod(lead), size)), (step.reach,), (step.spacing,), (1,))
        y = backend.matmul(xp.permute_dims(rows, (1, 0, 2)), xp.permute_dims(matrix, (1, 0)))
        y = xp.permute_dims(y, (1, 0, 2))
    else:
        columns = xp.reshape(x, (prod(lead), size, prod(rest)))
        columns = backend.windows(columns, (step.reach, 1), (step.spacing, 1), (1, 1))[..., 0]
        y = backend.matmul(matrix, xp.permute_dims(columns, (0, 1, 3, 2)))
    y = xp.reshape(y, (*lead, step.blocks * step.block, *rest))
    return y if length == step.blocks * step.block else y[(slice(None),) * place + (slice(0, length), ...)]


SEPARABLE = Algorithm(
    "separable",
    unsupported,
    counts,
    execute,
    prepare=prepare,
    block=block,
    fixed=held,
    condition="up to rank {program.rank}",
    rank=rank,
    least=least,
)
