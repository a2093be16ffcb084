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
            "memory": 6.38e-11, "product": 9.75e-11, "run": 2.64e-09, "slice": 2.36e-05,
        },
        "gemm": {
            "column": 8.13e-11, "far column": 2.87e-10, "matrix": 2.14e-07, "memory": 1.87e-10, "product": 4.63e-11,
            "run": 5.58e-10,
        },
        "reduce": {
            "product": 2.45e-10, "run": 5.08e-09, "slice": 2.48e-05, "strided product": 5.49e-10,
        },
    },
    "torch complex": {
        "direct": {
            "product": 6.05e-11,
        },
        "fft": {
            "product": 2.05e-09, "step": 2.34e-10,
        },
        "gemm": {
            "block": 6.95e-09, "fresh": 3.64e-10, "kernel": 2.98e-11, "memory": 7.14e-11,
        },
        "native": {
            "base dilated output": 8.45e-10, "base dilated unfolded": 1.67e-11, "base dilated unfolded 3d": 2e-11,
            "base dilated unfolded 3d column": 5e-10, "base dilated unfolded column": 5.14e-10,
            "dilated unfolded": 2.1e-11, "dilated unfolded 3d": 1.99e-11, "dilated unfolded 3d column": 4.79e-10,
            "dilated unfolded column": 5.81e-10, "fresh": 3.06e-10, "grouped 3d": 4.91e-11, "input": 1.02e-09,
            "kernel": 1.7e-09, "matrix": 2.24e-06, "output": 1.11e-09, "primitive": 0.000347, "thin output": 5.19e-10,
            "whole unfolded": 9.65e-12, "whole unfolded 3d": 2.11e-11, "whole unfolded 3d column": 4.63e-10,
            "whole unfolded column": 7.67e-10,
        },
    },
    "torch float64": {
        "direct": {
            "memory": 1.92e-10, "strided product": 1e-10,
        },
        "gemm": {
            "block": 6.41e-09, "column": 9.88e-11, "kernel": 3.69e-11, "matrix": 9.29e-08, "memory": 9.43e-11,
            "product": 9.47e-12, "run": 6.11e-10, "tile": 2.16e-05,
        },
        "native": {
            "base dilated unfolded": 1.84e-11, "base dilated unfolded 3d": 2.01e-11,
            "base dilated unfolded 3d column": 5.54e-10, "base dilated unfolded column": 4.61e-10,
            "dilated unfolded": 1.07e-11, "dilated unfolded 3d": 1.7e-11, "dilated unfolded 3d column": 7.96e-10,
            "dilated unfolded column": 8.08e-10, "input": 7.95e-11, "matrix": 1.35e-06, "output": 1.42e-10,
            "whole unfolded": 2.16e-11, "whole unfolded 3d": 1.91e-11, "whole unfolded 3d column": 6.42e-10,
            "whole unfolded column": 5.08e-10,
        },
    },
}
