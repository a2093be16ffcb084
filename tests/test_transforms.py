"""JAX's and PyTorch's transformations of every linear operation: derivatives of any order, vmap, compilation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads
from test_vjp import CALLS, LINEAR, Example, first_example, sample, samples
from torch import func

import arrayconv as ac
from arrayconv.operations.table import OPERATIONS

Array = Any
OPTIONS: dict[str, Any] = {"stride": 2, "padding": ((2, 1),), "dilation": 2, "groups": 2}
SHAPES = ((2, 4, 9), (6, 2, 3), (6,))
MANY = [call for call in CALLS if call.values[0] not in ("pad", "windows")]

#: torch builds its forward-mode rules with its own deprecated compiler, at their first use.
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def conv(x: Array, kernel: Array, bias: Array, **more: Any) -> Array:
    return ac.conv(x, kernel, bias, **OPTIONS, **more)


def loss(x: Array, kernel: Array, bias: Array, **more: Any) -> Array:
    """Not quadratic, so that second derivatives depend on the arrays."""
    return (conv(x, kernel, bias, **more) ** 3).sum()


def drawn(make: Any, dtype: str = "float64") -> list[Array]:
    return [make(sample(shape, dtype, i)) for i, shape in enumerate(SHAPES)]


def close(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


# JAX


@pytest.mark.parametrize("name", LINEAR)
def test_jax_derivatives_of_second_order(name: str) -> None:
    example = first_example(name)
    op, arrays = OPERATIONS[name].function, [jnp.asarray(array) for array in samples(example, "float64")]
    check_grads(lambda *own: op(*map(jnp.asarray, own), **example.options), arrays, 2, ("fwd", "rev"), rtol=1e-5)


@pytest.mark.parametrize("algorithm", ac.algorithms())
def test_jax_derivatives_by_every_algorithm(algorithm: str) -> None:
    arrays = drawn(jnp.asarray)
    try:
        expected = conv(*arrays, algorithm=algorithm)
    except ValueError as error:
        assert "can't serve this call" in str(error)
        return
    close(jax.jit(partial(conv, algorithm=algorithm))(*arrays), expected)
    check_grads(lambda *own: conv(*map(jnp.asarray, own), algorithm=algorithm), arrays, 2, ("fwd", "rev"), rtol=1e-5)


def test_jax_gradients_of_complex_arrays() -> None:
    """JAX's convention: a holomorphic function's gradient is its derivative, nothing is conjugated."""
    x, kernel, bias = drawn(jnp.asarray, "complex128")
    gradient = jax.grad(loss, 1, holomorphic=True)(x, kernel, bias)
    step = 1e-6 * (1 - 2j)
    moved = kernel.at[3, 1, 2].add(step), kernel.at[3, 1, 2].add(-step)
    slope = (loss(x, moved[0], bias) - loss(x, moved[1], bias)) / (2 * step)
    np.testing.assert_allclose(gradient[3, 1, 2], slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("in_axes", "out_axes"),
    [
        ((0, None, None), 0),
        ((2, None, None), 1),
        ((-1, None, 0), 0),
        ((None, 0, None), 0),
        ((None, 3, 1), -1),
        ((0, 0, None), 0),
        ((1, -2, 0), 2),
        ((None, None, 0), 0),
    ],
)
@pytest.mark.parametrize("transform", ["forward", "gradient", "jit", "torch"])
def test_vmap_is_the_loop(transform: str, in_axes: Any, out_axes: int) -> None:
    """Over x, the kernel, the bias or several of them, whichever axis is mapped."""
    make, stack = (torch.tensor, torch.stack) if transform == "torch" else (jnp.asarray, jnp.stack)
    function = {
        "forward": conv,
        "jit": jax.jit(conv),
        "gradient": lambda *own: jax.grad(loss, 1)(*own)[:, 0],
        "torch": conv,
    }[transform]
    arrays, axes = [], []
    for i, (shape, axis) in enumerate(zip(SHAPES, in_axes, strict=True)):
        parts = [sample(shape, "float64", 10 * i + j) for j in range(3)]
        arrays.append(make(parts[0]) if axis is None else make(np.stack(parts, axis)))
        axes.append([parts[0]] * 3 if axis is None else parts)
    expected = stack([function(*map(make, parts)) for parts in zip(*axes, strict=True)], out_axes)
    vmap = torch.func.vmap if transform == "torch" else jax.vmap
    close(vmap(function, in_axes, out_axes)(*arrays), expected)


@pytest.mark.parametrize(("name", "example"), MANY)
def test_jax_vmap_of_both_arrays_of_every_call(name: str, example: Example) -> None:
    op, pairs = OPERATIONS[name].function, [samples(example, "int64", seed) for seed in (0, 50)]
    arrays = [jnp.stack(parts, -1) for parts in zip(*pairs, strict=True)]
    y = jax.vmap(partial(op, **example.options), -1, -1)(*arrays)
    for i, pair in enumerate(pairs):
        np.testing.assert_array_equal(y[..., i], op(*pair, **example.options))


def test_jax_vmap_over_nothing() -> None:
    x, kernel, bias = drawn(jnp.asarray)
    for axes in ((0, None, None), (None, 0, None), (0, 0, None)):
        own = [
            jnp.stack([array])[:0] if axis == 0 else array for array, axis in zip((x, kernel, bias), axes, strict=True)
        ]
        assert jax.vmap(conv, axes)(*own).shape == (0, *conv(x, kernel, bias).shape)


def test_gradients_for_each_example() -> None:
    """vmap of grad, grad of vmap, and the loop; in JAX and torch."""
    x, kernel, bias = drawn(jnp.asarray)
    xs = jnp.stack([x, 2 * x, x - 1])
    loop = jnp.stack([jax.grad(loss, 1)(one, kernel, bias) for one in xs])
    close(jax.jit(jax.vmap(jax.grad(loss, 1), (0, None, None)))(xs, kernel, bias), loop)
    close(jax.grad(lambda k: jax.vmap(loss, (0, None, None))(xs, k, bias).sum())(kernel), loop.sum(0))
    own = [torch.tensor(np.asarray(array)) for array in (xs, kernel, bias)]
    close(func.vmap(func.grad(loss, 1), (0, None, None))(*own), loop)
    close(func.grad(lambda k: func.vmap(loss, (0, None, None))(own[0], k, own[2]).sum())(own[1]), loop.sum(0))


def test_jax_hessians_and_jacobians() -> None:
    arrays = drawn(jnp.asarray)
    for at in (0, 1):
        hessian = jax.hessian(loss, at)(*arrays)
        close(hessian, jax.jacrev(jax.jacfwd(loss, at), at)(*arrays))
        tangent = jnp.asarray(sample(SHAPES[at], "float64", 7))

        def gradient(array: Array, at: int = at) -> Array:
            return jax.grad(loss, at)(*arrays[:at], array, *arrays[at + 1 :])

        product = jax.jvp(gradient, (arrays[at],), (tangent,))[1]
        close(product, jnp.tensordot(hessian, tangent, tangent.ndim))


def test_jax_pytrees_and_scan() -> None:
    x, kernel, bias = drawn(jnp.asarray)
    params = {"layer": (kernel, {"bias": bias})}

    def predict(params: Any, x: Array) -> Array:
        return loss(x, params["layer"][0], params["layer"][1]["bias"])

    gradients = jax.jit(jax.grad(predict))(params, x)
    close(gradients["layer"][0], jax.grad(loss, 1)(x, kernel, bias))
    close(gradients["layer"][1]["bias"], jax.grad(loss, 2)(x, kernel, bias))

    def step(carry: Array, taps: Array) -> tuple[Array, Array]:
        carry = ac.correlate(carry, taps, padding="same", boundary="wrap")
        return carry, carry.sum()

    signal, taps = jnp.asarray(sample((5,), "float64")), jnp.asarray(sample((4, 3), "float64"))
    scanned = jax.grad(lambda taps: (jax.lax.scan(step, signal, taps)[0] ** 2).sum())(taps)
    looped = jax.grad(
        lambda taps: (step(step(step(step(signal, taps[0])[0], taps[1])[0], taps[2])[0], taps[3])[0] ** 2).sum()
    )
    close(scanned, looped(taps))


def test_jax_s_numpy_arguments() -> None:
    """`jax.grad` leaves what it doesn't differentiate a NumPy array beside its tracer."""
    x, kernel, bias = drawn(np.asarray)
    close(jax.grad(loss, 1)(x, kernel, bias), jax.grad(loss, 1)(*map(jnp.asarray, (x, kernel, bias))))
    close(jax.grad(loss, 0)(x, kernel, bias), jax.grad(loss, 0)(*map(jnp.asarray, (x, kernel, bias))))
    close(jax.jit(lambda kernel: conv(x, kernel, bias))(kernel), conv(x, kernel, bias))
    assert jax.grad(lambda x: ac.correlate(x, np.array([1, 2])).sum())(np.ones(4, "float32")).dtype == np.float32


