"""JAX: a planned call is one primitive, bilinear, closed under its transposes and under batching.

`custom_vjp` would lose forward mode and `linear_call` has no batching rule; a primitive whose only parameter is the
program has every transformation: jvp and transpose by `ad.defbilinear` with the two transposed geometries, vmap by
folding the mapped axis into the geometry, jit by lowering the planned algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src import dispatch  # no public way says that a primitive needs the devices; so does custom_partitioning
from jax.core import ShapedArray
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from .. import primitives
from ..backend import Backend, Native, Planning, Run, standard_backend
from ..program import Program
from ..transposes import correlate_input, correlate_taps
from .jax_control import add_up, each_part, if_finite, opaque, settle, sweep, unless_finite
from .jax_mesh import Spread, is_spread
from .jax_native import native_detours, native_execute, native_prepare, pad
from .jax_sums import passes, sum_products, sum_slices

#: Where it lies since JAX 0.8, and before.
enable_x64: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else import_module("jax.experimental").enable_x64

Array = Any
XP = jnp  # an array API namespace itself since JAX 0.4.32


def close(backend: Backend, planning: Planning) -> Run:
    """The primitive, as a function of (program, x, kernel)."""
    return _primitives(backend, planning)[0]


def close_taps(backend: Backend, planning: Planning) -> Run:
    """The primitive that is `correlate_taps`, as a function of (program, x, dy)."""
    return _primitives(backend, planning)[1]


@cache
def _primitives(backend: Backend, planning: Planning) -> tuple[Run, Run]:
    """Both: the second could be the first on permuted arrays, and is, but for a mesh: to put the batch inside of the
    groups would send a batch that is spread over devices to all of them.
    """

    def execute(program: Program, x: Array, kernel: Array) -> Array:
        return planning.execute(program, backend, x, kernel)

    def to_input(dy: Array, x: Any, kernel: Array, *, program: Program) -> Array:
        return correlate_input(XP, bind, planning.replan(program, program.geometry.input_transpose()), dy, kernel)

    def to_kernel(dy: Array, x: Array, kernel: Any, *, program: Program) -> Array:
        return bind_taps(planning.replan(program, program.geometry.kernel_transpose()), x, dy)

    def taps_to_x(kernel: Array, x: Any, dy: Array, *, program: Program) -> Array:
        forward = program.geometry.kernel_transpose()
        return correlate_input(XP, bind, planning.replan(program, forward.input_transpose()), dy, kernel)

    def taps_to_dy(kernel: Array, x: Array, dy: Any, *, program: Program) -> Array:
        return bind(planning.replan(program, program.geometry.kernel_transpose()), x, kernel)

    def taps_batch(arrays: Any, mapped: Any, *, program: Program) -> tuple[Array, int]:
        return jax.vmap(partial(correlate_taps, XP, bind, program), mapped)(*arrays), 0

    spread = Spread(planning, execute, swapped=False)
    bind: Run = _primitive(
        "arrayconv", spread, (to_input, to_kernel), lambda *own, **p: _batch(bind, planning, *own, **p)
    )
    spread = Spread(planning, partial(correlate_taps, XP, execute), swapped=True)
    bind_taps: Run = _primitive("arrayconv_taps", spread, (taps_to_x, taps_to_dy), taps_batch)
    return bind, bind_taps


def _primitive(name: str, spread: Spread, transposes: tuple[Any, Any], batch: Any) -> Run:
    """A bilinear primitive of two arrays, whose one parameter is the program."""
    primitive = Primitive(name)

    def bind(program: Program, x: Array, other: Array) -> Array:
        return primitive.bind(x, other, program=program)

    def lower(context: Any, x: Any, other: Any, *, program: Program) -> Any:
        program = _for_platforms(spread.planning, program, context.module_context.platforms)
        run: Any = spread
        if not is_spread(context):  # one device's part: within `shard_map`, no matter of which
            run = spread.run
            context = context.replace(avals_in=[ShapedArray(own.shape, own.dtype) for own in context.avals_in])
        return mlir.lower_fun(partial(run, program), multiple_results=False)(context, x, other)

    jitted = jax.jit(bind, static_argnums=0)
    primitive.def_impl(lambda x, other, *, program: jitted(program, x, other))
    primitive.def_abstract_eval(lambda x, other, *, program: ShapedArray(spread.shape(program), x.dtype))
    ad.defbilinear(primitive, *transposes)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, lower)
    dispatch.prim_requires_devices_during_lowering.add(primitive)
    return bind


def _for_platforms(planning: Planning, program: Program, platforms: Sequence[str]) -> Program:
    """`jax.export` lowers on a CPU for others too: such a program is planned for one of them."""
    others = [platform for platform in platforms if platform != "cpu"]
    if not others or program.problem.device != "cpu":
        return program
    problem = replace(program.problem, device=others[0])
    return planning.replan(replace(program, problem=problem), program.geometry)


def in_double(function: Callable[..., Array], *arrays: Array) -> Array:
    """As under x64, whatever the user has: no transformation sees inside, since a planned call is lowered as a whole.

    A primitive of its own, because types of 64 bits must be there both for tracing and for lowering (jax#5982), and
    a mesh lowers what one device computes long after its call is traced.
    """
    with enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(*arrays)
    result: Array = _double.bind(*arrays, jaxpr=jaxpr)
    return result


def _lower_double(context: Any, *arrays: Any, jaxpr: Any) -> Any:
    with enable_x64(True):
        return mlir.lower_fun(jaxpr_as_fun(jaxpr))(context, *arrays)


_double = Primitive("arrayconv_in_double")
_double.def_abstract_eval(lambda *arrays, jaxpr: jaxpr.out_avals[0])
mlir.register_lowering(_double, _lower_double)


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


def view(array: Array) -> np.ndarray[Any, Any] | None:
    """Not within `jax.jit`, which stages what is done with constants too."""
    if isinstance(array, jax.core.Tracer) or isinstance(jnp.zeros(()), jax.core.Tracer):
        return None
    is_whole = array.is_fully_addressable and len(array.devices()) == 1
    is_here = is_whole and next(iter(array.devices())).platform == "cpu"
    return np.asarray(array) if is_here else None


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


def matmul(a: Array, b: Array) -> Array:
    """A side that lacks the other's batch is repeated, where it is the smaller: XLA shares a batch among threads, and
    moves the axes of a product without one through memory (1 x 1 layer of 8 images, 64 to 256 channels: 9 ms and 3).
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = a.shape[-2], b.shape[-1]
    if rows <= columns:
        a = jnp.broadcast_to(a, (*batch, *a.shape[-2:]))
    if columns <= rows:
        b = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def wait(array: Array) -> None:
    """Calls return before their results are there, on a CPU too."""
    if isinstance(array, jax.core.Tracer):
        raise TypeError("a traced array stands for others and has no time of its own")
    array.block_until_ready()


def take_rows(table: Array, index: Array) -> Array:
    """Without XLA's look at every index."""
    return table.at[index].get(mode="promise_in_bounds")


def windows(x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """Windows over the last axes; long ones that move far are joined from neighbouring blocks.

    XLA compiles and runs a join of few large parts faster than a stack of many strided slices.
    """
    axes, first = list(zip(window, stride, dilation, strict=True)), x.ndim - len(window)
    if not any(map(_is_joined, *zip(*axes, strict=True))):
        stacked: Array = primitives.windows(XP, x, window, stride, dilation)
        return stacked
    for i, (k, s, d) in enumerate(axes):
        axis = first + 2 * i
        if _is_joined(k, s, d):
            x = primitives.joined_windows(XP, pad, x, axis, k, s)
        else:
            x = primitives.windows(XP, jnp.moveaxis(x, axis, -1), (k,), (s,), (d,))
            x = jnp.moveaxis(x, (-2, -1), (axis, axis + 1))
    pairs = range(first, first + 2 * len(axes), 2)
    return x.transpose(*range(first), *pairs, *(axis + 1 for axis in pairs))


def _is_joined(window: int, stride: int, dilation: int) -> bool:
    return window > stride >= 4 and dilation == 1


def sum_each(parts: Sequence[Array], kernel: Array, axes: Sequence[int]) -> list[Array]:
    """One reduction with an operand for each part, into which XLA fuses the products."""
    products, zeros = [part * kernel for part in parts], [jnp.zeros((), kernel.dtype)] * len(parts)
    return list(lax.reduce(products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], axes))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def sum_windows(function: Callable[..., Array], what: Any, backend: Backend, axes: Any, x: Array, y: Array) -> Array:
    """Compiled as a whole: hundreds of slices and products are slow one by one."""
    return function(what, backend, axes, x, y)


@partial(jax.jit, static_argnums=(0, 1))
def compiled(function: Callable[..., Any], known: Any, arrays: Any) -> Any:
    """One function for all calls: JAX keeps what it compiled by this function's identity."""
    return function(known, arrays)


def replicated(function: Callable[..., Any], *arrays: Any) -> Any:
    """A mesh with explicit axes would have every reshape and product declare where its result lies; XLA knows."""
    for array in jax.tree.leaves(arrays):
        mesh: Any = getattr(getattr(array.aval, "sharding", None), "mesh", None)
        if any(kind.name == "Explicit" for kind in getattr(mesh, "axis_types", None) or ()):
            everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            return jax.sharding.auto_axes(function, out_sharding=everywhere)(*arrays)
    return function(*arrays)


@cache
def register(cls: type, arrays: tuple[str, ...], others: tuple[str, ...]) -> None:
    """A pytree, once."""
    jax.tree_util.register_dataclass(cls, data_fields=list(arrays), meta_fields=list(others))


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
    windows=windows,
    has_double=lambda device: device == "cpu" or dtype("float64") is not None,
    in_double=in_double,
    sweep=sweep,
    each_part=each_part,
    add_up=add_up,
    stacks_columns=True,
    hold=lax.optimization_barrier,
    settle=settle,
    opaque=opaque,
    matmul=matmul,
    sum_products=sum_products,
    sum_slices=sum_slices,
    passes=passes,
    sum_each=sum_each,
    close=close,
    close_taps=close_taps,
    native=Native(lambda problem: None, native_prepare, native_execute),
    detours=native_detours,
    unless_finite=unless_finite,
    if_finite=if_finite,
    take_rows=take_rows,
    most_slices=256,
    is_traced=lambda array: isinstance(array, jax.core.Tracer),
    scan=lax.scan,
    compiled=compiled,
    sum_windows=sum_windows,
    constant=lax.stop_gradient,
    replicated=replicated,
    register=register,
    scatter_add=lambda total, index, values: total.at[index].add(values),
    scalar_on=lambda kind: jnp.zeros((), device=jax.devices(kind)[0]),
    view=view,
    wait=wait,
)
