"""Run by test_mesh.py in a process of its own with eight virtual devices: prints one JSON line for each case.

A case is compiled once for the result and both gradients. Its line says how far the results are from one device's, in
units of the bound of arrayconv.testing (integers: of one), and what the compiled program sends, for x and for x four
times as long along the axis of ``grow``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import arrayconv as ac

jax.config.update("jax_enable_x64", True)

ROW, GRID = Mesh(np.array(jax.devices()), ("a",)), Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
A: Any = "a"


class Case(NamedTuple):
    """``x_spec`` and ``k_spec`` are the shardings that come in; ``grow`` an axis of x."""

    op: Callable[..., Any]
    x_shape: tuple[int, ...]
    k_shape: tuple[int, ...]
    x_spec: tuple[Any, ...]
    k_spec: tuple[Any, ...] = ()
    grow: int = 0
    mesh: Mesh = ROW
    dtype: str = "int32"
    options: dict[str, Any] = {}


def conv(x_spec: tuple[Any, ...], grow: int, x: Any = (2, 4, 32, 8), k: Any = (8, 4, 3, 3), **own: Any) -> Case:
    known = {name: own.pop(name) for name in ("k_spec", "mesh", "dtype") if name in own}
    return Case(ac.conv, x, k, x_spec, grow=grow, options={"padding": "same", **own}, **known)


ROWS = (None, None, A)
CASES = {
    "batch": conv((A,), 0, x=(8, 4, 16, 8), dtype="float64"),
    "batch, banded": conv((A,), 0, x=(8, 4, 16, 8), dtype="float64", algorithm="toeplitz"),
    "batch, half": conv((A,), 0, x=(8, 4, 16, 8), dtype="float16"),
    "batch, depthwise": Case(ac.depthwise_conv, (8, 3, 16, 8), (3, 1, 3, 3), (A,), options={"padding": "same"}),
    "batch, groups": conv((A,), 0, x=(8, 4, 16, 8), k=(6, 2, 3, 3), groups=2),
    "output channels": conv((), 0, k_spec=(A,)),
    "input channels": conv((None, A), 1, x=(2, 8, 16, 8), k=(4, 8, 3, 3)),
    "input channels, half": conv((None, A), 1, x=(2, 8, 16, 8), k=(4, 8, 3, 3), dtype="float16"),
    "depthwise channels": Case(ac.depthwise_conv, (2, 8, 16, 8), (8, 1, 3, 3), (None, A), grow=2, options={"padding": "same"}),
    "rows": conv(ROWS, 2, dtype="float64"),
    "rows, banded": conv(ROWS, 2, dtype="float64", algorithm="toeplitz"),
    "rows, half": conv(ROWS, 2, dtype="float16"),
    "rows, valid": conv(ROWS, 2, padding="valid", x=(2, 4, 40, 8), k=(8, 4, 4, 3)),
    "rows, stride": conv(ROWS, 2, stride=2),
    "rows, stride, uneven": conv(ROWS, 2, stride=3, x=(1, 2, 40, 8), k=(2, 2, 5, 3)),
    "rows, stride, valid": conv(ROWS, 2, stride=2, padding="valid", x=(1, 2, 40, 8), k=(2, 2, 5, 3)),
    "rows, dilation": conv(ROWS, 2, dilation=(3, 1), x=(1, 2, 64, 8), k=(2, 2, 3, 3)),
    "rows, far": conv(ROWS, 2, x=(1, 2, 32, 8), k=(2, 2, 19, 3)),
    "rows, crop": conv(ROWS, 2, padding=((-3, 5), (1, 1)), x=(1, 2, 40, 8), k=(2, 2, 3, 3)),
    "rows, depthwise": Case(ac.depthwise_conv, (1, 3, 32, 8), (3, 1, 3, 3), ROWS, grow=2, options={"padding": "same"}),
    "rows, transposed": Case(ac.conv_transpose, (1, 2, 32, 8), (2, 3, 3, 3), ROWS, grow=2, options={"stride": 3, "padding": 1}),
    "image": Case(ac.correlate, (64, 24), (5, 3), (A,), options={"padding": "same"}),
    "image, both axes": Case(ac.correlate, (32, 16), (5, 3), ("a", "b"), mesh=GRID, dtype="float64"),
    "image, one axis over both": Case(ac.convolve, (64, 8), (5, 3), (("a", "b"),), mesh=GRID, options={"padding": "full"}),
    "image and batch": conv(("b", None, "a"), 2, mesh=GRID),
}  # fmt: skip

SENDING = re.compile(r" = (\(.*?\)|\S+) (all-\w[\w-]*|collective-\w+|reduce-scatter|ragged\S*)\(")


def sent(text: str) -> list[tuple[str, int]]:
    """What a compiled program sends: each operation's kind and elements."""
    found = []
    for shapes, kind in SENDING.findall(text):
        sizes = [np.prod([int(n) for n in dims.split(",") if n]) for dims in re.findall(r"\w+\[([\d,]*)\]", shapes)]
        found.append((kind.removesuffix("-start"), int(sum(sizes))))
    return sorted(found)


