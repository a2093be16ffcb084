"""The sums of `moments` for long windows: correlations of x with itself, by transforms, and running sums of edges.

With a stride of 1 the sum ``A[t, u] = sum_o conj(x[o + t]) * x[o + u]`` over outputs ``0 <= o < n`` hardly changes
where both taps move on by one: its first product drops out, and one comes in behind its last,

    A[t + 1, u + 1] - A[t, u] = conj(x[n + t]) * x[n + u] - conj(x[t]) * x[u].

So A is, along its diagonals, a running sum that begins in its first row or column. The row ``A[0, u]`` holds the lags
of one correlation, of ``x[:n]`` with x, the column ``A[t, 0]`` those of x with ``x[:n]``, and the steps are products of
the first and the last ``k - 1`` elements. (A has a displacement of low rank: Kailath, Kung and Morf 1979.) Several axes
do this one by one. Each has its row, its column and its steps, which makes ``3^ndim`` blocks: the elements of edges in
steps are channels, between which the remaining axes are correlated as above. A block of rows for columns and the other
way round is its adjoint. Nothing is approximated.

A dilation splits x into residues, whose windows are dense and whose sums add up. Correlations are made tile by tile of
outputs (overlap-save), which add up as spectra and are transformed back once. The error of a transform is relative to
the norm of what is transformed, so that of a sum is some ``eps * log2(points)`` of ``|x|^2``, or of ``|x| |y|``; what
is not finite reaches all sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from itertools import accumulate, pairwise, product, starmap
from math import inf, log2, prod
from typing import Any, NamedTuple

from ..algorithms.fft_tiles import fast_length
from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import along, full, split_ranges
from .moments import Axes, Moments, Ones, squares

Array = Any

#: Which part of A a block is, on one axis: its first row, the rest of its first column, or what steps lead to.
ROW, COLUMN, STEPS = "row", "column", "steps"

#: Multiply-adds in the time of a transform's point and step (of log2(points)), of a product of two spectra's elements,
#: of an element of A along each axis (measured on CPUs, in double precision).
STEP, PRODUCT, CELL = 20, 100, 500
#: The same of a tile by itself: calls from Python, or where tiles are unrolled some of the time to compile them.
CALLS, UNROLLED = 8_000_000, 100_000_000
#: Pairs of channels up to which an image's products are made, then summed.
FEW = 4
#: Lengths of transforms that are tried, in windows.
SHARES = (1.5, 2, 3, 4, 6, *(2**i for i in range(3, 21)))


def by_spectra(what: Moments, backend: Backend, axes: Axes, x: Array, y: Array) -> Array:
    """As `moments.by_tiles`, of axes that have neither stride nor base dilation."""
    xp = backend.xp
    geometry = Geometry(x.shape[0], what.groups, what.inputs, what.outputs, axes)
    groups, terms, outputs = geometry.groups, geometry.terms, geometry.outputs
    job = Job(what, backend, geometry, *cut(what, geometry))
    whole = (False,) * geometry.ndim
    blocks, (cross, square, total) = _lags(job, whole, x, y)
    for edges in edges_of(axes):
        blocks |= _lags(job, edges, x)[0] if any(edges) else {}
    matrix = xp.reshape(_assembled(job, blocks, ()), (groups, terms, terms))
    cross = xp.reshape(cross, (groups, outputs + what.bias, terms))
    vector = xp.conj(cross[:, :outputs, :]) if job.is_complex else cross[:, :outputs, :]
    ones = Ones(cross[:, outputs:, :], total, geometry.batch * prod(geometry.out)) if what.bias else None
    return what.join(xp, matrix, vector, square, ones)


class Job(NamedTuple):
    """What to sum over which windows, in tiles of some images, with transforms of these lengths."""

    what: Moments
    backend: Backend
    geometry: Geometry
    lengths: tuple[int, ...]
    images: int

    @property
    def is_complex(self) -> bool:
        """Whether there is anything to conjugate."""
        return "complex" in self.what.accumulator


#: On each axis whether the products of its edges are meant.
Edges = tuple[bool, ...]


def edges_of(axes: Axes) -> list[Edges]:
    """All sets of axes in steps; a window of one element has no edges."""
    return list(product(*((False, True) if axis.kernel > 1 else (False,) for axis in axes)))


def free(edges: Edges) -> list[int]:
    """The axes that are correlated along."""
    return [i for i, is_edge in enumerate(edges) if not is_edge]


def signs_of(edges: Edges) -> list[tuple[bool, ...]]:
    """Signs of lags along the free axes, True: the column's. The rest is adjoint to these."""
    number = len(free(edges))
    return [(False, *others) for others in product((False, True), repeat=number - 1)] if number else [()]


