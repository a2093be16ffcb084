"""PyTorch: plain differentiable tensor operations, so that autograd, torch.func and torch.compile see through them."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from operator import index
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .. import primitives
from ..backend import Native, namespace, standard_backend
from ..layout import Layout
from ..primitives import Widths, crop
from ..program import Problem, Program
from ..transposes import input_kernel_layout
from .torch_gradient import close, is_large_depthwise, is_recorded

Tensor = torch.Tensor
Compute = Callable[[Tensor], Tensor]
XP = namespace("torch")

#: torch has no sums and products of these types; a wider signed type has the same low bits.
WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}

TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def _call(function: Callable[..., Any], *key: Any) -> Any:
    return function(*key)


def from_numpy(array: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    """A copy: torch warns of read-only memory and refuses negative strides."""
    return torch.from_numpy(array.copy()).to(like.device)


def to_numpy(array: Tensor) -> np.ndarray[Any, Any]:
    array = array.detach().cpu().resolve_conj().resolve_neg()
    return (array.float() if array.dtype == torch.bfloat16 else array).numpy()


def device_kind(array: Tensor) -> str:
    """Under torch.func.vmap another kind: there every step of an algorithm is a step of a batching rule."""
    kind: str = array.device.type
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return kind
    levels = torch._C._functorch.get_interpreter_stack() or []
    is_mapped = any(level.key() == torch._C._functorch.TransformType.Vmap for level in levels)
    return f"{kind} vmap" if is_mapped else kind


def promote(a: Tensor, b: Tensor) -> torch.dtype:
    return a.dtype if a.dtype == b.dtype else torch.promote_types(a.dtype, b.dtype)


def admit(array: Tensor) -> Tensor:
    if array.layout != torch.strided:
        raise TypeError(f"is a sparse tensor ({array.layout}); arrayconv takes dense ones: call its to_dense() first")
    return array


def pad(x: Tensor, widths: Widths) -> Tensor:
    """torch's own constant padding, after the crops that it would refuse."""
    x, widths = crop(x, widths)
    if not any(low or high for low, high in widths):
        return x
    return functional.pad(x, [width for pair in reversed(widths) for width in pair])


