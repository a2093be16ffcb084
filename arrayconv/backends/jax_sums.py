"""JAX: sums of products of slices, in passes that a core's registers hold.

XLA makes one loop over the result of such a sum, and LLVM keeps its weights in vector registers as long as there are
enough of them. A longer sum is a `scan` of passes over slices of equal size, each fused with the total before it: it
compiles in the time of one pass, and runs faster than one loop that reads each weight from memory.

Two habits of XLA's CPU compiler matter here. A slice at an index known only in the loop stays a pointer if it is used
once, so every product makes its own; what a step is given is computed before its loop if it is used more than 15 times,
which every pass of `PASS` / 2 products and more does; otherwise the loop is not vectorised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import lcm, prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import primitives
from .jax_control import settle

Array = Any
Source = tuple[Any, ...]

#: Products of one pass: AVX-512 has 32 vector registers, for as many weights and the chains.
PASS = 28

#: Products up to which a sum is one loop: a scan of a single step would be unrolled into that.
FUSED = 2 * PASS

#: Products up to which a first loop would make the zeros around x itself, element by element, though the scan is given
#: them too (22 channels of 534 x 534, 6 x 6 taps, which leave 8: 21.6 ms so, 7.4 with an x that is settled).
FEW = 15

#: Fewer rows than threads are shared out in pieces; one whose length the compiler does not know is no vectorised
#: loop (24 taps, 100,001 outputs on two cores: 0.65 ms; 100,002: 0.11). A multiple of ``SHARES`` is cut evenly; rows
#: of less than ``SHARED`` are not worth it.
THREADS, SHARED = primitives.cores(), 4096
SHARES = lcm(*range(1, 1 + min(8, THREADS)))

#: Sums that grow side by side: an addition waits some four cycles for the one before it.
CHAINS = 4


def passes(count: int) -> int:
    """Loops over the result that add up this many products."""
    return 1 if count <= FUSED else -(-count // PASS)


def sum_products(pairs: Iterable[tuple[Array, Array]]) -> Array:
    """``a * b`` of all pairs, added up in chains that don't wait for each other."""
    pairs = list(pairs)
    chains = [primitives.sum_products(pairs[i::CHAINS]) for i in range(min(CHAINS, len(pairs)))]
    while len(chains) > 1:
        chains = [sum(chains[i + 1 : i + 2], chains[i]) for i in range(0, len(chains), 2)]
    return chains[0]


def sum_slices(x: Array, sources: Sequence[Source], weights: Array) -> Array:
    """``x[source] * weight`` of all sources, which differ in where they start alone, and the rows of ``weights``."""
    length = len(range(*sources[0][-1].indices(x.shape[-1])))
    rest = length % SHARES
    if rest == 0 or length < SHARED or rows(x, sources[0], weights) >= THREADS:
        return sum_loops(x, sources, weights)
    whole = length - rest
    main = [(*source[:-1], piece(source[-1], 0, whole)) for source in sources]
    tail = [(*source[:-1], piece(source[-1], whole, length)) for source in sources]
    return jnp.concatenate([sum_loops(x, main, weights), sum_loops(x, tail, weights)], -1)


def piece(whole: slice, first: int, stop: int) -> slice:
    """Some of the indices of a slice, by their places."""
    step = whole.step or 1
    begin = start(whole) + first * step
    return slice(begin, begin + (stop - first - 1) * step + 1, step)


def rows(x: Array, source: Source, weights: Array) -> int:
    """Of ``x[source] * weights[0]``."""
    sizes = [len(range(*part.indices(n))) for part, n in zip(source, x.shape, strict=True) if isinstance(part, slice)]
    return prod(np.broadcast_shapes(sizes, weights.shape[1:])[:-1])


def sum_loops(x: Array, sources: Sequence[Source], weights: Array) -> Array:
    """By as many loops as `passes` says."""
    count = passes(len(sources))
    if count == 1:
        return sum_products([(x[source], weights[i]) for i, source in enumerate(sources)])
    x, sources = contiguous(x, sources)
    size = -(-len(sources) // count)
    first = len(sources) - size * (count - 1)
    x = settle(x) if first <= FEW else x
    table = np.array([[start(part) for part in source] for source in sources])
    moving = np.flatnonzero((table != table[0]).any(axis=0))
    starts = jnp.asarray(table[first:, moving].reshape(count - 1, size, len(moving)), np.uint32)

    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        places, weights = step
        slices = [moved(x, sources[0], dict(zip(moving, places[i], strict=True))) for i in range(size)]
        return total + sum_products([(part, weights[i]) for i, part in enumerate(slices)]), None

    total = sum_products([(x[source], weights[i]) for i, source in enumerate(sources[:first])])
    rest = weights[first:].reshape(count - 1, size, *weights.shape[1:])
    return lax.scan(add, total, (starts, rest))[0]


def start(part: Any) -> int:
    """The first index that a slice or an integer names."""
    return (part.start or 0) if isinstance(part, slice) else part


def contiguous(x: Array, sources: Sequence[Source]) -> tuple[Array, Sequence[Source]]:
    """The same slices without a step along the last axis, of an x whose every nth elements lie together.

    A step there would gather each vector of each slice anew.
    """
    step = sources[0][-1].step or 1
    if step == 1:
        return x, sources
    x = primitives.apart(jnp, x, step)
    return x, [(*source[:-1], *primitives.beside(source[-1], step)) for source in sources]


def moved(x: Array, source: Source, places: dict[int, Array]) -> Array:
    """``x[source]``, starting elsewhere along some axes."""
    ranges = [
        range(*part.indices(n)) if isinstance(part, slice) else range(part, part + 1)
        for part, n in zip(source, x.shape, strict=True)
    ]
    spans = [held[-1] - held[0] + 1 for held in ranges]
    begin = [places.get(axis, np.uint32(held.start)) for axis, held in enumerate(ranges)]
    x = lax.dynamic_slice(x, begin, spans)
    if any(held.step > 1 for held in ranges):
        x = lax.slice(x, [0] * x.ndim, spans, [held.step for held in ranges])
    return lax.squeeze(x, [axis for axis, part in enumerate(source) if not isinstance(part, slice)])