# Parts of an axis


class Part(NamedTuple):
    """Elements of an axis to read, their padding, the outputs of their windows; with what sign the products count."""

    source: slice
    widths: tuple[int, int]
    target: slice
    sign: int = 1


def residues(axis: WindowDimension) -> list[tuple[WindowDimension, range]]:
    """For each residue of a window dilation an axis that moves by it, and its outputs."""
    step = axis.window_dilation
    outputs = (range(first, axis.output, step) for first in range(step))
    return [(replace(axis, stride=step, low=axis.low - own.start), own) for own in outputs if own]


def tiles_of(axis: WindowDimension, length: int) -> list[Part]:
    """Outputs whose windows a transform of this length takes."""
    parts = []
    for own, outputs in residues(axis):
        for tile in split_ranges(len(outputs), length - axis.kernel + 1):
            source, block = own.block(tile, range(axis.kernel))
            some = outputs[tile.start : tile.stop]
            parts.append(Part(source, (block.low, block.high), slice(some[0], some[-1] + 1, some.step)))
    return parts


def ends_of(axis: WindowDimension) -> list[Part]:
    """The first and the last elements but for one window's."""
    parts = []
    for own, outputs in residues(axis):
        for sign, first in ((-1, 0), (1, len(outputs))):
            source, block = own.block(range(first, first + 1), range(axis.kernel - 1))
            parts.append(Part(source, (block.low, block.high), slice(0), sign))
    return parts


def _read(job: Job, x: Array, images: slice, parts: Sequence[Part]) -> Array:
    """``(N, G, I, *elements)`` of parts of all axes."""
    backend, geometry = job.backend, job.geometry
    x = backend.cast(x[(images, slice(None), *(part.source for part in parts))], backend.dtype(job.what.accumulator))
    widths = tuple(part.widths for part in parts)
    if any(map(any, widths)):
        x = backend.pad(x, widths)
    if any(axis.window_dilation > 1 for axis in geometry.axes):
        x = x[(..., *(slice(None, None, axis.window_dilation) for axis in geometry.axes))]
    return backend.xp.reshape(x, (x.shape[0], geometry.groups, geometry.inputs, *x.shape[2:]))


def _channels(job: Job, edges: Edges, x: Array, images: slice, tile: Sequence[Part]) -> tuple[Array, Array]:
    """``(N, G, C, *elements of free axes)``, for all ends of the others: with their signs, and without."""
    xp, axes = job.backend.xp, job.geometry.axes
    rest = iter(tile)
    choices = [ends_of(axis) if is_edge else [next(rest)] for axis, is_edge in zip(axes, edges, strict=True)]
    ends = list(product(*choices))
    slabs = [_read(job, x, images, parts) for parts in ends]
    if not any(edges):
        return slabs[0], slabs[0]
    kept = [3 + i for i in free(edges)]
    order = [0, 1, 2, *(3 + i for i, is_edge in enumerate(edges) if is_edge), *kept]

    def joined(slabs: list[Array]) -> Array:
        slab = xp.permute_dims(xp.concat(slabs, axis=0), order)
        return xp.reshape(slab, (*slab.shape[:2], -1, *slab.shape[slab.ndim - len(kept) :]))

    signs = [prod([part.sign for part in parts]) for parts in ends]
    return joined([slab * sign for slab, sign in zip(slabs, signs, strict=True)]), joined(slabs)


