"""torch's own maximum of windows: where it runs in our place, with the same choice among equals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import arrayconv as ac
from arrayconv.backends import torch_pool
from arrayconv.geometry import WindowDimension

RANDOM = np.random.default_rng(0)

#: Calls that torch's function takes, and some that it doesn't: too much padding, an uneven one, four axes.
TAKEN = [
    {"window": (2, 2)},
    {"window": (3, 2), "stride": (2, 1), "padding": (1, 1)},
    {"window": (3,), "stride": 3, "padding": ((1, 0),)},
    {"window": (3,), "stride": 2, "ceil": True},
    {"window": (2, 2), "dilation": (2, 3), "channels": "last"},
    {"window": (2, 2, 2), "stride": 1, "padding": 1},
]
REFUSED = [
    {"window": (3,), "padding": 2},
    {"window": (3,), "stride": 1, "padding": ((0, 1),)},
    {"window": (3,), "padding": "same", "dilation": 2, "stride": 1},
    {"window": (2, 2, 2), "channels": "last"},
]


def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of torch from now on: None where it can't serve."""
    found, asked = [], torch_pool.find_pool

    def find(axes: tuple[WindowDimension, ...]) -> Any:
        found.append(asked(axes))
        return found[-1]

    monkeypatch.setattr(torch_pool, "find_pool", find)
    return found


@pytest.mark.parametrize(("call", "is_taken"), [(call, call in TAKEN) for call in TAKEN + REFUSED], ids=str)
def test_recorded_calls_are_torch_s_own(call: Any, is_taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of ties are those of NumPy's slices; a detached tensor takes the slices too."""
    found = calls(monkeypatch)
    x = RANDOM.integers(-2, 3, (2, 40, *(9, 8, 7, 6)[: len(call["window"])])).astype("float32")
    expected, pullback = ac.vjp(ac.max_pool, x, **call)
    dy = RANDOM.integers(1, 9, expected.shape).astype("float32")
    tensor = torch.tensor(x, requires_grad=True)
    y = ac.max_pool(tensor, **call)
    assert [own is not None for own in found] == [is_taken]
    np.testing.assert_array_equal(y.detach(), expected)
    np.testing.assert_array_equal(torch.autograd.grad(y, tensor, torch.tensor(dy))[0], pullback(dy)[0])
    monkeypatch.setattr(torch_pool, "SMALL", 0)
    np.testing.assert_array_equal(ac.max_pool(tensor.detach(), **call), expected)
    assert len(found) == 1


def test_small_calls_are_torch_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = calls(monkeypatch)
    for size, count in ((8, 1), (512, 1), (9, 2)):
        x = torch.randn(1, size, size)
        np.testing.assert_array_equal(ac.max_pool(x, (2, 2)), ac.max_pool(x.numpy(), (2, 2)))
        assert len(found) == count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_recorded_types(dtype: torch.dtype) -> None:
    x = torch.tensor(RANDOM.integers(-9, 9, (2, 3, 8, 8))).to(dtype).requires_grad_()
    y = ac.max_pool(x, (3, 3), stride=2, padding=1)
    expected = ac.max_pool(x.detach().double().numpy(), (3, 3), stride=2, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.detach().double(), expected)


def test_a_nan_wins_wherever_it_stands() -> None:
    x = np.zeros((1, 1, 30, 30), "float32")
    x[0, 0, [3, 3, 20], [4, 5, 20]] = np.nan
    for tensor in (torch.tensor(x), torch.tensor(x, requires_grad=True)):
        for size in (30, 6):
            y = ac.max_pool(tensor[..., :size, :size], (3, 3), stride=1, padding=1)
            covered = ac.max_pool(np.isnan(x[..., :size, :size]).astype(int), (3, 3), stride=1, padding=1)
            np.testing.assert_array_equal(np.isnan(y.detach().numpy()), covered)


def test_an_empty_batch_and_no_gradient_wanted() -> None:
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    assert ac.max_pool(x, (2, 2)).shape == (0, 3, 4, 4)
    with torch.no_grad():
        assert not ac.max_pool(torch.ones(1, 8, 8, requires_grad=True), (2, 2)).requires_grad
