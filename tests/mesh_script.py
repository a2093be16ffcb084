"""Run by test_mesh.py in a process of its own with eight virtual devices: prints one JSON line for each case.

A case is compiled once for the result and both gradients. Its line says how far each is from one device's and which of
them are spread over the mesh, and what the compiled program sends, for x and for x four times as long along ``grow``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import arrayconv as ac
from bench import hlo

jax.config.update("jax_enable_x64", True)

ROW, GRID = Mesh(np.array(jax.devices()), ("a",)), Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
EXPLICIT = Mesh(np.array(jax.devices()), ("a",), axis_types=(AxisType.Explicit,))


class Case(NamedTuple):
    """Specs are the shardings of x, the kernel, and y's cotangent (as x's by default); ``grow`` is an axis of x.

    x holds NaN at the indices ``spoiled`` of that axis.
    """

    op: Callable[..., Any]
    x_shape: tuple[int, ...]
    k_shape: tuple[int, ...]
    x_spec: tuple[Any, ...]
    grow: int
    options: dict[str, Any]
    k_spec: tuple[Any, ...] = ()
    out: tuple[Any, ...] | None = None
    mesh: Mesh = ROW
    dtype: str = "int32"
    spoiled: tuple[int, ...] = ()

    @property
    def y_spec(self) -> tuple[Any, ...]:
        return self.x_spec if self.out is None else self.out


def case(
    op: Callable[..., Any], x_spec: tuple[Any, ...], grow: int, x: tuple[int, ...], k: tuple[int, ...], **own: Any
) -> Case:
    known = {name: own.pop(name) for name in ("k_spec", "out", "mesh", "dtype", "spoiled") if name in own}
    return Case(op, x, k, x_spec, grow, {"padding": "same", **own}, **known)


ROWS, BATCH, CHANNELS = (None, None, "a"), ("a",), (None, "a")
HALF, BANDED = {"dtype": "float16"}, {"dtype": "float64", "algorithm": "toeplitz"}
SMALL, PLAIN = (2, 4, 32, 8), (8, 4, 3, 3)
CASES = {
    "batch": case(ac.conv, BATCH, 2, (8, 4, 16, 8), PLAIN, **HALF),
    "batch, banded": case(ac.conv, BATCH, 2, (8, 4, 16, 8), PLAIN, **BANDED),
    "batch, groups": case(ac.conv, BATCH, 2, (8, 4, 16, 8), (6, 2, 3, 3), groups=2),
    "output channels": case(ac.conv, (), 2, SMALL, PLAIN, k_spec=BATCH, out=CHANNELS),
    "input channels": case(ac.conv, CHANNELS, 2, (2, 8, 16, 8), (4, 8, 3, 3), out=(), **HALF),
    "depthwise channels": case(ac.depthwise_conv, CHANNELS, 2, (2, 8, 16, 8), (8, 1, 3, 3)),
    "rows": case(ac.conv, ROWS, 2, SMALL, PLAIN, **HALF),
    "rows, banded": case(ac.conv, ROWS, 2, SMALL, PLAIN, **BANDED),
    "rows, valid": case(ac.conv, ROWS, 2, (2, 4, 40, 8), (8, 4, 4, 3), padding="valid"),
    "rows, stride": case(ac.conv, ROWS, 2, SMALL, PLAIN, stride=2),
    "rows, stride, uneven": case(ac.conv, ROWS, 2, (1, 2, 40, 8), (2, 2, 5, 3), stride=3),
    "rows, dilation": case(ac.conv, ROWS, 2, (1, 2, 64, 8), (2, 2, 3, 3), dilation=(3, 1)),
    "rows, far": case(ac.conv, ROWS, 2, (1, 2, 32, 8), (2, 2, 19, 3)),
    "rows, crop": case(ac.conv, ROWS, 2, (1, 2, 40, 8), (2, 2, 3, 3), padding=((-3, 5), (1, 1))),
    "rows, depthwise": case(ac.depthwise_conv, ROWS, 2, (1, 3, 32, 8), (3, 1, 3, 3)),
    "rows, transposed": case(ac.conv_transpose, ROWS, 2, (1, 2, 32, 8), (2, 3, 3, 3), stride=3, padding=1),
    "image": case(ac.correlate, BATCH, 0, (64, 24), (5, 3)),
    "image, both axes": case(ac.correlate, ("a", "b"), 0, (32, 16), (5, 3), mesh=GRID),
    "image, one axis over both": case(ac.convolve, (("a", "b"),), 0, (64, 8), (5, 3), mesh=GRID, padding="full"),
    "image and batch": case(ac.conv, ("b", None, "a"), 2, SMALL, PLAIN, mesh=GRID),
    "NaN, uneven rows": case(ac.conv, ROWS, 2, (1, 2, 40, 8), (4, 2, 4, 3), stride=3, dtype="float32", spoiled=(0, 37)),
    "NaN, uneven depthwise rows": case(
        ac.depthwise_conv, ROWS, 2, (1, 2, 40, 8), (2, 2, 4, 3), padding="valid", dtype="float32", spoiled=(36,)
    ),
    "rows, long sums": case(ac.conv, ROWS, 2, (1, 2, 64, 8), (2, 2, 9, 7), algorithm="direct"),
    "explicit, long sums": case(ac.conv, ROWS, 2, (1, 2, 64, 8), (2, 2, 9, 7), mesh=EXPLICIT, algorithm="direct"),
    "explicit": case(ac.conv, ROWS, 2, (1, 2, 32, 8), (2, 2, 3, 3), mesh=EXPLICIT),
}


def sent(program: Any) -> list[tuple[str, int]]:
    """What a compiled program sends: each operation's kind and elements."""
    return [(own.kind, own.elements) for own in hlo.sent(program.as_text())]


