"""``digits``: the accuracy on held-out images, the bits, and the same labels from every library."""

from __future__ import annotations

import re
import sys

import jax
import numpy as np
import pytest

from arrayconv import cli
from arrayconv.backend import installed_libraries
from arrayconv.cli import digits


@pytest.fixture(scope="module")
def data():
    return digits.load()


def untrained(known, seed, epochs):
    """In place of `digits.train`: the network as it starts."""
    yield 2.5, digits.init(seed, known.images)


def test_digits_are_learned_and_every_library_gives_the_same_labels(capsys):
    assert cli.main(["digits", "--seed", "0"]) == 0
    output, error = capsys.readouterr()
    assert error == ""
    losses = [float(loss) for loss in re.findall(r"^epoch +\d+: loss (\S+)$", output, re.M)]
    assert len(losses) == 14
    assert losses[-1] < 0.1 < 1 < losses[0]
    assert float(re.search(r"accuracy on held-out images: (\S+)%", output)[1]) >= 98
    same = re.findall(r"^the same network on (\w+): 360 of 360 labels are the same$", output, re.M)
    assert same == [name for name in installed_libraries() if name not in ("jax", "array_api_strict")]
    assert {"numpy", "torch"} <= set(same)
    assert re.findall(r"^bits of an? (?:image|label): +([\d.]+),", output, re.M) == ["261.6", "3.3"]
    assert max(map(len, output.splitlines())) <= 80


def test_training_repeats_itself(data):
    known, _ = digits.split(data, 0)
    some = digits.Digits(*(part[:128] for part in known))
    (first, params), (second, again) = (next(digits.train(some, seed=3, epochs=2)) for _ in range(2))
    assert first == second
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_held_out_images_are_never_learned_from(data):
    known, held = digits.split(data._replace(labels=np.arange(len(data.labels))), seed=5)
    assert (len(known.labels), len(held.labels)) == (1437, 360)
    assert sorted([*known.labels, *held.labels]) == list(range(1797))
    np.testing.assert_array_equal(held.images, data.images[held.labels])
    np.testing.assert_array_equal(known.images, data.images[known.labels])


def test_network_is_the_same_by_hand(data):
    """In float64, with loops over windows in place of the library's operations."""
    images = data.images[:2].astype(np.float64)
    params = jax.tree.map(lambda part: np.asarray(part, np.float64), digits.init(7, data.images))
    *layers, (weights, bias) = params
    x = images
    for (kernel, offset), (_, window) in zip(layers, digits.LAYERS, strict=True):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        x = np.maximum(np.einsum("ncijab,ocab->noij", views, kernel) + offset[:, None, None], 0)
        n, c, rows, columns = x.shape
        x = x.reshape(n, c, rows // window, window, columns // window, window).max((3, 5))
    expected = x.reshape(2, -1) @ weights + bias
    np.testing.assert_allclose(digits.network(params, images), expected, rtol=1e-12)
    np.testing.assert_allclose(digits.network(params, images[0]), expected[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "bits"),
    [(np.zeros(5), 0), (np.arange(8), 3), ([0, 0, 1, 2], 1.5), ([[1, 1], [0, 1]], 0.8112781244591328)],
)
def test_entropy(values, bits):
    assert digits.entropy(np.asarray(values)) == pytest.approx(bits)


def test_other_labels_are_exit_code_1(monkeypatch, capsys):
    labels_by = digits.labels_by

    def off_by_one(backend, params, images):
        labels = labels_by(backend, params, images)
        return labels if backend.name != "torch" else np.where(np.arange(360) == 7, labels + 1, labels)

    monkeypatch.setattr(digits, "train", untrained)
    monkeypatch.setattr(digits, "labels_by", off_by_one)
    assert cli.main(["digits"]) == 1
    assert "the same network on torch: 359 of 360 labels are the same\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("digits --seed -1", "digits: seed must be >= 0, got -1"),
        ("digits --epochs 0", "digits: epochs must be >= 1, got 0"),
        ("digits --epochs few", "digits: argument --epochs: invalid int value: 'few'"),
        ("digits photo.png", "digits: unrecognized arguments: photo.png"),
    ],
)
def test_bad_argument_is_one_line(line, message, capsys):
    assert cli.main(line.split()) == 2
    assert capsys.readouterr() == ("", f"python -m arrayconv {message}\n")


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        (("jax",), "jax; run: pip install jax"),
        (("jax", "sklearn"), "jax and scikit-learn; run: pip install jax scikit-learn"),
    ],
)
def test_missing_extras_are_named(missing, advice, monkeypatch, capsys):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["digits"]) == 2
    assert capsys.readouterr() == ("", f"python -m arrayconv digits: digits needs {advice}\n")


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["digits", "--help"])
    assert stop.value.code == 0
    assert "--epochs N" in capsys.readouterr().out
