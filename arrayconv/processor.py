"""The machine's processor, as far as convolutions depend on it."""

from __future__ import annotations

import platform
import re
from functools import cache

import numpy as np


@cache
def vectors() -> str:
    """``"avx512"`` where NumPy finds such wide vectors, else ``"avx2"``, which stands for all narrow ones."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = [*found.get("baseline", ()), *found.get("found", ())]
    return "avx512" if any(name == "X86_V4" or name.startswith("AVX512") for name in names) else "avx2"


#: Where Linux describes its processors, and as much as tells the first one's family.
DESCRIPTION, ENOUGH = "/proc/cpuinfo", 1000


@cache
def processor() -> str:
    """What prices depend on: the `vectors`, of which AMD's family 25 ("zen4") computes wide ones in two halves."""
    kind = vectors()
    return "zen4" if kind == "avx512" and is_zen4(describe()) else kind


def is_zen4(description: str) -> bool:
    """Of a processor with wide vectors; Zen 3 is of the same family and has none."""
    return "AuthenticAMD" in description and re.search(r"family\s*:?\s*25\b", description, re.IGNORECASE) is not None


def describe() -> str:
    """In the system's words: ``cpu family : 25`` by Linux, ``AMD64 Family 25 Model 97`` by Windows."""
    try:
        with open(DESCRIPTION, encoding="utf-8") as text:
            return text.read(ENOUGH)
    except OSError:
        return platform.processor()
