"""Residues woven into one array, against their places by the definition."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from conftest import LIBRARIES

from arrayconv.algorithms.interleave import interleave
from arrayconv.backend import library_backend


@pytest.mark.parametrize("counts", [(1,), (3,), (2, 3), (1, 2), (2, 1, 3), (1, 1, 1)])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "dask"])
def test_every_residue_has_its_places(library: str, counts: tuple[int, ...]) -> None:
    shape = (2, 3, *(4, 2, 3)[: len(counts)])
    parts = np.arange(np.prod(counts) * np.prod(shape), dtype="float32").reshape(-1, *shape)
    make: Any = LIBRARIES[library].make
    y = LIBRARIES[library].to_numpy(interleave(library_backend(library), [make(part) for part in parts], counts))
    assert y.shape == (2, 3, *[n * count for n, count in zip(shape[2:], counts, strict=True)])
    for part, residues in zip(parts, product(*map(range, counts)), strict=True):
        places = [slice(first, None, step) for first, step in zip(residues, counts, strict=True)]
        np.testing.assert_array_equal(y[(..., *places)], part)
