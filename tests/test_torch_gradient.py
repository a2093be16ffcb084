"""What PyTorch's autograd records of a planned call; `test_transforms.py` checks the values by every algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS
from arrayconv.backend import library_backend
from arrayconv.planner import derive, execute

Tensor = torch.Tensor

#: Of x ``(2, 8, 9, 10)`` and a kernel ``(4, 8, 3, 3)``; base dilated for those that take nothing else.
SHAPES = ((2, 8, 9, 10), (4, 8, 3, 3))


def draw(*shape: int, recorded: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, requires_grad=recorded)


def recorded_by(y: Tensor) -> str:
    assert y.grad_fn is not None
    return type(y.grad_fn).__name__


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_the_derivative_of_a_planned_call_is_one_node(name: str) -> None:
    """But for torch's own convolution, whose derivatives are torch's."""
    backend = library_backend("torch")
    plan = ac.plan(ac.conv, *SHAPES, library="torch")
    if ALGORITHMS[name].unsupported(plan.program.problem, backend) is None:
        program = replace(plan.program, algorithm=name, requested=name, parts=())
        y = execute(program, backend, draw(*SHAPES[0]), draw(*SHAPES[1]))
        assert (recorded_by(y) == "PlannedBackward") == (name != "native")


def test_each_derivative_has_its_own_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's gradient of an image filter is no filter of an image."""
    seen: list[str] = []
    for name, own in list(ALGORITHMS.items()):

        def watched(program: Any, *arrays: Any, own: Any = own) -> Any:
            seen.append(own.name)
            return own.execute(program, *arrays)

        monkeypatch.setitem(ALGORITHMS, name, own._replace(execute=watched))
    backend, x, kernel = library_backend("torch"), draw(1, 1, 256, 256, recorded=False), draw(1, 1, 5, 5)
    program = ac.plan(ac.conv, x, kernel, algorithm="toeplitz").program
    y = execute(replace(program, requested="auto"), backend, x, kernel)
    assert seen.pop(0) == "toeplitz"
    seen.clear()
    expected = derive(replace(program, requested="auto"), program.geometry.kernel_transpose()).algorithm
    torch.autograd.grad(y, kernel, torch.ones_like(y))
    assert seen[0] == expected != "toeplitz"


def test_a_product_of_many_channels_is_left_to_torch() -> None:
    """`gemm` would be the choice; its kernel gradient is one of torch's best."""
    backend = library_backend("torch")
    program = ac.plan(ac.conv, *SHAPES, library="torch", algorithm="gemm").program
    arrays = draw(*SHAPES[0]), draw(*SHAPES[1])
    assert recorded_by(execute(program, backend, *arrays)) == "PlannedBackward"
    chosen = replace(program, requested="auto")
    assert recorded_by(execute(chosen, backend, *arrays)) == "ConvolutionBackward0"
    thin = ac.plan(ac.conv, (1, 1, 9, 9), (4, 1, 3, 3), library="torch", algorithm="gemm").program
    y = execute(replace(thin, requested="auto"), backend, draw(1, 1, 9, 9), draw(4, 1, 3, 3))
    assert recorded_by(y) == "PlannedBackward"


def test_a_kernel_gradient_takes_no_copy_for_each_image() -> None:
    """Autograd's own derivative of `gemm` is a kernel gradient an image, then their sum: 64 x 0.4 MiB here."""
    x, kernel = draw(64, 96, 6, 6, recorded=False), draw(64, 96, 4, 4)
    y = ac.conv(x, kernel, algorithm="gemm")
    with torch.profiler.profile(profile_memory=True) as profile:
        torch.autograd.grad(y, kernel, torch.ones_like(y))
    largest = max(event.self_cpu_memory_usage for event in profile.key_averages())
    assert largest <= 16 * kernel.nbytes, f"{largest / 2**20:.1f} MiB"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, at its first forward derivative
def test_what_a_function_hides_stays_steps() -> None:
    x, kernel = draw(40, 40), draw(5, 5)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        y = ac.correlate(dual, kernel, algorithm="direct")
        assert recorded_by(y) != "PlannedBackward"
        assert forward_ad.unpack_dual(y).tangent is not None
    assert ac.correlate(x.detach(), kernel.detach()).grad_fn is None
    with torch.no_grad():
        assert ac.correlate(x, kernel).grad_fn is None


