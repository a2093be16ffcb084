"""Deformable convolution of arrays that are made of chunks (Dask): one task for each chunk of the batch.

An offset may point anywhere, so a task needs whole images. It gives all its results as one tuple, in an object array of
one element, and each result is then an array of the tuples' entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend, get_backend
from ..program import Settings
from .deform_call import OP, Arrays, DeformCall, call_key, plan_deform
from .linear import Options

Array = Any


class Batches(NamedTuple):
    """A call's arrays with one batch axis, equally chunked; kernel and bias go to every task as they are."""

    xp: Any
    call: DeformCall
    arrays: Arrays
    fixed: dict[str, Any]

    @property
    def chunks(self) -> tuple[int, ...]:
        chunks: tuple[int, ...] = self.arrays.x.chunks[0]
        return chunks

    def merge(self, array: Array) -> Array:
        """Its leading axes as one, chunked as x's."""
        inner = array.shape[array.ndim - self.arrays.x.ndim + 1 :]
        return self.xp.reshape(array, (sum(self.chunks), *inner)).rechunk((self.chunks, *((n,) for n in inner)))

    def submit(self, task: Callable[..., Array], *more: Array) -> Array:
        """The tuples, one element a chunk."""
        x, offset, _, _, mask = self.arrays
        return self.xp.map_blocks(
            task,
            *(x, offset, mask, *more),
            **self.fixed,
            drop_axis=list(range(1, x.ndim)),
            chunks=((1,) * len(self.chunks),),
            meta=np.empty(0, dtype=object),
        )

    def collect(self, packed: Array, position: int, inner: tuple[int, ...], dtype: Any) -> Array:
        """One result, joined along the batch."""
        return self._unpack(packed, position, self.chunks, inner, dtype)

    def add_up(self, packed: Array, position: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """One result, summed over the tasks."""
        parts = self._unpack(packed, position, (1,) * len(self.chunks), shape, dtype)
        return self.xp.sum(parts, axis=0, dtype=dtype)

    def _unpack(
        self, packed: Array, position: int, first: tuple[int, ...], inner: tuple[int, ...], dtype: Any
    ) -> Array:
        return self.xp.map_blocks(
            take_result,
            packed,
            position,
            new_axis=list(range(1, len(inner) + 1)),
            chunks=(first, *((n,) for n in inner)),
            meta=np.empty((0,) * (len(inner) + 1), dtype=dtype),
        )


def make_batches(backend: Backend, call: DeformCall, arrays: Arrays, options: Options) -> Batches:
    """x, offset and mask with one batch axis; none may be chunked along the others."""
    ndim = call.grid.geometry.ndim
    for name in ("x", "offset", "mask"):
        array = getattr(arrays, name)
        if array is not None and any(n > 1 for n in array.numblocks[array.ndim - ndim - 1 :]):
            whole = dict.fromkeys(range(array.ndim - ndim - 1, array.ndim), -1)
            raise ValueError(
                f"{OP}: {name} is chunked along its channels or space (chunks: {array.chunks}), and offsets may point "
                f"anywhere in an image; call {name}.rechunk({whole}) first, chunks of the batch may stay"
            )
    fixed = {"kernel": arrays.kernel, "bias": arrays.bias, "chosen": call.chosen, "options": options}
    lead = arrays.x.ndim - ndim - 1
    x = arrays.x
    if lead != 1:
        x = backend.xp.reshape(x, (call.grid.geometry.batch, *x.shape[lead:]))
    batches = Batches(backend.xp, call, arrays._replace(x=x), fixed)
    mask = None if arrays.mask is None else batches.merge(arrays.mask)
    return batches._replace(arrays=Arrays(x, batches.merge(arrays.offset), arrays.kernel, arrays.bias, mask))


def run_blocks(backend: Backend, call: DeformCall, arrays: Arrays, options: Options) -> Array:
    """`DeformCall.run`, lazily."""
    batches = make_batches(backend, call, arrays, options)
    shape = call.layouts.y.shape
    inner = shape[len(shape) - call.grid.geometry.ndim - 1 :]
    return backend.xp.reshape(batches.collect(batches.submit(run_block), 0, inner, call.dtype), shape)


def pull_blocks(backend: Backend, call: DeformCall, arrays: Arrays, options: Options, dy: Array) -> Arrays:
    """`DeformCall.cotangents`, lazily."""
    batches = make_batches(backend, call, arrays, options)
    packed = batches.submit(pull_block, batches.merge(dy))
    own = batches.arrays
    results: list[Array | None] = []
    for i, (name, array, one) in enumerate(zip(Arrays._fields, arrays, own, strict=True)):
        if array is None:
            results.append(None)
        elif name in ("kernel", "bias"):
            results.append(batches.add_up(packed, i, array.shape, call.grid.compute))
        else:
            part = batches.collect(packed, i, one.shape[1:], call.grid.compute)
            results.append(backend.xp.reshape(part, array.shape))
    return Arrays(*results)


def run_block(x: Array, offset: Array, mask: Array | None, **fixed: Any) -> Array:
    """A task: planned for the library and the images of the block that arrives."""
    backend, call, arrays = plan_block(x, offset, mask, **fixed)
    return pack((call.run(backend, arrays),))


def pull_block(x: Array, offset: Array, mask: Array | None, dy: Array, **fixed: Any) -> Array:
    """The same for the way back."""
    backend, call, arrays = plan_block(x, offset, mask, **fixed)
    parts = call.cotangents(backend, arrays, dy)
    return pack(
        parts._replace(kernel=parts.kernel[None, ...], bias=None if parts.bias is None else parts.bias[None, :])
    )


def plan_block(
    x: Array,
    offset: Array,
    mask: Array | None,
    *,
    kernel: Array,
    bias: Array | None,
    chosen: Settings,
    options: Options,
) -> tuple[Backend, DeformCall, Arrays]:
    arrays, backend = Arrays(x, offset, kernel, bias, mask), get_backend(x)
    return backend, plan_deform(chosen, *call_key(backend, arrays, options)), arrays


def pack(results: tuple[Array, ...]) -> Array:
    """An object array of one element."""
    packed = np.empty(1, dtype=object)
    packed[0] = results
    return packed


def take_result(packed: Array, position: int) -> Array:
    """A task's result by its position."""
    return packed[0][position]
