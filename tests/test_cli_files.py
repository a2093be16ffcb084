"""``filter`` and ``learn`` given what they can't serve: one line, exit code 2, and no file half written."""

from __future__ import annotations

import re
import struct
import sys
import zlib

import numpy as np
import pytest
from imaging import listing, make, run
from PIL import Image

from arrayconv import cli
from arrayconv.boundary import BOUNDARIES
from arrayconv.cli.filter import FILTERS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


#: What --kernel says wrongly: what the error adds to it.
BAD_KERNELS = [
    ("sobbel", " is not one of sobel, .*, nor a file .* in .npy"),
    ("gaussian", r" is not of the form gaussian:SIGMA\[.*"),
    ("gaussian:", " is not of the form gaussian:SIGMA.*"),
    ("gaussian:x", " is not of the form gaussian:SIGMA.*"),
    ("gaussian:1,2,3", " is not of the form .*"),
    ("gaussian:-1", ": gaussian: sigma must be >= 0, .*"),
    ("sobel:2", ": sobel: axis=2 is not an axis of .*"),
    ("sobel:", r" is not of the form sobel\[:AXIS\], .*"),
    ("edges:1", " is not of the form edges, .*"),
    ("box:3x0", ": box: window.* must be >= 1, .*"),
    ("box:2.5", ": box: window.* an int.*"),
    ("gabor:0", ": gabor: frequency must be > 0, .*"),
    ("none.npy", r" holds float64 of shape \(0, 3\); .*"),
    ("line.npy", " holds .* a kernel is a matrix of finite .*"),
    ("true.npy", " holds bool of .*"),
    ("nan.npy", " holds .*"),
    ("text.npy", ": the magic string is not correct; .*"),
    ("objects.npy", ": Object arrays cannot be loaded when .*"),
    ("absent.npy", ": No such file or directory"),
]

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
    *((f"filter photo.png out.png --kernel {k}", f"filter: --kernel {k}{why}") for k, why in BAD_KERNELS),
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
