"""``python -m bench``: every workload by every algorithm that serves, as a ratio to the library's own convolution.

All candidates run in one process and in turn, after a warm-up, and every answer is compared with float64.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import arrayconv as ac
from arrayconv.backend import library_backend
from bench.workloads import WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results"


def make_arrays(workload: Workload) -> list[Any]:
    """Standard normal float32 arrays, the same at every run."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in workload.shapes]


def candidates(workload: Workload, library: str, arrays: list[Any]) -> dict[str, Callable[[], Any]]:
    """``auto`` and each algorithm that serves, as calls that return when the result is there."""
    backend = library_backend(library)
    like = backend.xp.zeros(1)
    own = [backend.from_numpy(array, like) for array in arrays]
    calls: dict[str, Callable[[], Any]] = {}
    for algorithm in ("auto", *ac.algorithms()):
        options = {**workload.options, "algorithm": algorithm}
        try:
            ac.plan(workload.op, *own, **options)
        except ValueError:
            continue
        calls[algorithm] = _call(workload, library, own, options)
    return calls


def _call(workload: Workload, library: str, arrays: list[Any], options: dict[str, Any]) -> Callable[[], Any]:
    if library != "jax":
        return lambda: workload.op(*arrays, **options)
    import jax

    compiled = jax.jit(lambda *arrays: workload.op(*arrays, **options))
    return lambda: compiled(*arrays).block_until_ready()


def measure(calls: dict[str, Callable[[], Any]], exact: Any, library: str, seconds: float) -> dict[str, Any]:
    """Median milliseconds of each call, taken in turn, and its largest error relative to the largest output."""
    to_numpy = library_backend(library).to_numpy
    times: dict[str, list[float]] = {name: [] for name in calls}
    errors = {}
    for name, call in calls.items():
        errors[name] = float(np.max(np.abs(to_numpy(call()) - exact)) / np.max(np.abs(exact)))
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or min(map(len, times.values())) < 3:
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - before)
    return {name: {"ms": median(times[name]) * 1e3, "error": errors[name]} for name in calls}


def commit() -> str:
    """The commit that is measured."""
    run = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return run.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--library", action="append", choices=("numpy", "torch", "jax"), help="default: all three")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time for each workload")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.json")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name in args.workload or WORKLOADS:
        workload = WORKLOADS[name]
        arrays = make_arrays(workload)
        exact = workload.op(*(array.astype(np.float64) for array in arrays), **workload.options, algorithm="auto")
        for library in args.library or ("numpy", "torch", "jax"):
            calls = candidates(workload, library, arrays)
            row = measure(calls, exact, library, 0.2 if args.quick else 2.0)
            results.setdefault(library, {})[name] = row
            base = row.get("native", {"ms": float("nan")})["ms"] / row["auto"]["ms"]
            best = min((entry["ms"], key) for key, entry in row.items() if key != "auto")
            cells = "  ".join(f"{key} {entry['ms']:.3g}" for key, entry in row.items())
            print(f"{library:<6} {name:<16} native/auto {base:6.2f}  best {best[1]:<8} {cells}", flush=True)
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        machine = {"python": platform.python_version(), "machine": platform.machine(), "commit": commit()}
        (RESULTS / f"{args.save}.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
