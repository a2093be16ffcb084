"""What a program that XLA compiled for several devices sends between them, read from its text."""

from __future__ import annotations

import re
from math import prod
from typing import NamedTuple

_SENDING = re.compile(r" = (\(.*?\)|\S+) (all-\w[\w-]*|collective-\w+|reduce-scatter|ragged\S*)\(")
_ARRAY = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")


class Sent(NamedTuple):
    """One operation between devices, and what each device gets by it."""

    kind: str
    elements: int
    bytes: int


def sent(text: str) -> list[Sent]:
    """The operations of a program, as ``compiled.as_text()`` shows it."""
    found = []
    for result, kind in _SENDING.findall(text):
        arrays = [(prod(map(int, filter(None, dims.split(",")))), bits) for _, bits, dims in _ARRAY.findall(result)]
        size = sum(n * max(8, int(bits or 8)) // 8 for n, bits in arrays)  # pred, the one type without bits, is a byte
        found.append(Sent(kind.removesuffix("-start"), sum(n for n, _ in arrays), size))
    return sorted(found)
