"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of other types, where they are far from those of float32.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy integer": {
        "direct": {
            "strided product": 4.2e-10,
        },
        "gemm": {
            "padded": 2.19e-10, "product": 3.83e-10, "shared column": 4.48e-11, "shared product": 2.98e-10,
            "strided column": 1.18e-10,
        },
        "native": {
            "dot": 1.85e-09, "product": 2.66e-10,
        },
    },
    "jax integer": {
        "direct": {
            "fresh": 6.29e-10, "looped part": 7.98e-07, "output": 2.08e-10, "run": 3.26e-10,
        },
        "gemm": {
            "large product": 4.21e-11, "padded": 3.26e-10, "product": 7.75e-11, "run": 9.57e-10,
            "viewed memory": 1.66e-11, "viewed output": 3.44e-11,
        },
        "native": {
            "plain grouped output": 6.68e-10, "plain grouped product": 8.45e-10, "plain output": 5.41e-10,
            "plain product": 2.43e-10,
        },
        "reduce": {
            "product": 3.15e-11, "run": 2.35e-10, "slice": 4.48e-06, "strided product": 6.89e-11,
        },
    },
    "jax complex": {
        "direct": {
            "fresh": 9.96e-10, "run": 1.36e-09, "split input": 6.24e-10,
        },
        "fft": {
            "product": 9.49e-10, "step": 2.72e-10,
        },
        "gemm": {
            "column": 2.91e-10, "fresh": 3.34e-10, "large product": 2.24e-11, "product": 4.54e-11,
            "viewed memory": 7.73e-11,
        },
        "lags": {
            "product": 6.97e-11,
        },
        "native": {
            "dense": 5.74e-12, "input": 1.39e-09, "kernel": 2.21e-09, "output": 8.24e-10,
        },
    },
    "torch integer": {
        "direct": {
            "memory": 6.33e-11, "product": 9.69e-11, "slice": 2.33e-05,
        },
        "gemm": {
            "column": 8.35e-11, "far column": 2.82e-10, "matrix": 2.05e-07, "memory": 1.83e-10, "product": 4.46e-11,
            "run": 5.6e-10,
        },
        "reduce": {
            "product": 2.36e-10, "run": 5.08e-09, "slice": 2.48e-05, "strided product": 5.36e-10,
        },
    },
    "torch complex": {
        "direct": {
            "product": 6.05e-11,
        },
        "fft": {
            "product": 2.06e-09, "step": 2.34e-10,
        },
        "gemm": {
            "block": 7e-09, "fresh": 3.64e-10, "kernel": 2.64e-11, "memory": 7.06e-11,
        },
        "native": {
            "base dilated output": 8.38e-10, "base dilated unfolded": 1.67e-11, "base dilated unfolded 3d": 2e-11,
            "base dilated unfolded 3d column": 5e-10, "base dilated unfolded column": 5.14e-10,
            "dilated unfolded": 2.1e-11, "dilated unfolded 3d": 1.99e-11, "dilated unfolded 3d column": 4.79e-10,
            "dilated unfolded column": 5.81e-10, "fresh": 3.04e-10, "grouped 3d": 4.92e-11, "input": 1.02e-09,
            "kernel": 1.6e-09, "matrix": 2.24e-06, "output": 1.11e-09, "primitive": 0.000349, "thin output": 5.18e-10,
            "whole unfolded": 9.65e-12, "whole unfolded 3d": 2.11e-11, "whole unfolded 3d column": 4.63e-10,
            "whole unfolded column": 7.67e-10,
        },
    },
    "torch float64": {
        "direct": {
            "memory": 1.91e-10, "strided product": 1e-10,
        },
        "gemm": {
            "block": 6.46e-09, "column": 9.94e-11, "matrix": 8.96e-08, "memory": 9.1e-11, "product": 9.55e-12,
            "run": 6.11e-10, "tile": 2.25e-05,
        },
        "native": {
            "base dilated unfolded": 1.84e-11, "base dilated unfolded 3d": 2.01e-11,
            "base dilated unfolded 3d column": 5.53e-10, "base dilated unfolded column": 4.61e-10,
            "dilated unfolded": 1.08e-11, "dilated unfolded 3d": 1.7e-11, "dilated unfolded 3d column": 7.98e-10,
            "dilated unfolded column": 8.08e-10, "input": 7.93e-11, "matrix": 1.35e-06, "output": 1.44e-10,
            "whole unfolded": 2.13e-11, "whole unfolded 3d": 1.87e-11, "whole unfolded 3d column": 6.42e-10,
            "whole unfolded column": 5.08e-10,
        },
    },
}
