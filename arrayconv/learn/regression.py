"""y as a linear function of a kernel: its gradients, and the curvature of its squared loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from ..arguments import read_int, read_ints
from ..backend import Backend, describe, dtype_name, get_backend, library_backend
from ..gather import gather_arrays
from ..kernels import as_like
from ..operations.table import OPERATIONS
from ..operations.vjp import vjp_parameters
from .losses import Loss, read_loss
from .optimizers import tree_map

Array = Any

#: The real type of a floating type's magnitude.
MAGNITUDES = {"complex64": "float32", "complex128": "float64"}

#: Half precision is learned in float32 and rounded at the end.
LEARNED_IN = {"float16": "float32", "bfloat16": "float32"}


class Params(NamedTuple):
    """What a fit learns: a kernel, and a bias or None."""

    kernel: Array
    bias: Array | None = None


#: Operations whose kernel can be learned, with the bias's shape for a kernel's shape, groups and channels' place.
#: `conv_transpose` takes the kernel of the `conv` that it transposes, so inputs and outputs change places.
BIAS_SHAPES: dict[str, Callable[[tuple[int, ...], int, str], tuple[int, ...]]] = {
    "correlate": lambda kernel, groups, channels: (),
    "convolve": lambda kernel, groups, channels: (),
    "conv": lambda kernel, groups, channels: (prod(kernel[:1] if channels == "first" else kernel[-1:]),),
    "conv_transpose": lambda kernel, groups, channels: (
        groups * prod(kernel[1:2] if channels == "first" else kernel[-2:-1]),
    ),
}


def check_op(caller: str, op: Any) -> None:
    """This package's own operations alone: NumPy's and SciPy's of those names conjugate, and know no pullback."""
    row = OPERATIONS.get(getattr(op, "__name__", ""))
    if row is None or row.function is not op or row.name not in BIAS_SHAPES:
        words = ", ".join(f"ac.{name}" for name in BIAS_SHAPES if name in OPERATIONS)
        raise TypeError(f"{caller}: op must be one of {words}, got {describe(op)}; pass the function itself")


def init_kernel(shape: tuple[int, ...], *, like: Array, seed: int = 0) -> Array:
    """A kernel to start from: uniform in ``+-1/sqrt(fan_in)``, PyTorch's rule for its layers; the same numbers on
    every library.

    Of ``like``'s library, device and dtype (beside integers the library's default float; complex numbers draw both
    parts so). ``fan_in``, the inputs that one output sums over, is ``prod(shape[1:])`` where there are three axes or
    more, as in a ``conv`` kernel ``(O, C, *k)``, and ``prod(shape)`` below that, as for `correlate` in 2-D.

    >>> import numpy as np
    >>> init_kernel((1, 2), like=np.ones(1)).round(4)
    array([[ 0.1937, -0.3256]])
    """
    shape = read_ints("init_kernel", "shape", shape, 1)
    rng = np.random.default_rng(read_int("init_kernel", "seed", seed, 0))
    bound = 1 / sqrt(prod(shape[1:] if len(shape) >= 3 else shape))
    values = rng.uniform(-bound, bound, shape)
    if like is not None and "complex" in dtype_name(getattr(like, "dtype", None)):
        values = values + 1j * rng.uniform(-bound, bound, shape)
    return as_like("init_kernel", values, like)


def _conj(backend: Backend, array: Array) -> Array:
    return backend.xp.conj(array) if "complex" in dtype_name(array.dtype) else array


