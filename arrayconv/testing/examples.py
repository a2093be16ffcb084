"""One small call of each operation, and what it must give: by plain loops and finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..operations.table import OPERATIONS
from ..operations.vjp import vjp
from .oracle import OPERATIONS as ORACLE
from .oracle import reference

Array = Any
Arrays = tuple[Array, ...]
Function = Callable[..., Any]


class Example:
    """Arguments of one call: the shapes of its arrays, in order and then by name, and its options."""

    def __init__(self, *shapes: tuple[int, ...], named: Mapping[str, tuple[int, ...]] | None = None, **options: Any):
        self.names = tuple(named or ())
        self.shapes = (*shapes, *(named or {}).values())
        self.options = options


#: One for each row of `OPERATIONS`.
EXAMPLES = {
    "pad": Example((3, 4), widths=((2, 1), (-1, 5)), boundary="reflect"),
    "windows": Example((2, 6, 5), window=(3, 2), stride=2),
    "corr2d": Example((4, 5), (2, 3)),
    "correlate": Example((2, 6, 5), (3, 2), stride=2, padding="same"),
    "convolve": Example((2, 6, 5), (3, 2), padding="full", boundary="wrap"),
    "conv": Example((2, 4, 6, 5), (6, 2, 3, 2), (6,), stride=2, padding="same", groups=2),
    "conv_transpose": Example((2, 4, 3, 3), (4, 3, 3, 2), (6,), stride=2, groups=2),
    "depthwise_conv": Example((2, 3, 6, 5), (3, 2, 3, 2), (6,), dilation=2),
    "separable_conv": Example((2, 3, 6, 5), (3, 2, 3, 2), (4, 6), (4,), padding="same"),
    # Dask's arrays have chunks along axes of five: here the batch, the only axis that may have them
    "deform_conv": Example((5, 2, 4, 3), (5, 4, 4, 2), (3, 2, 1, 2), (3,), named={"mask": (5, 2, 4, 2)}),
    "unfold": Example((2, 3, 6, 5), window=(3, 2), stride=2),
    "fold": Example((2, 18, 8), spatial_shape=(6, 5), window=(3, 2), stride=(2, 1), padding=((0, 0), (0, 0))),
    "pixel_shuffle": Example((2, 12, 3, 2), factor=2),
    "pixel_unshuffle": Example((2, 3, 6, 4), factor=2),
    "subpixel_conv": Example((2, 3, 4, 3), (8, 3, 3, 3), (8,), factor=2, padding="same"),
    "icnr": Example((2, 3, 3, 3), factor=2),
    "max_pool": Example((2, 3, 6, 5), window=(3, 2), stride=2, padding="same"),
    "avg_pool": Example((2, 3, 6, 5), window=(3, 2), stride=2, padding="same"),
    "lp_pool": Example((2, 3, 6, 5), window=(3, 2), stride=2),
}


STEP = 1e-5  # of central differences: their error is about STEP**2 and eps / STEP


@dataclass(frozen=True)
class Case:
    """A row's call with random arrays, and what it must give: by NumPy, the oracle and central differences."""

    op: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.op not in EXAMPLES:
            raise LookupError(f"operation {self.op!r} has no example; give it a row in EXAMPLES, {__name__}")

    @property
    def example(self) -> Example:
        return EXAMPLES[self.op]

    @cached_property
    def arrays(self) -> Arrays:
        return self._draw(*self.example.shapes)

    @cached_property
    def tangents(self) -> Arrays:
        return self._draw(*self.example.shapes, kind=1)

    @cached_property
    def cotangent(self) -> Array:
        return self._draw(self.y.shape, kind=2)[0]

    def _draw(self, *shapes: tuple[int, ...], kind: int = 0) -> Arrays:
        random = np.random.default_rng((self.seed, kind))
        return tuple(random.standard_normal(shape) for shape in shapes)

    def call(self, *arrays: Array) -> Array:
        return self._apply(OPERATIONS[self.op].function, *arrays)

    def pull(self, *arrays: Array) -> Arrays:
        """The cotangents of all arrays but the last, which is the cotangent of the result."""
        _, pullback = self._apply(vjp, OPERATIONS[self.op].function, *arrays[:-1])
        cotangents: Arrays = pullback(arrays[-1])
        return cotangents

    def _apply(self, function: Function, *arguments: Any) -> Any:
        """``function`` of the arguments, of which the last have the example's names."""
        names, options = self.example.names, self.example.options
        unnamed = len(arguments) - len(names)
        return function(*arguments[:unnamed], **dict(zip(names, arguments[unnamed:], strict=True)), **options)

    def both(self, *arrays: Array) -> Arrays:
        """Result and cotangents: `outputs`, if called with `inputs`."""
        return self.call(*arrays[:-1]), *self.pull(*arrays)

    def loss(self, *arrays: Array) -> Array:
        """``sum(y**2) / 2``, whose second derivative is not zero for linear operations either."""
        y = self.call(*arrays)
        return (y * y).sum() / 2

    @cached_property
    def y(self) -> Array:
        oracle = self.op in ORACLE
        return reference(self.op, *self.arrays, **self.example.options) if oracle else self.call(*self.arrays)

    @cached_property
    def cotangents(self) -> Arrays:
        """One difference of ``<cotangent, y>`` for each element of each array."""
        gradients = []
        for i, array in enumerate(self.arrays):
            units = np.eye(array.size).reshape(array.size, *array.shape)
            slopes = [
                self._slope(lambda *arrays: (np.sum(self.cotangent * self.call(*arrays)),), self._only(i, unit))[0]
                for unit in units
            ]
            gradients.append(np.reshape(slopes, array.shape))
        return tuple(gradients)

    @property
    def inputs(self) -> Arrays:
        return *self.arrays, self.cotangent

    @property
    def outputs(self) -> Arrays:
        return self.y, *self.cotangents

    @cached_property
    def curvature(self) -> Arrays:
        """The difference of the loss' gradient along the tangents."""
        return self._slope(lambda *arrays: self.pull(*arrays, self.call(*arrays)), self.tangents)

    def _only(self, i: int, tangent: Array) -> Arrays:
        return tuple(tangent if j == i else np.zeros_like(array) for j, array in enumerate(self.arrays))

    def _slope(self, function: Function, tangents: Arrays) -> Arrays:
        up, down = (
            function(*(a + step * t for a, t in zip(self.arrays, tangents, strict=True))) for step in (STEP, -STEP)
        )
        return tuple((a - b) / (2 * STEP) for a, b in zip(up, down, strict=True))
