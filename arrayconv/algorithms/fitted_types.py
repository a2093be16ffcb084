"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of other types, where they are far from those of float32.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy integer": {
        "direct": {
            "product": 8.93e-11, "strided product": 4.22e-10,
        },
        "gemm": {
            "padded": 2.16e-10, "product": 3.8e-10, "shared column": 4.43e-11, "shared product": 2.98e-10,
            "strided column": 1.21e-10,
        },
        "native": {
            "dot": 1.82e-09, "product": 2.67e-10,
        },
    },
    "jax integer": {
        "direct": {
            "fresh": 6.38e-10, "looped part": 9.6e-07, "output": 2.13e-10, "run": 3.42e-10,
        },
        "gemm": {
            "large product": 3.98e-11, "padded": 3.45e-10, "product": 8.35e-11, "run": 7.12e-10, "slice": 2.42e-07,
            "viewed memory": 1.91e-11, "viewed output": 3.63e-11,
        },
        "native": {
            "plain grouped output": 6.68e-10, "plain grouped product": 8.52e-10, "plain output": 5.62e-10,
            "plain product": 2.24e-10,
        },
        "reduce": {
            "product": 2.99e-11, "run": 2.55e-10, "slice": 4.31e-06, "strided product": 6.02e-11,
        },
    },
    "jax complex": {
        "direct": {
            "fresh": 9.89e-10, "run": 1.38e-09, "split input": 6.25e-10,
        },
        "fft": {
            "step": 2.72e-10,
        },
        "gemm": {
            "column": 2.86e-10, "fresh": 3.62e-10, "large product": 2.09e-11, "output": 4.2e-10, "product": 4.86e-11,
            "viewed memory": 1.12e-10,
        },
        "lags": {
            "product": 6.69e-11,
        },
        "native": {
            "dense": 5.43e-12, "input": 1.37e-09, "kernel": 2.41e-09, "output": 8.99e-10,
        },
    },
    "torch integer": {
        "direct": {
            "memory": 6.23e-11, "product": 9.77e-11, "run": 2.61e-09, "slice": 2.35e-05,
        },
        "gemm": {
            "column": 8.11e-11, "far column": 2.87e-10, "matrix": 2.06e-07, "memory": 1.92e-10, "product": 4.59e-11,
            "run": 5.63e-10, "tile": 2.11e-05,
        },
        "reduce": {
            "product": 2.5e-10, "run": 4.84e-09, "slice": 2.49e-05, "strided product": 5.98e-10,
        },
    },
    "torch complex": {
        "direct": {
            "product": 6.06e-11,
        },
        "fft": {
            "product": 2.05e-09, "step": 2.34e-10,
        },
        "gemm": {
            "block": 6.85e-09, "fresh": 3.74e-10, "kernel": 2.96e-11, "memory": 7.29e-11,
        },
        "native": {
            "base dilated output": 8.41e-10, "base dilated unfolded": 1.67e-11, "base dilated unfolded 3d": 2e-11,
            "base dilated unfolded 3d column": 5e-10, "base dilated unfolded column": 5.14e-10,
            "dilated unfolded": 2.1e-11, "dilated unfolded 3d": 1.99e-11, "dilated unfolded 3d column": 4.8e-10,
            "dilated unfolded column": 5.82e-10, "grouped 3d": 4.93e-11, "input": 1.02e-09, "kernel": 1.7e-09,
            "matrix": 2.24e-06, "output": 1.11e-09, "primitive": 0.000348, "thin output": 6.18e-10,
            "whole unfolded": 9.67e-12, "whole unfolded 3d": 2.11e-11, "whole unfolded 3d column": 4.65e-10,
            "whole unfolded column": 7.69e-10,
        },
    },
    "torch float64": {
        "direct": {
            "memory": 1.9e-10, "strided product": 1.01e-10,
        },
        "gemm": {
            "block": 6.37e-09, "column": 9.96e-11, "kernel": 3.66e-11, "matrix": 9.15e-08, "memory": 9.63e-11,
            "product": 9.48e-12, "run": 6.15e-10, "strided column": 1.18e-10, "tile": 2.16e-05,
        },
        "native": {
            "base dilated unfolded": 1.84e-11, "base dilated unfolded 3d": 2.01e-11,
            "base dilated unfolded 3d column": 5.53e-10, "base dilated unfolded column": 4.61e-10,
            "dilated unfolded": 1.07e-11, "dilated unfolded 3d": 1.71e-11, "dilated unfolded 3d column": 7.99e-10,
            "dilated unfolded column": 8.08e-10, "input": 7.89e-11, "matrix": 1.35e-06, "output": 1.43e-10,
            "whole unfolded": 2.16e-11, "whole unfolded 3d": 1.9e-11, "whole unfolded 3d column": 6.43e-10,
            "whole unfolded column": 5.07e-10,
        },
    },
}
