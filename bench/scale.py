"""An image larger than memory: a 15x15 filter of a file on Dask's threads, its speed and its memory.

Each run is a process of its own, so that its largest resident size is its own. Beside it: one block held in memory,
what `dask_image.ndfilters.correlate` does (`scipy.ndimage` under `dask.array.map_overlap`), many tiny chunks, and the
weak scaling of a JAX mesh.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from bench import data, weak

#: Chunks are ``CHUNK`` whole rows.
TAPS, BLOCK, CHUNK, LIMIT = 15, 4096, 256, 1.5 * 2**30

#: Side of the image in which the overhead of a chunk is measured, and the sides of its chunks.
TINY, TINY_CHUNKS = 2048, (32, 64, 2048)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=32768, help="side of the image (default: %(default)s, 4 GiB)")
    parser.add_argument("--folder", type=Path, help="where the image is written and removed (default: a temporary one)")
    parser.add_argument("--task", choices=PARTS, help="one part only; saved, it takes the place of its earlier rows")
    parser.add_argument("--save", metavar="NAME", nargs="?", const="scale", help="write bench/results/NAME.json")


def run(args: Namespace) -> int:
    head: dict[str, Any] = {}
    rows = []
    for part in [args.task] if args.task else PARTS:
        try:
            found, more = PARTS[part](args)
        except OSError as error:
            print(f"bench scale: {error}", file=sys.stderr)
            return 2
        rows += found
        head |= more
    if args.save:
        path = data.replace_rows(args.save, "scale", rows, **head) if args.task else save(args.save, rows, head)
        print(f"saved {path}")
    return 0


def save(name: str, rows: list[dict[str, Any]], head: dict[str, Any]) -> Path | None:
    sink = data.Sink(name, "scale", **head)
    for row in rows:
        sink.add(row)
    return sink.path


def measure_images(args: Namespace) -> Part:
    """The runs on the file, which is made for them."""
    needed = 2 * 4 * args.size**2
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        free = shutil.disk_usage(folder).free
        if free < 1.1 * needed:
            raise OSError(
                f"--size {args.size} writes {needed / 2**30:.1f} GiB under {folder}, which has "
                f"{free / 2**30:.1f} GiB; take a smaller --size or another --folder"
            )
        images = Images(Path(folder), args.size)
        images.make()
        held = {task: _in_process(task, images) for task in TASKS if task != "tiny"}
    speed = {task: row["pixels_per_second"] for task, row in held.items()}
    more = {"of_block": speed["file"] / speed["block"], "of_overlap": speed["file"] / speed["overlap"]}
    peak = held["file"]["peak_bytes"]
    rows = _show(held)
    print(
        f"throughput: {more['of_block']:.2f} of a block's in memory, {more['of_overlap']:.1f} of dask-image's method; "
        f"largest resident size {peak / 2**30:.2f} GiB, {'within' if peak <= LIMIT else 'ABOVE'} {LIMIT / 2**30} GiB"
    )
    return rows, {"size": args.size, "taps": TAPS, "chunk": CHUNK, **more}


def measure_tiny(args: Namespace) -> Part:
    return _show({"tiny": _in_process("tiny", Images(Path(), TINY))}), {}


def measure_weak(args: Namespace) -> Part:
    rows = weak.measure()
    print(*weak.table(rows), sep="\n")
    return [{"task": "weak", **row} for row in rows], {}


#: Rows, and what stands beside them in the head of the file.
Part = tuple[list[dict[str, Any]], dict[str, Any]]

PARTS: dict[str, Callable[[Namespace], Part]] = {
    "images": measure_images,
    "tiny": measure_tiny,
    "weak": measure_weak,
}


def _show(held: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Printed, and as rows."""
    for task, row in held.items():
        print("  ".join([f"{task:<9}", *(f"{name} {value:.4g}" for name, value in row.items())]))
    return [{"task": task, **row} for task, row in held.items()]


class Images(NamedTuple):
    """A square float32 image on disk, and room for the result."""

    folder: Path
    size: int

    def make(self) -> None:
        """Random rows, repeated: making numbers would take longer than filtering them."""
        rows = np.random.default_rng(0).random((min(256, self.size), self.size), dtype=np.float32)
        for name in ("x", "y"):
            target = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", np.float32, (self.size, self.size))
            for start in range(0, self.size, len(rows)) if name == "x" else ():
                target[start : start + len(rows)] = rows[: self.size - start]
            target.flush()

    def open(self, name: str) -> Any:
        """Read or written piece by piece: the pages that the system keeps of a mapped file count as the process's."""
        return File(self.folder / f"{name}.npy", self.size)

    def chunked(self) -> Any:
        """The file in bands of rows."""
        import dask.array as da

        return da.from_array(self.open("x"), chunks=(min(CHUNK, self.size), self.size), name=False)


