"""Every operation, one row each: its function, how it is transposed, and how it is planned where it is linear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

from ..backend import describe
from .columns import fold, pull_fold, pull_unfold, unfold
from .conv import conv, read_conv
from .correlate import convolve, corr2d, correlate, read_convolve, read_corr2d, read_correlate
from .deform import deform_conv, pull_deform_conv
from .depthwise import depthwise_conv, pull_separable_conv, read_depthwise_conv, separable_conv
from .linear import Options, Read, freeze
from .padding import pad, pull_pad, pull_windows, windows
from .pixel import (
    icnr,
    pixel_shuffle,
    pixel_unshuffle,
    pull_icnr,
    pull_pixel_shuffle,
    pull_pixel_unshuffle,
    read_subpixel_conv,
    subpixel_conv,
)
from .pool import avg_pool, lp_pool, max_pool, pull_avg_pool, pull_lp_pool, pull_max_pool
from .transposed import conv_transpose, read_conv_transpose


class Operation(NamedTuple):
    """A row: ``read`` for an operation that is one planned geometry, else ``pull``, which gives (y, pullback)."""

    function: Callable[..., Any]
    read: Read | None = None
    pull: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        return self.function.__name__


OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation(pad, pull=pull_pad),
        Operation(windows, pull=pull_windows),
        Operation(corr2d, read_corr2d),
        Operation(correlate, read_correlate),
        Operation(convolve, read_convolve),
        Operation(conv, read_conv),
        Operation(conv_transpose, read_conv_transpose),
        Operation(depthwise_conv, read_depthwise_conv),
        Operation(separable_conv, pull=pull_separable_conv),
        Operation(deform_conv, pull=pull_deform_conv),
        Operation(subpixel_conv, read_subpixel_conv),
        Operation(pixel_shuffle, pull=pull_pixel_shuffle),
        Operation(pixel_unshuffle, pull=pull_pixel_unshuffle),
        Operation(icnr, pull=pull_icnr),
        Operation(unfold, pull=pull_unfold),
        Operation(fold, pull=pull_fold),
        Operation(max_pool, pull=pull_max_pool),
        Operation(avg_pool, pull=pull_avg_pool),
        Operation(lp_pool, pull=pull_lp_pool),
    )
}

#: Read once: that takes as long as to plan.
SIGNATURES = {name: signature(row.function) for name, row in OPERATIONS.items()}


def find_operation(caller: str, op: Any) -> Operation:
    """The row of an arrayconv function."""
    row = OPERATIONS.get(getattr(op, "__name__", ""))
    if row is None or row.function is not op:
        raise TypeError(f"{caller}: op must be a function of arrayconv ({', '.join(OPERATIONS)}), got {describe(op)}")
    return row


def bind(caller: str, row: Operation, arrays: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name; those that the operation doesn't have are refused."""
    own = SIGNATURES[row.name]
    known = [name for name, entry in own.parameters.items() if entry.kind is entry.KEYWORD_ONLY]
    for name, value in options.items():
        if name not in own.parameters:
            raise TypeError(f"{caller}: {row.name} has no option {name}={value!r}; its options are {', '.join(known)}")
    try:
        return own.bind(*arrays, **options).arguments
    except TypeError as error:
        needed = ", ".join(name for name in own.parameters if name not in known)
        raise TypeError(f"{caller}: {row.name} takes {needed}, and as options {', '.join(known)}: {error}") from None


def linear_options(row: Operation, arguments: Mapping[str, Any]) -> Options:
    """The keyword arguments of a linear operation as `Options`, with its own defaults."""
    defaults = {name: entry.default for name, entry in SIGNATURES[row.name].parameters.items()}
    given = defaults | dict(arguments)
    return Options(**{name: freeze(row.name, name, given[name]) for name in Options._fields if name in given})