def arrays(case: Case, factor: int) -> list[np.ndarray[Any, Any]]:
    """x, the kernel and y's cotangent in small integers, so that a float's sum in any order is near the exact one."""
    shape = list(case.x_shape)
    shape[case.grow] *= factor
    random = np.random.default_rng(0)
    x, kernel = (
        random.integers(-9, 9, shape).astype(case.dtype),
        random.integers(-9, 9, case.k_shape).astype(case.dtype),
    )
    if case.spoiled:
        x[(*(0,) * case.grow, list(case.spoiled))] = np.nan
    y = jax.eval_shape(lambda x, kernel: case.op(x, kernel, **case.options), x, kernel)
    return [x, kernel, random.integers(-9, 9, y.shape).astype(case.dtype)]


def results(case: Case, x: Any, kernel: Any, dy: Any) -> tuple[Any, ...]:
    """y, dx and the kernel's; JAX differentiates floats only, arrayconv integers too."""
    if "int" in case.dtype:
        y, pullback = ac.vjp(case.op, x, kernel, **case.options)
    else:
        y, pullback = jax.vjp(lambda x, kernel: case.op(x, kernel, **case.options), x, kernel)
    return y, *pullback(dy)


def compiled(case: Case, given: list[np.ndarray[Any, Any]]) -> tuple[Any, list[Any]]:
    """The jitted `results` and its arguments.

    Arrays that enter or leave a jitted function are spread evenly or not at all (JAX's rule), so y and dy do so with
    zeros up to an even length.
    """
    x, kernel, dy = given
    widths = [(0, 0)] * dy.ndim
    for axis, names in enumerate(case.y_spec):
        names = (names,) if isinstance(names, str) else names or ()
        widths[axis] = (0, -dy.shape[axis] % prod(case.mesh.shape[name] for name in names))
    own = tuple(slice(0, n) for n in dy.shape)

    def call(x: Any, kernel: Any, dy: Any) -> tuple[Any, ...]:
        y, *rest = results(case, x, kernel, dy[own])
        return jnp.pad(y, widths), *rest

    specs = (case.x_spec, case.k_spec, case.y_spec)
    x, kernel, dy = (
        jax.device_put(jnp.asarray(array), NamedSharding(case.mesh, PartitionSpec(*spec)))
        for array, spec in zip((x, kernel, np.pad(dy, widths)), specs, strict=True)
    )
    return jax.jit(call).lower(x, kernel, dy).compile(), [x, kernel, dy]


def check(case: Case) -> dict[str, Any]:
    given = arrays(case, 1)
    program, placed = compiled(case, given)
    got = program(*placed)
    one = jax.jit(partial(results, case))(*map(jnp.asarray, given))
    pairs = [
        (np.asarray(a)[tuple(map(slice, b.shape))].astype(float), np.asarray(b, float))
        for a, b in zip(got, one, strict=True)
    ]
    larger, _ = compiled(case, arrays(case, 4))
    return {
        "errors": [np.nan_to_num(abs(a - b)).max() + (np.isnan(a) != np.isnan(b)).sum() for a, b in pairs],
        "kernel": prod(case.k_shape),
        "result": pairs[0][1].size,
        "spread": [not array.sharding.is_fully_replicated for array in got],
        "sent": sent(program),
        "larger": sent(larger),
    }


if __name__ == "__main__":
    for name, own in CASES.items():
        if len(sys.argv) == 1 or sys.argv[1] in name:
            print(json.dumps({"name": name, **check(own)}), flush=True)
