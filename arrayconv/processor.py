"""The machine's processor, as far as convolutions depend on it."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def processor() -> str:
    """``"avx512"`` where NumPy finds such wide vectors, else ``"avx2"``, which stands for all narrow ones."""
    vectors = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = [*vectors.get("baseline", ()), *vectors.get("found", ())]
    return "avx512" if any(name == "X86_V4" or name.startswith("AVX512") for name in names) else "avx2"