class File:
    """A ``.npy`` file as Dask reads and writes it: whole rows by one system call, parts of rows by one for each.

    Row by row, its threads wait for the interpreter's lock at every row: bands of rows were read, filtered and written
    1.2 times as fast as squares. A map would cost a page fault for each of its pages.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.shape, self.dtype, self.ndim = path, (size, size), np.dtype(np.float32), 2
        self.start = path.stat().st_size - 4 * size**2

    def lines(self, index: tuple[slice, slice], block: Any = None) -> tuple[Any, Iterator[tuple[Any, int]]]:
        """The block, a new one if none is given, and what of it lies together in the file, each with its place."""
        rows, columns = (range(*part.indices(n)) for part, n in zip(index, self.shape, strict=True))
        shape, width = (len(rows), len(columns)), self.shape[1]
        block = np.empty(shape, self.dtype) if block is None else np.ascontiguousarray(block)
        lines = block.reshape(1, -1) if len(columns) == width else block
        places = (self.start + 4 * (row * width + columns.start) for row in rows)
        return block, zip(lines, places, strict=False)

    def __getitem__(self, index: tuple[slice, slice]) -> Any:
        block, lines = self.lines(index)
        with self.path.open("rb", buffering=0) as file:
            for line, place in lines:
                os.preadv(file.fileno(), [line.data], place)
        return block

    def __setitem__(self, index: tuple[slice, slice], block: Any) -> None:
        with self.path.open("r+b", buffering=0) as file:
            for line, place in self.lines(index, block)[1]:
                os.pwrite(file.fileno(), line, place)


def kernel() -> Any:
    return np.random.default_rng(1).random((TAPS, TAPS), dtype=np.float32)


def file(images: Images) -> dict[str, Any]:
    """The whole image from disk to disk, into a file that `copy` has written before."""
    import dask.array as da

    import arrayconv as ac

    x = images.chunked()
    y = ac.correlate(x, kernel(), padding="same")
    found = timed(lambda: da.store(y, images.open("y"), lock=False, scheduler="threads"), images.size**2)
    source, result = (np.load(images.folder / f"{name}.npy", mmap_mode="r") for name in "xy")
    at = images.size // 2 - TAPS // 2
    corner = source[at : at + TAPS, at : at + TAPS]
    exact = float((corner.astype(float) * kernel()).sum())
    assert abs(result[at + TAPS // 2, at + TAPS // 2] - exact) < 1e-4 * exact
    return found


def copy(images: Images) -> dict[str, Any]:
    """From disk to disk without a filter. It writes the result's file for the first time, which `file` then need not:
    in 16,384 x 16,384 a later copy was several times as fast.
    """
    import dask.array as da

    x = images.chunked()
    return timed(lambda: da.store(x, images.open("y"), lock=False, scheduler="threads"), images.size**2)


def overlap(images: Images) -> dict[str, Any]:
    """The way of dask-image, on rows enough for a time."""
    import dask.array as da
    from scipy.ndimage import correlate

    x = images.chunked()[: max(1, min(images.size, (2 * BLOCK) ** 2 // images.size))]
    y = da.map_overlap(correlate, x, depth=TAPS // 2, boundary="none", weights=kernel(), mode="constant", meta=x._meta)
    return timed(lambda: da.store(y, images.open("y"), lock=False, scheduler="threads"), x.size)


def block(images: Images) -> dict[str, Any]:
    """One chunk, in memory, without Dask."""
    import arrayconv as ac

    n = min(BLOCK, images.size)
    x, taps = images.open("x")[:n, :n], kernel()
    ac.correlate(x, taps, padding="same")
    times = [timed(lambda: ac.correlate(x, taps, padding="same"), n * n) for _ in range(7)]
    return {name: median(row[name] for row in times) for name in times[0]}


def tiny(images: Images) -> dict[str, Any]:
    """What a chunk costs beside its arithmetic: many small chunks against one large one, by one thread."""
    import dask.array as da
    from dask.base import optimize

    import arrayconv as ac

    found: dict[str, Any] = {}
    times = {}
    ac.correlate(
        da.ones((2, 2), dtype=np.float32), np.ones((3, 3), np.float32), padding="same"
    )  # imports what it needs
    for chunk in TINY_CHUNKS:
        x, count = da.ones((TINY, TINY), chunks=chunk, dtype=np.float32), ceil(TINY / chunk) ** 2
        start = time.perf_counter()
        y = ac.correlate(x, np.ones((3, 3), np.float32), padding="same")
        built = time.perf_counter() - start
        graph = dict(optimize(y)[0].__dask_graph__())
        start = time.perf_counter()
        y.compute(scheduler="synchronous")
        times[chunk] = time.perf_counter() - start
        found[f"tasks_per_chunk_{count}"] = len(graph) / count
        found[f"build_us_per_chunk_{count}"] = 1e6 * built / count
        found[f"run_us_per_chunk_{count}"] = 1e6 * (times[chunk] - times.get(TINY, 0)) / count
    return found


TASKS: dict[str, Callable[[Images], dict[str, Any]]] = {
    "block": block,
    "copy": copy,
    "file": file,
    "overlap": overlap,
    "tiny": tiny,
}


def timed(call: Callable[[], Any], pixels: int) -> dict[str, Any]:
    """Seconds, and the resident size: the largest that was sampled while it ran, and the system's own record."""
    samples, done = [_resident()], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            samples.append(_resident())

    thread = threading.Thread(target=sample)
    thread.start()
    start = time.perf_counter()
    try:
        call()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        thread.join()
    return {
        "seconds": seconds,
        "pixels_per_second": pixels / seconds,
        "sampled_bytes": max(samples),
        "peak_bytes": _peak(),
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    """The largest resident size of this program; ``ru_maxrss`` begins with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _in_process(task: str, images: Images) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scale", task, str(images.folder), str(images.size)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"bench.scale {task} ended with {result.returncode}: {result.stderr}")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](Images(Path(sys.argv[2]), int(sys.argv[3])))))
