"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of float32, measured on two cores, at the pace of the first of `rates.PROCESSORS`.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy": {
        "diagonals": {
            "call": 3.44e-05, "column": 4.46e-11, "matrix": 8.65e-08, "output": 2.31e-11, "padded": 4.55e-10,
            "product": 1.19e-11, "run": 4.74e-09, "shared column": 1.03e-10, "shared matrix": 3.3e-08,
            "shared product": 5.38e-12, "shared run": 6.61e-09, "tile": 1.58e-06,
        },
        "direct": {
            "call": 1.25e-06, "fresh": 7.47e-12, "input": 6.48e-11, "memory": 3.05e-12, "output": 4.08e-11,
            "padded": 1.66e-10, "product": 8.57e-11, "run": 5.66e-09, "shared product": 1.15e-10,
            "shared strided product": 2.5e-10, "slice": 1.84e-06, "strided product": 2.33e-10,
        },
        "fft": {
            "call": 2.28e-05, "line": 1.03e-08, "plain product": 2.18e-12, "point": 8.86e-10, "product": 5.03e-10,
            "step": 4.87e-11, "tile": 8.67e-05,
        },
        "gemm": {
            "call": 3e-07, "column": 1.55e-10, "far column": 2.01e-13, "fresh": 1.86e-10, "kernel": 1.86e-10,
            "matrix": 3.24e-08, "memory": 3.07e-11, "output": 5.05e-11, "padded": 1.17e-10, "product": 6.49e-12,
            "run": 2.85e-09, "shared column": 5.92e-11, "shared product": 6.65e-12, "shared run": 2.17e-09,
            "shared strided column": 1.24e-10, "strided column": 1.97e-10, "thin column": 6.05e-12,
            "thin product": 7.46e-12, "tile": 1.07e-05, "viewed column": 3.87e-11,
        },
        "kn2row": {
            "call": 1.83e-06, "column": 4.05e-11, "input": 3.14e-11, "kernel": 4.51e-11, "matrix": 7.54e-08,
            "memory": 1.11e-10, "output": 1.62e-10, "product": 5.7e-12, "run": 8.87e-09, "shared column": 2.5e-11,
            "shared product": 6.85e-12, "shared run": 9.07e-09, "slice": 1.72e-06, "tile": 4.5e-06,
        },
        "lags": {
            "call": 2.28e-05, "matrix": 8.58e-08, "moved": 5.24e-10, "output": 1.99e-08, "partial": 2.16e-10,
            "product": 1.21e-11, "slice": 4.19e-06,
        },
        "native": {
            "call": 1.7e-06, "dot": 7.9e-09, "output": 2.98e-10, "padded": 3.19e-11, "product": 2.43e-11,
            "row": 1.53e-06, "short product": 1.02e-10,
        },
        "phases": {
            "call": 7.44e-06, "output": 6.26e-10, "part": 8.72e-06,
        },
        "subpixel": {
            "call": 6.08e-05, "kernel": 3.3e-09, "output": 8.01e-10,
        },
        "toeplitz": {
            "band": 3.63e-10, "call": 1.66e-05, "woven": 6.05e-10,
        },
        "trim": {
            "call": 1.18e-06, "kernel": 2.11e-10, "output": 1.95e-10,
        },
        "winograd": {
            "call": 2.28e-06, "input": 1.78e-10, "kernel": 2.76e-10, "matrix": 1.36e-07, "moved": 2.43e-10,
            "output": 9.29e-11, "product": 1.2e-11, "tile": 0.000128,
        },
        "separable": {
            "call": 6e-05, "look": 2e-05, "moved": 2.5e-10, "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
    },
    "torch": {
        "direct": {
            "call": 2.16e-06, "fresh": 2.37e-11, "input": 2.34e-12, "memory": 1.08e-10, "output": 5.43e-12,
            "padded": 8.49e-11, "product": 3.1e-11, "run": 1.74e-09, "slice": 1.13e-05, "strided product": 2.58e-10,
        },
        "fft": {
            "call": 5.46e-05, "line": 4.91e-09, "plain product": 3.68e-12, "point": 8.52e-12, "product": 9.49e-10,
            "step": 1.41e-10, "tile": 7.27e-05,
        },
        "gemm": {
            "block": 1.33e-08, "call": 1.34e-05, "column": 4.37e-11, "far column": 1.26e-10, "fresh": 7.9e-10,
            "kernel": 3.16e-11, "matrix": 5.83e-08, "memory": 4.21e-11, "output": 2.69e-11, "padded": 1.95e-10,
            "product": 1.23e-11, "run": 1.01e-09, "strided column": 1.74e-10, "thin column": 4.63e-12,
            "thin product": 1.79e-11, "tile": 1.46e-05, "viewed column": 1.07e-12,
        },
        "kn2row": {
            "call": 1.04e-05, "column": 3.76e-10, "column 3d": 4.2e-10, "input": 6.71e-11, "kernel": 4.21e-10,
            "matrix": 6.33e-07, "memory": 6.08e-10, "output": 1.4e-10, "product": 9.52e-12, "run": 2.89e-10,
            "tile": 1.21e-05,
        },
        "lags": {
            "call": 5.17e-05, "matrix": 2.08e-07, "moved": 5.7e-10, "output": 6.93e-09, "partial": 1.56e-10,
            "product": 1.5e-11, "slice": 1.47e-05,
        },
        "native": {
            "base dilated blocked": 6.16e-11, "base dilated column": 6.21e-10, "base dilated dense": 8.56e-12,
            "base dilated depthwise": 1.25e-11, "base dilated folded": 4.07e-12, "base dilated grouped": 1.21e-10,
            "base dilated output": 5.7e-10, "base dilated pointwise": 8.06e-12, "base dilated pointwise grouped": 2e-12,
            "base dilated single": 5.61e-11, "base dilated sparse depthwise": 4.26e-10, "base dilated thin": 2.25e-11,
            "blocked": 1.51e-11, "blocked 3d": 1.38e-11, "blocked 3d output": 7.87e-10, "blocked input": 1.48e-10,
            "blocked output": 2.05e-11, "call": 5.13e-06, "dense": 6.02e-12, "dense 3d": 7.38e-12,
            "dense 3d output": 7.53e-11, "dense output": 1.46e-10, "depthwise": 1.91e-11, "depthwise 3d": 8.8e-12,
            "depthwise 3d output": 3.05e-10, "depthwise output": 5.16e-10, "dilated 3d": 5.83e-12,
            "dilated 3d output": 1.85e-10, "fresh": 1.63e-10, "group": 3.99e-07, "grouped": 2.31e-11,
            "grouped 3d": 3.05e-11, "grouped 3d output": 6.05e-11, "grouped output": 1.61e-12, "input": 2.51e-10,
            "kernel": 5.19e-10, "long": 8.87e-12, "long 3d": 4.18e-11, "long 3d input": 5.79e-12,
            "long 3d output": 3.46e-10, "long input": 2.91e-09, "long output": 4.14e-11, "pointwise": 2e-12,
            "pointwise grouped": 2.07e-12, "pointwise grouped output": 2.21e-11, "pointwise output": 1.46e-10,
            "primitive": 5.61e-05, "strided pointwise": 2.19e-12, "strided pointwise grouped": 2.27e-12,
            "strided pointwise grouped output": 1.37e-11, "strided pointwise output": 1.82e-10, "thick": 5e-12,
            "thick output": 2.32e-11, "thin": 6.48e-12, "thin 3d": 6.18e-12, "thin 3d output": 1.35e-10,
            "thin output": 2.05e-10, "unfolded": 5.05e-12, "unfolded 3d": 1.31e-11, "unfolded 3d column": 1e-09,
            "unfolded 3d output": 3.31e-10, "unfolded column": 4.15e-10, "unfolded output": 8.04e-11, "wide": 7.62e-12,
            "wide output": 1.43e-11,
        },
        "phases": {
            "call": 3.26e-07, "output": 2.03e-10, "part": 2.88e-05,
        },
        "reduce": {
            "call": 2.41e-05, "moved": 4.93e-11, "product": 1.15e-10, "run": 3.11e-09, "slice": 1.6e-05,
            "strided product": 3.28e-10,
        },
        "subpixel": {
            "call": 6.98e-05, "kernel": 1.75e-09, "output": 8.95e-10,
        },
        "toeplitz": {
            "band": 1.71e-09, "call": 5.96e-05, "woven": 3.25e-10,
        },
        "trim": {
            "call": 4.71e-06, "kernel": 7.19e-11, "output": 3.51e-10,
        },
        "wgrad": {
            "blocked": 6.15e-11, "call": 1.84e-05, "column": 8.52e-10, "dense": 2.09e-11, "depthwise": 2.96e-10,
            "dilated": 3.39e-11, "fresh": 1.44e-09, "group": 1.5e-07, "grouped": 1.94e-11, "input": 1.93e-10,
            "kernel": 1.37e-09, "long": 5.31e-11, "output": 1.58e-10, "pointwise": 1.44e-11,
            "pointwise grouped": 3.56e-12, "primitive": 7.01e-05, "short depthwise": 6.98e-11,
            "short strided depthwise": 2.59e-10, "strided pointwise": 3.57e-12, "strided pointwise grouped": 2.93e-11,
            "thick": 3.68e-12, "thin": 1.24e-11, "unfolded": 5.18e-12, "wide": 1.22e-11,
        },
        "winograd": {
            "call": 6.78e-05, "input": 1.11e-09, "kernel": 5.5e-10, "matrix": 2.59e-06, "moved": 4.46e-10,
            "output": 7.12e-10, "product": 6.71e-12, "tile": 5.23e-05,
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
            "call": 1.8e-05,
        },
        "direct": {
            "call": 2.78e-06, "fresh": 3.27e-10, "input": 2.98e-11, "looped output": 1.63e-10, "looped part": 2.14e-06,
            "memory": 6.54e-13, "output": 8.65e-11, "padded": 2.01e-10, "product": 1.79e-11, "run": 1.42e-10,
            "shared call": 2.87e-05, "slice": 1.86e-07, "split input": 3.6e-10, "strided product": 3.95e-11,
        },
        "fft": {
            "call": 2.61e-05, "line": 5.65e-09, "plain product": 1.67e-09, "point": 3.17e-10, "product": 5.99e-10,
            "step": 1.4e-10, "tile": 6.28e-06,
        },
        "gemm": {
            "added": 9.1e-11, "call": 4.98e-06, "column": 1.26e-10, "fresh": 7.15e-10, "kernel": 2.9e-10,
            "large product": 5.07e-12, "loop": 7.22e-06, "matrix": 4.28e-08, "memory": 1.65e-10, "output": 2.64e-10,
            "padded": 2.45e-10, "product": 9.34e-12, "run": 3.57e-10, "slice": 1.16e-07, "strided column": 1.56e-10,
            "summed": 1.23e-10, "viewed column": 5.58e-11, "viewed memory": 4.22e-11, "viewed output": 7.3e-11,
        },
        "kn2row": {
            "call": 5.09e-06, "column": 2.54e-10, "fresh": 5e-10, "input": 3.36e-10, "kernel": 1.1e-10,
            "matrix": 1.55e-08, "output": 1.35e-10, "product": 4.13e-12, "tile": 3.66e-05,
        },
        "lags": {
            "call": 3.45e-06, "matrix": 6.41e-09, "moved": 1.26e-09, "output": 4.18e-09, "partial": 6.61e-11,
            "product": 2.82e-11, "slice": 6.36e-06,
        },
        "native": {
            "base dilated": 2.08e-12, "base dilated 3d": 4.48e-11, "base dilated column": 2.6e-13,
            "base dilated grouped": 9.49e-11, "base dilated grouped 3d": 5.38e-10, "base dilated odd column": 2.87e-11,
            "base dilated run": 4.19e-10, "base dilated written": 1.62e-09, "call": 5.18e-06, "column": 8.74e-11,
            "dense": 2.28e-12, "dense 3d": 3.75e-11, "dense dilated": 6.75e-12, "dense dilated 3d": 3.06e-10,
            "edge": 5.75e-10, "fresh": 1.16e-09, "group": 1.23e-06, "grouped": 2.49e-11, "grouped 3d": 1.08e-10,
            "grouped dilated": 1.03e-10, "grouped dilated 3d": 5.53e-10, "input": 8.27e-10, "kernel": 1.07e-09,
            "odd column": 1.85e-10, "output": 5.16e-10, "pointwise": 3.58e-12, "pointwise 3d": 9.34e-12,
            "pointwise grouped": 3.66e-12, "pointwise grouped 3d": 9.13e-10, "run": 1.2e-09,
            "spelled out dense": 2.17e-12, "spelled out dense 3d": 8.8e-12, "strided pointwise": 5e-12,
            "strided pointwise 3d": 1.64e-11, "strided pointwise grouped": 9.45e-11,
            "strided pointwise grouped 3d": 2e-11, "swapped": 3.63e-10, "written": 1.76e-10, "ynnpack column": 3.87e-12,
            "ynnpack dense": 1.09e-11, "ynnpack grouped": 9.16e-11, "ynnpack odd column": 9.45e-11,
            "ynnpack output": 5.81e-12, "ynnpack row": 2.57e-06, "ynnpack run": 2.26e-11,
        },
        "phases": {
            "call": 1.28e-06, "output": 1.82e-10, "part": 3.84e-08,
        },
        "reduce": {
            "call": 5.06e-06, "moved": 7.83e-11, "product": 7.58e-11, "run": 8.82e-11, "slice": 2.89e-06,
            "strided product": 1.12e-10,
        },
        "stretch": {
            "call": 4.64e-05,
        },
        "subpixel": {
            "call": 2.42e-05, "kernel": 2.14e-09, "output": 1.57e-09,
        },
        "toeplitz": {
            "band": 8.77e-10, "call": 7.82e-06, "woven": 8.92e-10,
        },
        "trim": {
            "call": 1.78e-06, "kernel": 7.12e-11, "output": 8.65e-11,
        },
        "winograd": {
            "call": 1.79e-05, "input": 1.6e-09, "kernel": 6.86e-10, "matrix": 1.03e-07, "moved": 4e-10,
            "output": 2.24e-09, "product": 1.24e-11, "tile": 4.44e-05,
        },
    },
}

#: Seconds for one of the above, by kind of processor and library: of products, and of all else.
PACES: dict[str, dict[str, tuple[float, float]]] = {
    "zen4": {"jax": (1.64, 1.93), "numpy": (1.97, 1.51), "torch": (1.79, 1.7)},
    "avx2": {"jax": (1.94, 3.61), "torch": (2.45, 3.12)},
}