def test_jax_vjp_inside_transformations() -> None:
    x, kernel, bias = drawn(jnp.asarray)

    def kernel_gradient(x: Array) -> Array:
        y, pullback = ac.vjp(ac.conv, x, kernel, bias, **OPTIONS)
        return pullback(3 * y**2)[1]

    expected = jax.grad(loss, 1)(x, kernel, bias)
    close(jax.jit(kernel_gradient)(x), expected)
    close(jax.vmap(kernel_gradient)(x[None])[0], expected)
    close(jax.jacrev(kernel_gradient)(x), jax.jacfwd(jax.grad(loss, 1))(x, kernel, bias))


def test_the_primitive_keeps_the_settings_of_its_trace() -> None:
    arrays = drawn(jnp.asarray)

    def workspaces(jaxpr: Any) -> set[int]:
        equations = [equation for equation in jaxpr.eqns if equation.primitive.name == "arrayconv"]
        assert equations
        return {equation.params["program"].problem.settings.workspace for equation in equations}

    with ac.settings(workspace=2**12):
        forward = jax.make_jaxpr(lambda *own: conv(*own))(*arrays)
        linear = jax.linearize(lambda *own: loss(*own), *arrays)[1]
    with ac.settings(workspace=2**13):
        gradient = jax.make_jaxpr(lambda dy: jax.linear_transpose(linear, *arrays)(dy))(1.0)
        assert workspaces(jax.make_jaxpr(lambda *own: conv(*own))(*arrays).jaxpr) == {2**13}
    assert workspaces(forward.jaxpr) == workspaces(gradient.jaxpr) == {2**12}


