"""torch's own padding by its boundaries: one call, where pieces would be a call each."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

from ..boundary import Run, middle_of, runs
from ..frames import MOST_RUNS, Runs
from .torch_recorded import is_recorded
from .torch_values import is_plain

Tensor = torch.Tensor

#: torch's words; its constant padding takes any number of axes.
MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}

#: Axes that torch pads otherwise.
MOST_AXES = 3


def own_pad(x: Tensor, pieces: Runs, value: Any) -> Tensor | None:
    """`primitives.pad_runs` of 32 or 64 bits; None where torch can't, or a compiler or transform looks on."""
    if x.dtype not in (torch.float32, torch.float64) or max(map(len, pieces), default=0) > MOST_RUNS:
        return None
    if not (is_plain(x) or is_recorded(x, x)) or not x.numel():
        return None
    found = find_mode(tuple(x.shape[x.ndim - len(pieces) :]), tuple(pieces))
    if found is None:
        return None
    mode, widths = found
    if mode == "constant":
        return functional.pad(x, widths, value=value)
    count = len(widths) // 2
    images = x.reshape(-1, *x.shape[x.ndim - count :])
    padded = functional.pad(images if count > 1 else images[None], widths, mode=mode)
    return padded.reshape(*x.shape[: x.ndim - count], *padded.shape[padded.ndim - count :])


@lru_cache(maxsize=1024)
def find_mode(sizes: tuple[int, ...], pieces: tuple[tuple[Run, ...], ...]) -> tuple[str, list[int]] | None:
    """The mode of which all these runs are, and torch's widths, the last axis first; nothing is cropped."""
    pairs = [widths_of(n, own) for n, own in zip(sizes, pieces, strict=True)]
    while pairs and pairs[0] == (0, 0):
        pairs, sizes, pieces = pairs[1:], sizes[1:], pieces[1:]
    if not pairs or None in pairs:
        return None
    ends = [pair for pair in pairs if pair is not None]
    for boundary, mode in MODES.items():
        if boundary != "constant" and len(ends) > MOST_AXES:
            continue
        deepest = {"reflect": -1, "wrap": 0}.get(boundary)
        if deepest is not None and any(max(pair) > n + deepest for n, pair in zip(sizes, ends, strict=True)):
            continue
        if all(own == runs(boundary, n, *pair) for n, own, pair in zip(sizes, pieces, ends, strict=True)):
            return mode, [width for pair in reversed(ends) for width in pair]
    return None


def widths_of(n: int, pieces: tuple[Run, ...]) -> tuple[int, int] | None:
    """What lies before and after the axis; None where it is not there as a whole."""
    middle = middle_of(pieces)
    if middle is None or middle[1:] != (0, n):
        return None
    return middle.offset, sum(length for _, length, _ in pieces) - n - middle.offset
