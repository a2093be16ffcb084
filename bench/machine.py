"""The machine and the software that a result is from, and the two ceilings that no convolution gets above."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

PACKAGES = (
    "numpy",
    "array-api-compat",
    "torch",
    "jax",
    "jaxlib",
    "scipy",
    "opencv-python-headless",
    "onnx",
    "onnxruntime",
)


class Ceilings(NamedTuple):
    """Float32 operations a second of a product of two 2048x2048 matrices, and bytes a second, read and written, of a
    copy of a 1024x1024 image; of NumPy or PyTorch, whichever is faster."""

    flops: float
    bytes: float

    def share(self, multiply_adds: int, size: int, seconds: float) -> float:
        """The part of the nearer ceiling that a run reaches; above 1 by a method that needs fewer operations."""
        return max(2 * multiply_adds / self.flops, size / self.bytes) / seconds


def warm_allocator() -> None:
    """Make the C library keep freed memory, as it does in any process that has freed an array of some 32 MB before.

    Until then every new result of a few MB is mapped afresh, and its first touch may take longer than its computation:
    what came earlier in a run would decide the ratios. glibc raises its mmap threshold to the largest block freed, up
    to 32 MiB (mallopt(3), M_MMAP_THRESHOLD).
    """
    np.empty(2**25 - 2**17, np.uint8)


class Neighbours:
    """How much of the processors' time other processes took since this was made: their work spoils every figure."""

    def __init__(self) -> None:
        self.start = self._now()

    def share(self) -> float:
        """Between 0 and 1; 0 where the system doesn't tell."""
        busy, total, own = (now - then for now, then in zip(self._now(), self.start, strict=True))
        return max(0.0, busy - own) / total if total > 0 else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds of all processors: busy, in all, and of this process and its children (proc_stat(5))."""
        try:
            fields = Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]
        except OSError:
            return 0.0, 0.0, 0.0
        seconds = [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields]
        idle = sum(seconds[3:5])
        return sum(seconds) - idle, sum(seconds), sum(os.times()[:4])


def best_seconds(call: Callable[[], Any], budget: float = 0.5) -> float:
    """The fastest of many runs."""
    call()
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < budget:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
    return best


def measure_ceilings(budget: float = 0.5) -> Ceilings:
    a, b, c = (np.ones((2048, 2048), np.float32) for _ in range(3))
    ta, tb, tc = map(torch.from_numpy, (a, b, c))
    product = min(
        best_seconds(lambda: np.matmul(a, b, out=c), budget), best_seconds(lambda: torch.mm(ta, tb, out=tc), budget)
    )
    x, y = (np.ones((1024, 1024), np.float32) for _ in range(2))
    tx, ty = map(torch.from_numpy, (x, y))
    copy = min(best_seconds(lambda: np.copyto(y, x), budget), best_seconds(lambda: ty.copy_(tx), budget))
    return Ceilings(2 * 2048**3 / product, 2 * x.nbytes / copy)


def describe_machine() -> dict[str, Any]:
    """The processor, as Linux tells it, and what runs on it."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": f"libraries' defaults; torch {torch.get_num_threads()}",
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that is measured, marked where files differ from it."""
    root = Path(__file__).parent
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _caches() -> dict[str, str]:
    """Size of each data cache of the first core."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text(encoding="utf-8").strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            caches[f"L{level}"] = size
    return caches
