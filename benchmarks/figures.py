"""Fill the figures of pages from the benchmark log: ``python benchmarks/figures.py`` (``--check`` only compares).

The log, ``benchmarks/log``, has a page for each subject. Scripts write its tables, each below a line that says commit,
date, machine, version and command. Other pages quote a cell of it between two marks::

    <!-- log: PAGE#HEADING; ROW; COLUMN; FORM -->0.135<!-- /log -->

PAGE is a file of the log without its ending; ``#HEADING`` is a heading's anchor, needed where several tables fit.
ROW is the text of a cell of the row, or of several with ``&`` between them. FORM is empty (the cell as it stands),
``mean`` (its first number), ``size`` (that number without its sign), ``%`` or ``points`` (the size times 100).
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import re
import subprocess
from pathlib import Path

import rimsim

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "benchmarks" / "log"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MARK = re.compile(r"(<!-- log: ([^>]*?) -->)(.*?)(<!-- /log -->)", re.DOTALL)


def head(command: str) -> str:
    """Line above a table of the log: commit, date, machine, version and command."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    machine = platform.processor() or platform.machine()
    today = dt.datetime.now(tz=dt.UTC).date()
    return f"*Commit {commit.stdout.strip()}, {today}, {machine}, rimsim {rimsim.__version__}:* `{command}`"


def replace_table(page: Path, name: str, made: str) -> None:
    """Write a table into a page of the log, between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{page}: has no marks {begin} … {end}")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{made}{end}", text), encoding="utf-8")


def anchor(title: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def plain(cell: str) -> str:
    """Cell without markup, with a leading zero and a true minus sign."""
    text = re.sub(r"[`*]", "", cell).strip().replace(" %", "%")
    text = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
    text = re.sub(r"± ?", "± ", text)
    return re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)


def tables(text: str) -> list[tuple[str, list[list[str]]]]:
    """Tables of a page: anchor of the heading above, and rows of plain cells, the first with the titles."""
    found: list[tuple[str, list[list[str]]]] = []
    title, inside = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            title = anchor(line.lstrip("# "))
        if re.fullmatch(r"[|:\s-]+", line):
            continue
        if line.startswith("|"):
            cells = [plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            if not inside:
                found.append((title, []))
            elif not cells[0]:  # the first cell of the row above holds here too
                cells[0] = found[-1][1][-1][0]
            found[-1][1].append(cells)
        inside = line.startswith("|")
    return found


def figure(mark: str) -> str:
    """Text that a mark asks for."""
    place, row, column, form = ([part.strip() for part in mark.split(";")] + [""])[:4]
    name, _, heading = place.partition("#")
    wanted = {plain(part) for part in row.split("&")}
    for title, rows in tables((LOG / f"{name}.md").read_text(encoding="utf-8")):
        if (heading and heading != title) or plain(column) not in rows[0]:
            continue
        for cells in rows[1:]:
            if wanted <= set(cells):
                return _as(form, cells[rows[0].index(plain(column))])
    raise SystemExit(f"log: {mark}: benchmarks/log/{name}.md has no such row or column.")


def _as(form: str, cell: str) -> str:
    if not form:
        return cell
    number = re.search(r"−?\d[\d,]*\.?\d*", cell)
    if number is None:
        raise SystemExit(f"log: {cell!r} has no number.")
    if form == "mean":
        return number[0]
    size = number[0].lstrip("−")
    if form == "points":  # half a point counts up, as in titles of pictures
        return f"{int(float(size) * 100 + 0.5 + 1e-9)}"
    return size if form == "size" else f"{float(f'{float(size) * 100:.2g}'):g}%"


def filled(page: str) -> str:
    """Page with its figures as the log has them now."""
    return MARK.sub(lambda found: f"{found[1]}{figure(found[2])}{found[4]}", page)


def main() -> None:
    """Write the pages whose figures differ, or name them."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="name pages that differ, and write nothing")
    check = options.parse_args().check
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            print(path.relative_to(ROOT))
            if not check:
                path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
