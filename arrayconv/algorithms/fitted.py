"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Of float32, measured on two cores, at the pace of the first of `rates.PROCESSORS`.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
    "numpy": {
        "diagonals": {
            "call": 3.13e-05, "column": 3.2e-11, "matrix": 9.41e-08, "output": 2.88e-11, "padded": 4.21e-10,
            "product": 1.11e-11, "run": 5.19e-09, "shared column": 1.01e-10, "shared matrix": 2.62e-08,
            "shared product": 4.89e-12, "shared run": 6.83e-09, "tile": 2.08e-06,
        },
        "direct": {
            "call": 1e-06, "fresh": 7.72e-12, "input": 7.08e-11, "memory": 3.2e-12, "output": 4.41e-11,
            "padded": 1.74e-10, "product": 1.08e-10, "run": 4.85e-09, "shared product": 1.06e-10,
            "shared strided product": 2.27e-10, "slice": 2.03e-06, "strided product": 1.97e-10,
        },
        "fft": {
            "call": 2.94e-05, "line": 1.01e-08, "plain product": 2.22e-12, "point": 7.93e-10, "product": 4.96e-10,
            "step": 4.17e-11, "tile": 0.000101,
        },
        "gemm": {
            "call": 2.47e-07, "column": 1.36e-10, "far column": 1.82e-13, "fresh": 1.5e-10, "kernel": 3.97e-11,
            "matrix": 3.38e-08, "memory": 2.32e-11, "output": 4.36e-11, "padded": 1.06e-10, "product": 6.56e-12,
            "run": 3.11e-09, "shared column": 7e-11, "shared product": 6.71e-12, "shared run": 2.36e-09,
            "shared strided column": 1.32e-10, "strided column": 2.02e-10, "thin column": 7.38e-12, "tile": 1.1e-05,
            "viewed column": 4.54e-11,
        },
        "kn2row": {
            "call": 1.95e-06, "column": 7.03e-11, "input": 2.68e-11, "kernel": 4.77e-11, "matrix": 7.29e-08,
            "memory": 8.08e-11, "output": 1.55e-10, "product": 5.94e-12, "run": 8.57e-09, "shared column": 7.15e-11,
            "shared product": 7.55e-12, "shared run": 8.07e-09, "slice": 1.59e-06, "tile": 4.57e-06,
        },
        "lags": {
            "call": 2.22e-05, "matrix": 7.69e-08, "moved": 4.85e-10, "output": 2e-08, "partial": 2.96e-10,
            "product": 1e-11, "slice": 3.45e-06,
        },
        "native": {
            "call": 1.68e-06, "dot": 8.01e-09, "output": 3.06e-10, "padded": 3.26e-11, "product": 2.01e-11,
            "row": 1.49e-06, "short product": 1.01e-10,
        },
        "phases": {
            "call": 8.45e-06, "output": 6.48e-10, "part": 8.86e-06,
        },
        "subpixel": {
            "call": 6.08e-05, "kernel": 3.55e-09, "output": 8.24e-10,
        },
        "toeplitz": {
            "band": 7.17e-10, "call": 1.3e-05, "woven": 3.48e-10,
        },
        "trim": {
            "call": 1.17e-06, "kernel": 2.94e-10, "output": 1.73e-10,
        },
        "winograd": {
            "call": 2.3e-06, "input": 1.71e-10, "kernel": 2.16e-10, "matrix": 1.49e-07, "moved": 2.59e-10,
            "output": 1.02e-10, "product": 8.7e-12, "tile": 0.000119,
        },
        "separable": {
            "call": 6e-05, "look": 2e-05, "moved": 2.5e-10, "pass": 1.5e-06, "product": 8e-12, "tap": 5e-09,
        },
    },
    "torch": {
        "direct": {
            "call": 2.15e-06, "fresh": 2.37e-11, "input": 2.34e-12, "memory": 1.09e-10, "output": 4.77e-12,
            "padded": 8.65e-11, "product": 3.09e-11, "run": 1.71e-09, "slice": 1.13e-05, "strided product": 2.58e-10,
        },
        "fft": {
            "call": 5.46e-05, "line": 4.96e-09, "plain product": 3.9e-12, "point": 8.55e-12, "product": 9.53e-10,
            "step": 1.41e-10, "tile": 7.19e-05,
        },
        "gemm": {
            "block": 1.35e-08, "call": 1.31e-05, "column": 4.97e-11, "far column": 1.32e-10, "fresh": 7.38e-10,
            "kernel": 4.35e-11, "matrix": 5.65e-08, "memory": 4.26e-11, "output": 2.78e-11, "padded": 1.96e-10,
            "product": 1.47e-11, "run": 9.99e-10, "strided column": 1.78e-10, "thin column": 4.48e-12, "tile": 1.49e-05,
            "viewed column": 2.52e-12,
        },
        "kn2row": {
            "call": 1e-05, "column": 3.78e-10, "column 3d": 4.23e-10, "input": 6.21e-11, "kernel": 4.23e-10,
            "matrix": 6.26e-07, "memory": 6.12e-10, "output": 1.39e-10, "product": 9.44e-12, "run": 2.89e-10,
            "tile": 1.24e-05,
        },
        "lags": {
            "call": 4.37e-05, "matrix": 2.06e-07, "moved": 5.59e-10, "partial": 2.67e-10, "product": 1.42e-11,
            "slice": 1.87e-05,
        },
        "native": {
            "base dilated blocked": 6.2e-11, "base dilated column": 5.82e-10, "base dilated dense": 8.51e-12,
            "base dilated depthwise": 1.24e-11, "base dilated folded": 3.31e-12, "base dilated grouped": 1.23e-10,
            "base dilated output": 5.76e-10, "base dilated pointwise": 7.92e-12,
            "base dilated pointwise grouped": 2e-12, "base dilated single": 5.57e-11,
            "base dilated sparse depthwise": 4.24e-10, "base dilated thin": 2.21e-11, "blocked": 1.49e-11,
            "blocked 3d": 1.39e-11, "blocked 3d output": 7.7e-10, "blocked input": 1.52e-10, "blocked output": 1.94e-11,
            "call": 5.13e-06, "dense": 6.05e-12, "dense 3d": 7.39e-12, "dense 3d output": 7.94e-11,
            "dense output": 1.38e-10, "depthwise": 1.89e-11, "depthwise 3d": 8.78e-12, "depthwise 3d output": 3.09e-10,
            "depthwise output": 5.21e-10, "dilated 3d": 5.86e-12, "dilated 3d output": 1.85e-10, "fresh": 1.65e-10,
            "group": 3.82e-07, "grouped": 2.25e-11, "grouped 3d": 3.04e-11, "grouped 3d output": 6.31e-11,
            "grouped output": 1.56e-12, "input": 2.48e-10, "kernel": 5.16e-10, "long": 8.82e-12, "long 3d": 4.19e-11,
            "long 3d input": 5.83e-12, "long 3d output": 3.6e-10, "long input": 2.97e-09, "long output": 4.31e-11,
            "pointwise": 2e-12, "pointwise grouped": 2.06e-12, "pointwise grouped output": 2.2e-11,
            "pointwise output": 1.44e-10, "primitive": 5.59e-05, "strided pointwise": 2.19e-12,
            "strided pointwise grouped": 2.28e-12, "strided pointwise grouped output": 1.5e-11,
            "strided pointwise output": 1.83e-10, "thick": 5e-12, "thick output": 2.35e-11, "thin": 6.47e-12,
            "thin 3d": 6.22e-12, "thin 3d output": 1.32e-10, "thin output": 2.07e-10, "unfolded": 4.62e-12,
            "unfolded 3d": 1.53e-11, "unfolded 3d column": 1.05e-09, "unfolded 3d output": 1.04e-10,
            "unfolded column": 3.89e-10, "unfolded output": 8.1e-11, "wide": 7.64e-12, "wide output": 1.52e-11,
        },
        "phases": {
            "call": 3.35e-07, "output": 2.05e-10, "part": 2.87e-05,
        },
        "reduce": {
            "call": 2.37e-05, "moved": 5.04e-11, "product": 1.14e-10, "run": 3.05e-09, "slice": 1.62e-05,
            "strided product": 3.27e-10,
        },
        "subpixel": {
            "call": 6.98e-05, "kernel": 1.89e-09, "output": 9.1e-10,
        },
        "toeplitz": {
            "band": 1.73e-09, "call": 5.96e-05, "woven": 3.26e-10,
        },
        "trim": {
            "call": 4.68e-06, "kernel": 7.42e-11, "output": 3.53e-10,
        },
        "wgrad": {
            "blocked": 6.18e-11, "call": 1.84e-05, "column": 8.52e-10, "dense": 2.1e-11, "depthwise": 2.9e-10,
            "dilated": 3.36e-11, "fresh": 1.43e-09, "group": 1.48e-07, "grouped": 1.93e-11, "input": 1.92e-10,
            "kernel": 1.37e-09, "long": 5.31e-11, "output": 1.59e-10, "pointwise": 1.44e-11,
            "pointwise grouped": 3.32e-12, "primitive": 6.91e-05, "short depthwise": 6.91e-11,
            "short strided depthwise": 2.35e-10, "strided pointwise": 3.55e-12, "strided pointwise grouped": 2.94e-11,
            "thick": 3.68e-12, "thin": 1.26e-11, "unfolded": 5.48e-12, "wide": 1.22e-11,
        },
        "winograd": {
            "call": 5.87e-05, "input": 1.13e-09, "kernel": 5.83e-10, "matrix": 2.65e-06, "moved": 4.4e-10,
            "output": 7.43e-10, "product": 6.5e-12, "tile": 5.51e-05,
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
            "call": 1.77e-05,
        },
        "direct": {
            "call": 2.78e-06, "fresh": 3.85e-10, "input": 3.05e-11, "looped output": 1.7e-10, "looped part": 2.15e-06,
            "memory": 6.48e-13, "output": 8.39e-11, "padded": 1.99e-10, "product": 1.76e-11, "run": 1.42e-10,
            "shared call": 2.93e-05, "slice": 1.86e-07, "split input": 3.43e-10, "strided product": 3.95e-11,
        },
        "fft": {
            "call": 2.61e-05, "line": 5.7e-09, "plain product": 1.66e-09, "point": 3.14e-10, "product": 6.02e-10,
            "step": 1.4e-10, "tile": 6.35e-06,
        },
        "gemm": {
            "added": 8.88e-11, "call": 4.98e-06, "column": 1.29e-10, "fresh": 5.8e-10, "kernel": 2.9e-10,
            "large product": 5.07e-12, "loop": 7.11e-06, "matrix": 4.86e-08, "memory": 1.37e-10, "output": 2.74e-10,
            "padded": 2.14e-10, "product": 9.35e-12, "run": 3.55e-10, "slice": 1.12e-07, "strided column": 1.58e-10,
            "summed": 1.26e-10, "viewed column": 5.37e-11, "viewed memory": 4.36e-11, "viewed output": 7.65e-11,
        },
        "kn2row": {
            "call": 5.12e-06, "column": 2.54e-10, "fresh": 5e-10, "input": 3.31e-10, "kernel": 1.1e-10,
            "matrix": 1.54e-08, "output": 1.33e-10, "product": 4.13e-12, "tile": 3.64e-05,
        },
        "lags": {
            "call": 1.42e-06, "matrix": 1.96e-09, "moved": 1.18e-09, "partial": 9.74e-11, "product": 2.99e-11,
            "slice": 8.18e-06,
        },
        "native": {
            "base dilated": 2.11e-12, "base dilated 3d": 4.49e-11, "base dilated column": 2.59e-13,
            "base dilated grouped": 9.48e-11, "base dilated grouped 3d": 5.38e-10, "base dilated odd column": 2.83e-11,
            "base dilated run": 4.25e-10, "base dilated written": 1.58e-09, "call": 5.18e-06, "column": 8.94e-11,
            "dense": 2.29e-12, "dense 3d": 3.74e-11, "dense dilated": 6.8e-12, "dense dilated 3d": 3.06e-10,
            "edge": 5.74e-10, "fresh": 1.22e-09, "group": 1.23e-06, "grouped": 2.49e-11, "grouped 3d": 1.09e-10,
            "grouped dilated": 1.03e-10, "grouped dilated 3d": 5.52e-10, "input": 8.14e-10, "kernel": 1.07e-09,
            "odd column": 1.86e-10, "output": 5.14e-10, "pointwise": 3.83e-12, "pointwise 3d": 9.37e-12,
            "pointwise grouped": 3.69e-12, "pointwise grouped 3d": 9.15e-10, "run": 1.19e-09,
            "spelled out dense": 2.26e-12, "spelled out dense 3d": 8.59e-12, "strided pointwise": 5.04e-12,
            "strided pointwise 3d": 1.64e-11, "strided pointwise grouped": 9.25e-11,
            "strided pointwise grouped 3d": 2e-11, "swapped": 3.64e-10, "written": 1.71e-10, "ynnpack column": 3.91e-12,
            "ynnpack dense": 1.1e-11, "ynnpack grouped": 9.17e-11, "ynnpack odd column": 9.48e-11,
            "ynnpack output": 5.98e-12, "ynnpack row": 2.57e-06, "ynnpack run": 2.3e-11,
        },
        "phases": {
            "call": 1.24e-06, "output": 1.83e-10, "part": 3.79e-08,
        },
        "reduce": {
            "call": 5.06e-06, "moved": 7.71e-11, "product": 7.62e-11, "run": 8.87e-11, "slice": 2.87e-06,
            "strided product": 1.1e-10,
        },
        "stretch": {
            "call": 4.63e-05,
        },
        "subpixel": {
            "call": 2.42e-05, "kernel": 2.13e-09, "output": 1.57e-09,
        },
        "toeplitz": {
            "band": 8.79e-10, "call": 7.82e-06, "woven": 8.8e-10,
        },
        "trim": {
            "call": 1.77e-06, "kernel": 7.12e-11, "output": 2.53e-11,
        },
        "winograd": {
            "call": 1.76e-05, "input": 1.64e-09, "kernel": 6.82e-10, "matrix": 1.06e-07, "moved": 4.03e-10,
            "output": 2.22e-09, "product": 1.25e-11, "tile": 4.43e-05,
        },
    },
}

#: Seconds for one of the above, by kind of processor and library: of products, and of all else.
PACES: dict[str, dict[str, tuple[float, float]]] = {
    "zen4": {"jax": (1.63, 1.94), "numpy": (2.15, 1.52), "torch": (1.8, 1.7)},
    "avx2": {"jax": (1.94, 3.62), "torch": (2.47, 3.1)},
}
