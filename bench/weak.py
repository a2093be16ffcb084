"""Weak scaling: what each of 1, 2 and 4 devices computes and receives while its own share stays as large.

Virtual devices share the cores of one machine, so their time says nothing; the compiled programs can be read instead.
``python -m bench.weak`` prints the rows as JSON, in a process whose number of devices `measure` sets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import arrayconv as ac
from bench.hlo import sent

DEVICES = (1, 2, 4)


class Case(NamedTuple):
    """A call on x of this shape on each device; the first axis is spread."""

    op: Callable[..., Any]
    share: tuple[int, ...]
    kernel: tuple[int, ...]


CASES = {
    "correlate, rows": Case(ac.correlate, (1024, 1024), (15, 15)),
    "conv, batch": Case(ac.conv, (4, 64, 56, 56), (64, 64, 3, 3)),
}


def measure() -> list[dict[str, Any]]:
    """The rows of every case, result and device count, from a process of its own."""
    own = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={max(DEVICES)}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "bench.weak"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, check=False)
    if result.returncode:
        raise RuntimeError(f"bench.weak ended with {result.returncode}: {result.stderr}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def rows(name: str, case: Case, count: int) -> Iterator[dict[str, Any]]:
    """What each of ``count`` devices does for the result and both gradients, as compiled for them."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()[:count]), ("devices",))

    def array(shape: tuple[int, ...], *spec: str) -> Any:
        return jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    def call(x: Any, kernel: Any) -> Any:
        return case.op(x, kernel, padding="same")

    x, kernel = array((count * case.share[0], *case.share[1:]), "devices"), array(case.kernel)
    dy = array(jax.eval_shape(call, x, kernel).shape, "devices")
    results: dict[str, Callable[..., Any]] = {
        "y": call,
        "dx": lambda x, kernel, dy: jax.vjp(call, x, kernel)[1](dy)[0],
        "dk": lambda x, kernel, dy: jax.vjp(call, x, kernel)[1](dy)[1],
    }
    for result, function in results.items():
        arrays = (x, kernel) if result == "y" else (x, kernel, dy)
        program: Any = jax.jit(function).lower(*arrays).compile()
        received: Counter[str] = Counter()
        for own in sent(program.as_text()):
            received[own.kind] += own.bytes
        yield {
            "case": name,
            "result": result,
            "devices": count,
            "operations": program.cost_analysis()["flops"],
            "received_bytes": dict(received),
        }


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each case and result."""
    yield f"{'a device of':<26}" + "".join(f"{count:>23}" for count in DEVICES)
    lines: dict[str, str] = {}
    for row in found:
        name = f"{row['case']}: {row['result']}"
        figures = f"{row['operations'] / 1e6:.1f} M ops, {sum(row['received_bytes'].values()) / 1e3:.1f} kB"
        lines[name] = lines.get(name, f"{name:<26}") + f"{figures:>23}"
    yield from lines.values()


if __name__ == "__main__":
    for name, case in CASES.items():
        for count in DEVICES:
            for row in rows(name, case, count):
                print(json.dumps(row), flush=True)
