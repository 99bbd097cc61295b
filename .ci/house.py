"""Check names, docstrings, signatures and imports: ``python .ci/house.py [FOLDER ...]`` prints what breaks a rule.

Ruff, mypy and import-linter check what they can; this script checks the rest of CONTRIBUTING.md. It
ends with status 1 if a rule is broken; ``--count`` prints one line per rule.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("rimsim", "agents", "envs", "scenarios")
BESIDE = ("tests", "tools", "benchmarks", "examples")
"""Folders beside the package; only the rules of what must be read twice hold there."""
OPENING = re.compile(
    r"(What|How|Who|Whose|Whether|Where|Which|When|That|Those|These|This|One|Some|Others?|There|It|Both|As|So|All|None)\b"
)
WORDS = 10
PARAMETERS = 8
LINES = 60  # of a function
HEADLESS = {
    "found",
    "told",
    "who",
    "some",
    "own",
    "kept",
    "given",
    "these",
    "those",
    "them",
    "it",
    "such",
    "many",
    "few",
    "whole",
    "both",
    "same",
    "thing",
    "things",
    "what",
    "which",
    "whom",
    "how",
    "much",
    "less",
    "least",
    "gone",
    "done",
    "got",
    "put",
    "one",
}
"""Pronouns and participles that do not name a thing."""
BANNER = re.compile(r"\s*# -- .* -{3,}\s*$")
ADDRESS = re.compile(r"\b(inttoptr|carray|address_as_void_pointer|__array_interface__)\b|\.ctypes\.data")
BY_STRING = {"loaded", "import_module", "__import__"}
MOST_BY_STRING = 2
"""Modules of rimsim that may be imported by a name in a string, which no tool sees."""
WIDE = {"MarketVectorEnv.__init__"}  # a signature that Gymnasium prescribes
MODULES = {
    "foretold",
    "promised",
    "settled",
    "gone",
    "kept",
    "told",
    "choosing",
    "judged",
    "utils",
    "helpers",
}


def sources(folders: list[Path]) -> list[Path]:
    """Python files of the folders, links into the package left out."""
    return sorted(path for folder in folders for path in folder.rglob("*.py") if not _linked(path))


def _linked(path: Path) -> bool:
    return any(part.is_symlink() for part in path.parents if part != ROOT)


def module_of(path: Path) -> str:
    """Dotted name of a file as an installed package has it."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "rimsim" else ("rimsim", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def compiled(node: ast.FunctionDef) -> bool:
    """Whether a function is a kernel: its arguments are what Numba can take."""
    return any("compiled" in ast.unparse(mark) or "njit" in ast.unparse(mark) for mark in node.decorator_list)


