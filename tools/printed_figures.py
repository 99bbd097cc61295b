"""Compare printed text with the text of a page, figures by what they mean.

Processors differ in the last bits of a score, and one bit can change a visitor's choice. So figures of a played market
differ a little between processors, and half-widths over three seeds differ most. Words, signs, stars, counts and the
order of rows must be equal. A figure with an interval must lie in the interval of the page.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NUMBER = r"[−+]?\d+(?:,\d{3})*(?:\.\d+)?%?"
_TOKEN = re.compile(
    rf"(?<![\w.])(?P<mean>{_NUMBER}) (?:\((?P<low>{_NUMBER})(?: to |–)(?P<high>{_NUMBER})\)|±(?P<half>{_NUMBER}))"
    rf"|95% interval (?P<first>{_NUMBER}) to (?P<last>{_NUMBER})"
    rf"|(?<![\w.:–-])(?P<alone>{_NUMBER})(?![\w:–])"
    r"|[^\W\d][\w./:-]*|\d[\w./:–-]*|\S"
)
_OF_MEAN = 0.02
"""Distance, as a share of the mean, by which a mean may lie outside of its interval. Means of different processors
differ by 1.5% at most, and some intervals are narrower."""
_OF_FIGURE = 0.1
"""Largest relative difference of figures without an interval."""
_WIDTHS = 2.0
"""Largest ratio of two half-widths. Half-widths over three seeds vary most."""
_HALF_WIDTHS = 0.1
"""Difference of two half-widths, as a share of the mean, that is always accepted. Where three seeds nearly agree by
chance, a small change of one of them multiplies the half-width."""
_SHOWN = 5
"""Number of tokens before and after a difference that are shown."""


@dataclass(frozen=True)
class Figure:
    """Number of a text, with its interval if the text gives one."""

    text: str
    """Figure as it is written."""
    value: float
    """Number without its unit."""
    digit: float
    """Value of one unit in the last written place."""
    interval: tuple[float, float] | None = None
    """Lower and upper end; None: the figure has no interval."""

    @classmethod
    def of(cls, text: str) -> Figure:
        """Figure of a written number."""
        digits = text.rstrip("%").partition(".")[2]
        return cls(text, _value(text), 10.0 ** -len(digits))

    @property
    def mark(self) -> tuple[str, bool, bool]:
        """Sign, and true if the number is a percentage, and if it has an interval."""
        sign = self.text[0] if self.text[0] in "−+" else ""
        return sign, "%" in self.text.partition(" ")[0], self.interval is not None

    def allows(self, printed: Figure) -> bool:
        """True if a printed figure means the same as this figure of a page."""
        if self.mark != printed.mark:
            return False
        distance = abs(self.value - printed.value)
        if self.interval is None or printed.interval is None:
            is_count = not {".", "%"} & set(self.text)
            return distance <= (0.0 if is_count else max(self.digit, _OF_FIGURE * abs(self.value)))
        low, high = self.interval
        printed_low, printed_high = printed.interval
        tolerance = max(self.digit, _OF_MEAN * abs(self.value))
        narrow, wide = sorted(((high - low) / 2, (printed_high - printed_low) / 2))
        # A written half-width is off by half a unit of its last place, so two of them may differ by one.
        widest = max(_WIDTHS * narrow + self.digit, narrow + _HALF_WIDTHS * abs(self.value))
        return (
            low - tolerance <= printed.value <= high + tolerance
            and printed_low <= high + tolerance
            and low <= printed_high + tolerance
            and wide <= widest
        )


def _value(text: str) -> float:
    """Number of its digits, sign and decimal point."""
    return float(text.replace("−", "-").replace(",", "").rstrip("%"))


def tokens(text: str) -> list[str | Figure]:
    """Words and figures of a text, without the rules of tables."""
    words = " ".join(word for word in ESCAPE.sub("", text).split() if set(word) != {"─"})
    sequence: list[str | Figure] = []
    for match in _TOKEN.finditer(words):
        if match["mean"]:
            figure = Figure.of(match["mean"])
            sequence.append(
                dataclasses.replace(figure, text=match[0], interval=_interval(match, figure.value))
            )
        elif match["alone"]:
            sequence.append(Figure.of(match["alone"]))
        elif match["first"]:
            # The interval is that of the last number before it: "17 points of coverage (95% interval 10 to 24)".
            for place in reversed(range(len(sequence))):
                figure_before = sequence[place]
                if isinstance(figure_before, Figure):
                    ends = (_value(match["first"]), _value(match["last"]))
                    sequence[place] = dataclasses.replace(figure_before, interval=ends)
                    break
            sequence.append("95% interval")
        else:
            sequence.append(match[0])
    return sequence


def _interval(match: re.Match[str], mean: float) -> tuple[float, float]:
    """Ends of an interval that is written by its ends or by its half-width."""
    if match["low"]:
        return _value(match["low"]), _value(match["high"])
    half_width = _value(match["half"])
    return mean - half_width, mean + half_width


def alike(expected: str | Figure, printed: str | Figure) -> bool:
    """True if two words are equal, or two figures mean the same."""
    if isinstance(expected, Figure) and isinstance(printed, Figure):
        return expected.allows(printed)
    return expected == printed


@dataclass(frozen=True)
class Difference:
    """First place at which a printed text differs from a page."""

    expected: str
    """Words of the page around the difference."""
    printed: str
    """Printed words at the same place."""

    def __str__(self) -> str:
        return f"expected «{self.expected}», printed «{self.printed}»"


def differences(page: str, printed: str) -> list[Difference]:
    """Differences of the parts of a page's text, one per part at most.

    Parts lie between ``…`` and empty lines. Each part may stand anywhere in the printed text.
    """
    printed_tokens = tokens(printed)
    parts = [tokens(part) for part in re.split(r"…|\n\s*\n", page) if part.split()]
    of_parts = (_difference(part, printed_tokens) for part in parts)
    return [difference for difference in of_parts if difference is not None]


def _difference(part: list[str | Figure], printed: list[str | Figure]) -> Difference | None:
    """Difference at the place of the printed text that is most like the part; None if a place is alike."""
    best: list[bool] = []
    start = 0
    for place in range(max(1, len(printed) - len(part) + 1)):
        here = printed[place : place + len(part)]
        equal = [alike(*pair) for pair in zip(part, here, strict=False)]
        equal += [False] * (len(part) - len(equal))
        if sum(equal) > sum(best) or not best:
            best = equal
            start = place
    if all(best):
        return None
    wrong = best.index(False)
    first = max(0, wrong - _SHOWN)
    last = wrong + _SHOWN + 1
    return Difference(_text(part[first:last]), _text(printed[start + first : start + last]))


def _text(part: list[str | Figure]) -> str:
    """Text of some tokens on one line."""
    words = [token.text if isinstance(token, Figure) else token for token in part]
    pairs = itertools.pairwise(["(", *words])
    return "".join(f"{'' if left in '([' or word in ').,;:]%*=' else ' '}{word}" for left, word in pairs)
