"""Signals in pieces: a pure step from (state, chunk) to (state, output), with the whole signal's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..arguments import read_int, read_ints
from ..backend import describe
from ..gather import gather_arrays
from ..geometry import dilated
from ..primitives import full
from .conv import conv
from .correlate import correlate

Array = Any


class Stream(NamedTuple):
    """``state = init(like, batch_shape)``, then ``state, y = step(state, chunk)`` for each chunk in turn."""

    init: Callable[..., Array]
    step: Callable[[Array, Array], tuple[Array, Array]]


def stream(
    op: Callable[..., Array],
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Stream:
    """Causal one-dimensional `correlate` or `conv` of a signal that comes in chunks.

    The outputs of the chunks, joined, are those of ``op(signal, kernel, padding="causal", ...)``: bit-equal in
    integers, within the documented error in floats. The state is the last ``dilation * (k - 1)`` samples; both
    functions are pure, so `step` is a body for `jax.lax.scan`.

    Args:
        op: `correlate` or `conv`.
        kernel: ``(k,)`` for `correlate`, ``(O, C / groups, k)`` for `conv`.
        bias: ``(O,)`` or None; `conv` only.
        stride, dilation, groups: as in ``op``; a chunk's length must be a multiple of the stride.

    Returns:
        A `Stream`. ``init(like, batch_shape=())`` gives the state before the first chunk, zeros of ``like``'s library
        and dtype; ``step(state, chunk)`` takes ``(*batch_shape, n)``, or ``(*batch_shape, C, n)`` for `conv`, and gives
        the next state and ``n / stride`` outputs.

    Raises:
        TypeError: another ``op``, a list for an array, options that are no ints.
        ValueError: a kernel of another rank, a bias for `correlate`, a chunk whose length the stride doesn't divide, a
            state of another shape.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> init, step = ac.stream(ac.correlate, np.array([1, 10]))
    >>> state = init(np.array([0]))
    >>> state, y = step(state, np.array([1, 2]))
    >>> y, step(state, np.array([3, 4]))[1]
    (array([10, 21]), array([32, 43]))
    """
    if op not in (correlate, conv):
        raise TypeError(f"stream: op must be arrayconv's correlate or conv, got {describe(op)}")
    _, (kernel, bias) = gather_arrays("stream", ("kernel", "bias"), (kernel, bias))
    channels = 1 if op is conv else 0
    if kernel.ndim != 1 + 2 * channels:
        expected = "(O, C / groups, k)" if channels else "(k,)"
        raise ValueError(f"stream: kernel of {op.__name__} must have shape {expected}, got {tuple(kernel.shape)}")
    if not channels and (bias is not None or groups != 1):
        raise ValueError("stream: correlate takes neither bias nor groups; use conv")
    step_size = read_int("stream", "stride", stride, 1)
    read_int("stream", "groups", groups, 1)
    memory = dilated(kernel.shape[-1], read_int("stream", "dilation", dilation, 1)) - 1
    lead = (groups * kernel.shape[1],) if channels else ()
    options: dict[str, Any] = {"stride": stride, "dilation": dilation}
    if channels:
        options |= {"bias": bias, "groups": groups}

    def init(like: Array, batch_shape: tuple[int, ...] = ()) -> Array:
        backend, (like,) = gather_arrays("stream", ("like",), (like,))
        batch = read_ints("stream", "batch_shape", batch_shape, 0)
        return full(backend.xp, like, (*batch, *lead, memory))

    def step(state: Array, chunk: Array) -> tuple[Array, Array]:
        backend, (state, chunk) = gather_arrays("stream", ("state", "chunk"), (state, chunk))
        expected = (*chunk.shape[:-1], memory)
        if chunk.ndim < 1 + channels or tuple(state.shape) != expected:
            raise ValueError(
                f"stream: state has shape {tuple(state.shape)}, a chunk of shape {tuple(chunk.shape)} needs "
                f"{expected}; make it with init(like, batch_shape)"
            )
        count = chunk.shape[-1]
        if count % step_size:
            raise ValueError(f"stream: chunk length {count} must be a multiple of the stride, {step_size}")
        seen = backend.xp.concat([state, chunk], axis=-1)
        following = seen[..., seen.shape[-1] - memory :]
        if count == 0:
            padded = backend.xp.concat([seen, full(backend.xp, seen, (*seen.shape[:-1], step_size))], axis=-1)
            return following, op(padded, kernel, **options)[..., :0]
        return following, op(seen, kernel, **options)

    return Stream(init, step)
