"""The workloads, one row each: an operation, the shapes of its arrays, its options, and who serves it natively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

import arrayconv as ac

Array = Any
NumPyArray = np.ndarray[Any, Any]

LIBRARIES = ("numpy", "torch", "jax")


@dataclass(frozen=True)
class Workload:
    """``op(*arrays, **options)`` on float32 arrays of these shapes.

    ``kind`` is a row of `natives.KINDS`: how each library's user writes the same work. ``group`` is the mean that the
    workload counts in. ``kernel`` makes a kernel with a structure; all else is standard normal, the same at every run.
    ``transform`` is "gradient" (of the input and the kernel together) or "examples" (each with a kernel of its own; the
    first axis of every array). ``steps`` are the learner's.
    """

    name: str
    group: str
    kind: str
    op: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = field(default_factory=dict)
    kernel: Callable[[], NumPyArray] | None = None
    transform: str = ""
    steps: int = 0
    libraries: tuple[str, ...] = LIBRARIES

    @property
    def own(self) -> Workload:
        """The work of one example, where there are many."""
        if self.transform != "examples":
            return self
        return replace(self, transform="", shapes=tuple(shape[1:] for shape in self.shapes))

    def arrays(self) -> list[NumPyArray]:
        """x and kernel, in the order of the operation's arguments."""
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in self.shapes]
        if self.kernel is not None:
            arrays[-1] = np.asarray(self.kernel(), np.float32)
        return arrays


def _image(taps: int) -> Workload:
    return Workload(f"image {taps}", "image", "filter", ac.correlate, ((1024, 1024), (taps, taps)))


def _rgb(taps: int) -> Workload:
    return Workload(f"rgb {taps}", "rgb", "filter", ac.correlate, ((3, 1024, 1024), (taps, taps)))


def _layer(name: str, x: tuple[int, ...], kernel: tuple[int, ...], group: str = "dense", **options: Any) -> Workload:
    return Workload(name, group, "layer", ac.conv, (x, kernel), options)


def _depthwise(name: str, x: tuple[int, ...], taps: int = 3, group: str = "", **options: Any) -> Workload:
    group = group or ("depthwise" if taps == 3 else "large depthwise")
    return Workload(name, group, "depthwise", ac.depthwise_conv, (x, (x[1], 1, taps, taps)), options)


def _transposed(name: str, x: tuple[int, ...], kernel: tuple[int, ...], **options: Any) -> Workload:
    return Workload(name, "transposed", "transposed", ac.conv_transpose, (x, kernel), options)


def _learner(steps: int) -> Workload:
    shapes = ((1024, 1024), (1018, 1018), (7, 7))
    return Workload(f"learn {steps} steps", "learn", "learn", ac.learn_kernel, shapes, steps=steps)


SIZES = (3, 5, 7, 15, 31, 63)

