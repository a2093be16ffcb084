"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of other types, where they are far from those of float32.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy integer": {
        "direct": {
            "strided product": 4.27e-10,
        },
        "gemm": {
            "padded": 2.29e-10, "product": 3.86e-10, "shared column": 4.39e-11, "shared product": 2.99e-10,
            "strided column": 1.18e-10,
        },
        "native": {
            "dot": 1.86e-09, "product": 2.68e-10,
        },
    },
    "jax integer": {
        "direct": {
            "fresh": 6.27e-10, "looped part": 8.02e-07, "output": 2.09e-10, "run": 3.27e-10,
        },
        "gemm": {
            "large product": 4.19e-11, "padded": 3.62e-10, "product": 7.7e-11, "run": 9.63e-10,
            "viewed memory": 1.65e-11, "viewed output": 3.41e-11,
        },
        "native": {
            "plain grouped output": 6.68e-10, "plain grouped product": 8.47e-10, "plain output": 5.41e-10,
            "plain product": 2.43e-10,
        },
        "reduce": {
            "product": 3.06e-11, "run": 2.61e-10, "slice": 4.34e-06, "strided product": 6.93e-11,
        },
    },
    "jax complex": {
        "direct": {
            "fresh": 9.95e-10, "run": 1.36e-09, "split input": 6.26e-10,
        },
        "fft": {
            "product": 9.52e-10, "step": 2.71e-10,
        },
        "gemm": {
            "column": 2.9e-10, "fresh": 3.33e-10, "large product": 2.25e-11, "product": 4.53e-11,
            "viewed memory": 7.61e-11,
        },
        "lags": {
            "product": 6.96e-11,
        },
        "native": {
            "dense": 5.81e-12, "input": 1.4e-09, "kernel": 2.21e-09, "output": 8.24e-10,
        },
    },
    "torch integer": {
        "direct": {
            "memory": 6.42e-11, "product": 9.56e-11, "slice": 2.32e-05,
        },
        "gemm": {
            "column": 7.94e-11, "far column": 2.86e-10, "matrix": 2e-07, "memory": 1.81e-10, "product": 4.4e-11,
            "run": 5.66e-10, "tile": 2.24e-05,
        },
        "reduce": {
            "product": 2.32e-10, "run": 5.13e-09, "slice": 2.47e-05, "strided product": 5.36e-10,
        },
    },
    "torch complex": {
        "direct": {
            "product": 6.01e-11,
        },
        "fft": {
            "product": 2.05e-09, "step": 2.34e-10,
        },
        "gemm": {
            "block": 7.01e-09, "fresh": 3.61e-10, "kernel": 2.68e-11, "memory": 6.97e-11,
        },
        "native": {
            "base dilated output": 9.16e-10, "base dilated unfolded": 1.67e-11, "base dilated unfolded 3d": 2e-11,
            "base dilated unfolded 3d column": 5e-10, "base dilated unfolded column": 5.14e-10,
            "dilated unfolded": 2.1e-11, "dilated unfolded 3d": 1.99e-11, "dilated unfolded 3d column": 4.79e-10,
            "dilated unfolded column": 5.81e-10, "fresh": 3.15e-10, "grouped 3d": 4.91e-11, "input": 1.02e-09,
            "kernel": 1.6e-09, "matrix": 2.23e-06, "output": 1.11e-09, "primitive": 0.000347, "thin output": 5.12e-10,
            "whole unfolded": 9.64e-12, "whole unfolded 3d": 2.11e-11, "whole unfolded 3d column": 4.63e-10,
            "whole unfolded column": 7.67e-10,
        },
    },
    "torch float64": {
        "direct": {
            "memory": 1.93e-10, "strided product": 9.96e-11,
        },
        "gemm": {
            "block": 6.46e-09, "column": 9.74e-11, "matrix": 8.78e-08, "memory": 8.84e-11, "product": 9.51e-12,
            "run": 6.2e-10, "strided column": 1.17e-10, "tile": 2.29e-05,
        },
        "native": {
            "base dilated unfolded": 1.84e-11, "base dilated unfolded 3d": 2.01e-11,
            "base dilated unfolded 3d column": 5.53e-10, "base dilated unfolded column": 4.61e-10,
            "dilated unfolded": 1.08e-11, "dilated unfolded 3d": 1.7e-11, "dilated unfolded 3d column": 7.98e-10,
            "dilated unfolded column": 8.08e-10, "input": 7.96e-11, "matrix": 1.35e-06, "output": 1.44e-10,
            "whole unfolded": 2.13e-11, "whole unfolded 3d": 1.87e-11, "whole unfolded 3d column": 6.43e-10,
            "whole unfolded column": 5.08e-10,
        },
    },
}
