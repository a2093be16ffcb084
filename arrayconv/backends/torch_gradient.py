"""PyTorch: the derivatives of a planned call are planned calls, where autograd records it.

Autograd would otherwise run each step of an algorithm backwards: a product whose kernel serves all images gives one
kernel gradient an image, and a folded convolution becomes a slow one of torch's own. Transforms and compilers don't see
through a `torch.autograd.Function` (and forward derivatives pass it by), so for them a call stays what its algorithm
does; and so does torch's own convolution where its own derivatives are the best (`torch_recorded.choose`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from ..backend import Backend, Planning, Run
from ..program import Program
from ..transposes import correlate_input, correlate_taps
from .torch_recorded import Way, choose, is_recorded, ways
from .torch_wgrad import make_wgrad

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
                dk = taps(back, x.conj(), dy)
            return None, dx, dk

    def by_steps(program: Program, x: Tensor, kernel: Tensor, dy: Tensor) -> Cotangents:
        """For ``is_grads_batched``, whose vmap knows the derivatives of torch's operations, but not all of these."""
        with torch.enable_grad():
            y = planning.execute(program, backend, x, kernel)
        wanted = [array for array in (x, kernel) if array.requires_grad]
        found = iter(torch.autograd.grad(y, wanted, dy, create_graph=torch.is_grad_enabled()))
        dx, dk = (next(found) if array.requires_grad else None for array in (x, kernel))
        return None, dx, dk

    def taps(program: Program, x: Tensor, dy: Tensor) -> Tensor:
        def permuted(x: Tensor) -> Tensor:
            dk: Tensor = correlate_taps(backend.xp, run, program, x, dy)
            return dk

        def direct(x: Tensor) -> Tensor:
            wide = backend.dtype(program.problem.accumulator)
            return make_wgrad(program.geometry)(x.to(wide), dy.to(wide)).to(x.dtype)

        if program.algorithm != "wgrad" or is_recorded(x, dy):
            return permuted(x)
        dk: Tensor = backend.unless_finite(direct, permuted, x)
        return dk

    def run(program: Program, x: Tensor, kernel: Tensor) -> Tensor:
        # A plan is for the types of its arrays: autocast would change those of some steps, and so of some results.
        if torch._C._is_any_autocast_enabled() and not x.is_meta and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return run(program, x, kernel)
        y: Tensor
        if not is_recorded(x, kernel) or program.requested == "native":
            y = planning.execute(program, backend, x, kernel)
        elif (own := way(program, x.requires_grad, kernel.requires_grad)) is not None:
            wide = backend.dtype(program.problem.accumulator)
            y = own.call(x.to(wide), kernel.to(wide)).to(x.dtype)
        else:
            y = Planned.apply(program, x, kernel)  # type: ignore[no-untyped-call]
        return y

    @lru_cache(maxsize=4096)
    def way(program: Program, to_x: bool, to_kernel: bool) -> Way | None:
        found = ways(program.problem) if program.requested == "auto" else ()
        return choose(planning, backend, program, found, to_x, to_kernel)

    return run
