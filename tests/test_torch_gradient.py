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
from arrayconv.backend import Backend, Planning, library_backend
from arrayconv.backends import torch_gradient, torch_recorded
from arrayconv.backends.torch_recorded import choose, ways
from arrayconv.geometry import Geometry
from arrayconv.planner import derive, execute
from arrayconv.program import Program

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
    monkeypatch.setattr(torch_gradient, "choose", lambda *arguments: None)
    backend, x, kernel = library_backend("torch"), draw(1, 1, 255, 256, recorded=False), draw(1, 1, 5, 5)
    program = ac.plan(ac.conv, x, kernel, algorithm="toeplitz").program
    y = execute(replace(program, requested="auto"), backend, x, kernel)
    assert seen.pop(0) == "toeplitz"
    seen.clear()
    expected = derive(replace(program, requested="auto"), program.geometry.kernel_transpose()).algorithm
    torch.autograd.grad(y, kernel, torch.ones_like(y))
    assert seen[0] == expected != "toeplitz"


FORWARD = ac.plan(ac.conv, (4, 8, 9, 10), (4, 8, 3, 3), library="torch", algorithm="gemm").program
GEOMETRY = FORWARD.geometry
BACK, TAPS = GEOMETRY.input_transpose(), GEOMETRY.kernel_transpose()


def a_millisecond(*_: Any) -> float:
    return 1e-3


@pytest.mark.parametrize(
    ("own", "planned", "wanted", "is_own"),
    [
        ({GEOMETRY: 4e-3, BACK: 1e-3}, {GEOMETRY: 1e-3, BACK: 1e-3, TAPS: 1e-3}, (True, True), False),
        ({GEOMETRY: 1e-3, BACK: 4e-3}, {GEOMETRY: 1e-3, BACK: 1e-3, TAPS: 1e-3}, (True, True), False),
        ({GEOMETRY: 1e-3, BACK: 4e-3}, {GEOMETRY: 1e-3, BACK: 1e-3, TAPS: 1e-3}, (False, True), True),
        ({GEOMETRY: 4e-3, BACK: 1e-3}, {GEOMETRY: 1e-3, BACK: 9e-3, TAPS: 1e-3}, (False, True), False),
        ({GEOMETRY: 2e-3, BACK: 1e-3}, {GEOMETRY: 1e-3, BACK: 1e-3, TAPS: 3e-3}, (True, True), True),
        ({GEOMETRY: 2e-3, BACK: 1e-3}, {GEOMETRY: 1e-3, BACK: 1e-4, TAPS: 3e-3}, (True, False), False),
        ({GEOMETRY: 1.3e-3, BACK: 1e-3}, {GEOMETRY: 1e-3, BACK: 1e-3, TAPS: 1e-3}, (True, True), True),  # a near tie
        ({GEOMETRY: 9e-5, BACK: 3e-5}, {GEOMETRY: 1e-6, BACK: 1e-6, TAPS: 1e-6}, (True, False), True),  # too small
    ],
)
def test_a_recorded_call_is_chosen_by_what_forward_and_derivatives_take(
    own: dict[Geometry, float], planned: dict[Geometry, float], wanted: tuple[bool, bool], is_own: bool
) -> None:
    """torch's own kernel gradient takes a millisecond here; its other calls are native ones."""

    def seconds(program: Program, backend: Backend, is_followed: bool) -> float:
        return (own if program.algorithm == "native" else planned)[program.geometry]

    def replan(program: Program, geometry: Geometry) -> Program:
        return Program(program.problem.with_geometry(geometry), "gemm")

    planning = Planning(execute, replan, seconds, lambda problem, backend: own[BACK], a_millisecond)
    found = ways(FORWARD.problem)
    assert len(found) == 2
    way = choose(planning, library_backend("torch"), FORWARD, found, *wanted)
    assert way == (found[0] if is_own else None)


