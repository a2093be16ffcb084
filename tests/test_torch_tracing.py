"""PyTorch's tracers and fake tensors, which have no values to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import arrayconv as ac

Array = Any


@pytest.mark.parametrize("algorithm", ["fft", "toeplitz", "separable"])
def test_traces_and_fakes_ask_for_no_values(algorithm: str) -> None:
    x, kernel = torch.arange(60.0).reshape(6, 10), torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0]])

    def filtered(x: Array, kernel: Array) -> Array:
        return ac.correlate(x, kernel, algorithm=algorithm)

    for mode in ("real", "fake"):
        graph = make_fx(filtered, tracing_mode=mode)(x, kernel)
        for other in (x + 1, x.where(x != 7, torch.inf)):
            np.testing.assert_allclose(graph(other, kernel + 1), filtered(other, kernel + 1), rtol=1e-6)
    with FakeTensorMode() as fakes:
        assert filtered(*map(fakes.from_tensor, (x, kernel))).shape == (5, 8)


def test_a_call_inside_vmap_has_a_plan_of_its_own() -> None:
    """Though each example has the shape of a call that is known."""
    x, kernel = torch.ones(1, 9, 9), torch.ones(1, 1, 3, 3)
    seen: list[str] = []

    def call(x: torch.Tensor) -> torch.Tensor:
        seen.append(ac.plan(ac.conv, x, kernel).program.problem.device)
        y: torch.Tensor = ac.conv(x, kernel)
        return y

    call(x)
    torch.func.vmap(call)(torch.stack([x, x]))
    call(x)
    assert seen == ["cpu", "cpu vmap", "cpu"]
