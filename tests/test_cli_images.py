"""``filter`` and ``learn`` on images: SciPy's and scikit-image's filters are the oracle."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage.filters
from imaging import MODES, RNG, SCIPY, make, run
from PIL import Image
from skimage import data

import arrayconv as ac
from arrayconv.boundary import BOUNDARIES
from arrayconv.cli import learn
from arrayconv.cli.filter import FILTERS

#: What --kernel says: the values that should be written for a matrix, before they are rounded.
EXPECTED = {
    "sobel": lambda x: skimage.filters.sobel(x, mode="mirror"),
    "sobel:0": lambda x: abs(skimage.filters.sobel(x, axis=0, mode="mirror")),
    "scharr": lambda x: skimage.filters.scharr(x, mode="mirror"),
    "scharr:-1": lambda x: abs(skimage.filters.scharr(x, axis=1, mode="mirror")),
    "prewitt": lambda x: skimage.filters.prewitt(x, mode="mirror"),
    "laplacian": lambda x: abs(ndi.laplace(x, mode="mirror")),
    "edges": lambda x: abs(np.diff(np.pad(x, ((0, 0), (1, 0)), mode="reflect"))),
    "gabor:0.2,0.5": lambda x: np.hypot(*skimage.filters.gabor(x, 0.2, 0.5, mode="mirror")),
    "gaussian:1.5": lambda x: ndi.gaussian_filter(x, 1.5, mode="mirror"),
    "gaussian:2,5e-1": lambda x: ndi.gaussian_filter(x, (2, 0.5), mode="mirror"),
    "box:3": lambda x: ndi.uniform_filter(x, 3, mode="mirror"),
    "box:4x5": lambda x: ndi.uniform_filter(x, (4, 5), mode="mirror"),
    "sharpen": lambda x: x - ndi.laplace(x, mode="mirror"),
    "sharpen:0.3": lambda x: x - 0.3 * ndi.laplace(x, mode="mirror"),
}


def assert_filtered(result, image, expected):
    """The mode of ``image``; in each band the nearest value that it holds, alpha as it was."""
    assert (result.mode, result.size) == (image.mode, image.size)
    for name, before, after in zip(image.getbands(), image.split(), result.split(), strict=True):
        old, new = np.asarray(before), np.asarray(after)
        assert new.dtype == old.dtype
        if name == "A":
            np.testing.assert_array_equal(new, old)
        elif old.dtype == np.float32:
            np.testing.assert_allclose(new, expected(old.astype(float)), rtol=1e-6, atol=1e-6)
        else:
            limits = np.iinfo(old.dtype)
            exact = np.clip(expected(old.astype(float)), limits.min, limits.max)
            assert abs(new - exact).max() <= 0.5 + 1e-6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_kernel_is_offered_and_tested():
    helpers = {"read_number", "as_like"}
    public = {
        name for name, value in vars(ac.kernels).items() if getattr(value, "__module__", "") == ac.kernels.__name__
    }
    assert {name for name in public - helpers if name[0] != "_"} == set(FILTERS)
    assert {text.partition(":")[0] for text in EXPECTED} == set(FILTERS)


@pytest.mark.parametrize("mode", ["RGB", "F"])
@pytest.mark.parametrize("kernel", EXPECTED)
def test_filter_gives_what_scipy_gives(kernel, mode, folder, capsys):
    image, suffix = make(mode), MODES[mode][0]
    image.save(f"photo{suffix}")
    run(f"filter photo{suffix} out{suffix} --kernel {kernel}")
    assert capsys.readouterr() == ("", "")
    with Image.open(f"out{suffix}") as result:
        assert_filtered(result, image, EXPECTED[kernel])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", ["sharpen", "sobel"])
def test_filter_keeps_the_mode(kernel, mode, folder):
    image, suffix = make(mode), MODES[mode][0]
    image.save(f"photo{suffix}")
    run(f"filter photo{suffix} photo{suffix} --kernel {kernel}")  # onto itself
    with Image.open(f"photo{suffix}") as result:
        assert_filtered(result, image, EXPECTED[kernel])


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_filter_takes_every_boundary(boundary, folder):
    image = make("L", (3, 5))
    image.save("photo.png")
    run(f"filter photo.png out.png --kernel gaussian:2 --boundary {boundary}")
    with Image.open("out.png") as result:
        assert_filtered(result, image, lambda x: ndi.gaussian_filter(x, 2, mode=SCIPY[boundary]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", ">f8", "complex64"])
def test_filter_takes_a_kernel_from_a_file(dtype, folder):
    kernel = (3 * RNG.random((4, 3)) - 1).astype(dtype)
    if dtype == "complex64":
        kernel += 1j * RNG.random((4, 3), np.float32)
    np.save("kernel.npy", kernel)
    image = make("L")
    image.save("photo.png")
    run("filter photo.png out.png --kernel kernel.npy")

    def expected(x):
        y = ndi.correlate(
            x.astype(kernel.dtype if dtype == "complex64" else float), kernel.astype(complex), mode="mirror"
        )
        return abs(y) if dtype == "complex64" else y.real

    with Image.open("out.png") as result:
        assert_filtered(result, image, expected)


@pytest.mark.parametrize(
    ("mode", "save", "became"),
    [
        ("1", {}, "L"),
        ("P", {}, "RGB"),
        ("P", {"transparency": 3}, "RGBA"),
        ("L", {"transparency": 3}, "LA"),
        ("RGB", {"transparency": (1, 2, 3)}, "RGBA"),
    ],
)
def test_filter_reads_what_pixels_stand_for(mode, save, became, folder):
    shown = Image.fromarray(RNG.integers(0, 5, (6, 8, 3), np.uint8)).convert(mode)
    shown.save("photo.png", **save)
    with Image.open("photo.png") as photo:
        colors = photo.convert(became)
    run("filter photo.png out.png --kernel box:3x3")
    with Image.open("out.png") as result:
        assert result.mode == became
        assert_filtered(result, colors, EXPECTED["box:3"])


def test_filter_turns_upright_and_keeps_the_profile(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    make("RGB", (4, 9)).save("photo.png", exif=exif, icc_profile=b"colours")
    run("filter photo.png out.png --kernel gaussian:0")
    with Image.open("out.png") as result, Image.open("photo.png") as photo:
        assert result.info["icc_profile"] == b"colours"
        assert not result.getexif()
        np.testing.assert_array_equal(result, np.rot90(np.asarray(photo), -1))


@pytest.mark.parametrize(("suffix", "form"), [(".PNG", "PNG"), (".jpg", "JPEG"), (".tiff", "TIFF"), (".bmp", "BMP")])
def test_the_suffix_says_the_format(suffix, form, folder):
    make("L").save("photo.png")
    run(f"filter photo.png out{suffix} --kernel sobel")
    with Image.open(f"out{suffix}") as result:
        assert result.format == form


def losses(output):
    """The table of losses that was printed: step and loss."""
    return {int(step): float(loss) for step, loss in re.findall(r"^ +(\d+)  (\S+)$", output, re.M)}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_learn_finds_the_kernel_and_filter_applies_it(boundary, folder, capsys):
    photo, kernel = RNG.standard_normal((40, 50)).astype(np.float32), RNG.standard_normal((3, 4))
    target = ndi.correlate(photo.astype(float), kernel, mode=SCIPY[boundary]).astype(np.float32)
    Image.fromarray(photo).save("photo.tif")
    Image.fromarray(target).save("target.tif")
    run(f"learn photo.tif target.tif --shape 3x4 --steps 400 --save k.npy --boundary {boundary}")
    output, error = capsys.readouterr()
    assert error == ""
    table = losses(output)
    assert list(table) == [0, 1, 3, 10, 30, 100, 300, 400]
    assert table[0] == pytest.approx((target.astype(float) ** 2).mean(), rel=1e-4)
    assert table[400] < 1e-6 * table[0]
    np.testing.assert_allclose(np.load("k.npy"), kernel, atol=2e-3)
    run(f"filter photo.tif out.tif --kernel k.npy --boundary {boundary}")
    with Image.open("out.tif") as result:
        np.testing.assert_allclose(result, target, atol=2e-2)


def test_learn_takes_steps_enough_for_a_photograph(folder, capsys):
    """As close as least squares comes, from images of 8 bits, and the table stays short."""
    Image.fromarray(data.camera()).save("photo.png")
    run("filter photo.png target.png --kernel gaussian:1.5")
    run("learn photo.png target.png --shape 13x13 --save k.npy")
    table = losses(capsys.readouterr().out)
    assert list(table) == [0, 1, 3, 10, 30, 100, 300, 1000, learn.STEPS]
    blur = ac.kernels.gaussian(1.5)
    photo, target = (np.asarray(Image.open(name), np.float64) / 255 for name in ("photo.png", "target.png"))
    best = ac.solve_kernel(photo, target, blur.shape, padding="same", boundary="reflect")
    assert table[learn.STEPS] < 1.001 * best.loss / photo.size
    assert np.linalg.norm(np.load("k.npy") - blur) < 0.01 * np.linalg.norm(blur)


def test_learn_counts_white_as_one(folder, capsys):
    """An image of 8 bits and the same one of 16 differ by nothing."""
    gray = np.asarray(make("L"))
    Image.fromarray(gray).save("photo.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save("target.png")
    run("learn photo.png target.png --shape 1x1 --steps 300 --save k.npy")
    np.testing.assert_allclose(np.load("k.npy"), [[1]], atol=1e-4)


def test_learn_without_steps_gives_zeros(folder, capsys):
    make("L").save("photo.png")
    run("learn photo.png photo.png --shape 2x2 --steps 0 --save k.npy")
    assert list(losses(capsys.readouterr().out)) == [0]
    np.testing.assert_array_equal(np.load("k.npy"), np.zeros((2, 2)))


@pytest.mark.parametrize("value", [0, 255])
def test_learn_takes_images_of_one_value(value, folder, capsys):
    Image.new("L", (5, 4), value).save("photo.png")
    run("learn photo.png photo.png --shape 3x3 --steps 50 --plot fit.png")
    assert losses(capsys.readouterr().out)[50] < 1e-3


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("installed", [False, True])
def test_learn_shows_a_bar_on_a_terminal(installed, terminal, folder, monkeypatch, capsys):
    seen = {}

    def learn_kernel(*args, **options):
        seen.update(options)
        return ac.learn_kernel(*args, **options | {"progress": False, "method": "auto"})

    make("L").save("photo.png")
    monkeypatch.setattr(learn, "learn_kernel", learn_kernel)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    run("learn photo.png photo.png --shape 3x3 --steps 2 --method gram")
    assert seen["progress"] == (installed and terminal)
    assert (seen["method"], seen["steps"]) == ("gram", 2)


@pytest.mark.parametrize("shape", [(30, 40), (1, 60), (60, 1)])
def test_learn_draws_images_kernel_and_losses(shape, folder, capsys):
    image = make("L", shape)
    image.save("photo.png")
    run("filter photo.png target.png --kernel sharpen")
    run("learn photo.png target.png --shape 3x3 --steps 20 --plot fit.png")
    with Image.open("fit.png") as figure:
        pixels = np.asarray(figure.convert("RGB")).astype(int)
    assert figure.format == "PNG"
    assert 300 < max(figure.size) < 5000
    lower = pixels[len(pixels) // 2 :]  # residual and kernel have signs
    assert ((lower[..., 0] - lower[..., 2]) > 60).any()
    assert ((lower[..., 2] - lower[..., 0]) > 60).any()