@pytest.mark.parametrize(("groups", "kernel", "is_own"), [(1, 4e-3, True), (1, 6e-3, False), (8, 4e-3, False)])
def test_another_way_to_a_kernel_gradient_alone_has_to_be_far_faster(groups: int, kernel: float, is_own: bool) -> None:
    """Where planned steps are torch's own convolution, a millisecond each, and channels mix."""
    program = ac.plan(ac.conv, (4, 8, 9, 10), (8, 8 // groups, 3, 3), groups=groups, library="torch").program
    problem = program.problem
    planning = Planning(
        execute,
        lambda program, geometry: Program(problem.with_geometry(geometry), "native"),
        a_millisecond,
        a_millisecond,
        lambda problem, backend: kernel,
    )
    found = ways(problem)
    way = choose(planning, library_backend("torch"), program, found, True, True)
    assert way == (found[0] if is_own else None)


def test_of_two_ways_that_of_the_faster_kernel_gradient_is_taken() -> None:
    """A convolution without strides is a transposed one too, whose kernel's gradient has other channels in and out."""
    planning = Planning(
        execute, derive, a_millisecond, a_millisecond, lambda problem, backend: float(problem.geometry == GEOMETRY)
    )
    backend, found = library_backend("torch"), ways(FORWARD.problem)
    way = choose(planning, backend, FORWARD, found, True, True)
    assert way == found[1] and way.geometry == BACK
    x, kernel = (draw(*shape, recorded=False) for shape in (GEOMETRY.x_shape, GEOMETRY.kernel_shape))
    expected = functional.conv2d(x, kernel)
    for way in found:
        torch.testing.assert_close(way.call(x, kernel), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [((2, 8, 9, 10), (4, 8, 3, 3)), ((3, 2, 9), (2, 2, 2))])
def test_small_recorded_calls_are_torch_s_own(shapes: tuple[tuple[int, ...], ...]) -> None:
    """A `torch.autograd.Function` takes longer than all of it, whatever the call itself would run."""
    x, kernel = (draw(*shape) for shape in shapes)
    assert recorded_by(ac.conv(x, kernel)) == "ConvolutionBackward0"
    assert recorded_by(ac.conv(x, kernel, algorithm="gemm")) == "PlannedBackward"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_torch_s_own_derivatives_sum_in_the_accumulator(dtype: torch.dtype) -> None:
    x, kernel = (draw(*shape, recorded=False).to(dtype).requires_grad_() for shape in SHAPES)
    y = ac.conv(x, kernel)
    assert y.dtype == dtype
    wide = torch.promote_types(dtype, torch.float64)
    expected = functional.conv2d(x.to(wide), kernel.to(wide))
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    for found, exact in zip(
        (y, *torch.autograd.grad(y.abs().sum(), (x, kernel))),
        (expected, *torch.autograd.grad(expected.abs().sum(), (x, kernel))),
        strict=True,
    ):
        torch.testing.assert_close(found.to(wide), exact.to(wide), rtol=tolerance, atol=tolerance * 40)


def test_a_gradient_by_torch_s_own_call_is_planned_again_where_it_is_recorded() -> None:
    backend = library_backend("torch")
    program = replace(ac.plan(ac.conv, *SHAPES, library="torch").program, requested="wgrad")
    assert derive(program, program.geometry.kernel_transpose()).algorithm == "wgrad"
    x, kernel = (draw(*shape) for shape in SHAPES)
    y = execute(program, backend, x, kernel)
    (dk,) = torch.autograd.grad(y.square().sum(), kernel, create_graph=True)
    assert names_behind(dk) == ["PermuteBackward0", "PlannedBackward"]
    (once,) = torch.autograd.grad(y.square().sum(), kernel, retain_graph=True)
    torch.testing.assert_close(dk, once, rtol=1e-4, atol=1e-2)


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


def test_a_bias_is_added_to_a_call_with_planned_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (torch_gradient, torch_recorded):
        monkeypatch.setattr(module, "choose", lambda *arguments: None)
    x, kernel, bias = draw(2, 8, 12, 13), draw(8, 1, 7, 7), draw(8)
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


@pytest.mark.parametrize("shape", [(1, 2, 16, 18, 17), (2, 2, 9, 8, 7)])
def test_the_derivatives_of_a_lone_volume_are_planned(shape: tuple[int, ...]) -> None:
    """torch's own copy every window of it; of a batch they don't."""
    x, kernel, bias = draw(*shape), draw(4, 2, 3, 3, 3), draw(4)
    program = ac.plan(ac.conv, x, kernel).program
    y = execute(replace(program, algorithm="native"), library_backend("torch"), x, kernel)
    assert recorded_by(y) == ("PlannedBackward" if shape[0] == 1 else "ConvolutionBackward0")
    expected = functional.conv3d(x, kernel, bias)
    pairs = [torch.autograd.grad(own.square().sum(), (x, kernel, bias)) for own in (ac.conv(x, kernel, bias), expected)]
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=1e-2)