# Correlations


def _lags(job: Job, edges: Edges, x: Array, y: Array | None = None) -> tuple[dict[Any, Array], list[Array]]:
    """Blocks of A by edges and signs, ``(G, C, C, *window of free axes)``; with y the sums of `_with_y`."""
    axes = tuple(job.geometry.axes[i] for i in free(edges))
    lengths = tuple(job.lengths[i] for i in free(edges))
    whole = signs_of(edges)[0]
    tiles = product(split_ranges(job.geometry.batch, job.images), *map(tiles_of, axes, lengths))

    def sums(images: range, *tile: Part) -> list[Array]:
        """Spectra for all signs, then what belongs to y."""
        some = slice(images.start, images.stop)
        signed, slab = _channels(job, edges, x, some, tile)
        tails = {signs: _spectrum(job, _heads(slab, axes, signs, True), lengths) for signs in signs_of(edges)}
        found = [
            _products(job, _spectrum(job, _heads(signed, axes, signs, False), lengths), tail)
            for signs, tail in tails.items()
        ]
        if y is not None:
            found += _with_y(job, y[(some, slice(None), *(part.target for part in tile))], tails[whole])
        return found

    found = reduce(_added, starmap(sums, tiles))
    blocks = {
        (edges, signs): _lag_window(job, spectrum, axes, lengths, signs)
        for signs, spectrum in zip(signs_of(edges), found, strict=False)
    }
    others = found[len(blocks) :]
    return blocks, [_lag_window(job, own, axes, lengths, whole) for own in others[:1]] + others[1:]


def _added(sums: list[Array], more: list[Array]) -> list[Array]:
    return [a + b for a, b in zip(sums, more, strict=True)]


def _heads(slab: Array, axes: Axes, signs: Sequence[bool], of: bool) -> Array:
    """Without the last ``k - 1`` elements of the axes of this sign."""
    sizes = zip(slab.shape[slab.ndim - len(axes) :], axes, signs, strict=True)
    return slab[(..., *(slice(n - axis.kernel + 1 if sign is of else n) for n, axis, sign in sizes))]


def _spectrum(job: Job, array: Array, lengths: Sequence[int]) -> Array:
    """Over the last axes; half of it, of real arrays."""
    fft = job.backend.xp.fft
    forward = fft.fftn if job.is_complex else fft.rfftn
    return forward(array, s=tuple(lengths), axes=tuple(range(-len(lengths), 0))) if lengths else array


def _products(job: Job, a: Array, b: Array) -> Array:
    """``conj(a) * b`` of all pairs of channels, summed over images: ``(G, C, C', *frequencies)``."""
    xp, (batch, groups, first, *frequencies), second = job.backend.xp, a.shape, b.shape[2]
    if frequencies or job.is_complex:
        a = xp.conj(a)
    if batch == 1 or first * second <= FEW:
        found = xp.expand_dims(a, axis=3) * xp.expand_dims(b, axis=2)
        return xp.reshape(found, found.shape[1:]) if batch == 1 else xp.sum(found, axis=0)
    a, b = (xp.reshape(part, (*part.shape[:3], -1)) for part in (a, b))
    found = job.backend.matmul(xp.permute_dims(a, (1, 3, 2, 0)), xp.permute_dims(b, (1, 3, 0, 2)))
    return xp.reshape(xp.permute_dims(found, (0, 2, 3, 1)), (groups, first, second, *frequencies))


def _with_y(job: Job, y: Array, spectrum: Array) -> list[Array]:
    """Spectra of ``W^T conj(y)``, with a bias also of a y of ones; ``|y|^2``, and y's sums ``(G, O, 1)``."""
    xp, what = job.backend.xp, job.what
    y = job.backend.cast(y, job.backend.dtype(what.accumulator))
    y = xp.reshape(y, (y.shape[0], what.groups, what.outputs, *y.shape[2:]))
    sums = [squares(xp, y, job.is_complex), xp.expand_dims(xp.sum(y, axis=(0, *range(3, y.ndim))), axis=2)]
    if what.bias:
        y = xp.concat([y, full(xp, y, (*y.shape[:2], 1, *y.shape[3:]), 1)], axis=2)
    return [_products(job, _spectrum(job, y, job.lengths), spectrum), *sums]