FORWARD = (
    *map(_image, SIZES),
    Workload("sobel 4k", "image", "filter", ac.correlate, ((2160, 3840), (3, 3)), kernel=ac.kernels.sobel),
    Workload(
        "gaussian 31",
        "image",
        "filter",
        ac.correlate,
        ((1024, 1024), (31, 31)),
        kernel=lambda: ac.kernels.gaussian(3.75),
    ),
    *map(_rgb, SIZES),
    Workload("fir 64", "signal", "filter", ac.correlate, ((1_000_000,), (64,))),
    Workload("fir 1024", "signal", "filter", ac.correlate, ((1_000_000,), (1024,))),
    Workload("volume 5", "volume", "filter", ac.correlate, ((96, 96, 96), (5, 5, 5))),
    _layer("stem 7x7/2", (8, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3),
    _layer("body 3x3 64", (8, 64, 56, 56), (64, 64, 3, 3), padding=1),
    _layer("body 3x3 256", (8, 256, 14, 14), (256, 256, 3, 3), padding=1),
    _layer("body 3x3/2", (8, 64, 56, 56), (128, 64, 3, 3), stride=2, padding=1),
    _layer("dilated 3x3", (8, 64, 56, 56), (64, 64, 3, 3), dilation=2, padding=2),
    _layer("1x1 256", (8, 256, 14, 14), (1024, 256, 1, 1)),
    _layer("1x1 64", (8, 64, 56, 56), (256, 64, 1, 1)),
    _layer("grouped 3x3", (8, 128, 28, 28), (128, 4, 3, 3), group="grouped", groups=32, padding=1),
    _depthwise("depthwise 3x3", (8, 64, 56, 56), padding=1),
    _depthwise("depthwise 3x3/2", (8, 64, 56, 56), stride=2, padding=1),
    _depthwise("depthwise 7x7", (8, 96, 56, 56), 7, padding=3),
    _depthwise("depthwise 31x31", (2, 128, 56, 56), 31, padding=15),
    _layer("stem, 32 images", (32, 3, 224, 224), (64, 3, 7, 7), group="large", stride=2, padding=3),
    _depthwise("depthwise, 32 images", (32, 64, 112, 112), group="large", padding=1),
    _transposed("transposed 256/128", (4, 16, 256), (16, 1, 256), stride=128),
    _transposed("transposed 4x4/2", (8, 64, 28, 28), (64, 32, 4, 4), stride=2, padding=1),
    Workload(
        "deformable 3x3",
        "deform",
        "deform",
        ac.deform_conv,
        ((2, 16, 32, 32), (2, 18, 32, 32), (16, 16, 3, 3)),
        {"padding": 1},
    ),
    Workload("examples 5x5", "examples", "filter", ac.correlate, ((32, 128, 128), (32, 5, 5)), transform="examples"),
    Workload(
        "examples layer",
        "examples",
        "layer",
        ac.conv,
        ((32, 8, 32, 32), (32, 16, 8, 3, 3)),
        {"padding": 1},
        transform="examples",
    ),
    Workload("tiny 1x2", "tiny", "tiny", ac.correlate, ((6, 8), (1, 2))),
    Workload("small 3x3", "tiny", "filter", ac.correlate, ((32, 32), (3, 3))),
)

#: Workloads whose gradients are measured too.
LEARNED = ("image 7", "fir 64", "volume 5", "body 3x3 64", "depthwise 3x3", "transposed 4x4/2")


def _gradient(workload: Workload) -> Workload:
    name, libraries = f"gradient of {workload.name}", ("torch", "jax")
    return replace(workload, name=name, group="gradient", transform="gradient", libraries=libraries)


WORKLOADS: dict[str, Workload] = {
    row.name: row
    for row in (
        *FORWARD,
        *(_gradient(row) for row in FORWARD if row.name in LEARNED),
        _learner(20),
        _learner(500),
    )
}


def find_workloads(words: list[str] | None) -> list[Workload]:
    """Those with one of these names; a word that is no name stands for every name that contains it."""
    if not words:
        return list(WORKLOADS.values())
    found = {
        name: row
        for word in words
        for name, row in WORKLOADS.items()
        if name == word or (word not in WORKLOADS and word in name)
    }
    missing = [word for word in words if not any(word in name for name in WORKLOADS)]
    if missing:
        raise ValueError(f"no workload has {missing[0]!r} in its name; there are: {', '.join(WORKLOADS)}")
    return list(found.values())


def work(workload: Workload) -> tuple[int, int]:
    """Multiply-adds by the definition, and bytes of the arrays read and written once."""
    if workload.transform == "examples":
        madds, size = work(workload.own)
        count = workload.shapes[0][0]
        return count * madds, count * size
    if workload.kind == "learn":
        return 2 * workload.steps * prod(workload.shapes[1]) * prod(workload.shapes[2]), 4 * sum(
            map(prod, workload.shapes)
        )
    if workload.kind == "deform":
        x, offset, kernel = workload.shapes
        madds, y = x[0] * prod(kernel) * prod(offset[2:]), x[0] * kernel[0] * prod(offset[2:])
        return madds, 4 * (prod(x) + prod(offset) + prod(kernel) + y)
    plan = ac.plan(workload.op, *workload.shapes, **workload.options)
    madds, size = plan.program.geometry.multiply_adds, sum(map(prod, (*workload.shapes, plan.output_shape)))
    if workload.transform == "gradient":
        madds, size = 2 * madds, size + sum(map(prod, workload.shapes))
    return madds, 4 * size
