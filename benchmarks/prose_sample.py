"""Draw 100 sentences of the project's prose: ``python benchmarks/prose_sample.py SEED``.

50 are of the documentation (README and docs/, without tables and code), 25 of docstrings and 25 of error messages and
help texts. A reader who has read only the glossary judges each: clear, needs a second reading, or unintelligible.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE = ("rimsim", "agents", "envs", "scenarios")
GENERATED = {"scenarios.md", "command-line.md", "tables.md"}
DRAWN = {"documentation": 50, "docstrings": 25, "messages": 25}


def sentences(text: str) -> Iterator[str]:
    """Sentences of running prose, of four words or more."""
    text = re.sub(r"\b(e\.g|i\.e|vs|al|cf)\.", r"\1\0", " ".join(text.split()))
    for sentence in re.split(r"(?<=[.?!])[\"'*)]*\s+(?=[\"'`*(]*[A-Zλγβ0-9`])", text):
        if len(sentence.split()) >= 4:
            yield sentence.replace("\0", ".")


def of_page(path: Path) -> Iterator[str]:
    """Sentences of a page of Markdown, without code, tables, headings and comments."""
    text = re.sub(r"```.*?```|<!--.*?-->|\$\$.*?\$\$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = ["" if re.match(r"\||#|    ", line) else line for line in text.splitlines()]
    for part in re.split(r"\n\s*\n|\n(?=\s*(?:\*|-|\d+\.) )", "\n".join(lines)):
        yield from sentences(re.sub(r"^\s*(?:\*|-|\d+\.) ", "", part).replace("**", ""))


def of_module(path: Path) -> tuple[list[str], list[str]]:
    """Sentences of docstrings, without formulas and code, and literal messages of raised errors."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    parts = [part for text in texts for part in re.split(r"\n\s*\n", text) if not part.startswith("    ")]
    blocks = [block for part in parts for block in re.split(r"\n(?=\s*\**\w+: )", part)]
    raised = [
        node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    messages = [_text(call.args[0]) for call in raised if call.args]
    return [one for block in blocks for one in sentences(block)], [
        one for one in messages if len(one.split()) > 3
    ]


def _text(node: ast.expr) -> str:
    """Literal text of an expression, with braces for values."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(part) for part in values)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
    return ""


def corpus() -> dict[str, list[tuple[str, str]]]:
    """Kind → (place, sentence)."""
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in DRAWN}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if page.name not in GENERATED:
            found["documentation"] += [(page.name, one) for one in of_page(page)]
    for module in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        docstrings, messages = of_module(module)
        place = str(module.relative_to(ROOT))
        found["docstrings"] += [(place, one) for one in docstrings]
        found["messages"] += [(place, one) for one in messages]
    options = yaml.safe_load((ROOT / "scenarios" / "cli" / "options.yaml").read_text(encoding="utf-8"))
    helps = [given[-1] for group in options.values() for given in group.values() if given]
    found["messages"] += [("options.yaml", text) for text in helps]
    return found


def main() -> None:
    """Print the sample with numbers, kinds and places."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("seed", type=int)
    options.add_argument("--page", help="print all sentences of this page or file instead")
    options.add_argument("--all", choices=DRAWN, help="print all sentences of this kind instead")
    asked = options.parse_args()
    found = corpus()
    draw = random.Random(asked.seed)
    for kind, count in DRAWN.items():
        listed = found[kind]
        drawn = draw.sample(listed, count)
        if asked.page or asked.all:
            drawn = [one for one in listed if asked.page in (None, one[0]) and asked.all in (None, kind)]
        for number, (place, sentence) in enumerate(drawn, 1):
            print(f"{kind} {number}. [{place}] {sentence}")


if __name__ == "__main__":
    main()
