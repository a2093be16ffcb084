"""Multilinear samples of a table's rows in a few calls of torch, most of them in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from math import prod
from operator import mul

import torch

from ..lattice import Lattice, Places
from .torch_values import is_plain, keep

Tensor = torch.Tensor


def sample(
    otherwise: Callable[..., Tensor], lattice: Lattice, places: Places, table: Tensor, offset: Tensor, *mask: Tensor
) -> Tensor:
    """Where nothing follows the arrays, all of one floating type of 32 or 64 bits: steps of a few microseconds each,
    which cost more where each has a result of its own. What is not finite shows in the result.
    """
    arrays = (table, offset, *mask)
    if table.dtype not in (torch.float32, torch.float64) or any(array.dtype != table.dtype for array in arrays):
        return otherwise(*arrays)
    if not all(map(is_plain, arrays)):
        return otherwise(*arrays)
    ndim, *shape = offset.shape
    count = prod(shape)
    reach = float(lattice.reach)
    upper = offset.reshape(ndim, count).clamp(-reach, reach)
    below = upper.floor()
    upper.sub_(below)
    row = find_rows(lattice, places, below.to(places.base.dtype).view(ndim, *shape))
    factors = [part.reshape(count) for part in mask]
    weights = join_weights(1.0 - upper, upper, factors)
    shift, starts = keep(_bags, lattice.shifts, *weights.shape, row.dtype, row.device)
    index = row.reshape(count, 1) + shift
    total: Tensor = torch.embedding_bag(table, index.view(-1), starts, per_sample_weights=weights.view(-1))[0]
    return total  # of mode 0: the sum, in one pass over all corners, which keeps no rows apart


def find_rows(lattice: Lattice, places: Places, whole: Tensor) -> Tensor:
    """Of each cell's first corner, from the integers of the offsets, of which the caller lets go."""
    row: Tensor = places.start
    for at, size, step in zip(whole.add_(places.base).unbind(), lattice.sizes, lattice.steps, strict=True):
        at.clamp_(-2, size)
        row = row + (at if step == 1 else at.mul_(step))
    return row


def join_weights(lower: Tensor, upper: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Of each cell's corners ``(count, 2**D)``, from the weights ``(D, count)`` of both neighbours along each axis."""
    ndim, count = upper.shape
    pairs = list(zip(lower.unbind(), upper.unbind(), strict=True))
    weights = upper.new_empty((count, 2**ndim))
    for column, corner in zip(weights.unbind(1), product(*pairs), strict=True):
        *others, last = *corner, *factors
        torch.mul(reduce(mul, others) if others else last, last if others else 1.0, out=column)
    return weights


def _bags(
    shifts: tuple[int, ...], count: int, size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The shifts, and where each of ``count`` bags starts."""
    starts = torch.arange(0, count * size, size, dtype=dtype, device=device)
    return torch.tensor(shifts, dtype=dtype, device=device), starts
