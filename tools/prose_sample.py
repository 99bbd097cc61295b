"""Sample the project's prose: ``python tools/prose_sample.py SEED``.

Of 160 sentences, 50 are of the documentation (README and docs/, without tables and code), 25 of docstrings, 25 of error
messages and help texts, 20 of field descriptions, 20 of comments, and 20 of the texts of reports: titles and captions
of pictures, and notes. A reader who has read only the glossary judges each: clear, needs a second reading, or
unintelligible.
"""

from __future__ import annotations

import argparse
import ast
import io
import random
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE = ("rimsim", "agents", "envs", "scenarios")
REPORTS = ("scenarios/report/", "scenarios/kinds/", "rimsim/data/description.py")
"""Where the texts of pictures and notes are."""
GENERATED = {"scenarios.md", "command-line.md", "tables.md"}
SAMPLE = {
    "documentation": 50,
    "docstrings": 25,
    "messages": 25,
    "fields": 20,
    "comments": 20,
    "reports": 20,
}
"""Kind of prose → number of sentences in a sample."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class ModuleProse:
    """Prose of a module of Python."""

    docstrings: list[str]
    """Sentences of docstrings, without formulas and code."""
    messages: list[str]
    """Literal messages of raised errors."""
    fields: list[str]
    """Descriptions of fields and constants: texts below them."""
    comments: list[str]
    """Comments, those of successive lines joined."""
    texts: list[str]
    """All other literal texts of several words, with braces for values."""

    @classmethod
    def of(cls, path: Path) -> ModuleProse:
        """Prose of a file."""
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        raised = [
            node.exc for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        ]
        descriptions = _descriptions(nodes)
        apart = {id(node) for node in descriptions}
        apart |= {id(part) for call in raised for part in ast.walk(call)}
        apart |= {
            id(node.body[0].value) for node in nodes if isinstance(node, DOCUMENTED) and _has_docstring(node)
        }
        return cls(
            docstrings=[
                sentence for node in nodes if isinstance(node, DOCUMENTED) for sentence in _docstring(node)
            ],
            messages=[text for call in raised if call.args if _is_prose(text := literal(call.args[0]))],
            fields=[sentence for node in descriptions for sentence in _paragraphs(literal(node))],
            comments=list(comments(source)),
            texts=[text for node in _outermost(tree, apart) if _is_prose(text := literal(node))],
        )


def sentences(text: str) -> Iterator[str]:
    """Sentences of running prose, of four words or more."""
    text = re.sub(r"\b(e\.g|i\.e|vs|al|cf)\.", r"\1\0", " ".join(text.split()))
    for sentence in re.split(r"(?<=[.?!])[\"'*)]*\s+(?=[\"'`*(]*[A-Zλγβ0-9`])", text):
        if len(sentence.split()) >= 4:
            yield sentence.replace("\0", ".")


def of_page(path: Path) -> Iterator[str]:
    """Sentences of a page of Markdown, without code, tables and headings."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = ["" if re.match(r"\||#|    ", line) else line for line in text.splitlines()]
    for part in re.split(r"\n\s*\n|\n(?=\s*(?:\*|-|\d+\.) )", "\n".join(lines)):
        yield from sentences(re.sub(r"^\s*(?:\*|-|\d+\.) ", "", part).replace("**", ""))


def comments(source: str) -> Iterator[str]:
    """Comments of a file; successive lines are joined, and directives to tools are left out."""
    parts: list[str] = []
    next_start = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = re.sub(r"# *(noqa|type:|fmt:|pragma)[^#]*", "", token.string).lstrip("#! ").strip()
        if token.start != next_start:
            yield from sentences(" ".join(parts))
            parts = []
        parts.append(text)
        is_line = token.line.lstrip().startswith("#")
        next_start = (token.start[0] + 1, token.start[1]) if is_line else None
    yield from sentences(" ".join(parts))


def literal(node: ast.expr) -> str:
    """Literal text of an expression, with braces for values."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(literal(part) for part in values)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, right=right):
            return literal(left) + literal(right)
    return ""


def _is_prose(text: str) -> bool:
    """True for texts of four words and more, which no code or pattern is."""
    return len(re.findall(r"(?<!\S)\W?[A-Za-z]{2,}\W?(?!\S)", text)) >= 4


def _has_docstring(node: ast.AST) -> bool:
    return isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return _paragraphs(ast.get_docstring(node) or "")


def _paragraphs(text: str) -> list[str]:
    """Sentences of the paragraphs of a docstring; its formulas and code are left out."""
    parts = [part for part in re.split(r"\n\s*\n", text) if not part.startswith("    ")]
    blocks = [block for part in parts for block in re.split(r"\n(?=\s*\**\w+: )", part)]
    return [sentence for block in blocks for sentence in sentences(block)]


def _descriptions(nodes: list[ast.AST]) -> list[ast.expr]:
    """Texts that stand below assignments, in classes and modules."""
    bodies = [node.body for node in nodes if isinstance(node, ast.Module | ast.ClassDef)]
    pairs = [pair for body in bodies for pair in pairwise(body)]
    return [
        below.value
        for above, below in pairs
        if isinstance(above, ast.Assign | ast.AnnAssign)
        if isinstance(below, ast.Expr)
        if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    ]


def _outermost(node: ast.AST, apart: set[int]) -> Iterator[ast.expr]:
    """Literal texts that are no part of a longer one; nodes that stand apart are left out."""
    for child in ast.iter_child_nodes(node):
        if id(child) in apart:
            continue
        if isinstance(child, ast.expr) and literal(child):
            yield child
        else:
            yield from _outermost(child, apart)


def corpus() -> dict[str, list[tuple[str, str]]]:
    """Kind → (place, sentence)."""
    prose: dict[str, list[tuple[str, str]]] = {kind: [] for kind in SAMPLE}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if page.name not in GENERATED:
            prose["documentation"] += [(page.name, sentence) for sentence in of_page(page)]
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        module = ModuleProse.of(path)
        place = str(path.relative_to(ROOT))
        for kind in ("docstrings", "messages", "fields", "comments"):
            prose[kind] += [(place, sentence) for sentence in getattr(module, kind)]
        if place.startswith(REPORTS):
            prose["reports"] += [(place, text) for text in module.texts]
    options = yaml.safe_load((ROOT / "scenarios" / "cli" / "options.yaml").read_text(encoding="utf-8"))
    helps = [option[-1] for group in options.values() for option in group.values() if option]
    prose["messages"] += [("options.yaml", text) for text in helps]
    return prose


def main() -> None:
    """Print the sample with numbers, kinds and places."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("seed", type=int)
    options.add_argument("--page", help="print all sentences of this page or file instead")
    options.add_argument("--all", choices=SAMPLE, help="print all sentences of this kind instead")
    choice = options.parse_args()
    draw = random.Random(choice.seed)
    for kind, prose in corpus().items():
        sample = draw.sample(prose, SAMPLE[kind])
        if choice.page or choice.all:
            sample = [
                (place, sentence)
                for place, sentence in prose
                if choice.page in {None, place} and choice.all in {None, kind}
            ]
        for number, (place, sentence) in enumerate(sample, 1):
            print(f"{kind} {number}. [{place}] {sentence}")


if __name__ == "__main__":
    main()
