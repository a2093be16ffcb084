"""``python -m arrayconv digits``: images of digits compressed into labels.

The notebook ends on the thought that machine learning is semantic compression: what an image says becomes a label. Here
64 pixels become one of ten digits, by a small network that is trained under `jax.jit` on scikit-learn's 8x8 digits.
`network` is written once; JAX differentiates and compiles it, and NumPy, PyTorch and Dask run what was learned.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import arrayconv as ac

from ..arguments import read_int
from ..backend import Backend
from . import UsageError
from .files import require
from .notebook import import_backends

Array = Any
Params = Any

#: Of each layer: output channels, and the side of the window of which `max_pool` keeps the largest.
LAYERS = ((16, 1), (32, 2), (64, 2))

#: Images in one step of Adam; its rate, which falls to zero; noise on the pixels, a new one at every look.
BATCH, RATE, NOISE = 32, 5e-3, 0.1

#: Images that the network never sees while it learns.
HELD_OUT = 360


class Digits(NamedTuple):
    """Images ``(N, 1, 8, 8)`` with pixels from 0 to 1, and labels ``(N,)`` from 0 to 9."""

    images: Array
    labels: Array


def load() -> Digits:
    """The images that come with scikit-learn, of 17 shades."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Digits(digits.images[:, None].astype(np.float32) / 16, digits.target.astype(np.int32))


def network(params: Params, images: Array) -> Array:
    """Ten scores for each image ``(..., 1, 8, 8)``, of any library: the largest says which digit it is."""
    *layers, (weights, bias) = params
    x = images
    for (kernel, offset), (_, window) in zip(layers, LAYERS, strict=True):
        x = ac.conv(x, kernel, offset, padding="same")
        x = ac.max_pool(x * (x > 0), (window, window))
    return x.reshape(*x.shape[:-3], -1) @ weights + bias


def init(seed: int, like: Array) -> Params:
    """A kernel and a bias for each layer, weights and a bias for the scores."""
    inputs, side, params = 1, 8, []
    for outputs, window in LAYERS:
        kernel = ac.init_kernel((outputs, inputs, 3, 3), like=like, seed=seed)
        params.append((kernel, np.zeros(outputs, np.float32)))
        inputs, side, seed = outputs, side // window, seed + 1
    weights = ac.init_kernel((inputs * side**2, 10), like=like, seed=seed)
    return (*params, (weights, np.zeros(10, np.float32)))


def train(data: Digits, seed: int, epochs: int) -> Iterator[tuple[float, Params]]:
    """The mean loss of every epoch, and the parameters after it. An epoch is one compiled call."""
    import jax
    from jax import numpy as jnp

    images, labels = map(jnp.asarray, data)
    steps = len(images) // BATCH

    def loss(params: Params, image: Array, label: Array) -> Array:
        scores = network(params, image)
        return jax.nn.logsumexp(scores) - scores[label]  # -log of the label's probability

    def mean_loss(params: Params, images: Array, labels: Array) -> Array:
        return jax.vmap(loss, (None, 0, 0))(params, images, labels).mean()

    def step(carry: Any, batch: Any) -> Any:
        (params, state, count), (key, chosen) = carry, batch
        noise = NOISE * jax.random.normal(key, images[chosen].shape, images.dtype)
        value, grads = jax.value_and_grad(mean_loss)(params, images[chosen] + noise, labels[chosen])
        optimizer = ac.adam(RATE * (1 - count / (epochs * steps)))
        updates, state = optimizer.update(grads, state, params)
        return (jax.tree.map(jnp.add, params, updates), state, count + 1), value

    @jax.jit
    def epoch(carry: Any, key: Array) -> Any:
        order, noise = jax.random.split(key)
        batches = jax.random.permutation(order, len(images))[: steps * BATCH].reshape(steps, BATCH)
        return jax.lax.scan(step, carry, (jax.random.split(noise, steps), batches))

    params = jax.tree.map(jnp.asarray, init(seed, data.images))
    carry = (params, ac.adam(RATE).init(params), 0)
    for key in jax.random.split(jax.random.key(seed), epochs):
        carry, losses = epoch(carry, key)
        yield float(losses.mean()), carry[0]


def split(data: Digits, seed: int) -> tuple[Digits, Digits]:
    """What is learned from, and what is held out."""
    order = np.random.default_rng(seed).permutation(len(data.labels))
    held, rest = order[:HELD_OUT], order[HELD_OUT:]
    return Digits(*(part[rest] for part in data)), Digits(*(part[held] for part in data))


def labels_by(backend: Backend, params: Params, images: Array) -> Array:
    """The labels that the network gives on the arrays of one library."""
    asarray = backend.xp.asarray
    own = [tuple(map(asarray, layer)) for layer in params]
    return backend.to_numpy(network(own, asarray(images)).argmax(-1))


def entropy(values: Array) -> float:
    """Bits a value, by how often each occurs: ``-sum p log2 p``."""
    _, counts = np.unique(values, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


def tell_bits(data: Digits) -> None:
    """Print what an image holds, and what its label."""
    pixels, shades, each = math.prod(data.images.shape[1:]), len(np.unique(data.images)), entropy(data.images)
    image, label = pixels * each, math.log2(10)
    print(f"bits of an image: {pixels * math.log2(shades):6.1f}, {pixels} pixels of {shades} shades")
    print(f"                  {image:6.1f}, {pixels} times a pixel's entropy of {each:.2f}")
    print(f"bits of a label:  {label:6.1f}, log2 of 10 digits: an image's entropy by {image / label:.0f}")


def tell_labels(params: Params, held: Digits) -> bool:
    """Print how many labels every library finds, and how many of them are JAX's; whether all are."""
    backends = import_backends()
    ours = labels_by(backends["jax"], params, held.images)
    print(f"accuracy on held-out images: {np.mean(ours == held.labels):.2%}")
    agree = True
    for name in [name for name in backends if name not in ("jax", "array_api_strict")]:
        same = int((labels_by(backends[name], params, held.images) == ours).sum())
        print(f"the same network on {name}: {same} of {len(ours)} labels are the same")
        agree = agree and same == len(ours)
    return agree


def add(parser: ArgumentParser) -> None:
    """The seed and the epochs."""
    parser.add_argument("--seed", type=int, default=0, help="of split, start and noise (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=14, metavar="N", help="looks at each image (default: %(default)s)"
    )


def run(args: Namespace) -> int:
    """Train, and print; 0 where every library gives the same labels."""
    try:
        seed, epochs = read_int("digits", "seed", args.seed, 0), read_int("digits", "epochs", args.epochs, 1)
    except ValueError as error:
        raise UsageError(str(error).removeprefix("digits: ")) from error
    require("digits", "jax", "sklearn")
    import jax

    data = load()
    known, held = split(data, seed)
    print(f"{len(known.labels)} images of 8x8 pixels to learn from, {len(held.labels)} held out")
    learned = init(seed, known.images)
    for epoch, (loss, params) in enumerate(train(known, seed, epochs), 1):
        print(f"epoch {epoch:2}: loss {loss:.4f}", flush=True)
        learned = params
    agree = tell_labels(jax.tree.map(np.array, learned), held)
    tell_bits(data)
    return 0 if agree else 1
