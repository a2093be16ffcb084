"""JAX: a planned call is one primitive, bilinear, closed under its transposes and under batching.

`custom_vjp` would lose forward mode and `linear_call` has no batching rule; a primitive whose only parameter is the
program has every transformation: jvp and transpose by `ad.defbilinear` with the two transposed geometries, vmap by
folding the mapped axis into the geometry, jit by lowering the planned algorithm.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..backend import Backend, Native, Planning, Run, standard_backend
from ..primitives import Widths
from ..program import Problem, Program
from ..transposes import kernel_for_input, swap_leading, x_for_kernel

Array = Any
XP = jnp  # an array API namespace itself since JAX 0.4.32


def close(backend: Backend, planning: Planning) -> Run:
    """The primitive, as a function of (program, x, kernel)."""
    convolution = Primitive("arrayconv")

    def bind(program: Program, x: Array, kernel: Array) -> Array:
        return convolution.bind(x, kernel, program=program)

    def execute(x: Array, kernel: Array, *, program: Program) -> Array:
        return planning.execute(program, backend, x, kernel)

    def to_input(dy: Array, x: Any, kernel: Array, *, program: Program) -> Array:
        geometry = program.geometry
        back = planning.replan(program, geometry.input_transpose())
        return bind(back, dy, kernel_for_input(XP, geometry, kernel))

    def to_kernel(dy: Array, x: Array, kernel: Any, *, program: Program) -> Array:
        geometry = program.geometry
        back = planning.replan(program, geometry.kernel_transpose())
        return swap_leading(XP, bind(back, x_for_kernel(XP, geometry, x), swap_leading(XP, dy)))

    jitted = jax.jit(execute, static_argnames="program")
    convolution.def_impl(lambda x, kernel, *, program: jitted(x, kernel, program=program))
    convolution.def_abstract_eval(lambda x, kernel, *, program: ShapedArray(program.geometry.y_shape, x.dtype))
    ad.defbilinear(convolution, to_input, to_kernel)
    batching.primitive_batchers[convolution] = partial(_batch, bind, planning)
    mlir.register_lowering(convolution, mlir.lower_fun(execute, multiple_results=False))
    return bind


def _batch(bind: Run, planning: Planning, arrays: Any, mapped: Any, *, program: Program) -> tuple[Array, int]:
    """vmap: a mapped x joins the batch, a mapped kernel the output channels, both together the groups."""
    (x, kernel), (x_axis, kernel_axis) = arrays, mapped
    geometry = program.geometry
    batch, groups, inputs, outputs = geometry.batch, geometry.groups, geometry.inputs, geometry.outputs
    if kernel_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        size = x.shape[0]
        program = planning.replan(program, replace(geometry, batch=size * batch))
        y = bind(program, x.reshape(program.geometry.x_shape), kernel)
        return y.reshape(size, *geometry.y_shape), 0
    kernel = jnp.moveaxis(kernel, kernel_axis, 0)
    size = kernel.shape[0]
    if x_axis is None:
        kernel = jnp.moveaxis(kernel.reshape(size, groups, outputs, inputs, *geometry.window), 0, 1)
        program = planning.replan(program, replace(geometry, outputs=size * outputs))
        y = bind(program, x, kernel.reshape(program.geometry.kernel_shape))
        y = jnp.moveaxis(y.reshape(batch, groups, size, outputs, *geometry.out), 2, 0)
        return y.reshape(size, *geometry.y_shape), 0
    program = planning.replan(program, replace(geometry, groups=size * groups))
    x = jnp.moveaxis(x, x_axis, 1).reshape(program.geometry.x_shape)
    y = bind(program, x, kernel.reshape(program.geometry.kernel_shape))
    return y.reshape(batch, size, groups * outputs, *geometry.out), 1


def from_numpy(array: np.ndarray[Any, Any], like: Array) -> Array:
    """On the device of ``like`` where it has one; XLA copies."""
    device = None if isinstance(like, jax.core.Tracer) or len(like.devices()) > 1 else next(iter(like.devices()))
    if array.dtype.name in _WIDE and not jax.config.read("jax_enable_x64"):
        array = array.astype(_WIDE[array.dtype.name])
    return jnp.asarray(array, device=device)


#: What JAX makes of 64-bit types unless x64 is on; done here, since JAX would warn. `gather_arrays` checks the range.
_WIDE = {
    "int64": "int32",
    "uint64": "uint32",
    "float64": "float32",
    "complex128": "complex64",
}


def dtype(name: str) -> Any:
    """None for a type that JAX would quietly narrow."""
    if name in _WIDE and not jax.config.read("jax_enable_x64"):
        return None
    return jnp.dtype(name)


def pad(x: Array, widths: Widths) -> Array:
    """XLA's own padding, which crops at negative widths."""
    if not any(low or high for low, high in widths):
        return x
    first = x.ndim - len(widths)
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * first + [(low, high, 0) for low, high in widths])


def wait(array: Array) -> None:
    """Calls return before their results are there, on a CPU too."""
    if isinstance(array, jax.core.Tracer):
        raise TypeError("a traced array stands for others and has no time of its own")
    array.block_until_ready()


def unless_finite(compute: Any, otherwise: Any, x: Array) -> Array:
    """One branch runs: a planned call is lowered as a whole, and vmap, which would run both, never sees inside."""
    y = compute(x)
    return lax.cond(jnp.all(jnp.isfinite(y)), lambda x, y: y, lambda x, y: otherwise(x), x, y)


def native_prepare(problem: Problem) -> dict[str, Any]:
    """The keyword arguments of `lax.conv_general_dilated`."""
    axes = problem.geometry.axes
    spatial = "".join(chr(ord("a") + i) for i in range(len(axes)))
    return {
        "window_strides": [axis.stride for axis in axes],
        "padding": [(axis.low, axis.high) for axis in axes],
        "lhs_dilation": [axis.base_dilation for axis in axes],
        "rhs_dilation": [axis.window_dilation for axis in axes],
        "dimension_numbers": ("NC" + spatial, "OI" + spatial, "NC" + spatial),
        "feature_group_count": problem.geometry.groups,
        "precision": lax.Precision.HIGHEST,
    }


def native_execute(arguments: dict[str, Any], x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, **arguments)


BACKEND = standard_backend(
    "jax",
    XP,
    owns=lambda array: isinstance(array, jax.Array),
    from_numpy=from_numpy,
    to_numpy=np.asarray,
    device_kind=lambda array: jax.default_backend(),
    dtype=dtype,
    promote=jnp.result_type,
    cast=lambda array, dtype: array.astype(dtype),
    copy=lambda array: array,
    pad=pad,
    matmul=partial(jnp.matmul, precision=lax.Precision.HIGHEST),
    close=close,
    native=Native(lambda problem: None, native_prepare, native_execute),
    unless_finite=unless_finite,
    most_slices=256,
    is_traced=lambda array: isinstance(array, jax.core.Tracer),
    scan=lax.scan,
    scatter_add=lambda total, index, values: total.at[index].add(values),
    scalar_on=lambda kind: jnp.zeros((), device=jax.devices(kind)[0]),
    wait=wait,
)
