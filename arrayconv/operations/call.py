"""A planned call of a linear operation: from the caller's arrays to the program's, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..backend import Backend, Steps, dtype_name
from ..boundary import Run
from ..layout import Layout
from ..planner import bind, bind_whole, execute, execute_input, execute_taps
from ..program import Program

Array = Any
Pullback = Callable[[Array], tuple[Array, ...]]


@dataclass(frozen=True, slots=True)
class LinearCall:
    """A planned call of any linear operation: static, hashable, and the same for equal shapes, dtypes and options.

    ``compute`` is the dtype of the program's arrays; it differs from ``dtype`` for torch's unsigned types, which the
    library can't add, and for half types with a bias. ``pieces`` is a boundary's padding, None for zeros, which the
    program itself pads. ``laid``: the seconds that the kernel's layout was planned with.
    """

    op: str
    x_layout: Layout
    kernel_layout: Layout
    y_layout: Layout
    pieces: tuple[tuple[Run, ...], ...] | None
    dtype: Any
    compute: Any
    program: Program
    transposed: tuple[Program, Program] | None = None
    laid: float = 0.0

    def bind(self, backend: Backend, x: Array, kernel: Array, bias: Array | None) -> Steps:
        """`run` for arrays like these outside a compiler that traces Python, without the steps that change nothing.

        After a call on megabytes no cache holds the interpreter's code and data any more, and each function on the way
        to the library then costs 5 to 10 microseconds.
        """
        compute = bind(self.program, backend)
        inner: Steps = partial(self._inner, compute, backend)
        if bias is None and not self.kernel_layout.moves:
            inner = compute
        inner = bind_whole(self.program, backend, self.kernel_layout, inner)
        is_cast = any(array.dtype != self.compute for array in (x, kernel, bias) if array is not None)
        is_plain = not (is_cast or self.dtype != self.compute or self.pieces)
        if is_plain and not (self.x_layout.moves or self.y_layout.moves):
            return inner
        if is_plain and self.x_layout.is_reshape and self.y_layout.is_reshape:
            return partial(reshaped, backend.xp.reshape, inner, self.x_layout.result, self.y_layout.shape)
        return partial(self._outer, inner, backend)

    def run(self, backend: Backend, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        """The result in the caller's layout."""
        inner = partial(self._inner, partial(execute, self.program, backend), backend)
        return self._outer(inner, backend, x, kernel, bias)

    def _outer(self, inner: Steps, backend: Backend, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        """Types, boundary and the layouts of x and y, around what is left."""
        x, kernel = self._cast(backend, x, kernel)
        arrays = (x, kernel) if bias is None else (x, kernel, backend.cast(bias, self.compute))
        y = self.y_layout.undo(backend.xp, inner(self._canonical_x(backend, x), *arrays[1:]))
        return y if self.dtype == self.compute else backend.cast(y, self.dtype)

    def _inner(
        self,
        compute: Callable[[Array, Array], Array],
        backend: Backend,
        x: Array,
        kernel: Array,
        bias: Array | None = None,
    ) -> Array:
        """Of x as the program takes it: the kernel's layout, the program, the bias."""
        y = compute(x, self.kernel_layout.apply(backend.xp, kernel))
        return y if bias is None else backend.add_to(y, bias[(slice(None), *(None,) * self.program.geometry.ndim)])

    def _cast(self, backend: Backend, x: Array, kernel: Array) -> tuple[Array, Array]:
        """A cast costs time where it changes nothing."""
        if x.dtype != self.compute:
            x = backend.cast(x, self.compute)
        return x, kernel if kernel.dtype == self.compute else backend.cast(kernel, self.compute)

    def _canonical_x(self, backend: Backend, x: Array) -> Array:
        x = self.x_layout.apply(backend.xp, x)
        return x if self.pieces is None else backend.pad_runs(x, self.pieces)

    def canonical(self, backend: Backend, x: Array, kernel: Array) -> tuple[Array, Array]:
        """What the program takes: layout, boundary and dtype applied."""
        x, kernel = self._cast(backend, x, kernel)
        return self._canonical_x(backend, x), self.kernel_layout.apply(backend.xp, kernel)

    def pull(
        self, backend: Backend, x: Array, kernel: Array, bias: Array | None, *, data: bool = True
    ) -> tuple[Array, Pullback]:
        """The result, and the function from its cotangent to those of x, kernel and bias; without ``data`` not x's."""
        y = self.run(backend, x, kernel, bias)

        def pullback(dy: Array) -> tuple[Array, ...]:
            dy = self.y_layout.apply(backend.xp, backend.cast(dy, self.compute))
            wide, narrow = self.canonical(backend, x, kernel)
            dx = (as_dtype(backend, self._pull_x(backend, dy, narrow), x.dtype),) if data else ()
            dk = as_dtype(backend, self._pull_kernel(backend, dy, wide), kernel.dtype)
            if bias is None:
                return *dx, dk
            spatial = tuple(range(2, dy.ndim))
            db = backend.xp.sum(dy, axis=(0, *spatial), dtype=dy.dtype)
            return *dx, dk, as_dtype(backend, db, bias.dtype)

        return y, pullback

    def _pull_x(self, backend: Backend, dy: Array, kernel: Array) -> Array:
        assert self.transposed is not None
        dx = execute_input(self.transposed[0], backend, dy, kernel)
        if self.pieces is not None:
            dx = backend.pad_runs_transpose(dx, self.pieces, self.x_layout.result[2:])
        return self.x_layout.undo(backend.xp, dx)

    def _pull_kernel(self, backend: Backend, dy: Array, x: Array) -> Array:
        assert self.transposed is not None
        return self.kernel_layout.undo(backend.xp, execute_taps(self.transposed[1], backend, x, dy))


def reshaped(
    reshape: Callable[..., Array],
    inner: Steps,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    x: Array,
    *others: Array,
) -> Array:
    """`LinearCall._outer` where x and y only change their shapes: of filters, which have no channels."""
    return reshape(inner(reshape(x, x_shape), *others), y_shape)


def as_dtype(backend: Backend, array: Array, dtype: Any) -> Array:
    """A cotangent in its argument's type; of a real argument it is the real part (JAX's convention)."""
    if "complex" in dtype_name(array.dtype) and "complex" not in dtype_name(dtype):
        array = backend.xp.real(array)
    return backend.cast(array, dtype)
