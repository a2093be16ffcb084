"""JAX meshes: under `jit`, each device runs the planned call on its own part of arrays that are spread over a mesh.

XLA's partitioner takes an algorithm's slices one by one, and moves almost whole shards for each. Here the planned call
is one operation of the partitioner's: it propagates shardings through `rule`, and `Spread.partition` then says what one
device computes. Batch and output channels need nothing from elsewhere, input channels a sum of the partial results, and
a spatial axis its neighbours' edges, as far as `WindowDimension.block` reaches for the device's block of outputs. Where
the kernel is longer than the result, as in a kernel's gradient, the blocks are of taps, and partial results are summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import gcd, prod
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental.custom_partitioning import ArrayMapping, CompoundFactor, SdyShardingRule, custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from ..backend import Planning
from ..geometry import WindowDimension
from ..program import Program

Array = Any
Split = dict[str, tuple[str, ...]]
Labels = tuple[str, ...]

#: Farther than any array reaches: `WindowDimension.block` then finds every element, and padding is fetched as zeros.
_FAR = 2**60


@dataclass(frozen=True)
class Spread:
    """``run(program, x, other)`` over a mesh; ``swapped``: both come, and the result goes, with leading axes swapped.

    Axes of arrays have labels: ``n`` batch, ``g`` groups, ``i`` and ``o`` channels of the single group, ``s0``... the
    spatial axes, and ``""`` what every device holds whole. Equal labels are split alike.
    """

    planning: Planning
    run: Callable[[Program, Array, Array], Array]
    swapped: bool

    def __call__(self, program: Program, x: Array, other: Array) -> Array:
        call = custom_partitioning(self.announce, static_argnums=(0,))
        call.def_partition(self.partition, infer_sharding_from_operands=self.infer, sharding_rule=self.rule)
        return call(program, x, other)

    def announce(self, program: Program, x: Array, other: Array) -> Array:
        """What is traced for its shape and never run: `partition` says what to compute."""
        return jnp.zeros(self.shape(program), x.dtype)

    def shape(self, program: Program) -> tuple[int, ...]:
        """The result's."""
        y_shape = program.geometry.y_shape
        return (y_shape[1], y_shape[0], *y_shape[2:]) if self.swapped else y_shape

    def labels(self, program: Program) -> tuple[Labels, Labels, Labels]:
        """Those of x, of the other operand and of the result."""
        grouped = program.geometry.groups > 1
        inputs, outputs, batch = ("g", "g", "g") if grouped else ("i", "o", "n")
        spatial = tuple(f"s{i}" for i in range(program.geometry.ndim))
        by_taps = [splits_taps(axis) for axis in program.geometry.axes]
        taps = tuple(label if own else "" for label, own in zip(spatial, by_taps, strict=True))
        outs = tuple("" if own else label for label, own in zip(spatial, by_taps, strict=True))
        if self.swapped:
            return ("i", batch, *spatial), ("i", outputs, *taps), (outputs, "" if grouped else "n", *outs)
        return ("n", inputs, *spatial), (outputs, "" if grouped else "i", *taps), ("n", outputs, *outs)

    def split(self, program: Program, mesh: Any, specs: Iterable[Any]) -> Split:
        """The mesh axes of each label, x first. A mesh axis serves one label, and channels are split evenly or not."""
        geometry = program.geometry
        sizes = {"n": geometry.batch, "g": geometry.groups, "i": geometry.inputs, "o": geometry.outputs}
        found: Split = {}
        for labels, spec in zip(self.labels(program), specs, strict=False):
            for label, entry in zip(labels, spec, strict=False):
                names = (entry,) if isinstance(entry, str) else entry if isinstance(entry, tuple) else ()
                taken = {name for own in found.values() for name in own}
                count = prod(mesh.shape[name] for name in names)
                is_new = label not in ("", *found) and taken.isdisjoint(names)
                if is_new and count > 1 and sizes.get(label, 0) % count == 0:
                    found[label] = names
        return found

    def infer(self, program: Program, mesh: Any, operands: Sequence[Any], result: Any) -> NamedSharding:
        """The result's sharding, for the partitioner before Shardy."""
        found = self.split(program, mesh, map(_spec, operands))
        return _sharding(mesh, found, self.labels(program)[2])

    def rule(self, program: Program, *_: Any) -> SdyShardingRule:
        """The labels as Shardy's factors; a group's channels are the minor factor beside ``g``."""
        geometry = program.geometry
        x_minor = geometry.batch if self.swapped else geometry.inputs
        minors, whole = (x_minor, geometry.outputs, geometry.outputs), set()
        sizes: dict[str, Any] = {"g": geometry.groups}
        mappings = []
        for array, (labels, minor) in enumerate(zip(self.labels(program), minors, strict=True)):
            mapping: list[Any] = []
            for i, label in enumerate(labels):
                if label == "g" and minor > 1:
                    sizes[f"m{array}"] = minor
                    mapping.append(CompoundFactor("g", f"m{array}"))
                else:
                    whole.add(label)
                    mapping.append(label or f"w{array}{i}")
            mappings.append(ArrayMapping(*mapping))
        sizes = {} if geometry.groups == 1 else {name: size for name, size in sizes.items() if name not in whole}
        return SdyShardingRule(tuple(mappings[:2]), (mappings[2],), **sizes)

    def partition(self, program: Program, mesh: Any, operands: Sequence[Any], result: Any) -> tuple[Any, ...]:
        """What one device computes, and how the arrays must lie for it."""
        found = self.split(program, mesh, map(_spec, (*operands, result)))
        x, other, y = (_sharding(mesh, found, labels) for labels in self.labels(program))
        return mesh, partial(self.part, program, mesh.shape, found), y, (x, other)

    def part(self, program: Program, sizes: Mapping[str, int], found: Split, x: Array, other: Array) -> Array:
        """The device's own part of the result from its parts of the operands and its neighbours' edges."""
        geometry, dtype = program.geometry, x.dtype
        count = {label: prod(sizes[name] for name in names) for label, names in found.items()}
        sums = found.get("i", ())
        for i, axis in enumerate(geometry.axes):
            sums += found.get(f"s{i}", ()) if splits_taps(axis) else ()
        if sums and program.problem.accumulator != program.problem.dtype:
            program = replace(program, problem=replace(program.problem, dtype=program.problem.accumulator))
            x, other = (array.astype(program.problem.dtype) for array in (x, other))
        blocks = {i: blocks_of(axis, count[f"s{i}"]) for i, axis in enumerate(geometry.axes) if f"s{i}" in found}
        own_taps, has_spaces = jnp.ones_like(other), False
        for i, block in blocks.items():
            names, axis = found[f"s{i}"], geometry.axes[i]
            x = fetch(x, i + 2, names, axis.size, block.starts, block.axis.size)
            if splits_taps(axis):
                other, own_taps = (spaced(array, i + 2, names, axis.kernel, block) for array in (other, own_taps))
                has_spaces |= block.axis.kernel * len(block.starts) != axis.kernel
        own = replace(
            geometry,
            batch=geometry.batch // count.get("n", 1),
            groups=geometry.groups // count.get("g", 1),
            inputs=geometry.inputs // count.get("i", 1),
            outputs=geometry.outputs // count.get("o", 1),
            axes=tuple(blocks[i].axis if i in blocks else axis for i, axis in enumerate(geometry.axes)),
        )
        program = self.planning.replan(program, own)
        y = self.run_apart(program, x, other, own_taps) if has_spaces else self.run(program, x, other)
        for i, block in blocks.items():
            if not splits_taps(geometry.axes[i]) and any(block.skips):
                y = lax.dynamic_slice_in_dim(y, pick(block.skips, found[f"s{i}"]), block.tile, i + 2)
        return (lax.psum(y, sums) if sums else y).astype(dtype)

    def run_apart(self, program: Program, x: Array, other: Array, own_taps: Array) -> Array:
        """``run``, where zeros stand for taps that are not the device's own: times what is not finite they are NaN.

        So x has zeros there, and NaN is written where taps of its own meet such an element, which ``own_taps``, ones
        and zeros, count: for one output channel, as all meet the same.
        """
        problem = program.problem
        if problem.is_integer:
            return self.run(program, x, other)
        finite, outputs = jnp.isfinite(x), program.geometry.outputs
        y = self.run(program, jnp.where(finite, x, jnp.zeros_like(x)), other)
        of_other, of_y = (1, 0) if self.swapped else (0, 1)
        one = self.planning.replan(program, replace(program.geometry, outputs=1))
        count = self.run(
            one, (~finite).astype(x.dtype), own_taps[(slice(None),) * of_other + (slice(None, None, outputs),)]
        )
        return jnp.where(jnp.repeat(jnp.abs(count) > 0.5, outputs, axis=of_y), jnp.full_like(y, jnp.nan), y)


