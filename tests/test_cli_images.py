"""``filter`` and ``learn`` on files: SciPy's and scikit-image's filters are the oracle, and nothing is half written."""

from __future__ import annotations

import re
import struct
import sys
import zlib

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage.filters
from PIL import Image

import arrayconv as ac
from arrayconv import cli
from arrayconv.boundary import BOUNDARIES
from arrayconv.cli import learn
from arrayconv.cli.filter import FILTERS

RNG = np.random.default_rng(0)

#: Ours: SciPy's name of the same boundary.
SCIPY = {"constant": "constant", "edge": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "grid-wrap"}

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

#: Mode: a suffix whose format holds it, the dtype of a band, and what is drawn from to fill it.
MODES = {
    "L": (".png", np.uint8, 256),
    "LA": (".png", np.uint8, 256),
    "RGB": (".png", np.uint8, 256),
    "RGBA": (".tif", np.uint8, 256),
    "CMYK": (".tif", np.uint8, 256),
    "I;16": (".png", np.uint16, 65536),
    "I": (".tif", np.int32, 2**31),
    "F": (".tif", np.float32, 1),
}


def make(mode, shape=(12, 17)):
    """An image of random pixels of the whole range of its mode."""
    _, dtype, top = MODES[mode]
    bands = [(top * RNG.random(shape)).astype(dtype) for _ in range(1 if ";" in mode else len(mode))]
    return Image.merge(mode, [Image.fromarray(band) for band in bands]) if len(bands) > 1 else Image.fromarray(bands[0])


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


def run(line, code=0):
    assert cli.main(line.split()) == code


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