def arrays(case: Case, factor: int) -> list[np.ndarray[Any, Any]]:
    shape = list(case.x_shape)
    shape[case.grow] *= factor
    random = np.random.default_rng(0)
    x, kernel = random.integers(-9, 9, shape), random.integers(-9, 9, case.k_shape)
    dy = random.integers(-9, 9, jax.eval_shape(lambda x, k: case.op(x, k, **case.options), x, kernel).shape)
    return [array.astype(case.dtype) for array in (x, kernel, dy)]


def differentiate(case: Case) -> Callable[..., Any]:
    """The result and both gradients; JAX differentiates floats only, arrayconv integers too."""

    def both(x: Any, kernel: Any, dy: Any) -> Any:
        if "int" in case.dtype:
            y, pullback = ac.vjp(case.op, x, kernel, **case.options)
        else:
            y, pullback = jax.vjp(lambda x, kernel: case.op(x, kernel, **case.options), x, kernel)
        return y, *pullback(dy)

    return both


def compiled(case: Case, given: list[np.ndarray[Any, Any]]) -> tuple[Any, list[Any]]:
    specs = (case.x_spec, case.k_spec, ())
    shardings = [NamedSharding(case.mesh, PartitionSpec(*spec)) for spec in specs]
    placed = [jax.device_put(jnp.asarray(a), sharding) for a, sharding in zip(given, shardings, strict=True)]

    def call(x: Any, kernel: Any, dy: Any) -> Any:
        return differentiate(case)(x, kernel, dy)

    return jax.jit(call).lower(*placed).compile(), placed


def check(case: Case) -> dict[str, Any]:
    given = arrays(case, 1)
    program, placed = compiled(case, given)
    got = program(*placed)
    expected = differentiate(case)(*(jnp.asarray(array.astype("int64")) for array in given)) if False else None
    del expected
    exact = jax.jit(differentiate(case))(*map(jnp.asarray, given))
    errors = [
        float(np.max(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64"))))
        for a, b in zip(got, exact, strict=True)
    ]
    larger, _ = compiled(case, arrays(case, 4))
    return {
        "errors": errors,
        "sent": sent(program.as_text()),
        "larger": sent(larger.as_text()),
        "out": [str(s) for s in jax.tree.leaves(program.output_shardings)],
        "sizes": [int(np.prod(a.shape)) for a in got],
    }


for name, case in CASES.items():
    if len(sys.argv) > 1 and sys.argv[1] not in name:
        continue
    try:
        print(json.dumps({"name": name, **check(case)}), flush=True)
    except Exception as e:
        print(name, "FAILED", type(e), str(e)[:1500], flush=True)
