"""JAX's loops and branches: tiles swept one after the other, images in turn, and one way or another by the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

Array = Any


def sweep(
    function: Callable[[Array], Array], x: Array, shape: Sequence[int], size: Sequence[int], places: Sequence[Any]
) -> Array:
    """A loop that writes into its result: XLA would run many pieces at once, and hold the memory of them all.

    Each piece is a loop of its own, since XLA shares none that ends in an update.
    """
    sources, targets = zip(*places, strict=True)
    found, read = reader(x, sources, size)

    def step(y: Array, place: tuple[Array, ...]) -> tuple[Array, None]:
        source, target = place
        return lax.dynamic_update_slice(y, settle(function(read(source))), list(target)), None

    y, _ = lax.scan(step, jnp.zeros(shape, x.dtype), (found, np.asarray(targets, np.int32)))
    return y


def reader(x: Array, corners: Sequence[Any], size: Sequence[int]) -> tuple[Any, Callable[[Any], Array]]:
    """Where pieces are found in x, and the function from one of these places to a piece, zeros around x.

    A piece that reaches beyond x is moved inside, and back by a slice of its zero-padded self: no copy of x is padded.
    Each of these is a loop of its own: XLA fuses slices at places that it does not know into loops without vectors (3
    channels of 2160 x 3840, 3 x 3 taps: 51 ms, and 27 so).
    """
    sources, held = np.asarray(corners, np.int32), np.minimum(size, x.shape)
    starts = np.clip(sources, 0, np.subtract(x.shape, held)).astype(np.int32)
    low = np.max(starts - sources, axis=0).clip(0)
    high = np.max(sources - starts + size - held, axis=0).clip(0)
    shifts = (sources - starts + low).astype(np.int32)

    def read(place: tuple[Array, Array]) -> Array:
        start, shift = map(list, place)
        piece = lax.dynamic_slice(x, start, held.tolist())
        if low.any() or high.any():
            widths = [(int(before), int(after), 0) for before, after in zip(low, high, strict=True)]
            piece = settle(lax.pad(settle(piece), jnp.zeros((), x.dtype), widths))
            piece = settle(lax.dynamic_slice(piece, shift, size))
        return piece

    return (starts, shifts), read


def each_part(function: Callable[[Array], Array], x: Array, count: int) -> Array:
    """A loop on CPUs: XLA would read a fused im2col of all images element by element inside of their products."""
    if x.shape[0] <= count or not can_loop(x) or jax.default_backend() != "cpu":
        return function(x)
    y: Array = lax.map(function, jnp.reshape(x, (-1, count, *x.shape[1:])))
    return jnp.reshape(y, (x.shape[0], *y.shape[2:]))


def add_up(
    function: Callable[..., Array], arrays: Sequence[Array], sizes: Sequence[Any], corners: Sequence[Any]
) -> Array:
    """A loop that reads a piece of each array at a time, where it lies."""
    if len(corners) == 1 or not all(map(can_loop, arrays)):
        first, *others = (function(*map(part_of, arrays, places, sizes)) for places in corners)
        return sum(others, first)
    tables, readers = zip(*map(reader, arrays, zip(*corners, strict=True), sizes), strict=True)

    def step(total: Array, places: Sequence[Any]) -> tuple[Array, None]:
        return total + function(*[read(place) for read, place in zip(readers, places, strict=True)]), None

    like = [jax.ShapeDtypeStruct(size, array.dtype) for array, size in zip(arrays, sizes, strict=True)]
    shape = jax.eval_shape(function, *like)
    return lax.scan(step, jnp.zeros(shape.shape, shape.dtype), tables)[0]


def part_of(x: Array, corner: Sequence[int], size: Sequence[int]) -> Array:
    """A piece at a place that is known, zeros around x."""
    axes = list(zip(corner, size, x.shape, strict=True))
    inside = x[tuple([slice(max(0, start), min(n, start + count)) for start, count, n in axes])]
    widths = [(max(0, -start), max(0, start + count - n)) for start, count, n in axes]
    return settle(jnp.pad(inside, widths)) if any(map(any, widths)) else inside


def can_loop(x: Array) -> bool:
    """Not over an axis that a mesh holds explicitly."""
    sharding = getattr(jax.typeof(x), "sharding", None) if hasattr(jax, "typeof") else None
    return sharding is None or all(part is None for part in sharding.spec)


@jax.jit
def settled(y: Array) -> Array:
    return y


def settle(y: Array) -> Array:
    """On CPUs the result of a call that XLA does not inline, with which it fuses nothing; `lax.optimization_barrier` is
    gone when loops are fused.

    A sum of products that is read in two places would be computed in both, and one that is stacked with others in each
    step of a loop that no threads share (8 sums of 27 products of 29 groups of volumes: 8 ms stacked, and 1.5 so).
    """
    if jax.default_backend() != "cpu":
        return y
    with set_xla_metadata(inlineable="false"):
        return settled(y)


#: Integers as wide as floats.
BITS = {2: jnp.int16, 4: jnp.int32}


def opaque(y: Array) -> Array:
    """The same array, which XLA's YNNPACK can't see through; loops are fused with it all the same, at no cost.

    It takes a reduction, as of a pool or a loss, together with all that it knows how to compute of what is reduced: of
    a sum of products each term then becomes an array (49 taps on a megapixel, and their mean: 34 ms, and 1.1 so).
    """
    bits = BITS.get(y.dtype.itemsize) if jnp.issubdtype(y.dtype, jnp.floating) else None
    if bits is None or jax.default_backend() != "cpu":
        return y
    return lax.bitcast_convert_type(lax.optimization_barrier(lax.bitcast_convert_type(y, bits)), y.dtype)


def unless_finite(compute: Any, otherwise: Any, x: Array) -> Array:
    """One branch runs: a planned call is lowered as a whole, and vmap, which would run both, never sees inside."""
    y = settle(compute(x))
    return lax.cond(jnp.all(jnp.isfinite(y)), lambda x, y: y, lambda x, y: otherwise(x), x, y)


@jax.custom_batching.custom_vmap
def all_finite(arrays: list[Array]) -> Array:
    return jnp.stack([jnp.isfinite(array).all() for array in arrays]).all()


@all_finite.def_vmap
def _all_finite_mapped(size: int, mapped: Any, arrays: list[Array]) -> tuple[Array, bool]:
    """One answer for all examples, so that vmap still runs one branch."""
    return all_finite(arrays), False


def if_finite(compute: Callable[..., Any], otherwise: Callable[..., Any], *arrays: Array, shown: Any = None) -> Any:
    """On CPUs, by the arrays; the branches keep nothing but their arguments for a gradient."""
    if jax.default_backend() != "cpu":
        return otherwise(*arrays)
    is_finite = all_finite([lax.stop_gradient(array) for array in arrays])
    return lax.cond(is_finite, jax.checkpoint(compute), jax.checkpoint(otherwise), *arrays)
