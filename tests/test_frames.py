"""Padding into one buffer, and by torch's own call, beside index maps element by element."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import arrayconv as ac
from arrayconv.backends import torch as torch_backend
from arrayconv.backends.torch_pad import MODES, find_mode
from arrayconv.boundary import BOUNDARIES, runs
from arrayconv.frames import MOST_RUNS, make_frame, pad_into

#: Widths of an axis of 4: none, shallow, uneven, deep, cropped, and a crop of what the other side repeats.
WIDTHS = [(0, 0), (1, 1), (3, 0), (0, 2), (4, 4), (9, 7), (-1, 2), (2, -1), (-2, -1), (3, -3)]
CASES = [(boundary, widths) for boundary in BOUNDARIES for widths in product(WIDTHS, WIDTHS)]


def flip(array: Any, axis: int) -> Any:
    return np.flip(array, axis)


def by_maps(x: Any, boundary: str, widths: Any, value: float) -> Any:
    """One element after the other."""
    out = np.full([n + low + high for n, (low, high) in zip(x.shape, widths, strict=True)], value, x.dtype)
    for place in np.ndindex(out.shape):
        steps = zip(place, x.shape, widths, strict=True)
        source = [BOUNDARIES[boundary](i - low, n) for i, n, (low, _) in steps]
        if None not in source:
            out[place] = x[tuple(source)]
    return out


@pytest.mark.parametrize(("boundary", "widths"), CASES, ids=str)
def test_every_way_to_pad(boundary: str, widths: Any) -> None:
    """Into a buffer, by torch's own call and in pieces: the same elements, and the same gradient."""
    x = np.arange(16.0).reshape(4, 4)
    expected = by_maps(x, boundary, widths, 7.0)
    given = {"boundary": boundary, "value": 7.0}
    pieces = tuple(runs(boundary, 4, *pair) for pair in widths)
    found = [
        pad_into(np.empty, flip, x, pieces, 7.0),
        ac.pad(x, widths, **given),
        ac.pad(torch.tensor(x), widths, **given),
    ]
    for own in found[found[0] is None :]:
        np.testing.assert_array_equal(own, expected)
    tensor = torch.tensor(x, requires_grad=True)
    y = ac.pad(tensor, widths, **given)
    dy = np.random.default_rng(0).integers(1, 9, y.shape).astype(float)
    np.testing.assert_array_equal(y.detach(), expected)
    dx = torch.autograd.grad(y, tensor, torch.tensor(dy))[0] if y.numel() else torch.zeros(4, 4)
    np.testing.assert_array_equal(dx, ac.vjp(ac.pad, x, widths, **given)[1](dy)[0])


def test_what_a_buffer_is_left_to() -> None:
    """Nothing to add, a piece that repeats what was cropped, too many runs: these are joined."""
    assert make_frame((4,), (runs("reflect", 4, -1, 0),)) is None
    assert make_frame((4,), (runs("wrap", 4, 2, -3),)) is None
    assert make_frame((4,), (runs("wrap", 4, 2, -2),)) is None
    assert make_frame((4,), (runs("wrap", 4, 2, 0),)) is not None
    many = runs("wrap", 4, 40, 0)
    assert len(many) > MOST_RUNS and pad_into(np.empty, flip, np.arange(4), (many,), 0) is None
    np.testing.assert_array_equal(ac.pad(np.arange(4), [(40, 0)], boundary="wrap"), np.arange(44) % 4)


@pytest.mark.parametrize("boundary", MODES)
@pytest.mark.parametrize("shape", [(9,), (3, 9), (4, 3, 9), (2, 3, 8, 9), (2, 2, 5, 5, 6)])
def test_torch_s_own_call_serves_images(boundary: str, shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one axis to three after any others; it alone runs."""
    widths = [(0, 0)] * max(0, len(shape) - 3) + [(2, 1)] * min(3, len(shape))
    x = np.random.default_rng(1).standard_normal(shape)
    expected = ac.pad(x, widths, boundary=boundary)
    monkeypatch.setattr(torch_backend, "pad_into", None)
    monkeypatch.setattr(torch_backend.primitives, "pad_runs", None)
    np.testing.assert_array_equal(ac.pad(torch.tensor(x), widths, boundary=boundary), expected)


def test_torch_has_no_mode_for_the_rest() -> None:
    for boundary, pair in (("symmetric", (2, 1)), ("reflect", (4, 0)), ("wrap", (9, 0)), ("edge", (-1, 2))):
        assert find_mode((4,), (runs(boundary, 4, *pair),)) is None
    assert find_mode((4, 4), (runs("edge", 4, 2, 2), runs("reflect", 4, 2, 2))) is None
    assert find_mode((4,), (runs("reflect", 4, 3, 3),)) == ("reflect", [3, 3])


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.bfloat16, torch.complex64, torch.float64])
def test_torch_s_types(dtype: torch.dtype) -> None:
    x = torch.arange(12).reshape(3, 4).to(dtype)
    for boundary in BOUNDARIES:
        y = ac.pad(x, [(1, 2), (2, 1)], boundary=boundary)
        assert y.dtype == dtype
        wide = ac.pad(np.arange(12).reshape(3, 4), [(1, 2), (2, 1)], boundary=boundary)
        np.testing.assert_array_equal(y.to(torch.complex128).real, wide)
