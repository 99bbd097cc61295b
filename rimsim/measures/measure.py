"""Measure of a round, with its unit, formula and title."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeAlias, get_args

from rimsim.errors import ConfigError, MeasureError, has_type, one_line, refuse
from rimsim.measures.facts import RoundFacts

Better: TypeAlias = Literal["higher", "lower", "neither"]
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""Pattern of names and groups."""
_LINE = re.compile(r"\S.*")
"""Pattern of units and formulas: text on one line."""


@dataclass(frozen=True)
class Measure:
    """Measure whose values are in tables, TensorBoard and pictures.

    Example:
        >>> from rimsim.measures import Measure
        >>> empty = Measure("empty", "share", "#{positions: -1} / (n·k)", of=lambda facts: (facts.slates < 0).mean())
        >>> empty.tag
        'own/empty'
    """

    name: str
    """Name of the measure in tables; letters, digits and _."""
    unit: str
    """Unit of the values. A ``share`` is written in per cent. An ``index`` is also from 0 to 1, but is not a share."""
    formula: str
    """Formula of the measure, on one line."""
    of: Callable[[RoundFacts], float | None]
    """Function that returns the value in a round, or None if the round has no value, which leaves a gap."""
    title: str = ""
    """Title for axes of pictures; empty: a title made from the name."""
    group: str = "own"
    """First half of the TensorBoard tag ``group/name``."""
    better: Better = "neither"
    """Direction that is better, if one is."""
    band: int = 0
    """Place among the bands over seeds on TensorBoard's page; 0: no band. A user's own measure always has a band."""
    is_number_of_items: bool = False
    """True for a value between 1 and the number M of items, whose interval is symmetric on the log scale."""
    retrained: bool = False
    """True if TensorBoard shows the parts of the measure's change by retraining, as it does for a user's own
    measures."""

    def __post_init__(self) -> None:
        for field, allowed in (("name", _WORD), ("group", _WORD), ("unit", _LINE), ("formula", _LINE)):
            text = getattr(self, field)
            if not isinstance(text, str) or not allowed.fullmatch(text):
                words = (
                    "letters, digits and _, beginning with a letter" if allowed is _WORD else "a line of text"
                )
                self._refuse(f"{field} is {text!r}", words)
        if self.better not in get_args(Better):
            self._refuse(f"better is {self.better!r}", ", ".join(get_args(Better)))
        if not has_type(self.of, Callable):  # type: ignore[arg-type]  # mypy refuses an abstract class here
            self._refuse(f"of is a {type(self.of).__name__}", "a function of a round's record")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())

    def _refuse(self, problem: str, allowed: str) -> None:
        """Raise an error that names the measure."""
        refuse(ConfigError, f"measure {self.name!r}", problem, allowed)

    @property
    def tag(self) -> str:
        """TensorBoard tag, ``group/name``."""
        return f"{self.group}/{self.name}"

    def value(self, facts: RoundFacts) -> float | None:
        """Value in a round; None if not finite."""
        try:
            result = self.of(facts)
        except Exception as error:  # a function of the user can raise any exception
            raise MeasureError(
                f"measure {self.name!r} raised {type(error).__name__} in round {facts.round}: "
                f"{one_line(error)}"
            ) from error
        if result is None:
            return None
        if not has_type(result, Real):
            raise MeasureError(
                f"measure {self.name!r} returned a {type(result).__name__}. Expected a number, or None "
                "for a round without a value"
            )
        number = float(result)
        return number if math.isfinite(number) else None
