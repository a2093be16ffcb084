"""The notebook's layer, its parameters held outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import read_int, read_ints
from ..kernels import as_like
from ..operations.correlate import corr2d
from .regression import Params

Array = Any


@dataclass(frozen=True)
class Conv2D:
    """A kernel of ``kernel_shape``, two sizes, and one number of bias: ``corr2d(x, kernel) + bias``.

    The layer is a value that hashes, and holds no array: `init` makes the parameters, `apply` uses them.

    >>> import numpy as np
    >>> layer = Conv2D((1, 2))
    >>> params = layer.init(0, like=np.ones((6, 8)))
    >>> layer.apply(params, np.ones((6, 8))).shape
    (6, 7)
    """

    kernel_shape: tuple[int, int]

    def __post_init__(self) -> None:
        shape = read_ints("Conv2D", "kernel_shape", self.kernel_shape, 1)
        if len(shape) != 2:
            raise ValueError(
                f"Conv2D: kernel_shape={shape} must have two entries, (rows, columns); use conv for others"
            )
        object.__setattr__(self, "kernel_shape", shape)

    def init(self, seed: int, *, like: Array) -> Params:
        """Kernel uniform in [0, 1) and bias 0, of ``like``'s library, device and dtype; the same numbers on all.

        Beside integers the library's default float; a seed that is no int, or below 0, raises.
        """
        rng = np.random.default_rng(read_int("Conv2D.init", "seed", seed, 0))
        # Single precision draws multiples of 2^-24: a double just below 1 would round to 1 in float32.
        kernel, bias = rng.random(self.kernel_shape, dtype=np.float32).astype(np.float64), np.zeros(())
        return Params(as_like("Conv2D.init", kernel, like), as_like("Conv2D.init", bias, like))

    def apply(self, params: Params, x: Array) -> Array:
        """``corr2d(x, kernel) + bias``: x ``(rows, columns)``, y smaller by ``kernel_shape`` less 1."""
        kernel, bias = params
        return corr2d(x, kernel) + bias