def windows(x: Tensor, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """A view: torch's unfold an axis, of which every ``dilation``-th element is kept.

    Under a transform a stack of slices, since the backward of unfold has no batching rule.
    """
    if torch._C._are_functorch_transforms_active():
        stacked: Tensor = primitives.windows(XP, x, window, stride, dilation)
        return stacked
    first = x.ndim - len(window)
    for axis, (k, s, d) in enumerate(zip(window, stride, dilation, strict=True), first):
        x = x.unfold(axis, (k - 1) * d + 1, s)[..., ::d]
    return x


#: Plans that compiled graphs refer to by name. Dynamo reads attributes of modules as they are when it comes to them; it
#: would not see a list grow, and it can't carry a dataclass out of a constant function.
_FOLDED = ModuleType("folded")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _name(function: Any, *key: Any) -> str:
    name = f"plan{len(vars(_FOLDED))}"
    setattr(_FOLDED, name, function(*key))
    return name


def fold(function: Any, *key: Any) -> Any:
    """Dynamo can't follow caches, context variables or hashing: at its trace, the answer is a constant of the graph."""
    if not torch.compiler.is_compiling():
        return function(*key)
    return getattr(_FOLDED, _name(function, *[_plain(part) for part in key]))


def _plain(part: Any) -> Any:
    """`operator.index` turns a symbolic size into a number, which specialises the graph to it."""
    if isinstance(part, tuple):
        return tuple([_plain(entry) for entry in part])
    return index(part) if isinstance(part, int | torch.SymInt) and not isinstance(part, bool) else part


def recompute(function: Any, *arrays: Tensor) -> Tensor:
    """Checkpointing, where autograd records: tiles of im2col would otherwise pile up until the backward pass.

    torch.func's transforms and compilers don't take checkpoints; a compiler decides itself what to recompute.
    """
    recorded = torch.is_grad_enabled() and any(array.requires_grad for array in arrays)
    if not recorded or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        result: Tensor = function(*arrays)
        return result
    result = checkpoint(function, *arrays, use_reentrant=False, preserve_rng_state=False)
    return result


def has_values(array: Tensor) -> bool:
    """Whether the array's numbers may be looked at, at little cost: not in a compiler, nor on an accelerator.

    A subclass and a dispatch mode (FakeTensorMode, make_fx) may have none, or may record what is done with them.
    """
    if torch.compiler.is_compiling() or type(array) not in (Tensor, torch.nn.Parameter) or array.device.type != "cpu":
        return False
    return not (torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack())


def is_plain(array: Tensor) -> bool:
    """Whether nothing follows what becomes of the array. A forward derivative by `torch.autograd.forward_ad` is no
    transform: it travels on the tensor.
    """
    if not has_values(array) or (torch.is_grad_enabled() and array.requires_grad):
        return False
    return unpack_dual(array).tangent is None


def peek(array: Tensor) -> np.ndarray[Any, Any] | None:
    """Not where something follows the array: its values would be constants there."""
    return to_numpy(array) if is_plain(array) else None


def take_rows(table: Tensor, index: Tensor) -> Tensor:
    """array-api-compat would look for negative indices. Adding up the gradient is 5 times slower by 32-bit ones."""
    return torch.index_select(table, 0, index.to(torch.int64))


def sum_rows(table: Tensor, row: Tensor, shifts: Sequence[int], weights: list[Tensor]) -> Tensor:
    """One pass over all corners, which keeps no rows apart, in floating types of 32 and 64 bits.

    Its weights have no second derivative, so it is not for recorded ones.
    """
    total: Tensor
    if table.dtype not in (torch.float32, torch.float64) or not all(map(is_plain, (table, *weights))):
        total = primitives.sum_rows(take_rows, table, row, shifts, weights)
        return total
    factors = torch.stack(weights, dim=1)
    shift, starts = keep(_bags, tuple(shifts), *factors.shape, row.dtype, row.device)
    index = (row[:, None] + shift).reshape(-1)
    total = functional.embedding_bag(index, table, starts, mode="sum", per_sample_weights=factors.reshape(-1))
    return total


def _bags(shifts: tuple[int, ...], count: int, size: int, dtype: torch.dtype, device: torch.device) -> Any:
    """The shifts, and where each of ``count`` bags starts."""
    starts = torch.arange(0, count * size, size, dtype=dtype, device=device)
    return torch.tensor(shifts, dtype=dtype, device=device), starts


_kept = lru_cache(maxsize=16)(_call)


def keep(function: Callable[..., Any], *key: Any) -> Any:
    """Not what a compiler, a transform or a mode would make of it."""
    is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return (_call if is_traced or torch._C._len_torch_dispatch_stack() else _kept)(function, *key)


def wait(array: Tensor) -> None:
    """Kernels of an accelerator run behind the call's back."""
    if torch._C._functorch.is_functorch_wrapped_tensor(array):
        raise TypeError("a tensor inside a torch.func transform stands for others and has no time of its own")
    if array.device.type != "cpu":
        torch.accelerator.synchronize(array.device)


def unless_finite(compute: Compute, otherwise: Compute, x: Tensor) -> Tensor:
    """A sum is finite only where every term is."""
    if not has_values(x):
        return otherwise(x)
    y = compute(x)
    return y if bool(torch.isfinite(y.detach().sum())) else otherwise(x)


def if_finite(compute: Callable[..., Any], otherwise: Callable[..., Any], *arrays: Tensor) -> Any:
    """A sum is finite only where every term is."""
    is_finite = all(has_values(array) and cmath.isfinite(array.detach().sum().item()) for array in arrays)
    return (compute if is_finite else otherwise)(*arrays)


def native_unsupported(problem: Problem) -> str | None:
    geometry = problem.geometry
    if geometry.ndim not in CONVOLUTIONS:
        return f"torch convolves 1 to 3 spatial axes, not {geometry.ndim}"
    if problem.is_integer:
        return "torch's convolution of integers is not exact for every type"
    if is_dilated(problem) and any(axis.stride != 1 for axis in geometry.axes):
        return "torch's transposed convolution takes no stride of the window"
    return None


def is_dilated(problem: Problem) -> bool:
    return any(axis.base_dilation != 1 for axis in problem.geometry.axes)


class Convolution(NamedTuple):
    """torch's function, the padding that it doesn't take, and its arguments after the bias."""

    function: Any
    widths: Widths | None
    arguments: tuple[Any, ...]

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        if self.widths is not None:
            x = pad(x, self.widths)
        y: Tensor = self.function(x, kernel, None, *self.arguments)
        return y


class Transposed(NamedTuple):
    """A base dilation is the stride of a transposed convolution, which pads ``window - 1`` less its padding.

    ``layout`` makes the kernel that it takes; ``widths`` is what is left to crop or to add where it can't.
    """

    function: Any
    layout: Layout
    widths: Widths | None
    arguments: tuple[Any, ...]

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.layout.apply(XP, kernel), None, *self.arguments)
        return y if self.widths is None else pad(y, self.widths)


#: Zeros beside the last axis that all of oneDNN's fast kernels take: no more than the outputs that they compute at once
#: (``l_pad <= ur_w`` in its src/cpu/x64), which are 6 in depthwise layers and up to 29 in others. Beyond it a depthwise
#: layer of 15 x 15 taps (64 channels, 64 x 64) took 51 ms, and 0.8 ms where x brought its zeros.
MOST_PADDING = 6

#: Input channels of a group from which the slow kernels skip zeros: more zeros than elements are better left to them.
SKIPPING = 4