def docstrings(path: Path, tree: ast.Module) -> list[tuple[str, str]]:
    """Broken rules of docstrings and signatures in a file, each with its rule."""
    found = []
    methods = {
        child: f"{node.name}.{child.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for child in node.body
        if isinstance(child, ast.FunctionDef)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        line, name = getattr(node, "lineno", 1), getattr(node, "name", path.stem)
        text = ast.get_docstring(node) or ""
        first = text.split("\n", 1)[0]
        place = f"{path.relative_to(ROOT)}:{line} {name}"
        if OPENING.match(first):
            found.append(("opening", f"{place}: begin with a noun or an imperative: {first}"))
        words = len(
            [
                word
                for word in re.sub(r":\w+:`[^`]*`|``[^`]*``|`[^`]*`", "x", first).split()
                if word[0].isalnum()
            ]
        )
        if words > WORDS:
            found.append(("words", f"{place}: {words} words in the first line, at most {WORDS}: {first}"))
        if not isinstance(node, ast.FunctionDef):
            continue
        private = name.startswith("_") and not name.startswith("__")
        if (private or compiled(node)) and re.search(r"^(Args|Returns|Raises):", text, re.MULTILINE):
            found.append(
                ("sections", f"{place}: a private function or kernel has no Args, Returns or Raises")
            )
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([one for one in given if one.arg not in {"self", "cls"}])
        if count > PARAMETERS and methods.get(node, name) not in WIDE and not compiled(node):
            found.append(("parameters", f"{place}: {count} parameters, at most {PARAMETERS}"))
    return found


def dialect(path: Path, tree: ast.Module, text: str) -> list[tuple[str, str]]:
    """Places that must be read twice, each with its rule."""
    name = path.relative_to(ROOT)
    places = []
    for number, line in enumerate(text.splitlines(), 1):
        if BANNER.match(line):
            places.append(("banners", f"{name}:{number}: give each subject a file of its own"))
        if ADDRESS.search(line):
            places.append(("addresses", f"{name}:{number}: pass arrays, not addresses of memory"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and is_two_in_one(node):
            places.append(
                ("together", f"{name}:{node.lineno}: assign unrelated values in lines of their own")
            )
        word = node.arg if isinstance(node, ast.arg) else getattr(node, "id", "")
        is_bound = isinstance(node, ast.arg) or isinstance(getattr(node, "ctx", None), ast.Store)
        if is_bound and word in HEADLESS:
            places.append(("names", f"{name}:{node.lineno}: name the thing by a noun instead of {word!r}"))
        if isinstance(node, ast.FunctionDef) and node.name not in WIDE:
            lines = node.end_lineno - node.lineno + 1
            if lines > LINES:
                places.append(("long", f"{name}:{node.lineno} {node.name}: {lines} lines, at most {LINES}"))
    return places


def is_two_in_one(node: ast.Assign) -> bool:
    """True if a line assigns several values and is not a swap."""
    target = node.targets[0]
    if not (isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)):
        return False
    return sorted(map(ast.unparse, target.elts)) != sorted(map(ast.unparse, node.value.elts))


def named_by_string(node: ast.AST) -> str | None:
    """Own module that a call imports by a name in a string."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    function = getattr(node.func, "id", getattr(node.func, "attr", ""))
    name = str(node.args[0].value)
    return name if function in BY_STRING and name.startswith("rimsim") else None


def by_string(trees: dict[Path, ast.Module]) -> list[tuple[str, str]]:
    """Imports of own modules by a name in a string, if there are too many."""
    places = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and named_by_string(node)
    ]
    if len(places) <= MOST_BY_STRING:
        return []
    return [("strings", f"{', '.join(places)}: import at most {MOST_BY_STRING} modules by a string")]


def classes(trees: dict[Path, ast.Module]) -> list[tuple[str, str]]:
    """Names that two classes share."""
    places = defaultdict(list)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return [("classes", f"{name}: {', '.join(at)}") for name, at in sorted(places.items()) if len(at) > 1]


def modules(paths: list[Path]) -> list[tuple[str, str]]:
    """Modules whose name is a participle or says nothing."""
    return [
        ("modules", f"{path.relative_to(ROOT)}: name the module by a noun of the field")
        for path in paths
        if path.stem.lstrip("_") in MODULES
    ]


def imports(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Module → modules that its top level imports, for type checkers too, and those that it imports by a string."""
    known = {module_of(path) for path in trees}
    found = {}
    for path, tree in trees.items():
        own, arrows = module_of(path), set()
        inside = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for child in ast.walk(node)
        }
        for node in ast.walk(tree):
            if name := named_by_string(node):
                arrows.add(name)
            elif id(node) in inside:
                continue
            elif isinstance(node, ast.Import):
                arrows |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                arrows |= {
                    full if (full := f"{node.module}.{alias.name}") in known else node.module
                    for alias in node.names
                }
        found[own] = {name for name in arrows if name in known and name != own}
    return found


def circles(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Sets of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = []
            while not circle or circle[-1] != name:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(("circles", ", ".join(sorted(circle))))

    sys.setrecursionlimit(10_000)
    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def main() -> int:
    """Print what breaks a rule, or how many places do; 1 if any does."""
    count = "--count" in sys.argv
    folders = [ROOT / name for name in sys.argv[1:] if name != "--count"]
    everything = {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sources([ROOT / room for room in ROOMS])
    }
    chosen = [
        path for path in everything if not folders or any(path.is_relative_to(folder) for folder in folders)
    ]
    found = [one for path in chosen for one in docstrings(path, everything[path])] + modules(chosen)
    for path in chosen:
        found += dialect(path, everything[path], path.read_text(encoding="utf-8"))
    beside = [] if folders else sources([ROOT / folder for folder in BESIDE])
    for path in beside:
        text = path.read_text(encoding="utf-8")
        found += dialect(path, ast.parse(text), text)
    shared = classes(everything) + circles(imports(everything)) + by_string(everything)
    local = {module_of(path) for path in chosen} | {str(path.relative_to(ROOT)) for path in chosen}
    found += [one for one in shared if any(name in one[1] for name in local)]
    if count:
        for rule, places in sorted(Counter(rule for rule, _ in found).items()):
            print(f"{rule:12} {places}")
    else:
        print(*(f"{rule}: {text}" for rule, text in found), sep="\n")
    print(f"{len(chosen) + len(beside)} files; {len(found)} places break a rule")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
