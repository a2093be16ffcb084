"""The commands: the notebook's digits, exit codes, one line for a bad argument, and the figure."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import takewhile

import numpy as np
import pytest
from PIL import Image

import arrayconv as ac
from arrayconv import cli
from arrayconv.backend import library_backend
from arrayconv.cli import notebook, photo, plan

LOSSES = ("19.485", "6.868", "2.626", "1.044", "0.423", "0.172", "0.070", "0.029", "0.012", "0.005")
OPTIONAL = ("torch", "jax", "dask", "array_api_strict", "PIL", "matplotlib", "skimage", "tqdm", "scipy", "sklearn")


def shell(*words, without=()):
    """``python -m arrayconv *words`` in a process that warns with errors and can't import ``without``."""
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({without!r})); sys.argv[1:] = {words!r}\n"
    code += "runpy.run_module('arrayconv', run_name='__main__')"
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)


@pytest.fixture
def numpy_alone(monkeypatch):
    """The notebook as told where no other library is installed."""
    monkeypatch.setattr(notebook, "installed_libraries", lambda: ("numpy",))


def body(output, topic):
    """The rows of a section: label and cells."""
    lines = output[output.index(f"\n{topic}: ") + 1 :].splitlines()[1:]
    return [re.split(r"\s{2,}", line.strip()) for line in takewhile(lambda line: line.startswith("  "), lines)]


def test_notebook_is_one_screen_with_every_digit_of_every_library():
    run = subprocess.run([sys.executable, "-W", "error", "-m", "arrayconv"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert run.stdout.isascii()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 110
    assert lines[2].split() == ["notebook", "numpy", "torch", "jax", "dask", "array_api_strict"]
    assert body(run.stdout, "corr2d") == [["Y[0]", *["19 25"] * 6], ["Y[1]", *["37 43"] * 6]]
    assert body(run.stdout, "vertical edges") == [[f"Y[{i}]", *["0 1 0 0 0 -1 0"] * 6] for i in range(6)]
    sizes = {"3 2 0 1": "2", "8 2 0 1": "7", "8 3 2 1": "8", "8 3 2 2": "4", "224 7 6 2": "112"}
    assert body(run.stdout, "padding and stride") == [[case, o, *[f"{o} {o}"] * 5] for case, o in sizes.items()]
    learned = body(run.stdout, "learned kernel")
    assert learned[0] == ["loss 2", "19.485", *["19.485 19.485"] * 3, "forward only", "19.485 19.485"]
    assert learned[1:10] == [[f"loss {2 * i}", loss, *[f"{loss} {loss}"] * 4] for i, loss in enumerate(LOSSES, 1)][1:]
    assert learned[10:] == [[op, *["1.0070 -0.9927"] * 5] for op in ("correlate", "conv")]
    assert lines[-1] == "all 376 numbers agree with the notebook"


def test_notebook_needs_numpy_alone():
    run = shell(without=OPTIONAL)
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert lines[2].split() == ["notebook", "numpy"]
    assert all(loss in run.stdout for loss in LOSSES)
    assert lines[-1] == "all 80 numbers agree with the notebook"


def test_broken_library_is_named(monkeypatch, capsys):
    def import_backend(name):
        if name == "torch":
            raise ImportError("libtorch.so is missing")
        return library_backend(name)

    monkeypatch.setattr(notebook, "installed_libraries", lambda: ("numpy", "torch"))
    monkeypatch.setattr(notebook, "library_backend", import_backend)
    assert cli.main([]) == 0
    output = capsys.readouterr().out
    assert "torch is installed but does not import: libtorch.so is missing\n" in output
    assert output.endswith("all 80 numbers agree with the notebook\n")


def wrong_learning(*args, **options):
    fit = ac.learn_kernel(*args, **options)
    return fit._replace(losses=fit.losses * 1.01)


def inexact_corr2d(x, kernel):
    return ac.corr2d(x, kernel) * (1 + 1e-5)


@pytest.mark.usefixtures("numpy_alone")
@pytest.mark.parametrize(
    ("name", "function", "verdict"),
    [
        ("corr2d", inexact_corr2d, "16 of 80 numbers disagree with the notebook: numpy in corr2d Y.0., numpy in .*"),
        (
            "output_size",
            lambda *a, **k: 7,
            r"4 of 80 .*: (numpy in padding and stride [\d ]+, ){3}numpy in .* 224 7 6 2",
        ),
        ("learn_kernel", wrong_learning, r"\d+ of 80 .*: numpy in learned kernel loss 2, .*, \.\.\."),
        ("edges", lambda like: ac.kernels.edges(like=like) * 1.001, r"\d+ of 80 numbers disagree .*"),
    ],
)
def test_one_wrong_number_is_exit_code_1(name, function, verdict, monkeypatch, capsys):
    monkeypatch.setattr(notebook, name, function)
    assert cli.main(["notebook"]) == 1
    assert re.fullmatch(verdict, capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("found", "printed", "agrees", "shown"),
    [
        (19.48549, "19.485", True, "19.485"),
        (19.48551, "19.485", False, "19.486"),
        (-0.99265, "-0.9927", True, "-0.9927"),
        (-0.0, "0", True, "0"),
        (1.0001, "1", False, "1.0001"),
        (float("nan"), "0.005", False, "nan"),
        (float("inf"), "0.005", False, "inf"),
    ],
)
def test_agreement_is_of_printed_digits(found, printed, agrees, shown):
    cell = notebook.compare([found], printed)
    assert cell == (shown, 1, 0 if agrees else 1)


def test_plan_prints_the_plan():
    words = ("plan", "8x64x56x56", "64x64x3x3", "--stride", "2", "--library", "torch")
    run = shell(*words)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"{ac.plan(ac.conv, (8, 64, 56, 56), (64, 64, 3, 3), stride=2, library='torch')}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "9x9 3x3 --op correlate --padding 0:1,2:3 --boundary edge --dtype float64",
            lambda: ac.plan(ac.correlate, (9, 9), (3, 3), padding=((0, 1), (2, 3)), boundary="edge", dtype="float64"),
        ),
        (
            "2x4x9x9 8x2x3x3 8 --stride 2,1 --padding same --groups 2",
            lambda: ac.plan(ac.conv, (2, 4, 9, 9), (8, 2, 3, 3), (8,), stride=(2, 1), padding="same", groups=2),
        ),
        (
            "2x4x9x9 4x2x3x3 --op conv_transpose --stride 2 --padding -1 --output-padding 1",
            lambda: ac.plan(ac.conv_transpose, (2, 4, 9, 9), (4, 2, 3, 3), stride=2, padding=-1, output_padding=1),
        ),
    ],
)
def test_plan_reads_options(words, expected, capsys):
    assert cli.main(["plan", *words.split()]) == 0
    assert capsys.readouterr().out == f"{expected()}\n"