WITHOUT_X64 = """
import warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp, numpy as np, arrayconv as ac
x, kernel = jnp.arange(24.0).reshape(2, 3, 4), jnp.ones((5, 3, 2))
y = ac.conv(x, kernel, np.ones(5), padding="same")
assert y.dtype == jnp.float32
gradient = jax.jit(jax.grad(lambda k: (ac.conv(x, k, padding="same") ** 2).sum()))(kernel)
assert gradient.dtype == jnp.float32 and gradient.shape == kernel.shape
assert ac.correlate(jnp.arange(4), np.array([1, 2])).tolist() == [2, 5, 8]
assert ac.correlate(jnp.ones(4, "complex64"), np.ones(2, "complex128")).dtype == jnp.complex64
for call, message in (
    (lambda: ac.correlate(jnp.arange(4), np.array([2**40 + 5])), "1099511627781"),
    (lambda: ac.conv(x, kernel, dtype="float64"), "jax_enable_x64"),
    (lambda: ac.plan(ac.conv, x.shape, kernel.shape, dtype="float64", library="jax"), "jax_enable_x64"),
):
    try:
        call()
    except ValueError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
print("as expected")
"""


def test_jax_without_64_bits() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_X64], capture_output=True, text=True, check=False)
    assert done.stdout == "as expected\n", done.stderr


# PyTorch


def with_gradient(arrays: list[Array]) -> list[Array]:
    return [array.clone().requires_grad_() for array in arrays]


