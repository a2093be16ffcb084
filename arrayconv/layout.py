"""How a caller's axes become the one order that algorithms know, and back: a bijection, so it is its own transpose."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any


class Layout(NamedTuple):
    """``reshape(split)``, ``permute(axes)``, ``flip(flipped)``, ``reshape(merged)``; None or () leaves a step out."""

    shape: tuple[int, ...]
    split: tuple[int, ...] | None = None
    axes: tuple[int, ...] | None = None
    flipped: tuple[int, ...] = ()
    merged: tuple[int, ...] | None = None

    @property
    def result(self) -> tuple[int, ...]:
        """The shape that `apply` gives."""
        if self.merged is not None:
            return self.merged
        split = self.shape if self.split is None else self.split
        return split if self.axes is None else tuple([split[axis] for axis in self.axes])

    @property
    def moves(self) -> bool:
        """Whether any step is left."""
        return self != Layout(self.shape)

    @property
    def is_reshape(self) -> bool:
        """Whether elements stay in their order."""
        return self.split is None and self.axes is None and not self.flipped

    def apply(self, xp: Any, array: Array) -> Array:
        """``shape`` to ``merged``."""
        if self.split is not None:
            array = xp.reshape(array, self.split)
        if self.axes is not None:
            array = xp.permute_dims(array, self.axes)
        if self.flipped:
            array = xp.flip(array, axis=self.flipped)
        if self.merged is not None:
            array = xp.reshape(array, self.merged)
        return array

    def undo(self, xp: Any, array: Array) -> Array:
        """``merged`` to ``shape``: the inverse, and so the transpose."""
        split = self.shape if self.split is None else self.split
        if self.merged is not None:
            array = xp.reshape(array, split if self.axes is None else tuple(split[axis] for axis in self.axes))
        if self.flipped:
            array = xp.flip(array, axis=self.flipped)
        if self.axes is not None:
            array = xp.permute_dims(array, tuple(self.axes.index(axis) for axis in range(len(self.axes))))
        if self.split is not None:
            array = xp.reshape(array, self.shape)
        return array


def identity_or(shape: tuple[int, ...], **steps: Any) -> Layout:
    """A `Layout` without the steps that would change nothing."""
    split, axes, merged = steps.get("split"), steps.get("axes"), steps.get("merged")
    before = shape if split is None else split
    if axes is not None and tuple(axes) == tuple(range(len(before))):
        axes = None
    after = before if axes is None else tuple([before[axis] for axis in axes])
    if split == shape:
        split = None
    if merged == after:
        merged = None
    if axes is None and not steps.get("flipped") and merged is not None and split is not None:
        split = None  # two reshapes in a row are one
    return Layout(shape, split, axes, steps.get("flipped", ()), merged)