def adds_zeros(problem: Problem) -> bool:
    """Whether x gets the zeros beside its last axis before the call."""
    axis = problem.geometry.axes[-1]
    is_refused = problem.is_on_cpu and axis.low > min(MOST_PADDING, axis.output)
    return is_refused and (problem.geometry.inputs < SKIPPING or axis.low + axis.high <= axis.size)


def native_prepare(problem: Problem) -> Convolution | Transposed:
    geometry = problem.geometry
    axes, groups = geometry.axes, geometry.groups
    dilation = tuple(axis.window_dilation for axis in axes)
    if is_dilated(problem):
        layout = input_kernel_layout(geometry)
        stride = tuple(axis.base_dilation for axis in axes)
        padding = tuple(axis.window - 1 - axis.low for axis in axes)
        more = tuple(axis.high - axis.low for axis in axes)
        if all(0 <= n < axis.base_dilation and axis.low < axis.window for n, axis in zip(more, axes, strict=True)):
            return Transposed(TRANSPOSED[len(axes)], layout, None, (stride, padding, more, groups, dilation))
        widths = tuple((axis.low - axis.window + 1, axis.high - axis.window + 1) for axis in axes)
        nothing = (0,) * len(axes)
        return Transposed(TRANSPOSED[len(axes)], layout, widths, (stride, nothing, nothing, groups, dilation))
    # torch itself pads evenly, and by nothing less than 0.
    added = [axis.low != axis.high or axis.low < 0 for axis in axes]
    added[-1] |= adds_zeros(problem)
    widths = tuple((axis.low, axis.high) if own else (0, 0) for axis, own in zip(axes, added, strict=True))
    padding = tuple(0 if own else axis.low for axis, own in zip(axes, added, strict=True))
    edges = widths if any(added) else None
    stride = tuple(axis.stride for axis in axes)
    return Convolution(CONVOLUTIONS[len(axes)], edges, (stride, padding, dilation, groups))


def native_execute(own: Convolution | Transposed, x: Tensor, kernel: Tensor) -> Tensor:
    return own(x, kernel)


def whole(program: Program, layout: Layout, otherwise: Callable[..., Tensor]) -> Callable[..., Tensor] | None:
    """torch's own call, unless something follows it that needs the program's steps."""
    problem = program.problem
    if program.algorithm != "native" or problem.accumulator != problem.dtype:
        return None
    own = native_prepare(problem)
    if isinstance(own, Convolution):
        takes_all, widths = not layout.moves, own.widths
    else:
        takes_all, widths = layout == input_kernel_layout(problem.geometry.input_transpose()), None
        takes_all &= own.widths is None
    if not takes_all:
        return None
    function, arguments, is_deep = own.function, own.arguments, is_large_depthwise(program)

    def call(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        if torch._C._is_any_autocast_enabled() or (is_deep and is_recorded(x, kernel)):
            return otherwise(x, kernel) if bias is None else otherwise(x, kernel, bias)
        y: Tensor = function(x if widths is None else pad(x, widths), kernel, bias, *arguments)
        return y

    return call


def add_to(y: Tensor, bias: Tensor) -> Tensor:
    """Not in place where that would be recorded or transformed."""
    return y.add_(bias) if is_plain(y) and is_plain(bias) else y + bias


#: Bytes of a tile. Each step of one costs some 10 us; and the C library gives what is larger than 32 MiB back to the
#: system, which clears it again for the next tile at a nanosecond an element.
CACHE = 2**23

BACKEND = standard_backend(
    "torch",
    XP,
    owns=lambda array: isinstance(array, Tensor),
    types=(Tensor, torch.nn.Parameter),
    signature=lambda array: (array.shape, array.dtype, array.device, array.layout),
    is_compiling=torch.compiler.is_compiling,
    from_numpy=from_numpy,
    to_numpy=to_numpy,
    device=lambda array: array.device,
    device_kind=device_kind,
    dtype=lambda name: getattr(torch, name, None),
    promote=promote,
    cast=lambda array, dtype: array.to(dtype),
    admit=admit,
    copy=lambda array: array.clone(),
    pad=pad,
    windows=windows,
    matmul=torch.matmul,
    native=Native(native_unsupported, native_prepare, native_execute),
    close=close,
    accumulators=WIDER,
    unless_finite=unless_finite,
    if_finite=if_finite,
    keep=keep,
    shared_lines=True,
    cache=CACHE,
    fold=fold,
    recompute=recompute,
    detach=lambda array: array.detach(),
    constant=lambda array: array.detach(),
    scatter_add=lambda total, index, values: total.index_add(0, index.to(torch.int64), values),
    scalar_on=lambda kind: torch.zeros((), device=kind),
    peek=peek,
    take_rows=take_rows,
    sum_rows=sum_rows,
    add_to=add_to,
    whole=whole,
    sum_each=partial(primitives.sum_each, XP),
    wait=wait,
)