def _lag_window(job: Job, spectrum: Array, axes: Axes, lengths: Sequence[int], signs: Sequence[bool]) -> Array:
    """The lags from 0 to those of the last tap, into the direction of each sign; negative ones lie at the end."""
    if not lengths:
        return spectrum
    xp = job.backend.xp
    inverse = xp.fft.ifftn if job.is_complex else xp.fft.irfftn
    found = inverse(spectrum, s=tuple(lengths), axes=tuple(range(-len(lengths), 0)))
    for i, (axis, length, sign) in enumerate(zip(axes, lengths, signs, strict=True), 3):
        if sign and axis.kernel > 1:
            behind = xp.flip(found[along(i, slice(length - axis.kernel + 1, length))], axis=i)
            found = xp.concat([found[along(i, slice(0, 1))], behind], axis=i)
        else:
            found = found[along(i, slice(0, axis.kernel))]
    return found


# From blocks to A


def _assembled(job: Job, blocks: dict[Any, Array], chosen: tuple[str, ...]) -> Array:
    """``(G, I, *t, I, *u)``; of the first axes the chosen block, of the rest all of A."""
    xp, axes, i = job.backend.xp, job.geometry.axes, len(chosen)
    if i == len(axes):
        return _block(job, blocks, chosen)
    if axes[i].kernel == 1:
        return _assembled(job, blocks, (*chosen, ROW))
    row, column, steps = (_assembled(job, blocks, (*chosen, own)) for own in (ROW, COLUMN, STEPS))
    t, u = 2 + i, 3 + len(axes) + i
    return _running(job.backend, xp.concat([row, xp.concat([column, steps], axis=u)], axis=t), t, u)


def _block(job: Job, blocks: dict[Any, Array], chosen: Sequence[str]) -> Array:
    """One block, with an axis of one element where there is one row or one column."""
    xp, axes, inputs = job.backend.xp, job.geometry.axes, job.geometry.inputs
    edges = tuple(own == STEPS for own in chosen)
    signs = tuple(own == COLUMN for own in chosen if own != STEPS)
    is_adjoint = signs[:1] == (True,)
    found = blocks[edges, tuple(sign is not is_adjoint for sign in signs)]
    if is_adjoint:
        found = xp.permute_dims(found, (0, 2, 1, *range(3, found.ndim)))
        found = xp.conj(found) if job.is_complex else found
    ends = [axis.kernel - 1 for axis, is_edge in zip(axes, edges, strict=True) if is_edge]
    found = xp.reshape(found, (-1, inputs, *ends, inputs, *ends, *found.shape[3:]))
    end, lag = iter(range(2, 2 + len(ends))), iter(range(3 + 2 * len(ends), found.ndim))
    t, u = [], []  # the axes of what is found
    shape: tuple[list[int], list[int]] = [], []
    for own, axis in zip(chosen, axes, strict=True):
        place = next(end if own == STEPS else lag)
        t += [] if own == ROW else [place]
        u += [place + 1 + len(ends)] if own == STEPS else [place] if own == ROW else []
        if own == COLUMN:
            found = found[along(place, slice(1, None))]
        shape[0].append(1 if own == ROW else axis.kernel - 1)
        shape[1].append(1 if own == COLUMN else axis.kernel - (own == STEPS))
    found = xp.permute_dims(found, (0, 1, *t, 2 + len(ends), *u))
    return xp.reshape(found, (-1, inputs, *shape[0], inputs, *shape[1]))


