"""PyTorch: the derivatives of a planned call are planned calls, where autograd records it.

Autograd would otherwise run each step of an algorithm backwards: a product whose kernel serves all images gives one
kernel gradient an image, and a folded convolution becomes a slow one of torch's own. Transforms and compilers don't see
through a `torch.autograd.Function` (and forward derivatives pass it by), so for them a call stays what its algorithm
does; and so does torch's own convolution, which brings derivatives of its own. Where these are the best, `gemm` gives
way to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

from ..backend import Backend, Planning, Run
from ..geometry import Geometry
from ..onednn import is_onednn
from ..program import Program
from ..transposes import correlate_input, correlate_taps

#: Channels from which torch's own gradients were the faster ones, 2 to 25 times.
DENSE = 4

Tensor = torch.Tensor
Cotangents = tuple[None, Tensor | None, Tensor | None]


def close(backend: Backend, planning: Planning) -> Run:
    """A run of a program with planned derivatives, to any order."""

    class Planned(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, program: Program, x: Tensor, kernel: Tensor) -> Tensor:
            context.program = program
            context.save_for_backward(x, kernel)
            y: Tensor = planning.execute(program, backend, x, kernel)
            return y

        @staticmethod
        def backward(context: Any, dy: Tensor) -> Cotangents:
            """Autograd's convention is the conjugate of the derivative."""
            (x, kernel), program = context.saved_tensors, context.program
            geometry, (_, to_x, to_kernel) = program.geometry, context.needs_input_grad
            if torch._C._functorch.is_legacy_batchedtensor(dy):
                return by_steps(program, x, kernel, dy)
            dx = dk = None
            if to_x:
                back = planning.replan(program, geometry.input_transpose())
                dx = correlate_input(backend.xp, run, back, dy, kernel.conj())
            if to_kernel:
                back = planning.replan(program, geometry.kernel_transpose())
                dk = correlate_taps(backend.xp, run, back, x.conj(), dy)
            return None, dx, dk

    def by_steps(program: Program, x: Tensor, kernel: Tensor, dy: Tensor) -> Cotangents:
        """For ``is_grads_batched``, whose vmap knows the derivatives of torch's operations, but not all of these."""
        with torch.enable_grad():
            y = planning.execute(program, backend, x, kernel)
        wanted = [array for array in (x, kernel) if array.requires_grad]
        found = iter(torch.autograd.grad(y, wanted, dy, create_graph=torch.is_grad_enabled()))
        dx, dk = (next(found) if array.requires_grad else None for array in (x, kernel))
        return None, dx, dk

    def run(program: Program, x: Tensor, kernel: Tensor) -> Tensor:
        # A plan is for the types of its arrays: autocast would change those of some steps, and so of some results.
        if torch._C._is_any_autocast_enabled() and not x.is_meta and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return run(program, x, kernel)
        recording = is_recorded(x, kernel)
        if recording and program.algorithm == "gemm" and program.requested == "auto" and is_dense(program.geometry):
            program = planning.replan(replace(program, requested="native"), program.geometry)
        if recording and (program.algorithm != "native" or has_slow_derivatives(program)):
            recorded: Tensor = Planned.apply(program, x, kernel)  # type: ignore[no-untyped-call]
            return recorded
        y: Tensor = planning.execute(program, backend, x, kernel)
        return y

    return run


def is_dense(geometry: Geometry) -> bool:
    """Several channels in and out: for such gradients torch has kernels that no rewrite of them equals."""
    return min(geometry.inputs, geometry.outputs) >= DENSE


def has_slow_derivatives(program: Program) -> bool:
    """torch's own kernel gradient of a depthwise layer is fast up to 3 taps an axis; 7 x 7 took 40 to 70 ms where the
    forward took 1.5. Of one small volume it copies every window, as its forward does (`torch_native.volume`).
    """
    geometry = program.geometry
    if program.requested != "auto":
        return False
    is_depthwise = geometry.groups > 1 and geometry.inputs == geometry.outputs == 1
    is_small_volume = geometry.ndim == 3 and program.problem.is_on_cpu and not is_onednn(geometry)
    return is_small_volume or (is_depthwise and max(geometry.window) > 3)


def is_recorded(x: Tensor, kernel: Tensor) -> bool:
    """By autograd alone."""
    if not torch.is_grad_enabled() or not (x.requires_grad or kernel.requires_grad):
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    arrays = (x, kernel)
    return all(type(array) in (Tensor, torch.nn.Parameter) and unpack_dual(array).tangent is None for array in arrays)
