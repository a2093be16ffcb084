"""The workloads, one row each: an operation, the shapes of its arrays, and its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import arrayconv as ac


@dataclass(frozen=True)
class Workload:
    """``op(*arrays, **options)`` on float32 arrays of these shapes."""

    op: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = field(default_factory=dict)


WORKLOADS: dict[str, Workload] = {
    "image 3x3": Workload(ac.correlate, ((1024, 1024), (3, 3))),
    "image 7x7": Workload(ac.correlate, ((1024, 1024), (7, 7))),
    "image 15x15": Workload(ac.correlate, ((1024, 1024), (15, 15))),
    "image 31x31": Workload(ac.correlate, ((1024, 1024), (31, 31))),
    "rgb 5x5": Workload(ac.correlate, ((3, 1024, 1024), (5, 5))),
    "fir 64": Workload(ac.correlate, ((1_000_000,), (64,))),
    "fir 1024": Workload(ac.correlate, ((1_000_000,), (1024,))),
    "volume 5x5x5": Workload(ac.correlate, ((96, 96, 96), (5, 5, 5))),
    "depthwise 3x3": Workload(ac.depthwise_conv, ((8, 64, 56, 56), (64, 1, 3, 3)), {"padding": 1}),
    "dense 3x3, 64": Workload(ac.conv, ((8, 64, 56, 56), (64, 64, 3, 3)), {"padding": 1}),
    "dense 3x3, 256": Workload(ac.conv, ((8, 256, 14, 14), (256, 256, 3, 3)), {"padding": 1}),
    "dense 1x1, 256": Workload(ac.conv, ((8, 256, 14, 14), (1024, 256, 1, 1))),
    "stem 7x7": Workload(ac.conv, ((8, 3, 224, 224), (64, 3, 7, 7)), {"stride": 2, "padding": 3}),
    "strided 3x3": Workload(ac.conv, ((8, 64, 56, 56), (128, 64, 3, 3)), {"stride": 2, "padding": 1}),
    "dilated 3x3": Workload(ac.conv, ((8, 64, 56, 56), (64, 64, 3, 3)), {"dilation": 2, "padding": 2}),
    "transposed 4x4": Workload(ac.conv_transpose, ((8, 64, 28, 28), (64, 32, 4, 4)), {"stride": 2, "padding": 1}),
    "transposed 256": Workload(ac.conv_transpose, ((4, 16, 256), (16, 1, 256)), {"stride": 128}),
    "tiny": Workload(ac.correlate, ((6, 8), (1, 2))),
}