def _running(backend: Backend, matrix: Array, t: int, u: int) -> Array:
    """Sums along the diagonals of two axes, row by row; ``matrix`` may be written where the library has such."""
    xp, order = backend.xp, [t, *(i for i in range(matrix.ndim) if i != t)]
    head, first, tail = (along(u - 1, part) for part in (slice(0, -1), slice(0, 1), slice(1, None)))
    rows = xp.permute_dims(matrix, order)

    def step(above: Array, row: Array) -> tuple[Array, Array]:
        row = xp.concat([row[first], row[tail] + above[head]], axis=u - 1)
        return row, row

    if backend.empty is not None:
        for above, row in pairwise(rows):
            row[tail] += above[head]
    elif backend.scan is not None:
        _, rows = backend.scan(step, xp.zeros_like(rows[0, ...]), rows)
    else:
        found = accumulate((rows[i, ...] for i in range(rows.shape[0])), lambda above, row: step(above, row)[0])
        rows = xp.stack(list(found), axis=0)
    return xp.permute_dims(rows, (*range(1, t + 1), 0, *range(t + 1, rows.ndim)))


# Work


@lru_cache(maxsize=4096)
def spectral_work(what: Moments, geometry: Geometry) -> float:
    """Multiply-adds, or their time's worth, of `by_spectra`; infinite where it does not serve."""
    is_dense = all(axis.stride == axis.base_dilation == 1 for axis in geometry.axes)
    if not is_dense or 0 in (*geometry.x_shape, *geometry.y_shape):
        return inf
    lengths, _ = cut(what, geometry)
    return _work(what, geometry, lengths) if _bytes(what, geometry, lengths) <= what.room else inf


@lru_cache(maxsize=4096)
def cut(what: Moments, geometry: Geometry) -> tuple[tuple[int, ...], int]:
    """The lengths of transforms that make the least work, and for how many images at once, in a tile's bytes."""
    choices = []
    for axis in geometry.axes:
        longest = -(-axis.output // axis.window_dilation) + axis.kernel - 1
        some = {fast_length(min(longest, int(share * axis.kernel) + 1)) for share in SHARES}
        choices.append(sorted(some | {fast_length(longest)}))

    held = {lengths: _bytes(what, geometry, lengths) for lengths in product(*choices)}
    limit = max(what.tile, min(held.values()))
    lengths = min((own for own, bytes in held.items() if bytes <= limit), key=lambda own: _work(what, geometry, own))
    return lengths, max(1, min(geometry.batch, what.tile // _bytes(what, geometry, lengths)))


def _bytes(what: Moments, geometry: Geometry, lengths: Sequence[int]) -> int:
    """Of the transforms of an image's tile and of their products."""
    spectra = ((1 << geometry.ndim) + 2) * geometry.inputs + geometry.outputs + what.bias
    products = geometry.inputs * ((1 << geometry.ndim - 1) * geometry.inputs + geometry.outputs + what.bias)
    return what.itemsize * geometry.groups * prod(lengths) * (spectra + 2 * products)


def _work(what: Moments, geometry: Geometry, lengths: Sequence[int]) -> float:
    """Multiply-adds, or their time's worth, of transforms, products, and sums along diagonals."""
    total = CELL * geometry.ndim * float(geometry.terms) ** 2
    for edges in edges_of(geometry.axes):
        points, steps, tiles, rows, channels = 1, 0.0, 1, geometry.batch, geometry.inputs
        for axis, length, is_edge in zip(geometry.axes, lengths, edges, strict=True):
            residue = min(axis.window_dilation, axis.output)
            if is_edge:
                rows, channels = 2 * residue * rows, channels * (axis.kernel - 1)
            else:
                outputs = -(-axis.output // residue)
                tiles *= residue * -(-outputs // (length - axis.kernel + 1))
                points, steps = points * length, steps + log2(length)
        others = 0 if any(edges) else geometry.outputs + what.bias
        number = len(signs_of(edges))
        transforms = tiles * rows * (2 * number * channels + others) + channels * (number * channels + others)
        products = tiles * rows * channels * (number * channels + others)
        total += transforms * points * steps * STEP + products * points * (PRODUCT if steps else 1) / 2
        total += tiles * number * (UNROLLED if what.is_unrolled else CALLS) / geometry.groups
    return geometry.groups * total
