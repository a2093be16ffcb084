"""Data for the tests of learning: the notebook's image, and a problem for every way in which a kernel meets data."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayconv as ac

START = [[0.65482582, 0.5902478]]
IMAGE = np.ones((6, 8), np.float32)
IMAGE[:, 2:6] = 0
EDGES = ac.corr2d(IMAGE, ac.kernels.edges(like=IMAGE))

#: op, x's shape, kernel's shape, options: every way in which a kernel meets its data.
CALLS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "correlate": (ac.correlate, (6, 7), (2, 3), {}),
    "correlate batch": (ac.correlate, (3, 9), (4,), {"stride": 2, "padding": ((1, 2),), "boundary": "reflect"}),
    "correlate axes": (ac.correlate, (5, 3, 6), (2, 2), {"axes": (2, 0), "padding": "same"}),
    "convolve": (ac.convolve, (4, 5, 6), (2, 1, 3), {"dilation": (1, 2, 1), "padding": "full"}),
    "conv": (ac.conv, (2, 3, 6, 7), (4, 3, 3, 2), {"padding": "same", "boundary": "wrap"}),
    "conv groups": (ac.conv, (2, 4, 8), (6, 2, 3), {"groups": 2, "stride": 2}),
    "conv_transpose": (ac.conv_transpose, (2, 3, 4, 5), (3, 2, 3, 2), {"stride": 2, "padding": ((1, 0), (0, 0))}),
    "conv last": (ac.conv, (2, 6, 5, 3), (2, 2, 3, 4), {"channels": "last", "dilation": 2}),
}


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray[Any, Any]:
    """Normal numbers that follow from the shape and the seed alone."""
    rng = np.random.default_rng([seed, *shape])
    values = rng.standard_normal(shape)
    if "complex" in dtype:
        values = values + 1j * rng.standard_normal(shape)
    return np.asarray(values, dtype)


def bias_for(name: str, dtype: str = "float64") -> np.ndarray[Any, Any]:
    op, _, kernel, options = CALLS[name]
    shapes = {
        "conv": kernel[-1:] if options.get("channels") == "last" else kernel[:1],
        "conv_transpose": kernel[1:2],
    }
    return normal(*shapes.get(op.__name__, ()), dtype=dtype)


def problem(name: str, dtype: str = "float64") -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """op, x, y and (kernel, bias) in NumPy, options."""
    op, x_shape, kernel_shape, options = CALLS[name]
    x, kernel = normal(*x_shape, dtype=dtype), normal(*kernel_shape, dtype=dtype)
    y = normal(*op(x, kernel, **options).shape, dtype=dtype, seed=1)
    return op, x, y, (kernel, bias_for(name, dtype)), options


def predict(op: Any, x: Any, kernel: Any, bias: Any, options: dict[str, Any]) -> Any:
    if bias is None or bias.ndim:
        return op(x, kernel, *(() if bias is None else (bias,)), **options)
    return op(x, kernel, **options) + bias
