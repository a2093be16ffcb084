"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of other types, where they are far from those of float32.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy integer": {
        "direct": {
            "shared product": 7.5e-11, "strided product": 4.3e-10,
        },
        "gemm": {
            "padded": 2.36e-10, "product": 3.64e-10, "shared product": 2.98e-10, "strided column": 1.22e-10,
            "thin product": 3.52e-10,
        },
        "native": {
            "dot": 1.83e-09, "product": 2.68e-10,
        },
    },
    "jax integer": {
        "direct": {
            "fresh": 6.06e-10, "looped part": 8.01e-07, "output": 2.06e-10, "run": 3.19e-10,
        },
        "gemm": {
            "large product": 4.18e-11, "padded": 4.91e-10, "product": 7.49e-11, "run": 9.73e-10,
            "viewed memory": 1.63e-11, "viewed output": 3.34e-11,
        },
        "native": {
            "plain grouped output": 6.68e-10, "plain grouped product": 8.49e-10, "plain output": 5.4e-10,
            "plain product": 2.43e-10,
        },
        "reduce": {
            "product": 3.09e-11, "run": 2.61e-10, "strided product": 6.94e-11,
        },
    },
    "jax complex": {
        "direct": {
            "fresh": 9.06e-10, "run": 1.36e-09, "split input": 6.58e-10,
        },
        "fft": {
            "product": 9.52e-10, "step": 2.69e-10,
        },
        "gemm": {
            "column": 2.88e-10, "large product": 2.27e-11, "product": 4.53e-11, "viewed memory": 7.32e-11,
        },
        "lags": {
            "product": 6.67e-11,
        },
        "native": {
            "dense": 5.79e-12, "input": 1.42e-09, "kernel": 2.2e-09, "output": 8.24e-10,
        },
    },
    "torch integer": {
        "direct": {
            "memory": 6.34e-11, "product": 9.35e-11, "slice": 2.64e-05,
        },
        "gemm": {
            "far column": 3.08e-10, "matrix": 2.16e-07, "memory": 1.79e-10, "product": 3.69e-11, "run": 5.21e-10,
            "thin product": 5.38e-11,
        },
        "reduce": {
            "product": 2.6e-10, "run": 5.1e-09, "slice": 2.43e-05,
        },
    },
    "torch complex": {
        "direct": {
            "product": 6e-11,
        },
        "fft": {
            "product": 2.04e-09, "step": 2.33e-10,
        },
        "gemm": {
            "block": 7.02e-09, "fresh": 3.76e-10, "memory": 6.93e-11, "product": 1.93e-11,
        },
        "native": {
            "base dilated output": 9.2e-10, "base dilated unfolded": 1.67e-11, "base dilated unfolded 3d": 2e-11,
            "base dilated unfolded 3d column": 5e-10, "base dilated unfolded column": 5.14e-10,
            "dilated unfolded": 2.1e-11, "dilated unfolded 3d": 1.99e-11, "dilated unfolded 3d column": 4.79e-10,
            "dilated unfolded column": 5.81e-10, "fresh": 2.9e-10, "grouped 3d": 4.91e-11, "input": 1.01e-09,
            "kernel": 1.6e-09, "matrix": 2.23e-06, "output": 1.11e-09, "primitive": 0.000342, "thin output": 5.33e-10,
            "whole unfolded": 9.65e-12, "whole unfolded 3d": 2.11e-11, "whole unfolded 3d column": 4.64e-10,
            "whole unfolded column": 7.68e-10,
        },
    },
    "torch float64": {
        "direct": {
            "memory": 1.89e-10, "strided product": 9.98e-11,
        },
        "gemm": {
            "block": 6.35e-09, "column": 9.07e-11, "matrix": 9.54e-08, "memory": 8.6e-11, "run": 6.26e-10,
            "strided column": 1.13e-10, "thin product": 1.03e-11,
        },
        "lags": {
            "moved": 8.76e-10,
        },
        "native": {
            "base dilated unfolded": 1.84e-11, "base dilated unfolded 3d": 2.01e-11,
            "base dilated unfolded 3d column": 5.53e-10, "base dilated unfolded column": 4.61e-10,
            "dilated unfolded": 1.1e-11, "dilated unfolded 3d": 1.72e-11, "dilated unfolded 3d column": 7.94e-10,
            "dilated unfolded column": 8.04e-10, "input": 7.99e-11, "matrix": 1.34e-06, "output": 1.43e-10,
            "whole unfolded": 2.15e-11, "whole unfolded 3d": 1.87e-11, "whole unfolded 3d column": 6.38e-10,
            "whole unfolded column": 5.01e-10,
        },
    },
}
