"""A kernel learned from images larger than the memory allowed: 20,000 x 20,000 pixels on Dask's threads, from disk.

Each fit is a process of its own, as in `bench.scale`. Its figures: seconds, and the largest resident size.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

import arrayconv as ac
from bench import data
from bench.scale import LIMIT, Images, timed

TAPS, CHUNK, STEPS, NOISE = 7, 2048, 3000, 0.01

#: How each fit is made, on a photo and a target.
FITS: dict[str, Callable[..., ac.Fit]] = {
    "learn": lambda x, y: ac.learn_kernel(x, y, (TAPS, TAPS), padding="same", steps=STEPS),
    "solve": lambda x, y: ac.solve_kernel(x, y, (TAPS, TAPS), padding="same"),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=20_000, help="side of the images (default: %(default)s, 1.5 GiB)")
    parser.add_argument("--folder", type=Path, help="where they are written and removed (default: a temporary one)")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.json")
    parser.add_argument("--task", choices=FITS, help="one fit, in this process: prints its figures as JSON")


def run(args: Namespace) -> int:
    """1 where a fit takes more than the limit."""
    if args.task:
        print(json.dumps(fit(args.task, Images(args.folder, args.size))))
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        images = Images(Path(folder), args.size)
        images.make()
        make_target(images)
        rows = [{"task": task, **in_process(task, images)} for task in FITS]
    for row in rows:
        print("  ".join(f"{name} {value:.4g}" if name != "task" else f"{value:<5}" for name, value in row.items()))
    peak = max(row["peak_bytes"] for row in rows)
    print(f"largest resident size {peak / 2**30:.2f} GiB, {'within' if peak <= LIMIT else 'ABOVE'} {LIMIT / 2**30} GiB")
    if args.save:
        sink = data.Sink(args.save, "large-fit", size=args.size, taps=TAPS, chunk=CHUNK, steps=STEPS, noise=NOISE)
        for row in rows:
            sink.add(row)
        print(f"saved {sink.path}")
    return 0 if peak <= LIMIT else 1


def in_process(task: str, images: Images) -> dict[str, Any]:
    """The figures of one fit."""
    words = [sys.executable, "-m", "bench", "large-fit", "--task", task]
    words += ["--folder", str(images.folder), "--size", str(images.size)]
    result = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def true_kernel() -> Any:
    return np.random.default_rng(1).standard_normal((TAPS, TAPS), dtype=np.float32)


def photo(images: Images, name: str) -> Any:
    return da.from_array(images.open(name), chunks=min(CHUNK, images.size), name=False)


def make_target(images: Images) -> None:
    """The photo by the kernel, and noise."""
    y = ac.correlate(photo(images, "x"), true_kernel(), padding="same")
    noise = da.random.default_rng(2).standard_normal(y.shape, dtype=np.float32, chunks=y.chunks)
    da.store(y + np.float32(NOISE) * noise, images.open("y"), lock=False, scheduler="threads")


def fit(task: str, images: Images) -> dict[str, Any]:
    found: list[Any] = []

    def call() -> None:
        found.append(FITS[task](photo(images, "x"), photo(images, "y")).kernel.compute())

    row = timed(call, images.size**2)
    error = float(abs(found[0] - true_kernel()).max())
    assert error < 1e-3, f"a tap is off by {error:.2g}"
    return row | {"error": error}