def deep_png(path):
    """A PNG of 16 bits a colour, which Pillow can't write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header, rows = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0), zlib.compress(bytes(1 + 12))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.fixture
def files(folder):
    """Good and bad files to name; none may be changed or joined by others."""
    make("RGB", (9, 9)).save("photo.png")
    make("RGBA", (9, 9)).save("clear.png")
    make("L", (9, 8)).save("narrow.png")
    deep_png(folder / "deep.png")
    whole = (folder / "photo.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.npy").write_text("no array")
    (folder / "folder.png").mkdir()
    kernels = {
        "objects": np.array([[print]]),
        "line": np.ones(3),
        "none": np.ones((0, 3)),
        "true": np.ones((2, 2), bool),
    }
    for name, kernel in (kernels | {"nan": np.array([[np.nan]])}).items():
        np.save(f"{name}.npy", kernel)
    return folder


def listing(folder):
    return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}


BAD = [
    ("filter photo.png", "filter: the following arguments are required: output, --kernel"),
    ("filter photo.png out.png", "filter: the following arguments are required: --kernel"),
    ("filter nowhere.png out.png --kernel sobel", "filter: photo nowhere.png: No such file or directory"),
    ("filter text.npy out.png --kernel sobel", "filter: photo text.npy: cannot identify image file 'text.npy'"),
    ("filter cut.png out.png --kernel sobel", "filter: photo cut.png: .*"),
    (
        "filter deep.png out.png --kernel sobel",
        "filter: photo deep.png has 16 bits a colour, of which Pillow reads 8; .*",
    ),
    (
        "filter photo.png out.xyz --kernel sobel",
        "filter: output out.xyz must end as an image does, for example in .png, .*",
    ),
    ("filter photo.png out --kernel sobel", "filter: output out must end as an image does, .*"),
    ("filter photo.png no/out.png --kernel sobel", "filter: argument output: 'no' is not a directory"),
    ("filter photo.png folder.png --kernel sobel", "filter: argument output: 'folder.png' is there and is not a file"),
    ("filter clear.png out.jpg --kernel sobel", "filter: output out.jpg: cannot write mode RGBA as JPEG"),
    (
        "filter photo.png out.png --kernel sobbel",
        "filter: --kernel sobbel is not one of sobel, .*, nor a file .* in .npy",
    ),
    ("filter photo.png out.png --kernel gaussian", r"filter: --kernel gaussian is not of the form gaussian:SIGMA\[.*"),
    ("filter photo.png out.png --kernel gaussian:", "filter: --kernel gaussian: is not of the form gaussian:SIGMA.*"),
    ("filter photo.png out.png --kernel gaussian:x", "filter: --kernel gaussian:x is not of the form gaussian:SIGMA.*"),
    ("filter photo.png out.png --kernel gaussian:1,2,3", "filter: --kernel gaussian:1,2,3 is not of the form .*"),
    ("filter photo.png out.png --kernel gaussian:-1", "filter: --kernel gaussian:-1: gaussian: sigma must be >= 0, .*"),
    ("filter photo.png out.png --kernel sobel:2", "filter: --kernel sobel:2: sobel: axis=2 is not an axis of .*"),
    ("filter photo.png out.png --kernel sobel:", r"filter: --kernel sobel: is not of the form sobel\[:AXIS\], .*"),
    ("filter photo.png out.png --kernel edges:1", "filter: --kernel edges:1 is not of the form edges, .*"),
    ("filter photo.png out.png --kernel box:3x0", "filter: --kernel box:3x0: box: window.* must be >= 1, .*"),
    ("filter photo.png out.png --kernel box:2.5", "filter: --kernel box:2.5: box: window.* an int.*"),
    ("filter photo.png out.png --kernel gabor:0", "filter: --kernel gabor:0: gabor: frequency must be > 0, .*"),
    ("filter photo.png out.png --kernel none.npy", r"filter: --kernel none.npy holds float64 of shape \(0, 3\); .*"),
    (
        "filter photo.png out.png --kernel line.npy",
        r"filter: --kernel line.npy holds .* a kernel is a matrix of finite .*",
    ),
    ("filter photo.png out.png --kernel true.npy", "filter: --kernel true.npy holds bool of .*"),
    ("filter photo.png out.png --kernel nan.npy", "filter: --kernel nan.npy holds .*"),
    ("filter photo.png out.png --kernel text.npy", "filter: --kernel text.npy: the magic string is not correct; .*"),
    (
        "filter photo.png out.png --kernel objects.npy",
        "filter: --kernel objects.npy: Object arrays cannot be loaded when .*",
    ),
    ("filter photo.png out.png --kernel absent.npy", "filter: --kernel absent.npy: No such file or directory"),
    ("filter photo.png out.png --kernel sobel --boundary odd", "filter: argument --boundary: invalid choice: 'odd' .*"),
    ("learn photo.png photo.png", "learn: the following arguments are required: --shape"),
    ("learn photo.png photo.png --shape 9", "learn: argument --shape: '9' is not the shape of a kernel; .*"),
    ("learn photo.png photo.png --shape 9x0", "learn: argument --shape: '9x0' is not the shape of a kernel; .*"),
    ("learn photo.png photo.png --shape wide", "learn: argument --shape: 'wide' is not a shape; .*"),
    ("learn photo.png narrow.png --shape 3x3", "learn: photo has 9x9 pixels, target 8x9; crop or scale one of them"),
    ("learn photo.png cut.png --shape 3x3", "learn: target cut.png: .*"),
    ("learn photo.png photo.png --shape 3x3 --steps -1", "learn: learn_kernel: steps must be >= 0, got -1"),
    ("learn photo.png photo.png --shape 3x3 --steps two", "learn: argument --steps: invalid int value: 'two'"),
    ("learn photo.png photo.png --shape 3x3 --method luck", "learn: argument --method: invalid choice: 'luck' .*"),
    ("learn photo.png photo.png --shape 3x3 --plot fit.pdf", "learn: argument --plot: 'fit.pdf' must end in .png"),
    ("learn photo.png photo.png --shape 3x3 --save fit.npz", "learn: argument --save: 'fit.npz' must end in .npy"),
    ("learn photo.png photo.png --shape 3x3 --save no/k.npy", "learn: argument --save: 'no' is not a directory"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_argument_is_one_line_and_writes_nothing(line, message, files, capsys):
    before = listing(files)
    run(line, 2)
    output, error = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(f"python -m arrayconv {message}\n", error)
    assert listing(files) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("too wide"), KeyboardInterrupt()])
def test_no_output_is_half_written(error, folder, monkeypatch, capsys):
    make("L").save("photo.png")
    make("L").save("out.png")
    before = listing(folder)

    def save(self, file, **options):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(Image.Image, "save", save)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            run("filter photo.png out.png --kernel sobel")
    else:
        run("filter photo.png out.png --kernel sobel", 2)
        text = f"python -m arrayconv filter: output out.png: {getattr(error, 'strerror', None) or error}\n"
        assert capsys.readouterr() == ("", text)
    assert listing(folder) == before


def test_a_link_to_an_output_stays_one(folder):
    make("L").save("photo.png")
    (folder / "real").mkdir()
    (folder / "out.png").symlink_to("real/image.png")
    run("filter photo.png out.png --kernel sobel")
    assert (folder / "out.png").is_symlink()
    with Image.open("real/image.png") as result:
        assert result.format == "PNG"


def test_memory_that_runs_out_is_one_line(folder, monkeypatch, capsys):
    def correlate(*args, **options):
        raise MemoryError("8 TiB")

    make("L").save("photo.png")
    monkeypatch.setattr("arrayconv.cli.filter.correlate", correlate)
    run("filter photo.png out.png --kernel sobel", 2)
    assert capsys.readouterr().err == "python -m arrayconv filter: not enough memory for 17x12 pixels: 8 TiB\n"


@pytest.mark.parametrize(
    ("line", "missing", "advice"),
    [
        ("filter a.png b.png --kernel sobel", "PIL", "filter: filter needs pillow; run: pip install pillow"),
        ("learn a.png b.png --shape 3x3", "PIL", "learn: learn needs pillow; run: pip install pillow"),
        (
            "learn a.png b.png --shape 3x3 --plot fit.png",
            "matplotlib",
            "learn: --plot needs matplotlib; run: pip install matplotlib",
        ),
    ],
)
def test_missing_extras_are_named(line, missing, advice, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    run(line, 2)
    assert capsys.readouterr() == ("", f"python -m arrayconv {advice}\n")


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


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("filter --help", (*[row.form for row in FILTERS.values()], "FILE.npy", *BOUNDARIES)),
        ("learn --help", ("--shape", "--plot", "--save", "--steps", "--method", "--boundary")),
    ],
)
def test_help_says_what_can_be_said(words, parts, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words.split())
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(part in text for part in parts)
