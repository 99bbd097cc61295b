"""Which small faults do the tests see? ``python tools/mutants.py [--sample N] [--seed S] [--rooms …]``.

A sample of places in the code is drawn; at each, Cosmic Ray puts one fault in (another operator, a number more by one,
a condition turned round, …), and those of the tests that mutants_tests.py names that come through that function run,
the most special ones first, until one fails. Docstrings, annotations, ``__all__`` and what only a type checker reads
are no places. All happens in a copy of the tree under the temporary folder; one process at a time, forked from one that
has imported the libraries.

Compiling a kernel takes longer than most tests. So what is wrong in a kernel, or in a constant that kernels hold, is
asked of those tests that take less than two seconds with kernels as plain Python; a test of compiled
kernels holds both to the same bytes. For all other faults the compiled kernels are taken from disk.

Which test comes through what is noted once and kept for as long as no file changes that the test came through.
``--tests`` asks only the tests of some folders. ``--out FILE`` goes on where FILE ends. ``--again FILE`` runs its
survivors once more. Results: benchmarks/log/mutants.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from mutants_places import ROOMS, Mutant, drawn, mutated, still_there
from mutants_tests import TESTS, Copy, Reached, forked, functions_of, load_libraries, play, recorded, tests_of

LIMIT = 20
"""CPU seconds beside five times those that the tests took without a fault: a loop without an end counts as seen."""
MEMORY = 8 << 30
"""Bytes that they may take."""


@dataclass(frozen=True)
class Result:
    """What the tests made of a fault."""

    mutant: Mutant
    killed: bool
    seconds: float
    by: str
    """The test that failed."""


def tried(copy: Copy, mutant: Mutant, reached: Reached, max_seconds: float) -> Result:
    """Put a fault in, run the tests, take it out."""
    file = copy.tree / mutant.file
    source = file.read_text(encoding="utf-8")
    functions = functions_of(copy, mutant)
    plain = any(functions.values())
    tests = tests_of(functions, reached, max_seconds)
    text = mutated(source, mutant.operator, mutant.occurrence)
    if text is None:
        raise SystemExit(f"{mutant.file}:{mutant.line}: no such fault; the file has changed since")
    if not tests:
        return Result(mutant, killed=False, seconds=0.0, by="no test comes through")
    usual = sum(reached[test][0] for test in tests)

    def action() -> int:
        limit = LIMIT + round(5 * usual)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        return play(copy, tests, plain=plain)

    try:
        file.write_text(text, encoding="utf-8")
        os.utime(file, (copy.next_time(), copy.time))  # no bytecode of another fault is taken for this one's
        status, seconds, output = forked(copy.folder, action)
    finally:
        file.write_text(source, encoding="utf-8")
        os.utime(file, (0, 0))
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    passed = f"{len(tests)} tests pass" if status == 0 else f"status {status}"
    return Result(mutant, status != 0, seconds, failed[0].split(" - ")[0] if failed else passed)


def report(results: list[Result]) -> None:
    """Print the survivors and the table."""
    for result in results:
        if not result.killed:
            mutant = result.mutant
            print(f"\n{mutant.file}:{mutant.line} {mutant.operator}\n  - {mutant.before}\n  + {mutant.after}")
    print("\n| room | mutants | killed | survived |\n|---|---:|---:|---:|")
    for room in (*ROOMS, ""):
        here = Counter(result.killed for result in results if result.mutant.file.startswith(room))
        total = here.total()
        if total:
            share = f"{here[True]} ({100 * here[True] / total:.0f}%)"
            print(f"| {room or 'all'} | {total} | {share} | {here[False]} |")


def _read(path: Path) -> list[Result]:
    """The results of a file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    return [Result(**(each | {"mutant": Mutant(**each["mutant"])})) for each in records]


def _options() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=100, help="how many mutants (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="which sample (default 0)")
    parser.add_argument(
        "--rooms", default=",".join(ROOMS), help=f"only the mutants of these (default: {','.join(ROOMS)})"
    )
    parser.add_argument("--out", type=Path, help="file of the results, as JSON lines; those in it are kept")
    parser.add_argument(
        "--most",
        type=float,
        default=10,
        help="CPU seconds of tests that are asked about a fault (default 10)",
    )
    parser.add_argument(
        "--tests", default=",".join(TESTS), help=f"only tests of these folders (default: {','.join(TESTS)})"
    )
    parser.add_argument("--again", type=Path, help="run the survivors of such a file once more")
    parser.add_argument("--list", action="store_true", help="print the sample and end")
    return parser.parse_args()


def main() -> None:
    """Read the command line and run."""
    options = _options()
    folder = Path(tempfile.gettempdir()) / f"rimsim-mutants-{os.getuid()}"
    copy = Copy(folder)
    earlier = _read(options.out) if options.out else []
    if options.again:
        survivors = [result.mutant for result in _read(options.again) if not result.killed]
        mutants = [mutant for mutant in survivors if still_there(copy.tree, mutant)]
        print(
            f"{len(survivors) - len(mutants)} of {len(survivors)} survivors are gone from the code",
            flush=True,
        )
    else:
        mutants = drawn(copy.tree, options.sample, options.seed, options.rooms.split(","))
    if options.list:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line} {mutant.operator}\n  - {mutant.before}\n  + {mutant.after}")
        return
    os.environ.update(copy.environment)
    sys.path.insert(0, str(copy.tree))
    load_libraries()
    earlier_results = {result.mutant: result for result in earlier}
    # Faults of kernels come last, so that nothing is recorded as plain Python before a fault needs it.
    mutants.sort(key=lambda mutant: any(functions_of(copy, mutant).values()))
    maps: dict[bool, Reached] = {}
    results = []
    for number, mutant in enumerate(mutants, 1):
        result = earlier_results.get(mutant)
        if result is None:
            plain = any(functions_of(copy, mutant).values())
            if plain not in maps:
                maps[plain] = recorded(copy, options.tests.split(","), plain=plain)
            result = tried(copy, mutant, maps[plain], options.most)
        results.append(result)
        word = f"killed by {result.by}" if result.killed else "SURVIVED"
        place = f"{time.strftime('%H:%M:%S')} {number}/{len(mutants)} {mutant.file}:{mutant.line}"
        print(f"{place} {result.seconds:.0f} s {word}", flush=True)
        if options.out and mutant not in earlier_results:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    report(results)


if __name__ == "__main__":
    main()
