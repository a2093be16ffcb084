"""`stream`: chunks in turn give the whole signal's numbers, on every library and as the body of a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import arrayconv as ac
from arrayconv.testing import assert_within_bound

if TYPE_CHECKING:
    from conftest import Library

CALLS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "correlate": (ac.correlate, (24,), (5,), {}),
    "correlate batch": (ac.correlate, (2, 3, 24), (3,), {"stride": 2, "dilation": 3}),
    "one tap": (ac.correlate, (24,), (1,), {"stride": 3}),
    "conv": (ac.conv, (2, 4, 24), (6, 2, 3), {"groups": 2, "stride": 2, "dilation": 2}),
    "conv alone": (ac.conv, (1, 24), (2, 1, 4), {}),
}


def in_pieces(stream: ac.Stream, x: Any, cuts: tuple[int, ...], batch: tuple[int, ...], xp: Any) -> Any:
    state, outputs = stream.init(x, batch), []
    for start, stop in zip((0, *cuts), (*cuts, x.shape[-1]), strict=True):
        state, y = stream.step(state, x[..., start:stop])
        outputs.append(y)
    return xp.concat(outputs, axis=-1)


@pytest.mark.parametrize("cuts", [(), (12,), (6, 6, 12, 18), (0, 18, 24)])
@pytest.mark.parametrize("name", CALLS)
def test_pieces_give_the_whole(library: Library, name: str, cuts: tuple[int, ...]) -> None:
    op, x_shape, kernel_shape, options = CALLS[name]
    random = np.random.default_rng(8)
    batch = x_shape[: -2 if op is ac.conv else -1]
    for dtype in ("int16", "float32"):
        x = random.integers(-9, 9, x_shape).astype(dtype) / (1 if dtype == "int16" else 7)
        kernel = random.integers(-9, 9, kernel_shape).astype(dtype) / (1 if dtype == "int16" else 7)
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        bias = np.arange(kernel_shape[0], dtype=dtype) if op is ac.conv else None
        own = library.asarray(x)
        stream = ac.stream(op, library.asarray(kernel), None if bias is None else library.asarray(bias), **options)
        y = in_pieces(stream, own, cuts, batch, library.xp)
        assert_within_bound(y, x, kernel, bias, op=op, padding="causal", **options)


def test_body_of_a_scan() -> None:
    x, kernel = np.arange(48.0).reshape(2, 24), np.array([1.0, -2.0, 4.0])
    stream = ac.stream(ac.correlate, jax.numpy.asarray(kernel), stride=2)
    chunks = jax.numpy.moveaxis(jax.numpy.asarray(x).reshape(2, 4, 6), 1, 0)
    state = stream.init(chunks, (2,))
    _, outputs = jax.jit(lambda state, chunks: jax.lax.scan(stream.step, state, chunks))(state, chunks)
    whole = ac.correlate(x, kernel, padding="causal", stride=2)
    np.testing.assert_allclose(np.moveaxis(outputs, 0, 1).reshape(2, 12), whole)


TAPS = np.ones(3)
ERRORS = [
    (lambda: ac.stream(ac.convolve, TAPS), TypeError, "stream: op must be arrayconv's correlate or conv"),
    (lambda: ac.stream(ac.correlate, [1.0]), TypeError, "stream: kernel must be an array"),
    (lambda: ac.stream(ac.correlate, np.ones((2, 2))), ValueError, r"kernel of correlate must have shape \(k,\)"),
    (lambda: ac.stream(ac.conv, TAPS), ValueError, r"kernel of conv must have shape \(O, C / groups, k\)"),
    (lambda: ac.stream(ac.correlate, TAPS, np.ones(1)), ValueError, "takes neither bias nor groups; use conv"),
    (lambda: ac.stream(ac.correlate, TAPS, stride=0), ValueError, "stream: stride must be >= 1, got 0"),
    (lambda: ac.stream(ac.correlate, TAPS, dilation=1.5), TypeError, "stream: dilation must be an int"),
    (
        lambda: ac.stream(ac.correlate, TAPS, stride=2).step(np.ones(2), np.ones(3)),
        ValueError,
        "chunk length 3 must",
    ),
    (
        lambda: ac.stream(ac.correlate, TAPS).step(np.ones(3), np.ones(4)),
        ValueError,
        "state has shape .* needs",
    ),
    (lambda: ac.stream(ac.correlate, TAPS).init(TAPS, (-1,)), ValueError, r"stream: batch_shape\[0\] must be >= 0"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
