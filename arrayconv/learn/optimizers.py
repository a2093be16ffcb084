"""Optimisers as pairs of pure functions, optax's protocol: one serves where the other does.

    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)      # params + updates are the next params

Parameters are an array, None, or tuples, named tuples, lists and dicts of parameters. Only operators of Python
touch the arrays, so these equations hold for every library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from numbers import Real
from typing import Any, NamedTuple

from ..arguments import read_flag
from ..kernels import read_number

Tree = Any
State = Any


class Optimizer(NamedTuple):
    """``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``."""

    init: Callable[[Tree], State]
    update: Callable[..., tuple[Tree, State]]


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """``function`` of every leaf of ``tree`` and its counterparts in ``others``; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree}
    if not isinstance(tree, tuple | list):
        return function(tree, *others)
    parts = [tree_map(function, *leaves) for leaves in zip(tree, *others, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def read_scalar(op: str, name: str, value: Any, **limits: float) -> Any:
    """A number as a float; an array without axes, such as one that JAX traces, as it is."""
    if not isinstance(value, Real) and getattr(value, "shape", None) == ():
        return value
    return read_number(op, name, value, **limits)


def _read_decay(op: str, name: str, value: Any) -> Any:
    value = read_scalar(op, name, value, minimum=0)
    if isinstance(value, float) and value >= 1:
        raise ValueError(f"{op}: {name} must be < 1, got {value}; usual values are 0.9 and 0.999")
    return value


def _make(init: Any, update: Any, *numbers: Any) -> Optimizer:
    """One object for equal numbers, so that a function jitted with it is not traced again; arrays don't hash."""
    plain = all(isinstance(number, float) for number in numbers)
    optimizer: Optimizer = (_same if plain else _same.__wrapped__)(init, update, *numbers)
    return optimizer


@cache
def _same(init: Any, update: Any, *numbers: Any) -> Optimizer:
    return Optimizer(init, partial(update, *numbers))


def split_optimizer(optimizer: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """The functions of an optimiser of this module, which hash, and its numbers; None for any other.

    ``Optimizer(init, partial(update, *numbers))`` is the optimiser again, for arrays in place of numbers too.
    """
    update = getattr(optimizer.update, "func", None)
    return ((optimizer.init, update), optimizer.update.args) if update in _UPDATES else None


def sgd(rate: float, momentum: float = 0.0, nesterov: bool = False) -> Optimizer:
    """Gradient descent, with ``momentum`` the heavy ball's, or Nesterov's.

        v <- g + momentum * v        p <- p - rate * v        Nesterov: p <- p - rate * (g + momentum * v)

    The same equations as optax's and PyTorch's. Source: Sutskever et al., "On the importance of initialization
    and momentum in deep learning", 2013. Raises `ValueError` for a negative ``rate``, for a ``momentum`` outside
    [0, 1), and for ``nesterov`` without momentum. Equal arguments give the same object.

    >>> optimizer = sgd(0.5)
    >>> state = optimizer.init((2.0, None))
    >>> optimizer.update((3.0, None), state)
    ((-1.5, None), ())
    >>> sgd(0.5) is optimizer
    True
    """
    rate, momentum = read_scalar("sgd", "rate", rate, minimum=0), _read_decay("sgd", "momentum", momentum)
    plain = isinstance(momentum, float) and momentum == 0
    if read_flag("sgd", "nesterov", nesterov) and plain:
        raise ValueError("sgd: nesterov=True does nothing with momentum=0.0; pass a momentum, for example 0.9")
    if plain:
        return _make(_stateless, _descent, rate)
    return _make(_zeros, _nesterov if nesterov else _heavy_ball, rate, momentum)


def _stateless(params: Tree) -> State:
    return ()


def _zeros(params: Tree) -> Tree:
    return tree_map(lambda p: 0 * p, params)


def _descent(rate: Any, grads: Tree, state: State, params: Tree = None) -> tuple[Tree, State]:
    return tree_map(lambda g: -rate * g, grads), state


def _heavy_ball(rate: Any, momentum: Any, grads: Tree, state: State, params: Tree = None) -> tuple[Tree, State]:
    velocity = tree_map(lambda g, v: g + momentum * v, grads, state)
    return tree_map(lambda v: -rate * v, velocity), velocity


def _nesterov(rate: Any, momentum: Any, grads: Tree, state: State, params: Tree = None) -> tuple[Tree, State]:
    velocity = tree_map(lambda g, v: g + momentum * v, grads, state)
    return tree_map(lambda g, v: -rate * (g + momentum * v), grads, velocity), velocity


class AdamState(NamedTuple):
    """Running means of the gradient and of its squared magnitude, and the means of 1 with the decay of either."""

    mean: Tree
    square: Tree
    weights: tuple[Any, Any]


def adam(rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adam, with the bias of its running means corrected; a complex gradient counts by its magnitude.

        m <- b1 m + (1 - b1) g        s <- b2 s + (1 - b2) |g|^2        at the t-th update
        p <- p - rate * (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015. Raises `ValueError` for a negative
    ``rate`` or ``eps`` and for a decay outside [0, 1). Equal arguments give the same object.

    >>> optimizer = adam(0.5, eps=0.0)
    >>> updates, state = optimizer.update((3.0,), optimizer.init((2.0,)))
    >>> round(updates[0], 12), round(state.mean[0], 12)
    (-0.5, 0.3)
    """
    rate, eps = read_scalar("adam", "rate", rate, minimum=0), read_scalar("adam", "eps", eps, minimum=0)
    b1, b2 = _read_decay("adam", "b1", b1), _read_decay("adam", "b2", b2)
    return _make(_no_means, _adam, rate, b1, 1 - b1, b2, 1 - b2, eps)


def _no_means(params: Tree) -> State:
    return AdamState(_zeros(params), tree_map(abs, _zeros(params)), (0.0, 0.0))


def _adam(
    rate: Any, b1: Any, new1: Any, b2: Any, new2: Any, eps: Any, grads: Tree, state: State, params: Tree = None
) -> tuple[Tree, State]:
    """``new1`` and ``new2`` are 1 - b1 and 1 - b2, taken in double precision: in single it may be 0, as may 1 - b^t.

    The running mean of 1 is 1 - b^t; its first value is ``new``, and it rounds as the means that it divides.
    """
    mean = tree_map(lambda g, m: b1 * m + new1 * g, grads, state.mean)
    square = tree_map(lambda g, s: b2 * s + new2 * abs(g) ** 2, grads, state.square)
    weight1, weight2 = (b * weight + new for b, new, weight in zip((b1, b2), (new1, new2), state.weights, strict=True))

    def step(m: Any, s: Any) -> Any:
        return -rate * (m / weight1) / ((s / weight2) ** 0.5 + eps)

    return tree_map(step, mean, square), AdamState(mean, square, (weight1, weight2))


#: What `split_optimizer` knows.
_UPDATES = (_descent, _heavy_ball, _nesterov, _adam)