@forward_mode
@pytest.mark.parametrize("name", LINEAR)
def test_torch_derivatives_of_second_order(name: str) -> None:
    example = first_example(name)
    op = partial(OPERATIONS[name].function, **example.options)
    arrays = with_gradient([torch.tensor(array) for array in samples(example, "float64")])
    assert torch.autograd.gradcheck(op, arrays, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(op, arrays, check_fwd_over_rev=True, fast_mode=True)


@forward_mode
@pytest.mark.parametrize("workspace", [2**9, 2**26])
@pytest.mark.parametrize("algorithm", ["auto", *ac.algorithms()])
def test_torch_derivatives_by_every_algorithm(algorithm: str, workspace: int) -> None:
    """In tiles, which are recomputed, and in one piece."""
    own = partial(conv, algorithm=algorithm)
    with ac.settings(workspace=workspace):
        try:
            own(*drawn(torch.tensor))
        except ValueError as error:
            assert "can't serve this call" in str(error)
            return
        for dtype in ("float64", "complex128"):
            arrays = with_gradient(drawn(torch.tensor, dtype))
            assert torch.autograd.gradcheck(own, arrays, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
            assert torch.autograd.gradgradcheck(own, arrays, fast_mode=True)


@pytest.fixture
def every_warning() -> Iterator[None]:
    """torch says some things only once a process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@forward_mode
@pytest.mark.usefixtures("every_warning")
@pytest.mark.parametrize(("algorithm", "workspace"), [("auto", 2**26), ("gemm", 2**10)])
def test_torch_func_transforms(algorithm: str, workspace: int) -> None:
    """In one piece, and in two tiles."""
    arrays, expected = drawn(torch.tensor), drawn(jnp.asarray)
    own, own_loss = partial(conv, algorithm=algorithm), partial(loss, algorithm=algorithm)
    with ac.settings(workspace=workspace):
        close(func.jvp(own, tuple(arrays), tuple(arrays))[1], jax.jvp(conv, expected, expected)[1])
        for at in (0, 1):
            close(func.grad(own_loss, at)(*arrays), jax.grad(loss, at)(*expected))
            close(func.jacrev(own, at)(*arrays), jax.jacrev(conv, at)(*expected))
            close(func.jacfwd(own, at)(*arrays), jax.jacrev(conv, at)(*expected))
            close(func.hessian(own_loss, at)(*arrays), jax.hessian(loss, at)(*expected))


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_tiles_do_not_pile_up_in_the_graph(algorithm: str) -> None:
    """What autograd keeps is the arguments, as one storage each, however many tiles there are."""
    x, kernel = with_gradient([torch.tensor(sample(shape, "float32")) for shape in ((1, 4, 64, 64), (4, 4, 5, 5))])
    kept: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with ac.settings(workspace=2**14), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = ac.conv(x, kernel, padding="same", algorithm=algorithm)
    assert sum(storage.nbytes() for storage in kept.values()) <= x.nbytes + kernel.nbytes + 1024
    expected = torch.nn.functional.conv2d(x, kernel, padding=2)
    sides = [torch.autograd.grad(result.pow(2).sum(), (x, kernel)) for result in (y, expected)]
    torch.testing.assert_close(*sides, rtol=1e-4, atol=1e-2)


def compiled(function: Any, backend: str, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend, **options)


def check_compiled(function: Any, own: Any, arrays: list[Array]) -> None:
    """Values and gradients."""
    sides = [with_gradient(arrays), with_gradient(arrays)]
    results = [call(*side) for call, side in zip((own, function), sides, strict=True)]
    close(results[0].detach(), results[1].detach())
    for got, expected in zip(
        *(torch.autograd.grad(y.pow(2).sum(), side) for y, side in zip(results, sides, strict=True)), strict=True
    ):
        close(got, expected)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", LINEAR)
def test_torch_compiles_every_operation(name: str, backend: str) -> None:
    example = first_example(name)
    function = partial(OPERATIONS[name].function, **example.options)
    check_compiled(
        function, compiled(function, backend), [torch.tensor(array) for array in samples(example, "float64")]
    )


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [None, True])
def test_torch_compiles_for_a_second_shape(backend: str, dynamic: bool | None) -> None:
    own = compiled(conv, backend, dynamic=dynamic)
    for batch, size in ((2, 9), (3, 9), (4, 11), (1, 12)):
        _, kernel, bias = drawn(torch.tensor)
        check_compiled(conv, own, [torch.tensor(sample((batch, 4, size), "float64")), kernel, bias])


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_torch_compiles_tiles(algorithm: str) -> None:
    with ac.settings(workspace=2**9):
        own = partial(conv, algorithm=algorithm)
        check_compiled(own, compiled(own, "aot_eager"), drawn(torch.tensor))


def test_torch_compiles_what_surrounds_a_call() -> None:
    """Parameters, a stride and a padding that change, `vjp`, and vmap of grad."""
    x, kernel, bias = drawn(torch.tensor)
    layer = torch.nn.ParameterDict({"kernel": kernel, "bias": bias})
    close(compiled(lambda x: conv(x, layer["kernel"], layer["bias"]), "eager")(x).detach(), conv(x, kernel, bias))
    strided = compiled(lambda x, s: ac.conv(x, kernel, groups=2, stride=s, padding=x.shape[-1] // 2), "eager")
    for stride in (1, 2, 3):
        close(strided(x, stride), ac.conv(x, kernel, groups=2, stride=stride, padding=4))
    pulled = compiled(lambda x, dy: ac.vjp(ac.conv, x, kernel, **OPTIONS)[1](dy), "aot_eager")
    dy = torch.ones_like(conv(x, kernel, bias))
    torch.testing.assert_close(pulled(x, dy), ac.vjp(ac.conv, x, kernel, **OPTIONS)[1](dy))
    each = func.vmap(func.grad(loss, 1), (0, None, None))
    close(compiled(each, "aot_eager")(x[None], kernel, bias), each(x[None], kernel, bias))


FIRST_CALL = """
import warnings
warnings.simplefilter("error")
import torch, arrayconv as ac
compiled = torch.compile(lambda x, k: ac.conv(x, k, padding="same"), fullgraph=True, backend="eager")
x, kernel = torch.ones(2, 4, 9), torch.nn.Parameter(torch.ones(6, 4, 3))
compiled(x, kernel).sum().backward()
print(tuple(kernel.grad.shape))
"""


def test_torch_compiles_the_first_call_of_a_process() -> None:
    """With no cache filled by an eager call before."""
    done = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=False)
    assert done.stdout == "(6, 4, 3)\n", done.stderr