@pytest.mark.parametrize("name", ["auto", *ac.algorithms()])
def test_autocast_leaves_types_alone(name: str) -> None:
    """torch's own convolution would be one of bfloat16 there."""
    x, kernel = draw(*SHAPES[0]), draw(*SHAPES[1])
    plan = ac.plan(ac.conv, *SHAPES, library="torch")
    if name == "auto" or ALGORITHMS[name].unsupported(plan.program.problem, library_backend("torch")) is None:
        outside = ac.conv(x, kernel, algorithm=name)
        with torch.autocast("cpu"):
            inside = ac.conv(x, kernel, algorithm=name)
            torch.testing.assert_close(inside, outside, rtol=1e-5, atol=1e-5)
            pairs = [torch.autograd.grad(y.sum(), (x, kernel)) for y in (inside, outside)]
        torch.testing.assert_close(*pairs, rtol=1e-5, atol=1e-4)


def names_behind(y: Tensor) -> list[str]:
    """The node that made y, and those that it hands gradients to."""
    assert y.grad_fn is not None
    return [recorded_by(y), *(type(node).__name__ for node, _ in y.grad_fn.next_functions if node is not None)]


@pytest.mark.parametrize("op", [ac.conv, ac.conv_transpose])
def test_torch_s_own_convolution_takes_kernel_and_bias_as_they_are(op: Any) -> None:
    """No node turns the kernel or adds the bias; `conv_transpose` flips it for every other algorithm."""
    x, kernel, bias = draw(2, 8, 9, 10), draw(8, 8, 3, 3), draw(8)
    own = functional.conv2d if op is ac.conv else functional.conv_transpose2d
    for arrays in ((x, kernel, bias), (x, kernel)):
        y = op(*arrays, padding=1, stride=2, algorithm="native")
        assert names_behind(y) == ["ConvolutionBackward0", *["AccumulateGrad"] * len(arrays)]
        torch.testing.assert_close(y, own(*arrays, padding=1, stride=2), rtol=0, atol=0)


def test_what_torch_s_own_convolution_can_t_take_is_turned_first() -> None:
    """Kernels with the channels last, results that are cropped or padded: compared with torch on arrays turned here."""
    x, kernel, bias = draw(2, 8, 9, 10), draw(8, 6, 3, 4), draw(6)
    expected = functional.conv_transpose2d(x, kernel, bias, stride=2)
    last = x.permute(0, 2, 3, 1), kernel.permute(2, 3, 1, 0), bias
    y = ac.conv_transpose(*last, stride=2, channels="last", algorithm="native").permute(0, 3, 1, 2)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    y = ac.conv_transpose(x, kernel, bias, stride=2, padding=((1, -2), (0, 3)), algorithm="native")
    wide = functional.pad(functional.conv_transpose2d(x, kernel, stride=2), (0, -3, -1, 2)) + bias[:, None, None]
    torch.testing.assert_close(y, wide, rtol=1e-5, atol=1e-5)


def test_a_large_depthwise_layer_with_a_bias_has_planned_derivatives() -> None:
    x, kernel, bias = draw(2, 8, 12, 12), draw(8, 1, 7, 7), draw(8)
    expected = functional.conv2d(x, kernel, bias, padding=3, groups=8)
    y = ac.depthwise_conv(x, kernel, bias, padding="same")
    assert names_behind(y) == ["AddBackward0", "PlannedBackward", "UnsqueezeBackward0"]
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    pairs = [torch.autograd.grad(own.square().sum(), (x, kernel, bias)) for own in (y, expected)]
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=1e-4)


def test_autocast_leaves_a_bias_alone() -> None:
    x, kernel, bias = draw(2, 8, 9, 10), draw(4, 8, 3, 3), draw(4)
    outside = ac.conv(x, kernel, bias, algorithm="native")
    with torch.autocast("cpu"):
        inside = ac.conv(x, kernel, bias, algorithm="native")
    torch.testing.assert_close(inside, outside, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 9, 8, 7), (2, 2, 9, 8, 7)])
def test_the_derivatives_of_one_small_volume_are_planned(shape: tuple[int, ...]) -> None:
    """torch's own copy every window of it; of a batch they don't."""
    x, kernel, bias = draw(*shape), draw(4, 2, 3, 3, 3), draw(4)
    program = ac.plan(ac.conv, x, kernel).program
    y = execute(replace(program, algorithm="native"), library_backend("torch"), x, kernel)
    assert recorded_by(y) == ("PlannedBackward" if shape[0] == 1 else "ConvolutionBackward0")
    expected = functional.conv3d(x, kernel, bias)
    pairs = [torch.autograd.grad(own.square().sum(), (x, kernel, bias)) for own in (ac.conv(x, kernel, bias), expected)]
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=1e-3)
