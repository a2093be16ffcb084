"""Every workload by ``algorithm="auto"`` and by the library's own best call, in turn, as a ratio: native / auto.

All libraries keep their default number of threads.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

import arrayconv as ac
from arrayconv.program import ACCURACIES
from bench import data
from bench.machine import Ceilings, Neighbours, measure_ceilings, warm_allocator
from bench.measure import Case, Row, Wish, measure
from bench.workloads import LIBRARIES, Workload, find_workloads

HEADER = (
    f"{'library':<7} {'workload':<30} {'native ms':>9} {'auto ms':>9} {'ratio':>7}  {'share':>5}  "
    "algorithm; native; best peer"
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="default: all three")
    parser.add_argument("--workload", action="append", metavar="NAME", help="a name or a part of names (default: all)")
    parser.add_argument("--peers", action="store_true", help="SciPy, OpenCV and ONNX Runtime too")
    parser.add_argument("--algorithms", action="store_true", help="every algorithm that serves too, by name")
    parser.add_argument("--accuracy", choices=ACCURACIES, default=ACCURACIES[0], help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="0.25 s instead of 2 s for each row")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.json")


def run(args: Namespace) -> int:
    """The live table; 1 where an answer is wrong or a call raises."""
    try:
        workloads = find_workloads(args.workload)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    names = args.library or LIBRARIES
    pairs = [(workload, name) for workload in workloads for name in names if name in workload.libraries]
    warm_allocator()
    ceilings = measure_ceilings(0.1 if args.quick else 0.5)
    settings = {key: getattr(args, key) for key in ("quick", "peers", "algorithms", "accuracy")}
    sink = data.Sink(args.save, "run", settings=settings, ceilings=ceilings._asdict())
    machine = sink.head["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores; threads: {machine['threads']}")
    print(f"matrix product {ceilings.flops / 1e9:.0f} GFLOP/s, copy {ceilings.bytes / 1e9:.0f} GB/s")
    print(HEADER, flush=True)
    faults, neighbours = 0, Neighbours()
    with _bar(len(pairs)) as bar, ac.settings(accuracy=args.accuracy):
        for row in _measure_all(pairs, ceilings, args, bar):
            sink.head["others"] = neighbours.share()
            sink.add(row.to_json())
            faults += bool(row.wrong)
            for line in lines(row):
                bar.write(line, file=sys.stdout)
            sys.stdout.flush()
    print(f"{len(sink.rows)} rows, {faults} with wrong answers" + (f"; saved {sink.path}" if sink.path else ""))
    print(f"other processes took {neighbours.share():.0%} of the processors' time")
    return 1 if faults else 0


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    with tqdm(total=total, unit="row", file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield bar


def _measure_all(pairs: list[tuple[Workload, str]], ceilings: Ceilings, args: Namespace, bar: Any) -> Iterator[Row]:
    """Peers are timed beside the first library of each workload, and stand in the rows of the others too."""
    case: Case | None = None
    found: dict[str, float] = {}
    for workload, name in pairs:
        bar.set_description(f"{name} {workload.name}")
        is_first = case is None or case.workload is not workload
        if is_first:
            case, found = Case.make(workload), {}
        assert case is not None
        wish = Wish(0.25 if args.quick else 2.0, args.peers and is_first, args.algorithms, not args.quick)
        row = measure(case, name, ceilings, wish)
        found = row.peers = row.peers or found
        bar.update()
        yield row


def lines(row: Row) -> Iterator[str]:
    """A row of the live table; below it the algorithms one by one, fastest first, and what went wrong."""
    peer = row.best_peer
    notes = [row.algorithm or "-", row.native_name or "-"]
    if peer is not None:
        notes.append(f"{peer[0]} {peer[1]:.4g} ms")
    yield (
        f"{row.library:<7} {row.workload:<30} {row.native:9.4g} {row.auto:9.4g} {row.ratio:7.2f}  {row.share:5.2f}  "
        f"{'; '.join(notes)}"
    )
    if row.algorithms:
        ranking = sorted(row.algorithms.items(), key=lambda item: item[1])
        yield f"{'':<8}by name: " + "  ".join(f"{name} {value:.4g}" for name, value in ranking)
    for name, fault in row.wrong.items():
        yield f"{'':<8}WRONG: {name} {fault}"
