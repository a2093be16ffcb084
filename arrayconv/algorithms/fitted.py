"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of float32, measured on two cores, at the pace of the first of `rates.PROCESSORS`.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy": {
        "direct": {
            "call": 9.78e-07, "fresh": 8.08e-12, "input": 5.92e-11, "memory": 3.66e-12, "output": 4.3e-11,
            "padded": 1.92e-10, "product": 5.86e-11, "run": 4.97e-09, "shared product": 1.04e-10,
            "shared strided product": 2.21e-10, "slice": 2.02e-06, "strided product": 1.81e-10,
        },
        "fft": {
            "call": 2.77e-05, "line": 8.53e-09, "plain product": 2.04e-12, "point": 7.31e-10, "product": 5.53e-10,
            "step": 5.05e-11, "tile": 9.45e-05,
        },
        "gemm": {
            "call": 3.12e-07, "column": 1.51e-10, "far column": 1.99e-13, "fresh": 1.53e-10, "kernel": 1.7e-10,
            "matrix": 2.27e-08, "memory": 2.2e-11, "output": 5.43e-11, "padded": 9.52e-11, "product": 4.31e-12,
            "run": 3.12e-09, "shared column": 7.03e-11, "shared product": 5.19e-12, "shared run": 2.35e-09,
            "shared strided column": 1.32e-10, "strided column": 2.11e-10, "thin column": 5.99e-12, "tile": 1.05e-05,
            "viewed column": 4.67e-11,
        },
        "lags": {
            "call": 1.36e-05, "matrix": 7.15e-08, "moved": 6.05e-10, "partial": 3.56e-10, "product": 9.5e-12,
            "slice": 8.83e-06,
        },
        "native": {
            "call": 1.23e-06, "dot": 7.55e-09, "output": 2.88e-10, "padded": 2.56e-11, "product": 2.33e-11,
            "row": 1.61e-06, "short product": 1.04e-10,
        },
        "phases": {
            "call": 1.49e-05, "output": 6.18e-10, "part": 7.49e-06,
        },
        "separable": {
            "call": 6e-05, "look": 2e-05, "moved": 2.5e-10, "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
        "subpixel": {
            "call": 6.08e-05, "kernel": 3.05e-09, "output": 8.07e-10,
        },
        "toeplitz": {
            "band": 4.23e-10, "call": 1.29e-05, "woven": 3.45e-10,
        },
        "trim": {
            "call": 1.21e-06, "kernel": 2.08e-10, "output": 1.76e-10,
        },
        "winograd": {
            "call": 2.16e-06, "input": 2.51e-10, "kernel": 2.91e-10, "matrix": 1.53e-07, "moved": 2.15e-10,
            "output": 5.53e-11, "product": 9.41e-12, "tile": 0.000129,
        },
    },
    "torch": {
        "direct": {
            "call": 2.23e-06, "fresh": 2.01e-11, "input": 2.45e-12, "memory": 1.08e-10, "output": 4.81e-12,
            "padded": 8.44e-11, "product": 3.17e-11, "run": 1.7e-09, "slice": 1.1e-05, "strided product": 2.61e-10,
        },
        "fft": {
            "call": 5.46e-05, "line": 4.99e-09, "plain product": 4.99e-12, "point": 8.89e-12, "product": 9.69e-10,
            "step": 1.39e-10, "tile": 6.98e-05,
        },
        "gemm": {
            "block": 1.31e-08, "call": 1.32e-05, "column": 5.09e-11, "far column": 1.26e-10, "fresh": 7.35e-10,
            "kernel": 5.61e-11, "matrix": 5.86e-08, "memory": 4.27e-11, "output": 2.34e-11, "padded": 1.94e-10,
            "product": 1.54e-11, "run": 9.76e-10, "strided column": 1.75e-10, "thin column": 4.33e-12, "tile": 1.4e-05,
            "viewed column": 1.78e-12,
        },
        "lags": {
            "call": 4.38e-05, "matrix": 1.97e-07, "moved": 5.74e-10, "partial": 2.7e-10, "product": 1.56e-11,
            "slice": 1.78e-05,
        },
        "native": {
            "base dilated blocked": 6.22e-11, "base dilated column": 5.96e-10, "base dilated dense": 8.34e-12,
            "base dilated depthwise": 1.24e-11, "base dilated folded": 3.21e-12, "base dilated grouped": 1.24e-10,
            "base dilated output": 5.26e-10, "base dilated pointwise": 2.72e-12,
            "base dilated pointwise grouped": 2e-12, "base dilated single": 5.88e-11,
            "base dilated sparse depthwise": 4.29e-10, "base dilated thin": 2.26e-11, "blocked": 1.52e-11,
            "blocked 3d": 1.4e-11, "blocked 3d output": 7.12e-10, "blocked input": 1.37e-10, "blocked output": 1.87e-11,
            "call": 5.13e-06, "dense": 6.1e-12, "dense 3d": 7.44e-12, "dense 3d output": 8.56e-11,
            "dense output": 1.31e-10, "depthwise": 1.89e-11, "depthwise 3d": 8.9e-12, "depthwise 3d output": 3.07e-10,
            "depthwise output": 5.2e-10, "dilated 3d": 5.88e-12, "dilated 3d output": 1.83e-10, "fresh": 1.65e-10,
            "group": 3.64e-07, "grouped": 2.26e-11, "grouped 3d": 3.02e-11, "grouped 3d output": 6.21e-11,
            "grouped output": 1.5e-12, "input": 2.47e-10, "kernel": 5.69e-10, "long": 8.94e-12, "long 3d": 4.25e-11,
            "long 3d input": 5.74e-12, "long 3d output": 3.77e-10, "long input": 2.96e-09, "long output": 4.49e-11,
            "pointwise": 2e-12, "pointwise grouped": 2.07e-12, "pointwise grouped output": 2.1e-11,
            "pointwise output": 1.38e-10, "primitive": 5.37e-05, "strided pointwise": 2.18e-12,
            "strided pointwise grouped": 2.27e-12, "strided pointwise grouped output": 1.42e-11,
            "strided pointwise output": 1.73e-10, "thick": 4.8e-12, "thick output": 4.28e-11, "thin": 6.36e-12,
            "thin 3d": 6.25e-12, "thin 3d output": 1.31e-10, "thin output": 2.08e-10, "unfolded": 4.3e-12,
            "unfolded 3d": 1.55e-11, "unfolded 3d column": 9.99e-10, "unfolded 3d output": 1.89e-10,
            "unfolded column": 3.84e-10, "unfolded output": 9.01e-11, "wide": 7.57e-12, "wide output": 1.65e-11,
        },
        "phases": {
            "call": 3.07e-07, "output": 1.96e-10, "part": 2.78e-05,
        },
        "reduce": {
            "call": 2.29e-05, "moved": 5.09e-11, "product": 1.17e-10, "run": 2.99e-09, "slice": 1.62e-05,
            "strided product": 3.35e-10,
        },
        "subpixel": {
            "call": 6.98e-05, "kernel": 1.69e-09, "output": 8.71e-10,
        },
        "toeplitz": {
            "band": 1.64e-09, "call": 5.96e-05, "woven": 3.27e-10,
        },
        "trim": {
            "call": 4.75e-06, "kernel": 7.26e-11, "output": 3.49e-10,
        },
        "wgrad": {
            "blocked": 6.31e-11, "call": 1.84e-05, "column": 7.57e-10, "dense": 2.19e-11, "depthwise": 3.01e-10,
            "dilated": 3.35e-11, "fresh": 1.85e-09, "group": 1.41e-07, "grouped": 1.91e-11, "input": 1.89e-10,
            "kernel": 1.93e-09, "long": 5.32e-11, "output": 1.69e-10, "pointwise": 1.9e-11,
            "pointwise grouped": 2.22e-12, "primitive": 6.22e-05, "short depthwise": 7.13e-11,
            "short strided depthwise": 2.92e-10, "strided pointwise": 2.96e-12, "strided pointwise grouped": 2.98e-11,
            "thick": 3.42e-12, "thin": 1.28e-11, "unfolded": 6.06e-12, "wide": 1.16e-11,
        },
        "winograd": {
            "call": 6.69e-05, "input": 1.12e-09, "kernel": 5.89e-10, "matrix": 2.65e-06, "moved": 4.31e-10,
            "output": 6.91e-10, "product": 6.55e-12, "tile": 3.67e-05,
        },
        "separable": {
            "call": 0.0001, "look": 3e-05, "moved": 2e-10, "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
        "floats": {
            "byte": 2.6e-11, "call": 3e-05, "input": 2e-10, "output": 2e-10, "widened": 1e-10,
        },
        "rounded": {
            "byte": 2.6e-11, "call": 3e-05, "input": 2e-10, "output": 2e-10, "widened": 1e-10,
        },
    },
    "jax": {
        "abreast": {
            "call": 1.64e-05,
        },
        "direct": {
            "call": 2.75e-06, "fresh": 4e-10, "input": 2.9e-11, "looped output": 1.55e-10, "looped part": 1.94e-06,
            "memory": 2.37e-12, "output": 8.59e-11, "padded": 1.74e-10, "product": 1.85e-11, "run": 1.57e-10,
            "shared call": 2.81e-05, "slice": 1.84e-07, "split input": 3.31e-10, "strided product": 4.19e-11,
        },
        "fft": {
            "call": 2.24e-05, "line": 5.97e-09, "plain product": 1.81e-09, "point": 2.45e-10, "product": 6.45e-10,
            "step": 1.4e-10, "tile": 1.01e-05,
        },
        "gemm": {
            "added": 1.45e-10, "call": 4.98e-06, "column": 1.34e-10, "fresh": 6.46e-10, "kernel": 3.28e-10,
            "large product": 5.21e-12, "loop": 5.79e-06, "matrix": 3.39e-08, "memory": 8.72e-11, "output": 2.76e-10,
            "padded": 1.97e-10, "product": 9.4e-12, "run": 2.87e-10, "slice": 1.57e-07, "strided column": 1.71e-10,
            "summed": 1.19e-10, "viewed column": 3.21e-11, "viewed memory": 6.42e-11, "viewed output": 8.72e-11,
        },
        "lags": {
            "call": 1.06e-06, "matrix": 1.59e-09, "moved": 1.38e-09, "partial": 8.58e-11, "product": 2.93e-11,
            "slice": 8.2e-06,
        },
        "native": {
            "base dilated": 2.05e-12, "base dilated 3d": 4.47e-11, "base dilated column": 2.63e-13,
            "base dilated grouped": 9.55e-11, "base dilated grouped 3d": 4.1e-10, "base dilated odd column": 3.01e-11,
            "base dilated run": 4.08e-10, "base dilated written": 1.64e-09, "call": 5.18e-06, "column": 9.34e-11,
            "dense": 2.32e-12, "dense 3d": 3.83e-11, "dense dilated": 4.96e-12, "dense dilated 3d": 3.18e-10,
            "edge": 5.5e-10, "fresh": 1.23e-09, "group": 1.21e-06, "grouped": 2.59e-11, "grouped 3d": 1.12e-10,
            "grouped dilated": 1.09e-10, "grouped dilated 3d": 5.71e-10, "input": 7.61e-10, "kernel": 9.97e-10,
            "odd column": 1.94e-10, "output": 5.48e-10, "pointwise": 4.41e-12, "pointwise 3d": 9.6e-12,
            "pointwise grouped": 3.47e-12, "pointwise grouped 3d": 9.14e-10, "run": 1.13e-09,
            "spelled out dense": 2.18e-12, "spelled out dense 3d": 8.48e-12, "strided pointwise": 4.18e-12,
            "strided pointwise 3d": 1.74e-11, "strided pointwise grouped": 9.37e-11,
            "strided pointwise grouped 3d": 2e-11, "swapped": 4.35e-10, "written": 1.51e-10, "ynnpack column": 4.59e-12,
            "ynnpack dense": 1.1e-11, "ynnpack grouped": 9.26e-11, "ynnpack odd column": 1.1e-10,
            "ynnpack output": 6.83e-12, "ynnpack row": 2.54e-06, "ynnpack run": 3.04e-11,
        },
        "phases": {
            "call": 1.01e-06, "output": 1.82e-10, "part": 3.67e-08,
        },
        "reduce": {
            "call": 5.06e-06, "moved": 1.18e-10, "product": 7.51e-11, "run": 7.33e-11, "slice": 2.82e-06,
            "strided product": 9.1e-11,
        },
        "stretch": {
            "call": 4.54e-05,
        },
        "subpixel": {
            "call": 2.44e-05, "kernel": 2.12e-09, "output": 1.59e-09,
        },
        "toeplitz": {
            "band": 9.2e-10, "call": 7.82e-06, "woven": 8.77e-10,
        },
        "trim": {
            "call": 1.82e-06, "kernel": 6.95e-11, "output": 2.65e-11,
        },
        "winograd": {
            "call": 1.46e-05, "input": 1.6e-09, "kernel": 6.41e-10, "matrix": 1.1e-07, "moved": 3.99e-10,
            "output": 2.1e-09, "product": 1.37e-11, "tile": 4.71e-05,
        },
    },
}

#: Seconds for one of the above, by kind of processor and library: of products, and of all else.
PACES: dict[str, dict[str, tuple[float, float]]] = {
    "zen4": {"jax": (1.43, 2.03), "numpy": (2.29, 1.76), "torch": (1.73, 1.85)},
    "avx2": {"jax": (1.93, 3.66), "torch": (2.47, 3.11)},
}