class Regression(NamedTuple):
    """Everything about a fit but its parameters: ``y ~ op(x, kernel) + bias``, and the loss that says how well."""

    caller: str
    backend: Backend
    op: Callable[..., Array]
    options: dict[str, Any]
    x: Array
    y: Array
    loss: Loss

    def linearize(self, params: Params) -> tuple[Array, Callable[[Array], Params]]:
        """``y_hat``, and the map from the loss's gradient by y_hat to that by the parameters.

        `vjp` keeps JAX's convention, the transpose; the steepest ascent needs the adjoint, conj . transpose . conj.
        """
        backend, (kernel, bias) = self.backend, params
        channels = bias is not None and bias.ndim > 0
        arrays = (self.x, kernel, bias) if channels else (self.x, kernel)
        y_hat, pullback = vjp_parameters(self.op, *arrays, **self.options)
        if bias is not None and not channels:
            y_hat = y_hat + bias
        self.check_y(tuple(kernel.shape), tuple(y_hat.shape))

        def adjoint(dy: Array) -> Params:
            dy = _conj(backend, dy)
            grads = [_conj(backend, cotangent) for cotangent in pullback(dy)]
            if bias is not None and not channels:
                total = _conj(backend, backend.xp.sum(dy))
                grads.append(backend.cast(total if same_kind(total, bias) else backend.xp.real(total), bias.dtype))
            return Params(*(backend.xp.asarray(grad) for grad in grads))

        return y_hat, adjoint

    def check_y(self, kernel: tuple[int, ...], y_hat: tuple[int, ...]) -> None:
        """y would broadcast: none but the shape that op gives is meant."""
        if y_hat != tuple(self.y.shape):
            raise ValueError(
                f"{self.caller}: y has shape {tuple(self.y.shape)}, {self.op.__name__} of x {tuple(self.x.shape)} and "
                f"kernel {kernel} gives {y_hat}; pass y of that shape or other options"
            )

    def loss_and_grad(self, params: Params) -> tuple[Array, Params]:
        """The loss of ``params`` and the direction in which it grows fastest, in the shapes of ``params``."""
        y_hat, adjoint = self.linearize(params)
        value, gradient = self.loss(y_hat, self.y)
        if not same_kind(gradient, y_hat):
            gradient = self.backend.xp.real(gradient)
        return self.backend.xp.asarray(value), adjoint(self.backend.cast(gradient, y_hat.dtype))

    def predict(self, params: Params) -> Array:
        """``op(x, kernel) + bias``."""
        kernel, bias = params
        if bias is None or bias.ndim > 0:
            return self.op(self.x, kernel, *(() if bias is None else (bias,)), **self.options)
        return self.op(self.x, kernel, **self.options) + bias

    def value(self, params: Params) -> Array:
        """The loss of ``params``."""
        return self.backend.xp.asarray(self.loss(self.predict(params), self.y)[0])

    def split(self) -> None:
        """Convolutions and their transposes take longer to compile than to run some dozen times."""

    def gram_norm(self, start: Params, rounds: int = 20) -> Array:
        """The greatest eigenvalue of the Gram matrix A'A, where A maps the parameters to y_hat.

        Power iteration: v <- A'A v / |A'A v|, and |A'A v| grows towards the eigenvalue, from below. A step as large
        as twice its inverse would still be stable, so a few per cent are of no consequence.
        """
        xp = self.backend.xp
        _, adjoint = self.linearize(start)

        def step(vector: Params) -> Params:
            norm = self._norm(vector)
            scale = xp.where(norm > 0, norm, xp.ones_like(norm))
            return adjoint(self.predict(tree_map(lambda part: part / scale, vector)))

        traced = any(self.backend.is_traced(array) for array in (self.x, self._norm(start)))
        if traced and self.backend.scan is not None:
            start, _ = self.backend.scan(lambda vector, _: (step(vector), None), start, None, length=rounds)
        else:
            for _ in range(rounds):
                start = tree_map(lambda leaf: settle(self.backend, leaf), step(start))
        return self._norm(start)

    def _norm(self, params: Params) -> Array:
        """Euclid's, of parts scaled to 1: squares of what a large image gives overflow float32."""
        xp = self.backend.xp
        parts = [abs(part) for part in params if part is not None]
        top = reduce(xp.maximum, [xp.max(part) for part in parts])
        scale = xp.where(top > 0, top, xp.ones_like(top))
        return xp.asarray(top * sum(xp.sum((part / scale) ** 2) for part in parts) ** 0.5)


def settle(backend: Backend, leaf: Any) -> Any:
    """An array by its values: a loop in Python would lengthen Dask's graph, or Torch's, with every step."""
    return backend.from_numpy(backend.to_numpy(leaf), leaf) if hasattr(leaf, "dtype") else leaf


def same_kind(array: Array, like: Array) -> bool:
    """Whether ``array`` may be cast to ``like``'s dtype without dropping an imaginary part."""
    return "complex" in dtype_name(like.dtype) or "complex" not in dtype_name(array.dtype)


def regression(
    caller: str, op: Any, x: Array, y: Array, params: Params, loss: Any, options: dict[str, Any]
) -> tuple[Regression, Params]:
    """The arguments gathered in one library; all must be of floating types, and parameters may be None."""
    check_op(caller, op)
    names = ("x", "y", "kernel", "bias")
    # Arithmetic on NumPy's arrays without axes, such as a bias, leaves scalars.
    bias = np.asarray(params.bias) if isinstance(params.bias, np.generic) else params.bias
    backend, arrays = gather_arrays(caller, names, (x, y, params.kernel, bias), ("kernel", "bias"))
    for argument, array in zip(names, arrays, strict=True):
        check_floating(caller, argument, array)
    x, y, *gathered = arrays
    return Regression(caller, backend, op, options, x, y, read_loss(caller, loss)), Params(*gathered)


def check_floating(caller: str, argument: str, array: Array | None) -> None:
    """Gradients of integers round to nothing."""
    if array is not None and "int" in dtype_name(array.dtype):
        raise TypeError(
            f"{caller}: {argument} has dtype {dtype_name(array.dtype)}, learning takes floating types; "
            f"cast {argument} to float32, for example"
        )


