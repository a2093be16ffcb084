"""PyTorch: plain differentiable tensor operations, so that autograd, torch.func and torch.compile see through them."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import index
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from .. import primitives
from ..backend import Native, namespace, standard_backend
from ..frames import Runs, pad_into
from ..onednn import lanes
from .torch_col2im import col2im_execute, col2im_prepare, col2im_unsupported
from .torch_gradient import close
from .torch_native import native_execute, native_prepare, native_unsupported, pad
from .torch_pad import own_pad
from .torch_pages import make
from .torch_pool import max_windows
from .torch_recorded import laying, whole
from .torch_samples import sample
from .torch_values import has_values, is_plain, keep
from .torch_wgrad import wgrad_execute, wgrad_prepare, wgrad_unsupported

Tensor = torch.Tensor
Compute = Callable[[Tensor], Tensor]
XP = namespace("torch")

#: torch has no sums and products of these types; a wider signed type has the same low bits.
WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}


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
    return f"{kind} vmap" if is_mapped(array) else kind


def is_mapped(array: Tensor) -> bool:
    """Whether any transform around this call is vmap, which may map other arrays than this one."""
    if torch._C._functorch.is_batchedtensor(array):
        return True
    levels = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() == torch._C._functorch.TransformType.Vmap for level in levels)


def signature(array: Tensor) -> tuple[Any, ...]:
    """Inside a transform a tensor looks like one example of itself, which is planned otherwise."""
    own = (array.shape, array.dtype, array.device, array.layout)
    return (*own, is_mapped(array)) if torch._C._are_functorch_transforms_active() else own


def promote(a: Tensor, b: Tensor) -> torch.dtype:
    return a.dtype if a.dtype == b.dtype else torch.promote_types(a.dtype, b.dtype)


def admit(array: Tensor) -> Tensor:
    if array.layout != torch.strided:
        raise TypeError(f"is a sparse tensor ({array.layout}); arrayconv takes dense ones: call its to_dense() first")
    return array


def pad_runs(x: Tensor, runs: Runs, value: Any = 0) -> Tensor:
    """By torch's own call where it has one, or into a buffer where nothing follows x."""
    padded = None if torch.compiler.is_compiling() else own_pad(x, runs, value)
    if padded is None and is_plain(x):
        padded = pad_into(torch.empty, torch.Tensor.flip, x, runs, value)
    joined: Tensor = primitives.pad_runs(XP, x, runs, value) if padded is None else padded
    return joined


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


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Of views that overlap torch would multiply one matrix of a stack after the other, each from a copy: a stack of 32
    took 290 us, and from one copy of all of it 30.
    """
    product: Tensor = torch.matmul(as_matrices(a), as_matrices(b))
    return product


def sum_products(pairs: Iterable[tuple[Tensor, Tensor]], out: Tensor | None = None) -> Tensor:
    """In one pass a product, over one buffer where nothing follows it (9 taps on a megapixel: 0.97 ms by two passes and
    new buffers, 0.42 so; in float64 25 and 0.9).
    """
    (a, b), *others = pairs
    total = torch.mul(a, b, out=out)
    add = torch.addcmul if torch.compiler.is_compiling() or not is_plain(total) else Tensor.addcmul_
    for a, b in others:
        total = add(total, a, b)
    return total


def as_matrices(array: Tensor) -> Tensor:
    """The array, or a copy where BLAS can't read its last two axes: one must be dense, and the other step over it."""
    (rows, columns), (row, column) = array.shape[-2:], array.stride()[-2:]
    if (column == 1 and row >= columns) or (row == 1 and column >= rows):
        return array
    return array.contiguous()


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


def peek(array: Tensor) -> np.ndarray[Any, Any] | None:
    """Not where something follows the array: its values would be constants there."""
    return to_numpy(array) if is_plain(array) else None


def take_rows(table: Tensor, index: Tensor) -> Tensor:
    """array-api-compat would look for negative indices. Adding up the gradient is 5 times slower by 32-bit ones."""
    return torch.index_select(table, 0, index.to(torch.int64))


def wait(array: Tensor) -> None:
    """Kernels of an accelerator run behind the call's back."""
    if torch._C._functorch.is_functorch_wrapped_tensor(array):
        raise TypeError("a tensor inside a torch.func transform stands for others and has no time of its own")
    if array.device.type != "cpu":
        torch.accelerator.synchronize(array.device)


def is_finite(array: Tensor) -> bool:
    """A sum is finite only where every term is."""
    return cmath.isfinite(array.detach().sum().item())


def unless_finite(compute: Compute, otherwise: Compute, x: Tensor) -> Tensor:
    y: Tensor = if_finite(compute, otherwise, x, shown=lambda y: y)
    return y


def if_finite(
    compute: Callable[..., Any], otherwise: Callable[..., Any], *arrays: Tensor, shown: Compute | None = None
) -> Any:
    if not all(map(has_values, arrays)):
        return otherwise(*arrays)
    if shown is None:
        return (compute if all(map(is_finite, arrays)) else otherwise)(*arrays)
    y = compute(*arrays)
    return y if is_finite(shown(y)) else otherwise(*arrays)


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
    signature=signature,
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
    pad_runs=pad_runs,
    windows=windows,
    matmul=matmul,
    native=Native(native_unsupported, native_prepare, native_execute, vector=lanes),
    wgrad=Native(wgrad_unsupported, wgrad_prepare, wgrad_execute),
    col2im=Native(col2im_unsupported, col2im_prepare, col2im_execute),
    close=close,
    accumulators=WIDER,
    unless_finite=unless_finite,
    if_finite=if_finite,
    keep=keep,
    short_lines=True,
    copies_blocks=True,
    cache=CACHE,
    fold=fold,
    recompute=recompute,
    detach=lambda array: array.detach(),
    constant=lambda array: array.detach(),
    scatter_add=lambda total, index, values: total.index_add(0, index.to(torch.int64), values),
    scalar_on=lambda kind: torch.zeros((), device=kind),
    peek=peek,
    view=peek,
    take_rows=take_rows,
    sample=sample,
    is_writable=is_plain,
    make=make,
    max_windows=max_windows,
    add_to=add_to,
    whole=whole,
    laying=laying,
    sum_products=sum_products,
    sum_each=partial(primitives.sum_each, XP),
    wait=wait,
)
