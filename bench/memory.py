"""Temporary bytes of a call, beside its arguments and its result, as each library counts them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch

Call = Callable[..., Any]


def size(result: Any) -> int:
    """Bytes of an array, or of several."""
    return sum(map(size, result)) if isinstance(result, tuple | list) else int(result.nbytes)


def numpy_scratch(call: Call, arrays: list[Any]) -> int:
    """NumPy reports its allocations to `tracemalloc`."""
    tracemalloc.start()
    try:
        result = call(*arrays)
        return tracemalloc.get_traced_memory()[1] - size(result)
    finally:
        tracemalloc.stop()


def torch_scratch(call: Call, arrays: list[Any]) -> int:
    """The profiler notes what PyTorch's allocator gives and takes back; oneDNN's own memory is not in it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = call(*arrays)
    notes: Any = profile.profiler.kineto_results.events() if profile.profiler is not None else []
    changes: list[tuple[int, int]] = sorted(
        (note.start_ns(), note.nbytes()) for note in notes if note.name() == "[memory]"
    )
    return max(accumulate((change for _, change in changes), initial=0)) - size(result)


def jax_scratch(call: Call, arrays: list[Any]) -> int:
    """What XLA's compiler set aside."""
    lowered: Any = call
    return int(lowered.lower(*arrays).compile().memory_analysis().temp_size_in_bytes)
