"""What callers may write, read into plain ints and words. Every error says argument, value, rule and cure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]
PerAxis = int | Sequence[int]
Pairs = tuple[tuple[int, int], ...]

#: Padding words, and which of them need the input's size before they are numbers.
PADDING_WORDS = ("valid", "same", "same_lower", "full", "causal")


def is_sequence(value: Any) -> bool:
    """Whether there is an entry an axis: words and arrays without axes stand for themselves."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) != 0


def read_int(op: str, name: str, value: Any, minimum: int | None = None) -> int:
    """An int of Python's, or anybody's with ``__index__``: NumPy's, an array of one element; no bool, no float."""
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise TypeError(f"{op}: {name} must be an int, got {value!r} of type {type(value).__name__}")
    if minimum is not None and number < minimum:
        raise ValueError(f"{op}: {name} must be >= {minimum}, got {number}")
    return number


def read_ints(op: str, name: str, value: Any, minimum: int | None = None) -> tuple[int, ...]:
    """A sequence of ints, as a tuple."""
    if not is_sequence(value):
        raise TypeError(f"{op}: {name} must be a tuple of ints, got {value!r}; write for example ({value!r},)")
    return tuple(read_int(op, f"{name}[{i}]", entry, minimum) for i, entry in enumerate(value))


def read_per_axis(op: str, name: str, value: Any, ndim: int, minimum: int | None = None) -> tuple[int, ...]:
    """One int for every axis, or a sequence with one int an axis."""
    if not is_sequence(value):
        return (read_int(op, name, value, minimum),) * ndim
    entries = read_ints(op, name, value, minimum)
    if len(entries) != ndim:
        raise ValueError(
            f"{op}: {name} has {len(entries)} entries, expected one for each of {ndim} spatial axes: "
            f"{name}={tuple(entries)}; pass one int to use it for every axis"
        )
    return entries


def read_word(op: str, name: str, value: Any, words: Iterable[str]) -> str:
    """One of ``words``."""
    allowed = tuple(words)
    if not isinstance(value, str):
        raise TypeError(f"{op}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    if value not in allowed:
        raise ValueError(f"{op}: {name}={value!r} is not one of {', '.join(map(repr, allowed))}")
    return value


def read_flag(op: str, name: str, value: Any) -> bool:
    """True or False, and nothing that merely resembles them."""
    if not isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be True or False, got {value!r}")
    return value


def read_pair(op: str, name: str, value: Any) -> tuple[int, int]:
    """``n`` as ``(n, n)``, or a pair ``(low, high)``."""
    if not is_sequence(value):
        number = read_int(op, name, value)
        return number, number
    pair = read_ints(op, name, value)
    if len(pair) != 2:
        raise ValueError(f"{op}: {name} must be an int or a (low, high) pair, got {value!r}")
    return pair[0], pair[1]


def read_padding(op: str, padding: Any, ndim: int) -> str | Pairs:
    """A word of `PADDING_WORDS`, or one ``(low, high)`` pair an axis."""
    if isinstance(padding, str):
        return read_word(op, "padding", padding, PADDING_WORDS)
    if not is_sequence(padding):
        return (read_pair(op, "padding", padding),) * ndim
    entries = tuple(padding)
    if len(entries) != ndim:
        raise ValueError(
            f"{op}: padding has {len(entries)} entries, expected one int or one (low, high) pair "
            f"for each of {ndim} spatial axes: padding={entries}; pass one int to use it for every axis"
        )
    return tuple(read_pair(op, f"padding[{i}]", entry) for i, entry in enumerate(entries))


def resolve_axis(padding: str, size: int, window: int, stride: int) -> tuple[int, int]:
    """The ``(low, high)`` that a padding word means for one axis; ``window`` counts its dilation."""
    if padding == "valid":
        return 0, 0
    if padding == "full":
        return window - 1, window - 1
    if padding == "causal":
        return window - 1, 0
    # "same": the least padding that gives ceil(size / stride) outputs
    # (TensorFlow, "Convolution", section on padding; ONNX auto_pad SAME_UPPER and SAME_LOWER).
    total = max(0, (-(-size // stride) - 1) * stride + window - size)
    if padding == "same_lower":
        return total - total // 2, total // 2
    return total // 2, total - total // 2


def resolve(padding: str | Pairs, sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int]) -> Pairs:
    """`read_padding`'s answer as numbers for these spatial sizes; ``windows`` count their dilation."""
    if not isinstance(padding, str):
        return padding
    axes = zip(sizes, windows, strides, strict=True)
    return tuple(resolve_axis(padding, size, window, stride) for size, window, stride in axes)
