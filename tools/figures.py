"""Fill the figures of pages from the benchmark log: ``python tools/figures.py`` (``--check`` only compares).

The log, ``benchmarks/log``, has a page for each subject. Scripts write its tables, each below a line that says commit,
date, machine, version and command. The file ``figures.yaml`` lists the figures that other pages quote from it: the
words around a figure, and the cell of the log. So the pages themselves are plain text. The file ``claims.yaml`` lists
claims in words, such as "nearly half of the loss", with the data that must support them.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "benchmarks" / "log"
QUOTES = Path(__file__).with_name("figures.yaml")
CLAIMS = Path(__file__).with_name("claims.yaml")
NUMBER = r"[−+]?\d+(?:[.,]\d+)*%?"
FIGURE = re.compile(rf"{NUMBER}(?: ± {NUMBER})?(?: \[[^\]]*\])?\*?")  # −0.135 ± 0.011, 34% [20, 48], 5.9*

_STARRED = "starred"
"""Form of a figure: its number without the sign, and its star of significance, if it has one."""


@dataclass(frozen=True)
class Quote:
    """Figures of a page that the log measures."""

    page: str
    """Path of the page within the repository."""
    words: str
    """Text around the figures; ``{}`` stands for each figure."""
    places: tuple[str, ...]
    """Cell of the log behind each figure: ``PAGE#HEADING; ROW; COLUMN; FORM``."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each figure in the text of the page."""
        pattern = rf"({FIGURE.pattern})".join(_words(part) for part in self.words.split("{}"))
        matches = list(re.finditer(pattern, text))
        if len(matches) != 1:
            raise SystemExit(
                f"{QUOTES.name}: {self.page}: {self.words!r} occurs {len(matches)} times in the page. "
                "Write words that occur once."
            )
        if len(matches[0].groups()) != len(self.places):
            raise SystemExit(f"{QUOTES.name}: {self.page}: {self.words!r} needs one place for each {{}}.")
        return [matches[0].span(number) for number in range(1, len(self.places) + 1)]


def _words(part: str) -> str:
    """Pattern of words that may be wrapped in the page."""
    return re.sub(r"(?:\\\s)+", r"\\s+", re.escape(part))


def quotes() -> list[Quote]:
    """Figures that pages quote, in the order of the file."""
    pages = yaml.safe_load(QUOTES.read_text(encoding="utf-8"))
    return [
        Quote(page, words, tuple([places] if isinstance(places, str) else places))
        for page, figures in pages.items()
        for words, places in figures.items()
    ]


def anchor(title: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def plain(cell: str) -> str:
    """Cell without markup, with a leading zero and a true minus sign."""
    text = re.sub(r"[`*]", "", cell).strip().replace(" %", "%")
    text = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
    text = re.sub(r"± ?", "± ", text)
    return re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)


def starred(cell: str) -> str:
    """Plain cell with the star of a significant difference, if it has one."""
    return plain(cell) + "*" * bool(re.search(r"^[^*].*[^*]\*$", cell.strip()))  # not italic, not bold