def learnable(problem: Regression) -> tuple[Regression, Any]:
    """The data in the type that is learned in, free of graphs, and the dtype to return."""
    backend = problem.backend
    dtype = backend.promote(problem.x, problem.y)
    inner = backend.dtype(LEARNED_IN.get(dtype_name(dtype), dtype_name(dtype)))
    x, y = (backend.cast(backend.detach(array), inner) for array in (problem.x, problem.y))
    return problem._replace(x=x, y=y), dtype


def by_numpy(problem: Regression, params: Params, dtype: Any) -> tuple[Regression, Params, Any]:
    """The same data, parameters and type as NumPy's, where all are values in the CPU's memory; else as they are.

    Its products of tiles are as fast as any library's, and its calls the shortest (1024 x 1024 with 7 x 7 taps, 500
    steps: 26 ms, of torch's own 49, of XLA's 48).
    """
    own, name = library_backend("numpy"), dtype_name(dtype)
    x, y, kernel, bias = (
        None if part is None else problem.backend.view(part) for part in (problem.x, problem.y, *params)
    )
    is_missing = any(view is None and part is not None for view, part in zip((kernel, bias), params, strict=True))
    if x is None or y is None or is_missing or own.dtype(name) is None:
        return problem, params, dtype
    return problem._replace(backend=own, x=x, y=y), Params(kernel, bias), own.dtype(name)


def bias_shape(op: Any, kernel: tuple[int, ...], options: dict[str, Any]) -> tuple[int, ...]:
    """Shape of the bias that ``op`` learns beside a kernel of this shape."""
    return BIAS_SHAPES[op.__name__](kernel, options.get("groups", 1), options.get("channels", "first"))


def check_bias(caller: str, op: Any, params: Params, options: dict[str, Any]) -> None:
    """A bias would broadcast: none but the shape that ``op`` learns is meant."""
    shape = bias_shape(op, tuple(params.kernel.shape), options)
    if params.bias is not None and tuple(params.bias.shape) != shape:
        raise ValueError(
            f"{caller}: bias has shape {tuple(params.bias.shape)}, {op.__name__} with kernel "
            f"{tuple(params.kernel.shape)} learns one of {shape}; reshape it"
        )


def first_params(
    caller: str,
    given: Params,
    like: Array,
    op: Any,
    shape: tuple[int, ...],
    options: dict[str, Any],
    bias: bool,
    seed: int,
) -> Params:
    """The parameters that are given, or else drawn or zero, of ``like``'s type and free of graphs."""
    backend, (kernel, start) = get_backend(like), given
    if kernel is None:
        kernel = init_kernel(shape, like=like, seed=seed)
    if bias and start is None:
        start = backend.xp.zeros(bias_shape(op, shape, options), dtype=like.dtype, device=backend.device(like))
    params = Params(kernel, start)
    check_bias(caller, op, params, options)
    for part in params:
        check_floating(caller, "init", part)
        if part is not None and not same_kind(part, like):
            raise TypeError(
                f"{caller}: init has dtype {dtype_name(part.dtype)}, x and y are real; cast x or y to complex"
            )
    return Params(*(None if part is None else backend.cast(backend.detach(part), like.dtype) for part in params))


def loss_and_grad(
    op: Callable[..., Array], params: Params, x: Array, y: Array, *, loss: Any = "sum", **op_options: Any
) -> tuple[Array, Params]:
    """The loss of ``op(x, kernel) + bias`` against ``y``, and its gradient by ``params``: one step's work.

    ``op`` is `correlate`, `convolve`, `conv` or `conv_transpose` with its ``op_options``; ``params`` a pair
    ``(kernel, bias)``, the bias None, or one number an output channel (for `correlate` and `convolve` one number, an
    array of shape ``()``). ``loss``: ``"sum"`` is ``sum |y_hat - y|^2``, ``"mean"`` that by y's elements, or a function
    ``f(y_hat, y) -> (value, gradient)``, as `jax.value_and_grad` makes of real arrays.

    Returns ``(loss, Params)``: a floating array of shape ``()``, and gradients in the shapes and dtypes of ``params``.
    They point along the steepest ascent; where arrays are complex this is PyTorch's ``grad`` and the conjugate of what
    `jax.grad` gives. Raises `TypeError` for integers, and `ValueError` where y has not op's output shape.

    >>> import numpy as np, arrayconv as ac
    >>> x, y, kernel = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.0]), np.array([1.0, -1.0])
    >>> loss, grads = ac.loss_and_grad(ac.correlate, (kernel, None), x, y)     # y_hat = -1, -2
    >>> float(loss), grads.kernel
    (5.0, array([-10., -20.]))
    """
    if not isinstance(params, tuple | list) or len(params) != 2:
        raise TypeError(f"loss_and_grad: params must be a pair (kernel, bias), got {type(params).__name__}")
    problem, params = regression("loss_and_grad", op, x, y, Params(*params), loss, op_options)
    check_bias("loss_and_grad", op, params, op_options)
    return problem.loss_and_grad(params)
