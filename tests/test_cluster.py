"""A real cluster: two processes with a memory limit filter an image from a Zarr store, and one of them is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from chunking import refuse

import arrayconv as ac

SIZE, CHUNK, LIMIT = 1024, 128, 2**29


@contextmanager
def cluster() -> Iterator[Any]:
    """A client of two worker processes with one thread each, all gone at the end."""
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 5,
        "distributed.comm.timeouts.connect": "20s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit=LIMIT,
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=50,
        ) as local,
        Client(local) as client,
    ):
        yield client


def read_slowly(block: Any, gate: Path, block_id: tuple[int, ...] = ()) -> Any:
    """A block of x; the last one comes once the gate is there, so that no result is complete before."""
    time.sleep(0.03)
    while block_id == (SIZE // CHUNK - 1, SIZE // CHUNK - 1) and not gate.exists():
        time.sleep(0.01)
    return block


def test_a_worker_is_killed_and_the_result_is_right(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (SIZE, SIZE), dtype="int32")
    kernel = np.random.default_rng(1).integers(-9, 9, (7, 5), dtype="int32")
    da.from_array(x, chunks=CHUNK).to_zarr(str(tmp_path / "x.zarr"))
    stored, gate = da.from_zarr(str(tmp_path / "x.zarr")), tmp_path / "killed"
    slow = stored.map_blocks(read_slowly, gate=gate, meta=stored._meta)
    with dask.config.set(scheduler=refuse):
        y = ac.correlate(slow, kernel, padding="same", boundary="reflect")
    with cluster() as client:
        before = client.run(os.getpid)
        future = client.compute(y)
        wait_until(lambda: max(map(len, client.has_what().values())) > 4, "the workers computed nothing")
        held = client.has_what()
        os.kill(before[max(held, key=lambda address: len(held[address]))], signal.SIGKILL)
        gate.touch()
        result = future.result(timeout=60)
        wait_until(lambda: len(client.scheduler_info()["workers"]) == 2, "the killed worker was not replaced")
        after = client.run(os.getpid)
    np.testing.assert_array_equal(result, ac.correlate(x, kernel, padding="same", boundary="reflect"))
    assert len(set(after.values()) - set(before.values())) == 1


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, failure
        time.sleep(0.01)
