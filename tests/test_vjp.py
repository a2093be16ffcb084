"""`vjp` of every operation on every library: exact in integers, and as autograd and JAX differentiate in floats."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.operations.table import OPERATIONS
from arrayconv.testing import problems

if TYPE_CHECKING:
    from conftest import Library

NumPyArray = np.ndarray[Any, Any]


class Example(NamedTuple):
    """Shapes of an operation's arrays in order, a bias the last where there is one, and its options."""

    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = {}
    with_bias: bool = False


#: Calls of each operation. A new row of `OPERATIONS` needs one here.
EXAMPLES: dict[str, list[Example]] = {
    "pad": [
        Example(((4, 3),), {"widths": [(7, -1), (0, 5)], "boundary": boundary})
        for boundary in ("constant", "edge", "reflect", "symmetric", "wrap")
    ],
    "windows": [Example(((2, 7, 5),), {"window": (3, 2), "stride": (2, 1), "dilation": (1, 3)})],
    "corr2d": [Example(((5, 6), (2, 3)))],
    "correlate": [
        Example(((2, 7, 6), (3, 2)), {"stride": (2, 1), "dilation": (1, 2), "padding": ((2, 1), (-1, 3))}),
        Example(((5, 3, 6), (4, 2)), {"axes": (2, 0), "padding": "same", "boundary": "reflect"}),
        Example(((3, 4, 3), (2, 1, 2)), {"padding": "full"}),
    ],
    "convolve": [
        Example(((2, 9), (4,)), {"stride": 3, "padding": "causal", "dilation": 2, "boundary": "edge"}),
        Example(((4, 5), (2, 3)), {"padding": ((5, -2), (0, 4)), "boundary": "symmetric"}),
    ],
    "conv": [
        Example(
            ((2, 4, 7), (6, 2, 3), (6,)), {"stride": 2, "padding": ((2, 1),), "dilation": 2, "groups": 2}, with_bias=True
        ),
        Example(((2, 2, 5, 6, 4), (3, 2, 4, 3)), {"channels": "last", "padding": (-1, 2), "stride": (1, 2)}),
        Example(((3, 6, 5), (4, 3, 2, 3), (4,))[:0] or ((3, 6, 5), (4, 3, 2, 3), (4,)), {"padding": "same", "boundary": "wrap"}, with_bias=True),
    ],
    "conv_transpose": [
        Example(
            ((2, 4, 5), (4, 3, 3), (6,)),
            {"stride": 3, "padding": ((1, 2),), "dilation": 2, "groups": 2, "output_padding": 1},
            with_bias=True,
        ),
        Example(((3, 2, 4), (2, 3, 5, 4)), {"channels": "last", "stride": (2, 1), "padding": "same"}),
    ],
    "depthwise_conv": [
        Example(((2, 3, 6, 5), (3, 2, 3, 2), (6,)), {"stride": (2, 1), "padding": "same"}, with_bias=True),
        Example(((8, 3), (2, 3, 1)), {"channels": "last", "padding": 3, "boundary": "reflect"}),
    ],
    "separable_conv": [
        Example(((2, 3, 6), (3, 2, 3), (4, 6), (4,)), {"stride": 2, "padding": "same"}, with_bias=True),
        Example(((4, 5, 3), (2, 3, 3, 1), (2, 3)), {"channels": "last", "dilation": (1, 2)}),
    ],
}
