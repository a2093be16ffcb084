"""README's section and plot from saved results, and what was to be reached beside what was.

Without names every file of bench/results is read but the draws that prices are fitted from; of two results for the same
thing the newer holds.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

from bench import data, targets
from bench.summary import MEANS, Results, Row, is_borrowed, read_results
from bench.workloads import LIBRARIES, WORKLOADS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="bench/results/NAME.json (default: all of run, import and regret)"
    )
    parser.add_argument("--dry", action="store_true", help="print the section; write neither README.md nor the plot")


def run(args: Namespace) -> int:
    try:
        results = read_results(args.names)
        if results.rows:
            write(results, args.dry)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(targets.table(results))
    return 0


def write(results: Results, dry: bool) -> None:
    """The section into README.md and the plot beside the newest file, or the section on stdout."""
    plot = data.RESULTS / f"{results.sources[-1]['name']}.svg"
    text = section(results, plot.relative_to(README.parent).as_posix())
    if dry:
        print(text)
        return
    from bench.plot import draw

    README.write_text(replace_region(README.read_text(encoding="utf-8"), text), encoding="utf-8")
    draw(results, plot)
    print(f"wrote {plot} and the section of {README}\n")


def replace_region(text: str, section: str) -> str:
    """The text with what stands between the markers replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"README.md has no line {BEGIN!r} followed by a line {END!r}; write them where the section goes"
        )
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{after}"


def section(results: Results, plot: str) -> str:
    return "\n\n".join(
        [introduction(results), f"![native / auto on each library]({plot})", means(results), times(results)]
    )


def introduction(results: Results) -> str:
    source = results.sources[-1]
    machine, versions = source["machine"], source["versions"]
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    ceilings = source["ceilings"]
    return (
        f"Commit `{source['commit'][:12]}`; {machine['cpu']}, {machine['cores']} cores ({caches}); every library with "
        f"its default number of threads; {packages}. A float32 matrix product runs at {ceilings['flops'] / 1e9:.0f} "
        f"GFLOP/s, a copy at {ceilings['bytes'] / 1e9:.0f} GB/s, which are the ceilings of the plot. Every answer was "
        f"compared with float64 in the same run{', a quick one' if source['settings']['quick'] else ''}."
    ) + (f" Other processes took {source['others']:.0%} of the processors' time." if source["others"] > 0.05 else "")


def means(results: Results) -> str:
    """Geometric means of native / auto."""
    lines = ["Geometric means of native / auto, above 1 where arrayconv is faster:", "", *_head("group of workloads")]
    for name in MEANS:
        cells = (_times(results.mean(library, name)) for library in LIBRARIES)
        lines.append(_line(name, *cells))
    return "\n".join(lines)


def times(results: Results) -> str:
    """One line a workload: milliseconds, how many times the native call takes as long, and the best peer."""
    lines = ["Milliseconds, and in brackets native / auto:", "", *_head("workload", "best peer")]
    for name in WORKLOADS:
        rows = [results.rows.get((name, library)) for library in LIBRARIES]
        if any(rows):
            lines.append(_line(name, *map(_cell, rows), _peer([row for row in rows if row])))
    return "\n".join([*lines, "", *_notes(results)])


def _notes(results: Results) -> Iterator[str]:
    yield (
        "Native: `torch.nn.functional.conv*`, `jax.lax.conv_general_dilated` under `jax.jit`; for NumPy the fastest of "
        "`scipy.signal` (direct, FFT, overlap-add) and `scipy.ndimage`. * NumPy and SciPy have no such function: "
        "beside PyTorch on the same data, and not in the mean of all. Tiny calls, gradients and the learner aren't in "
        "that mean either."
    )
    wrong = [row for row in results.rows.values() if row["wrong"]]
    if wrong:
        yield f"\nWrong answers: {', '.join(sorted({row['workload'] for row in wrong}))}."


def _head(*columns: str) -> list[str]:
    names = [columns[0], *(TITLES[library] for library in LIBRARIES), *columns[1:]]
    return [_line(*names), _line("---", *(["---:"] * len(LIBRARIES)), *(["---"] * (len(columns) - 1)))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _times(ratio: float) -> str:
    """Two digits below 10, none of the fraction above."""
    if not isfinite(ratio):
        return "-"
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}"


def _number(value: float) -> str:
    """Three digits, and never an exponent."""
    if not isfinite(value):
        return "-"
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}".rstrip(".")


def _cell(row: Row | None) -> str:
    if row is None or not isfinite(row["auto"]):
        return "-"
    return f"{_number(row['auto'])} ({_times(row['ratio'])}{'*' if is_borrowed(row) else ''})"


def _peer(rows: list[Row]) -> str:
    peers = [item for row in rows for item in row["peers"].items()]
    if not peers:
        return "-"
    name, value = min(peers, key=lambda item: float(item[1]))
    return f"{_number(value)} ({name})"