def test_every_planned_operation_is_offered():
    assert set(plan.PLANNED) >= {"conv", "correlate", "convolve", "corr2d", "conv_transpose"}
    assert all(getattr(ac, name) is function for name, function in plan.PLANNED.items())


BAD = [
    ("filters", r"filters: argument command: invalid choice: 'filters' \(choose from '?notebook'?, .*"),
    ("--plott edges.png --photos", "notebook: .*"),
    ("--plot edges.pdf", "notebook: argument --plot: 'edges.pdf' must end in .png"),
    ("--plot nowhere/edges.png", "notebook: argument --plot: 'nowhere' is not a directory"),
    ("--photo me.png", "notebook: --photo does nothing without --plot FILE"),
    ("--plot edges.png --photo nowhere.png", "notebook: --photo nowhere.png: No such file or directory"),
    ("--plot edges.png --photo text.png", "notebook: --photo text.png: cannot identify image file 'text.png'"),
    ("--plot folder.png", "notebook: argument --plot: 'folder.png' is there and is not a file"),
    ("plan", "plan: the following arguments are required: shape"),
    ("plan 8x8", "plan: .*'kernel'.*"),
    ("plan 8x8y 3x3", "plan: argument shape: '8x8y' is not a shape; write sizes with x between, as in 8x64x56x56"),
    ("plan 8x8 3x3 --op pad", "plan: argument --op: invalid choice: 'pad' .*"),
    ("plan 8x8 3x3 --op correlate --stride fast", "plan: correlate: stride must be an int, got 'fast' of type str"),
    ("plan 8x8 9x9 --op correlate", "plan: correlate: kernel covers 9 elements along spatial axis 0 .*"),
    ("plan 8x8 3x3 --op correlate --groups 2", "plan: correlate has no option groups=2; its options are .*"),
    ("plan 8x8 3x3 --op corr2d --library abacus", "plan: library='abacus' is not one of those installed here: numpy.*"),
    ("plan 8x8 3x3 --op corr2d --dtype int3", "plan: dtype='int3' is not one of int8, .*"),
    ("plan 8x8 3x3 --op correlate --algorithm luck", "plan: correlate: algorithm='luck' is not one of .*"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_argument_is_one_line_and_exit_code_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (4, 4)).save(tmp_path / "photo.png")
    assert cli.main(words.split()) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(f"python -m arrayconv {message}\n", error)


def test_bad_argument_in_a_shell():
    run = shell("plan", "8x8", "3x3", "--op", "correlate", "--stride", "0", without=OPTIONAL)
    expected = "python -m arrayconv plan: correlate: stride must be >= 1, got 0\n"
    assert (run.returncode, run.stdout, run.stderr) == (2, "", expected)


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        (("PIL",), "--plot needs pillow; run: pip install pillow"),
        (("matplotlib",), "--plot needs matplotlib; run: pip install matplotlib"),
        (("PIL", "matplotlib"), "--plot needs pillow and matplotlib; run: pip install pillow matplotlib"),
        (("skimage",), "--plot needs a photograph: pass --photo FILE, or run: pip install scikit-image"),
    ],
)
def test_plot_says_what_to_install(missing, advice, tmp_path, monkeypatch, capsys):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["--plot", str(tmp_path / "edges.png")]) == 2
    assert capsys.readouterr() == ("", f"python -m arrayconv notebook: {advice}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("numpy_alone")
def test_plot_writes_a_png_of_a_photograph(tmp_path, capsys):
    path = tmp_path / "edges.png"
    assert cli.main(["--plot", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"the edges of a photograph: {path}"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert image.format == "PNG"
    assert min(pixels.shape[:2]) >= 800
    assert pixels.std() > 30
    red, blue = (pixels[..., channel].astype(int) - pixels[..., 2 - channel] for channel in (0, 2))
    assert (red > 60).any()
    assert (blue > 60).any()


@pytest.mark.usefixtures("numpy_alone")
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (40, 2000)])
def test_plot_takes_any_photograph(shape, tmp_path):
    Image.fromarray(np.full(shape, 7, np.uint8)).save(tmp_path / "photo.png")
    assert cli.main(["--plot", str(tmp_path / "edges.png"), "--photo", str(tmp_path / "photo.png")]) == 0
    with Image.open(tmp_path / "edges.png") as image:
        assert max(image.size) < 4000


def test_photographs_are_read_as_gray(tmp_path):
    ramp = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(photo.read_gray(str(tmp_path / "deep.png")), ramp)
    colors = np.zeros((2, 3, 4), np.uint8)
    colors[0], colors[1] = (255, 255, 255, 255), (0, 255, 0, 255)
    Image.fromarray(colors).save(tmp_path / "colors.png")
    gray = photo.read_gray(str(tmp_path / "colors.png"))
    assert gray.dtype == np.float32
    np.testing.assert_array_equal(gray, [[255] * 3, [150] * 3])


def test_photographs_are_upright_and_not_too_large(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: the first row is the right side
    Image.new("RGB", (2048, 1000)).save(tmp_path / "turned.jpg", exif=exif)
    assert photo.read_gray(str(tmp_path / "turned.jpg")).shape == (1024, 500)


@pytest.mark.parametrize(
    ("words", "part"), [("--help", "commands:"), ("plan --help", "8x64x56x56"), ("-h", "notebook")]
)
def test_help(words, part, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words.split())
    assert stop.value.code == 0
    assert part in capsys.readouterr().out


def test_every_command_is_a_module():
    for name in cli.COMMANDS:
        module = __import__(f"arrayconv.cli.{name}", fromlist=["run"])
        assert callable(module.add)
        assert callable(module.run)
