"""Where small faults can be put into the code: a sample of places, and one of the faults possible at each."""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

__all__ = ["ROOMS", "Mutant", "defined", "drawn", "mutated", "still_there"]

ROOMS = ("agents", "rimsim/measures", "rimsim/matching", "rimsim/requirements", "rimsim/market")
EXAMPLE = "made_up_round"
"""Makes up rounds for tests of measures: it holds draws, not rules."""
NOT_CODE = ("compiled", "compiled_part", "lru_cache", "cache", "cached_property", "caller_owns", "dataclass")
"""Decorators that change how fast or how guarded something is, not what it gives."""


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    file: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str


def not_code(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes in which a fault would be none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns
        if isinstance(node, ast.FunctionDef) and node.name == EXAMPLE:
            yield node
        if isinstance(node, ast.keyword) and node.arg in {
            "strict",
            "copy",
        }:  # a guard, and a copy that may be spared
            yield node.value
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield node
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            yield node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {
            "__all__",
            "__getattr__, __dir__, __all__",
        }:
            yield node
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from (d for d in node.decorator_list if ast.unparse(d).partition("(")[0] in NOT_CODE)


def places(file: Path) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """(Line, column) of a file → the faults that Cosmic Ray knows there, as operator and occurrence."""
    from cosmic_ray.ast import ast_nodes, get_ast  # noqa: PLC0415  # only the process that draws needs it
    from cosmic_ray.plugins import get_operator, operator_names  # noqa: PLC0415

    source = file.read_text(encoding="utf-8")
    left_out = [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in not_code(ast.parse(source))
    ]
    nodes = list(ast_nodes(get_ast(source)))
    mutations: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments():
            continue
        operator = kind()
        at = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (line, column) in enumerate(at):
            # A decorator's place begins with its @, one column before its node.
            inside = any(a <= (line, column + name.endswith("RemoveDecorator")) < b for a, b in left_out)
            if not inside:
                mutations.setdefault((line, column), []).append((name, occurrence))
    return mutations


def mutated(source: str, operator: str, occurrence: int) -> str | None:
    """The source with a fault, or None if it is none or no Python."""
    from cosmic_ray.mutating import mutate_code  # noqa: PLC0415
    from cosmic_ray.plugins import get_operator  # noqa: PLC0415

    text = mutate_code(source, get_operator(operator)(), occurrence)
    try:
        is_unchanged = text is None or ast.dump(ast.parse(text)) == ast.dump(ast.parse(source))
    except SyntaxError:
        return None
    return None if is_unchanged else text


def drawn(tree: Path, sample: int, seed: int, rooms: Sequence[str]) -> list[Mutant]:
    """A sample of places of all rooms, each with one of the faults possible there; those of some rooms are given.

    A room has its share of the sample, in an order of its own: what changes in one leaves the others' mutants alone.
    """
    files = {room: sorted((tree / room).rglob("*.py")) for room in ROOMS}
    places_of_files = {file: places(file) for group in files.values() for file in group}
    total = sum(map(len, places_of_files.values()))
    print(f"{total} places in {len(places_of_files)} files", flush=True)
    mutants = []
    for room in rooms:
        draw = random.Random(f"{seed} {room}")
        order = [(file, place) for file in files[room] for place in sorted(places_of_files[file])]
        draw.shuffle(order)
        wanted = round(sample * len(order) / total)
        faults = (_fault(tree, file, place, places_of_files[file][place], draw) for file, place in order)
        mutants += list(islice((fault for fault in faults if fault is not None), wanted))
    return mutants


def _fault(
    tree: Path, file: Path, place: tuple[int, int], possible: list[tuple[str, int]], draw: random.Random
) -> Mutant | None:
    """One of the faults that are possible at a place, or None if it is none."""
    source = file.read_text(encoding="utf-8")
    operator, occurrence = draw.choice(possible)
    text = mutated(source, operator, occurrence)
    if text is None:
        return None
    return Mutant(str(file.relative_to(tree)), place[0], operator, occurrence, *_lines(source, text))


def _lines(source: str, text: str) -> tuple[str, str]:
    """The lines that a fault changes, before and after."""
    lines = list(difflib.unified_diff(source.splitlines(), text.splitlines(), n=0, lineterm=""))[3:]
    before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return before, after


def still_there(tree: Path, mutant: Mutant) -> bool:
    """Whether a fault of an earlier run is the same in the code as it is now."""
    file = tree / mutant.file
    source = file.read_text(encoding="utf-8") if file.is_file() else ""
    text = mutated(source, mutant.operator, mutant.occurrence)
    return text is not None and _lines(source, text) == (mutant.before, mutant.after)


def defined(tree: ast.Module) -> Iterator[str]:
    """Names that a module defines."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            parts = (part for target in node.targets for part in ast.walk(target))
            yield from (part.id for part in parts if isinstance(part, ast.Name))
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target)
