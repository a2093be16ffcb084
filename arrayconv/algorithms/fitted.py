"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Measured on two cores with AVX-512.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy": {
        "direct": {
            "call": 1.89e-06, "input": 1.26e-10, "memory": 3.68e-11,
            "output": 1.08e-10, "product": 1.18e-10, "run": 5.5e-09,
            "slice": 1.88e-06, "strided product": 2.65e-10,
        },
        "gemm": {
            "call": 8.58e-07, "column": 1.6e-10, "doubled column": 5e-10,
            "integer product": 1.5e-09, "matrix": 3.48e-07, "memory": 2.3e-10,
            "output": 1.16e-11, "product": 1.18e-11, "run": 3.72e-09,
            "strided column": 2.84e-10, "tile": 1.63e-05,
        },
        "toeplitz": {
            "band": 2.18e-09, "call": 1.43e-06, "column": 1.44e-10,
            "dense": 2e-11, "dense 1d": 2e-11, "dense 1d output": 5e-10,
            "dense 3d": 2e-11, "dense 3d output": 5e-10, "dense output": 5e-10,
            "depthwise": 2e-11, "depthwise 1d": 2e-11, "depthwise 1d output": 5e-10,
            "depthwise 3d": 2e-11, "depthwise 3d output": 5e-10, "depthwise output": 5e-10,
            "doubled column": 5e-10, "group": 1e-06, "grouped": 2e-11,
            "grouped 1d": 2e-11, "grouped 1d output": 5e-10, "grouped 3d": 2e-11,
            "grouped 3d output": 5e-10, "grouped output": 5e-10, "input": 5e-10,
            "integer product": 1.5e-09, "kernel": 5e-10, "matrix": 3.8e-08,
            "memory": 1.41e-10, "output": 1.76e-10, "product": 8.06e-12,
            "run": 4.46e-09, "strided column": 3.02e-10, "thick": 2e-11,
            "thick 1d": 2e-11, "thick 1d output": 5e-10, "thick output": 5e-10,
            "tile": 3.72e-05, "unfolded": 1.76e-10,
        },
        "fft": {
            "call": 4.75e-05, "plain product": 4.55e-12, "point": 1.76e-09,
            "product": 5.23e-10, "step": 1.55e-10, "tile": 1.86e-05,
        },
        "phases": {
            "call": 5.22e-05, "output": 2e-09, "part": 5.33e-06,
        },
        "subpixel": {
            "call": 4.9e-05, "kernel": 3.88e-09, "output": 1.54e-09,
        },
        "native": {
            "call": 8.01e-05, "dense": 6.03e-12, "dense 1d": 1.15e-11,
            "dense 1d output": 2.23e-11, "dense 3d": 5.36e-12, "dense 3d output": 2.45e-10,
            "dense output": 4.13e-10, "depthwise": 1.01e-10, "depthwise 1d": 1.02e-10,
            "depthwise 1d output": 2.84e-10, "depthwise 3d": 1.48e-10, "depthwise 3d output": 1.21e-10,
            "depthwise output": 1.01e-10, "grouped": 1.62e-11, "grouped 1d": 2.28e-11,
            "grouped 1d output": 5.32e-11, "grouped 3d": 2.45e-11, "grouped 3d output": 1.58e-11,
            "grouped output": 5.37e-11, "input": 2.72e-10, "kernel": 5.37e-10,
        },
        "separable": {
            "call": 6e-05, "look": 2e-05, "moved": 2.5e-10,
            "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
        "winograd": {
            "call": 2.18e-06, "input": 4.28e-10, "kernel": 5.56e-11,
            "matrix": 7.06e-07, "moved": 5.67e-10, "output": 3.86e-09,
            "product": 6.08e-13, "tile": 2.33e-06,
        },
    },
    "torch": {
        "native": {
            "base dilated": 3.3e-12, "base dilated long": 8.03e-11, "base dilated long output": 4.7e-10,
            "base dilated output": 7.3e-09, "call": 7.54e-06, "dense": 5.25e-12,
            "dense 1d": 1.05e-11, "dense 1d output": 2.55e-10, "dense 3d": 6.25e-12,
            "dense 3d output": 2.04e-10, "dense output": 3.58e-10, "depthwise": 2.63e-11,
            "depthwise 1d": 2.58e-11, "depthwise 1d output": 3.81e-10, "depthwise 3d": 1.32e-10,
            "depthwise 3d output": 2.72e-10, "depthwise output": 6.38e-10, "group": 4.95e-07,
            "grouped": 1.73e-11, "grouped 1d": 1.56e-11, "grouped 1d output": 1.15e-11,
            "grouped 3d": 1.65e-11, "grouped 3d output": 7.56e-11, "grouped output": 3.5e-11,
            "input": 2.67e-10, "kernel": 3.06e-09, "long": 6.57e-12,
            "long 1d": 3.6e-11, "long 1d input": 5.23e-10, "long 1d output": 5e-10,
            "long 3d": 7.48e-11, "long 3d input": 6.03e-10, "long 3d output": 5e-10,
            "long input": 6e-09, "long output": 4.21e-10, "pointwise": 2.07e-11,
            "pointwise output": 2.79e-10, "thick": 4.24e-12, "thick 1d": 7.02e-12,
            "thick 1d output": 1.32e-10, "thick output": 5.84e-10,
        },
        "direct": {
            "call": 2.12e-06, "input": 1.13e-11, "memory": 4.29e-10,
            "output": 8e-11, "product": 1.12e-10, "run": 2.34e-09,
            "slice": 1.02e-05, "strided product": 2.46e-10,
        },
        "gemm": {
            "call": 1.6e-05, "column": 2.98e-10, "doubled column": 5e-10,
            "integer product": 1.5e-09, "matrix": 5.52e-07, "memory": 1.98e-10,
            "output": 4.38e-12, "product": 1.18e-11, "run": 1.87e-09,
            "strided column": 4.05e-10, "tile": 1.04e-05,
        },
        "toeplitz": {
            "band": 1.53e-09, "call": 3.03e-05, "column": 5e-10,
            "dense": 5.5e-12, "dense 1d": 7.2e-12, "dense 1d output": 3.45e-10,
            "dense 3d": 6.07e-12, "dense 3d output": 4.83e-10, "dense output": 4.05e-10,
            "depthwise": 2.67e-11, "depthwise 1d": 4.92e-12, "depthwise 1d output": 8.84e-10,
            "depthwise 3d": 2.46e-11, "depthwise 3d output": 2.11e-09, "depthwise output": 7.07e-10,
            "doubled column": 5e-10, "group": 1.3e-06, "grouped": 1.58e-11,
            "grouped 1d": 8.76e-12, "grouped 1d output": 4.9e-10, "grouped 3d": 2.25e-11,
            "grouped 3d output": 9.67e-11, "grouped output": 5.99e-11, "input": 4.77e-10,
            "integer product": 1.5e-09, "kernel": 1.53e-09, "matrix": 2e-06,
            "output": 5e-10, "pointwise": 1.02e-12, "pointwise output": 1.49e-09,
            "product": 2e-11, "run": 5e-09, "thick": 4.47e-12,
            "thick 1d": 5.42e-12, "thick 1d output": 2.01e-10, "thick output": 1.32e-10,
            "tile": 2e-05, "unfolded": 9.58e-12,
        },
        "fft": {
            "call": 6.41e-06, "plain product": 2.11e-11, "point": 1.06e-09,
            "product": 1.15e-09, "step": 1e-10, "tile": 0.000108,
        },
        "phases": {
            "call": 3.97e-06, "output": 8.49e-10, "part": 5.29e-05,
        },
        "subpixel": {
            "call": 0.000163, "kernel": 4.96e-09, "output": 1e-09,
        },
        "separable": {
            "call": 0.0001, "look": 3e-05, "moved": 2e-10,
            "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
        "winograd": {
            "call": 5.6e-06, "input": 1.79e-09, "kernel": 3.22e-10,
            "matrix": 4.98e-07, "moved": 6.53e-10, "output": 2.19e-09,
            "product": 7.21e-13, "tile": 2.45e-05,
        },
    },
    "jax": {
        "native": {
            "base dilated": 3.36e-10, "base dilated long": 8.48e-10, "base dilated long output": 5.1e-10,
            "base dilated output": 2.04e-08, "call": 5.63e-06, "dense": 1.96e-11,
            "dense 1d": 1.24e-11, "dense 1d output": 5.63e-10, "dense 3d": 1.79e-10,
            "dense 3d output": 2.64e-09, "dense output": 9.79e-10, "depthwise": 3.72e-10,
            "depthwise 1d": 4.49e-10, "depthwise 1d output": 2.68e-09, "depthwise 3d": 5.4e-09,
            "depthwise 3d output": 7.03e-10, "depthwise output": 2.73e-08, "group": 5.55e-06,
            "grouped": 5.78e-11, "grouped 1d": 6.57e-11, "grouped 1d output": 6.09e-10,
            "grouped 3d": 1.18e-10, "grouped 3d output": 1.85e-09, "grouped output": 5.26e-09,
            "input": 1.03e-09, "kernel": 1.78e-09, "long": 5.69e-12,
            "long 1d": 2.15e-12, "long 1d input": 1.64e-09, "long 1d output": 5.01e-10,
            "long 3d": 1.35e-11, "long 3d input": 3.85e-09, "long 3d output": 5e-10,
            "long input": 1.41e-09, "long output": 4.31e-10, "pointwise": 2.12e-12,
            "pointwise output": 2.97e-09, "thick": 2.84e-12, "thick 1d": 4.85e-12,
            "thick 1d output": 4.68e-10, "thick output": 1.1e-08,
        },
        "direct": {
            "call": 4.89e-06, "input": 2.42e-10, "memory": 6.87e-12,
            "output": 3.08e-11, "product": 2.74e-11, "run": 6.88e-10,
            "slice": 7.81e-07, "strided product": 7.91e-11,
        },
        "gemm": {
            "call": 2.68e-06, "column": 6.21e-10, "doubled column": 5e-10,
            "integer product": 1.5e-09, "matrix": 1.71e-08, "memory": 3e-10,
            "output": 1.57e-10, "product": 1.37e-11, "run": 1.32e-09,
            "strided column": 9.2e-10, "tile": 2.72e-05,
        },
        "toeplitz": {
            "band": 9.66e-10, "call": 3.09e-05, "column": 5e-10,
            "dense": 2.03e-11, "dense 1d": 3.85e-12, "dense 1d output": 1.36e-09,
            "dense 3d": 2.48e-10, "dense 3d output": 2.99e-09, "dense output": 1.11e-09,
            "depthwise": 9.27e-11, "depthwise 1d": 1.7e-12, "depthwise 1d output": 3.75e-09,
            "depthwise 3d": 4.39e-10, "depthwise 3d output": 5.24e-08, "depthwise output": 3.62e-09,
            "doubled column": 5e-10, "group": 2.59e-06, "grouped": 4.97e-11,
            "grouped 1d": 3.25e-11, "grouped 1d output": 6.87e-10, "grouped 3d": 1.35e-10,
            "grouped 3d output": 2.42e-09, "grouped output": 7.75e-09, "input": 9.82e-10,
            "integer product": 1.5e-09, "kernel": 9.66e-10, "matrix": 2e-06,
            "output": 5e-10, "pointwise": 1.15e-11, "pointwise output": 3.39e-09,
            "product": 2e-11, "run": 5e-09, "thick": 7.72e-12,
            "thick 1d": 1.05e-11, "thick 1d output": 2.13e-10, "thick output": 7.25e-09,
            "tile": 2e-05, "unfolded": 5.12e-11,
        },
        "phases": {
            "call": 1.15e-06, "output": 3.68e-10, "part": 2.1e-07,
        },
        "subpixel": {
            "call": 2.32e-06, "kernel": 2.34e-09, "output": 2.16e-09,
        },
        "fft": {
            "call": 1.07e-05, "plain product": 6.65e-10, "point": 6.26e-11,
            "product": 1.12e-10, "step": 9.49e-11, "tile": 0.00153,
        },
        "reduce": {
            "call": 6.68e-06, "moved": 1.42e-10, "product": 1.03e-10,
            "run": 5.28e-12, "slice": 1.99e-06, "strided product": 1.37e-10,
        },
        "separable": {
            "call": 0.0001, "look": 3e-05, "moved": 2e-10,
            "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
        "winograd": {
            "call": 7.88e-06, "input": 2.01e-09, "kernel": 4.51e-10,
            "matrix": 5.71e-08, "moved": 4.25e-10, "output": 4.05e-09,
            "product": 1.32e-11, "tile": 3.5e-06,
        },
    },
}