def tables(text: str, read: Callable[[str], str] = plain) -> list[tuple[str, list[list[str]]]]:
    """Tables of a page: anchor of the heading above, and rows of cells as read, the first with the titles."""
    tables_of_page: list[tuple[str, list[list[str]]]] = []
    title = ""
    is_inside = False
    for line in text.splitlines():
        if line.startswith("#"):
            title = anchor(line.lstrip("# "))
        if re.fullmatch(r"[|:\s-]+", line):
            continue
        if line.startswith("|"):
            cells = [read(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            if not is_inside:
                tables_of_page.append((title, []))
            elif not cells[0]:  # the first cell of the row above holds here too
                cells[0] = tables_of_page[-1][1][-1][0]
            tables_of_page[-1][1].append(cells)
        is_inside = line.startswith("|")
    return tables_of_page


def figure(place: str) -> str:
    """Figure of the log at a place."""
    table, row, column, form = ([part.strip() for part in place.split(";")] + [""])[:4]
    name, _, heading = table.partition("#")
    row_cells = {plain(part) for part in row.split("&")}
    matches = {
        cells[rows[0].index(plain(column))]
        for title, rows in tables(
            (LOG / f"{name}.md").read_text(encoding="utf-8"), starred if form == _STARRED else plain
        )
        if heading in {"", title} and plain(column) in rows[0]
        for cells in rows[1:]
        if row_cells <= set(cells)
    }
    if len(matches) != 1:
        raise SystemExit(
            f"{QUOTES.name}: {place}: {len(matches)} figures of benchmarks/log/{name}.md fit. "
            "Name a heading, row and column that fit once."
        )
    return _formatted(matches.pop(), form)


def _formatted(cell: str, form: str) -> str:
    if not form:
        return cell
    if form == "absolute":
        return cell.lstrip("−")
    number = re.search(r"−?\d[\d,]*\.?\d*", cell)
    if number is None:
        raise SystemExit(f"{QUOTES.name}: the cell {cell!r} has no number.")
    if form == "mean":
        return number[0]
    size = number[0].lstrip("−")
    if form == _STARRED:
        return size + "*" * cell.endswith("*")
    if form == "points":  # half a point counts up, as in titles of pictures
        return f"{int(float(size) * 100 + 0.5 + 1e-9)}"
    return size if form == "size" else f"{float(f'{float(size) * 100:.2g}'):g}%"


def updated(text: str, quotes_of_page: list[Quote]) -> str:
    """Page with its figures as the log has them now; a figure that is quoted twice is refused."""
    figures: dict[tuple[int, int], str] = {}
    for quote in quotes_of_page:
        for span, place in zip(quote.spans(text), quote.places, strict=True):
            if span in figures:
                raise SystemExit(f"{QUOTES.name}: {quote.page}: {quote.words!r} quotes a figure twice.")
            figures[span] = figure(place)
            if not FIGURE.fullmatch(figures[span]):
                raise SystemExit(f"{QUOTES.name}: {place}: {figures[span]!r} is not a figure.")
    for (start, end), new_figure in sorted(figures.items(), reverse=True):
        text = text[:start] + new_figure + text[end:]
    return text


def outdated() -> dict[Path, str]:
    """Pages whose figures differ from the log, with their text as it should be."""
    all_quotes = quotes()
    new_texts = {}
    for page in sorted({quote.page for quote in all_quotes}):
        text = (ROOT / page).read_text(encoding="utf-8")
        new_text = updated(text, [quote for quote in all_quotes if quote.page == page])
        if new_text != text:
            new_texts[ROOT / page] = new_text
    return new_texts


@dataclass(frozen=True)
class Claim:
    """Words of a page, and the data that must support them."""

    page: str
    """Path of the page within the repository."""
    words: str
    """Text of the claim, which occurs once in the page."""
    row: str = ""
    """Row of the log behind the claim: ``PAGE#HEADING; ROW``."""
    curve: str = ""
    """Curve behind the claim: ``FILE; PANEL; LINE``."""
    rounds: tuple[int, ...] = ()
    """Rounds a, b, c of a curve, for the share (a − b) / (a − c)."""
    starred: tuple[str, ...] = ()
    """Columns of the row whose cells have a star; empty: stars do not matter."""
    between: tuple[float, ...] = ()
    """Smallest and largest value; empty: values do not matter."""

    def fault(self) -> str | None:
        """Reason why the page or the data do not support the claim, if any."""
        text = (ROOT / self.page).read_text(encoding="utf-8")
        count = len(re.findall(_words(self.words), text))
        if count != 1:
            return f"the words occur {count} times in the page"
        if self.curve:
            values = {"share": _share(self.curve, self.rounds)}
        else:
            cells = _row(self.row)
            with_star = tuple(column for column, cell in cells.items() if cell.endswith("*"))
            if self.starred and set(with_star) != set(self.starred):
                return f"stars are in {', '.join(with_star) or 'no column'}"
            values = {name: float(_formatted(cells[name], "size")) for name in self.starred or cells}
        outside = [
            f"{name} {value:g}"
            for name, value in values.items()
            if self.between and not self.between[0] <= value <= self.between[1]
        ]
        return (
            f"not between {self.between[0]:g} and {self.between[1]:g}: {', '.join(outside)}"
            if outside
            else None
        )


def claims() -> list[Claim]:
    """Claims of pages, in the order of the file."""
    pages = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    return [
        Claim(
            page,
            words,
            **{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()},
        )
        for page, claims_of_page in pages.items()
        for words, data in claims_of_page.items()
    ]


def _row(place: str) -> dict[str, str]:
    """Column → cell of a row of the log, with its star, without empty cells."""
    table, row = (part.strip() for part in place.split(";"))
    name, _, heading = table.partition("#")
    text = (LOG / f"{name}.md").read_text(encoding="utf-8")
    rows_found = [
        dict(zip(rows[0][1:], cells[1:], strict=True))
        for title, rows in tables(text, starred)
        if title == heading
        for cells in rows[1:]
        if cells[0] == row
    ]
    if len(rows_found) != 1:
        raise SystemExit(f"{CLAIMS.name}: {place}: {len(rows_found)} rows of benchmarks/log/{name}.md fit.")
    return {column: cell for column, cell in rows_found[0].items() if cell}


def _share(place: str, rounds: tuple[int, ...]) -> float:
    """Share of a curve's whole change that its first part has."""
    file, panel, line = (part.strip() for part in place.split(";"))
    with (LOG / "pictures" / f"{file}.csv").open(encoding="utf-8") as opened:
        points = {
            int(row["round"]): float(row["mean"])
            for row in csv.DictReader(opened)
            if (row["panel"], row["line"]) == (panel, line)
        }
    first, second, last = (points[number] for number in rounds)
    return (first - second) / (first - last)


def unsupported() -> list[str]:
    """Claims in words that the data do not support, with the reason."""
    faults = ((claim, claim.fault()) for claim in claims())
    return [f"{claim.page}: {claim.words!r}: {fault}" for claim, fault in faults if fault is not None]


def main() -> int:
    """Write the pages whose figures differ, or name them; 1 if a check names any."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="name pages that differ, and write nothing")
    is_check = options.parse_args().check
    pages = outdated()
    for path, text in pages.items():
        print(path.relative_to(ROOT))
        if not is_check:
            path.write_text(text, encoding="utf-8")
    faults = unsupported()
    print(*faults, sep="\n", end="\n" * bool(faults))
    return int((is_check and bool(pages)) or bool(faults))


if __name__ == "__main__":
    sys.exit(main())
