"""PyTorch's own convolution and products: what they are given, and what the cost model knows of them."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import arrayconv as ac
from arrayconv import onednn
from arrayconv.algorithms import torch_counts
from arrayconv.backend import library_backend
from arrayconv.backends import torch as torch_backend
from arrayconv.backends import torch_native, torch_recorded
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import options

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype("float32")


@pytest.mark.parametrize(
    ("kind", "channels", "size", "taps", "low", "stride", "added"),
    [
        ("avx512", 16, 40, 15, 6, 1, (False, False)),
        ("avx512", 16, 40, 15, 7, 1, (False, True)),
        ("avx512", 15, 40, 15, 7, 1, (False, False)),
        ("avx512", 16, 40, 14, 7, 1, (False, False)),
        ("avx512", 1, 80, 57, 28, 1, (False, False)),
        ("avx512", 1, 80, 57, 29, 1, (False, True)),
        ("avx512", 16, 4, 9, 4, 1, (False, False)),
        ("avx512", 16, 20, 15, 7, 1, (False, False)),
        ("avx512", 1, 1, 15, 13, 1, (False, False)),
        ("avx512", 1, 1, 15, 12, 1, (False, True)),
        ("avx512", 1, 2, 25, 20, 1, (False, True)),
        ("avx512", 1, 40, 9, 4, 2, (False, False)),
        ("avx2", 1, 40, 15, 3, 1, (False, False)),
        ("avx2", 1, 40, 15, 4, 1, (False, True)),
        ("avx2", 1, 20, 15, 7, 1, (False, True)),
        ("avx2", 1, 40, 7, 3, 2, (False, False)),
        ("avx2", 1, 40, 9, 1, 2, (True, True)),
    ],
)
def test_torch_gets_zeros_that_its_fast_kernels_refuse(
    kind: str,
    channels: int,
    size: int,
    taps: int,
    low: int,
    stride: int,
    added: tuple[bool, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than are computed at once, or than there are outputs; with narrow vectors, zeros of wide strided windows."""
    monkeypatch.setattr(onednn, "vectors", lambda: kind)
    words: dict[str, Any] = {"padding": low, "stride": stride, "library": "torch", "algorithm": "native"}
    shapes = (1, channels, size, size), (1, channels, taps, taps)
    for device, expected in (("cpu", added), ("cuda", (False, False))):
        problem = ac.plan(ac.conv, *shapes, device=device, **words).program.problem
        own = torch_native.native_prepare(problem)
        assert isinstance(own, torch_native.Convolution)
        assert own.widths == (tuple((low, low) if own else (0, 0) for own in expected) if any(expected) else None)
        x, kernel = normal(*shapes[0]), normal(*shapes[1])
        y = own(torch.from_numpy(x), torch.from_numpy(kernel))
        np.testing.assert_allclose(y, ac.conv(x, kernel, padding=low, stride=stride), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "low", "high", "stride", "is_even"),
    [(30, 1, 1, 1, True), (30, 1, 0, 2, True), (30, 1, 0, 1, False), (31, 0, 1, 2, True), (31, 1, 3, 2, False)],
)
def test_zeros_that_no_window_reads_are_torch_s_affair(
    size: int, low: int, high: int, stride: int, is_even: bool
) -> None:
    """torch pads evenly; a stride may pass over what it adds."""
    words: dict[str, Any] = {"padding": ((low, high),), "stride": stride, "algorithm": "native"}
    x, kernel = normal(2, 3, size), normal(4, 3, 3)
    problem = ac.plan(ac.conv, x.shape, kernel.shape, library="torch", **words).program.problem
    assert (torch_native.native_prepare(problem).widths is None) == is_even
    y = ac.conv(torch.from_numpy(x), torch.from_numpy(kernel), **words)
    np.testing.assert_allclose(y, ac.conv(x, kernel, padding=((low, high),), stride=stride), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_only_torch_s_own_call_takes_a_kernel_that_is_not_turned_over(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What turning it over takes is part of every other estimate, and so of the choice."""
    monkeypatch.setattr(torch_recorded, "LAYING", seconds)
    x, kernel = torch.from_numpy(normal(1, 3, 9, 10)), torch.from_numpy(normal(3, 2, 4, 4))
    plans = {
        name: ac.plan(ac.conv_transpose, x, kernel, stride=2, padding=1 + int(seconds), algorithm=name)
        for name in ("auto", "phases", "native")
    }
    laid = seconds * kernel.numel()
    assert plans["auto"].call.laid == plans["phases"].call.laid == laid
    assert [plans[name].algorithm for name in ("phases", "native")] == ["phases", "native"]
    problem, backend = plans["auto"].program.problem, library_backend("torch")
    bare, with_it = ({row.name: row.seconds for row in options(problem, backend, laid=laid)} for laid in (0.0, laid))
    assert with_it["native"] == bare["native"] and with_it["phases"] == bare["phases"] + laid
    assert plans["auto"].algorithm == min(with_it, key=lambda name: with_it[name])
    if seconds:
        assert plans["auto"].algorithm == "native" and re.search(r"phases +9[67](\.\d+)? s", str(plans["auto"]))
    other = ac.plan(ac.conv, x, torch.from_numpy(normal(2, 3, 4, 4)), padding=3)
    assert other.call.laid == 0.0


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("inputs", [15, 16])
def test_a_transposed_convolution_of_many_channels_is_torch_s_own(
    inputs: int, ndim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the kernel as it comes: a convolution would take a mirrored copy of it, which pays for few channels."""
    calls: list[torch.Tensor] = []
    function = torch_native.TRANSPOSED[ndim]

    def own(x: torch.Tensor, kernel: torch.Tensor, *rest: Any) -> torch.Tensor:
        calls.append(kernel)
        y: torch.Tensor = function(x, kernel, *rest)
        return y

    monkeypatch.setitem(torch_native.TRANSPOSED, ndim, own)
    window = (3, 2, 4)[:ndim]
    x, kernel = normal(3, inputs, *(9, 7, 8)[:ndim]), normal(inputs, 5, *window)
    arrays = [torch.from_numpy(array) for array in (x, kernel, normal(5))]
    options: dict[str, Any] = {"padding": 1, "dilation": 2, "algorithm": "native"}
    y = ac.conv_transpose(*arrays, **options)
    assert [kernel is arrays[1] for kernel in calls] == [True] * (inputs >= 16)
    expected = ac.conv_transpose(*(array.numpy() for array in arrays), **(options | {"algorithm": "direct"}))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_torch_multiplies_views_that_overlap_from_a_copy() -> None:
    """Of a stack of them it would copy one after the other; what BLAS can read is taken as it is."""
    x = torch.from_numpy(normal(32 * 300))
    columns = x.as_strided((32, 72, 9), (300, 4, 1))
    rows = torch.from_numpy(normal(26, 9)).mT
    own = torch_backend.as_matrices(columns)
    assert own.is_contiguous() and own.equal(columns)
    for stays in (x.reshape(32, 30, 10), x.reshape(32, 30, 10).mT, x.reshape(32, 30, 10)[:, ::2, 2:], rows):
        assert torch_backend.as_matrices(stays) is stays
    wide = x.reshape(32, 30, 10)[:, :, ::2]
    assert torch_backend.as_matrices(wide).is_contiguous() and torch_backend.as_matrices(x[None, :0]).shape == (1, 0)
    np.testing.assert_allclose(
        torch_backend.matmul(columns, rows), columns.numpy() @ rows.numpy(), rtol=1e-4, atol=1e-5
    )


def test_a_small_volume_s_arrays_may_be_views() -> None:
    """Strided, permuted, repeated, with the channels last: as float64 sees them."""
    x, kernel, bias = (torch.from_numpy(normal(*shape)) for shape in ((1, 6, 14, 14, 14), (8, 6, 6, 6, 6), (8,)))
    last = torch.channels_last_3d
    sources = [x[:, ::2, ::2, ::2, ::2], x[:, :3, 1:8, 2:9, :7].permute(0, 1, 4, 3, 2), x[:, :1, :7, :7, :7]]
    sources = [sources[0].contiguous(memory_format=last), *sources[:2], sources[2].expand(1, 3, 7, 7, 7)]
    kernels = [kernel[::2, ::2, ::2, ::2, ::2], kernel[:3, :4, :3, :3, :3].transpose(0, 1), kernel[:1, :3, :3, :3, :3]]
    kernels = [kernels[0].contiguous(memory_format=last), *kernels[:2], kernels[2].expand(4, 3, 3, 3, 3)]
    for x, kernel, own in product(sources, kernels, (None, bias[::2], bias[:1].expand(4))):
        y = ac.conv(x, kernel, own, padding=1, algorithm="native")
        wide = [None if array is None else array.double().contiguous() for array in (x, kernel, own)]
        expected = torch.nn.functional.conv3d(*wide, padding=1)
        torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # torch's own, when oneDNN's flags are set
@pytest.mark.parametrize(
    ("shape", "is_ours"),
    [
        ((1, 1, 26, 24, 26), True),
        ((1, 2, 20, 18, 19), True),
        ((2, 3, 12, 12, 12), False),  # torch hands a batch over by itself
        ((1, 1, 6, 8, 6), False),
    ],
)
def test_one_volume_runs_by_onednn(shape: tuple[int, ...], is_ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """But where that is not at hand, or switched off, for what it doesn't serve, and where all windows are few."""
    calls: list[tuple[int, ...]] = []
    own = torch.mkldnn_convolution

    def watched(x: torch.Tensor, *others: Any) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return own(x, *others)

    monkeypatch.setattr(torch, "mkldnn_convolution", watched)
    x, kernel, bias = normal(*shape), normal(4, shape[1], 3, 3, 2), normal(4)
    options: dict[str, Any] = {"padding": 1, "stride": (1, 2, 1), "dilation": (2, 1, 1)}
    expected = ac.conv(x, kernel, bias, **options)
    arrays = [torch.from_numpy(array) for array in (x, kernel, bias)]

    def check(*arrays: torch.Tensor, is_onednn: bool) -> None:
        calls.clear()
        y = ac.conv(*arrays, algorithm="native", **options)
        np.testing.assert_allclose(y.detach(), expected, rtol=1e-4, atol=1e-4)
        assert bool(calls) == is_onednn

    check(*arrays, is_onednn=is_ours)
    check(*(array.double() for array in arrays), is_onednn=False)
    with torch.backends.mkldnn.flags(enabled=False):
        check(*arrays, is_onednn=False)
    check(*(array.clone().requires_grad_() for array in arrays), is_onednn=False)


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "axis", "ndim", "kind"),
    [
        (1, 3, 64, (9, 3), 2, "thin"),
        (1, 64, 64, (9, 3), 2, "thick"),
        (1, 64, 64, (9, 3), 1, "thick"),
        (1, 64, 64, (9, 3), 3, "dense 3d"),
        (1, 8, 64, (9, 3), 2, "dense"),
        (1, 8, 64, (99, 41), 1, "wide"),
        (1, 8, 1, (2000, 1024), 1, "long"),
        (8, 1, 1, (9, 3), 2, "depthwise"),
        (8, 1, 1, (9, 2, 1, 0, 0, 2), 3, "grouped 3d"),
        (1, 2, 3, (9, 2, 1, 0, 0, 2), 3, "dilated 3d"),
        (8, 1, 2, (9, 3), 2, "grouped"),
        (8, 4, 8, (9, 3), 2, "blocked"),
        (8, 4, 8, (9, 1), 2, "pointwise grouped"),
        (1, 4, 8, (9, 1, 2), 2, "strided pointwise"),
        (1, 8, 64, (5, 9, 1, 8, 8), 2, "dense"),
        (1, 2, 64, (5, 9, 1, 8, 8), 2, "thin"),
        (1, 1, 1, (9, 3, 1, 0, 0, 1, 2), 3, "base dilated single"),
        (1, 2, 8, (9, 3, 1, 0, 0, 1, 2), 2, "base dilated thin"),
        (1, 4, 8, (9, 3, 1, 0, 0, 1, 2), 2, "base dilated dense"),
        (8, 1, 1, (9, 3, 1, 0, 0, 2, 2), 2, "base dilated sparse depthwise"),
        (1, 2, 8, (9, 3, 1, 0, 0, 2, 2), 2, "base dilated folded"),
        (2, 2, 8, (9, 3, 1, 0, 0, 2, 2), 2, "base dilated grouped"),
    ],
)
def test_the_way_that_torch_runs_it(
    groups: int, inputs: int, outputs: int, axis: tuple[int, ...], ndim: int, kind: str
) -> None:
    geometry = Geometry(2, groups, inputs, outputs, (WindowDimension(*axis),) * ndim)
    assert kind_of(geometry) == kind


def kind_of(geometry: Geometry) -> str:
    return torch_counts.onednn_kind(geometry, torch_counts.is_by_matrices(geometry))[0]


@pytest.mark.parametrize(("batch", "word"), [(1, "base dilated folded"), (2, "base dilated dense")])
def test_a_gradient_goes_the_way_of_its_convolution(batch: int, word: str) -> None:
    """A small image's is one of matrices, however large dy is; a transposed convolution of dy would be oneDNN's."""
    axis = WindowDimension(4000, 9, 4)
    problem = ac.plan(ac.conv, (1, 1, 9), (1, 1, 3), library="torch").program.problem
    forward = problem.with_geometry(Geometry(batch, 1, 1, 64, (axis,)))
    assert torch_counts.torch_back_counts(forward)[word] > 0
    assert kind_of(forward.geometry.input_transpose()) == "base dilated dense"


def test_a_transposed_convolution_writes_no_vectors() -> None:
    """A channel of it is a sixteenth of what another convolution computes; a lone volume's products are added up."""
    problem = ac.plan(ac.conv, (2, 2, 9), (4, 2, 3), library="torch").program.problem
    for base_dilation, each in ((1, 16), (2, 1)):
        axis = WindowDimension(9, 3, base_dilation=base_dilation)
        geometry = Geometry(4, 1, 8, 1, (axis, axis))
        counts = torch_counts.onednn_counts(problem.with_geometry(geometry))
        word = kind_of(geometry) if base_dilation == 1 else "base dilated"
        assert counts[f"{word} output"] == each * 4 * axis.output**2
    volume = Geometry(1, 1, 2, 8, (WindowDimension(20, 3, base_dilation=2),) * 3)
    assert onednn.is_lone_volume(volume)
    assert kind_of(volume) == "base dilated folded"


@pytest.mark.parametrize(("base_dilation", "word"), [(1, "unfolded"), (2, "base dilated")])
def test_columns_of_a_small_image_count(base_dilation: int, word: str) -> None:
    """Those of all taps and inputs, or of the outputs that are added up: torch copies them by itself."""
    axis = WindowDimension(9, 3, base_dilation=base_dilation)
    problem = ac.plan(ac.conv, (2, 2, 9), (4, 2, 3), library="torch").program.problem
    counts = torch_counts.onednn_counts(problem.with_geometry(Geometry(1, 1, 2, 8, (axis, axis))))
    assert counts[f"{word} column"] == (9 * 2 * 49 if base_dilation == 1 else 9 * 8 * 81)
    assert counts["primitive"] == 0