def is_spread(context: Any) -> bool:
    """Whether a lowering is for several devices of a mesh, among which the partitioner spreads arrays.

    Not within `shard_map`, whose body is one device's already.
    """
    axes = context.module_context.axis_context
    return getattr(axes, "abstract_mesh", None) is not None and axes.num_devices > 1 and bool(axes.device_assignment)


def _spec(array: Any) -> Any:
    return () if array.sharding is None else array.sharding.spec


def _sharding(mesh: Any, split: Split, labels: Labels) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*(split.get(label) for label in labels)))


def splits_taps(axis: WindowDimension) -> bool:
    """Whether devices share an axis by its taps: the longer of kernel and result is split."""
    return axis.kernel > axis.output


class Blocks(NamedTuple):
    """An axis in equal blocks of ``tile`` outputs (or taps), one a device.

    Each computes ``axis`` on the elements of x from its own ``starts`` on; of the outputs (or taps) of ``axis``, its
    own begin at its ``skips``.
    """

    tile: int
    starts: tuple[int, ...]
    skips: tuple[int, ...]
    axis: WindowDimension


def blocks_of(axis: WindowDimension, count: int) -> Blocks:
    """Blocks that all have one axis: where a base dilation meets them at different phases, each is computed from the
    nearest start of a phase before it.
    """
    by_taps = splits_taps(axis)
    total, step = (axis.kernel, axis.window_dilation) if by_taps else (axis.output, axis.stride)
    tile = -(-total // count)
    phases = axis.base_dilation // gcd(step, axis.base_dilation)
    skips = tuple(p * tile % phases for p in range(count))
    length = tile + max(skips)
    if max(skips):
        length = tile + phases - 1
    endless = replace(axis, size=2 * _FAR, low=axis.low - _FAR * axis.base_dilation)
    everything = range(axis.output if by_taps else axis.kernel)
    starts = []
    for p, skip in enumerate(skips):
        block = range(p * tile - skip, p * tile - skip + length)
        part, own = endless.block(*((everything, block) if by_taps else (block, everything)))
        starts.append(part.start - _FAR)
    return Blocks(tile, tuple(starts), skips, own)


def pick(values: Sequence[int], names: tuple[str, ...]) -> Any:
    """The device's own of ``values``: a plain int where they are all alike."""
    return values[0] if len(set(values)) == 1 else jnp.asarray(values, dtype=jnp.int32)[lax.axis_index(names)]


def masked(array: Array, dim: int, names: tuple[str, ...], size: int, count: int) -> Array:
    """Zeros past the end of an axis that ``count`` devices don't share evenly: what lies there is anything."""
    tile = array.shape[dim]
    if tile * count == size:
        return array
    position = lax.axis_index(names) * tile + lax.broadcasted_iota(jnp.int32, array.shape, dim)
    return jnp.where(position < size, array, jnp.zeros((), array.dtype))


def fetch(x: Array, dim: int, names: tuple[str, ...], size: int, starts: tuple[int, ...], length: int) -> Array:
    """Elements ``starts[p] : starts[p] + length`` of the whole axis on device p, zeros outside of ``0 : size``.

    A neighbour sends at most its own tile; what reaches farther comes from its neighbour, in one more step.
    """
    count, tile = len(starts), x.shape[dim]
    stops = [min(start + length, size) - (p + 1) * tile for p, start in enumerate(starts)]
    before = max(0, *(p * tile - max(start, 0) for p, start in enumerate(starts)))
    after = max(0, *stops)
    x = masked(x, dim, names, size, count)
    pieces = [x]
    for hop in range(1, count):
        wide = min(tile, before - (hop - 1) * tile)
        if wide > 0:
            edge = lax.slice_in_dim(x, tile - wide, tile, axis=dim)
            pieces.insert(0, lax.ppermute(edge, names, [(p, p + hop) for p in range(count - hop)]))
        wide = min(tile, after - (hop - 1) * tile)
        if wide > 0:
            edge = lax.slice_in_dim(x, 0, wide, axis=dim)
            pieces.append(lax.ppermute(edge, names, [(p, p - hop) for p in range(hop, count)]))
    x = jnp.concatenate(pieces, axis=dim) if len(pieces) > 1 else x
    offsets = [start - (p * tile - before) for p, start in enumerate(starts)]
    low = max(0, -min(offsets))
    high = max(0, max(offsets) + length - x.shape[dim])
    if low or high:
        widths = [(0, 0, 0)] * x.ndim
        widths[dim] = (low, high, 0)
        x = lax.pad(x, jnp.zeros((), x.dtype), widths)
    return lax.dynamic_slice_in_dim(x, pick([low + offset for offset in offsets], names), length, dim)


def spaced(kernel: Array, dim: int, names: tuple[str, ...], size: int, block: Blocks) -> Array:
    """The device's own taps at their place among those of ``block.axis``, zeros around."""
    kernel = masked(kernel, dim, names, size, len(block.starts))
    if block.axis.kernel == block.tile:
        return kernel
    shape = list(kernel.shape)
    shape[dim] = block.axis.kernel
    return lax.dynamic_update_slice_in_dim(jnp.zeros(shape, kernel.dtype), kernel, pick(block.skips, names), dim)
