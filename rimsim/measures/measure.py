"""What a measure is: a name, a unit, a formula, and the function of a round that computes it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from rimsim.errors import ConfigError, MeasureError, one_line

if TYPE_CHECKING:
    from rimsim.measures.facts import RoundFacts


Better: TypeAlias = Literal["higher", "lower", "neither"]
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LINE = re.compile(r"\S.*")


@dataclass(frozen=True)
class Measure:
    """One metric of the tables, of TensorBoard and of pictures.

    Raises:
        ConfigError: If a name, a unit or a formula cannot stand in a table, or ``of`` cannot be called.

    Example:
        >>> from rimsim.measures import Measure
        >>> empty = Measure("empty", "share", "#{positions: -1} / (n·k)", of=lambda facts: (facts.slates < 0).mean())
        >>> empty.tag
        'own/empty'
    """

    name: str
    """Metric name in the tables."""
    unit: str
    """Unit; ``share`` = a part of 1, written in per cent; ``index`` = from 0 to 1, but no part."""
    formula: str
    """One line."""
    of: Callable[[RoundFacts], float | None]
    """The value in a round; None where the round has none, which leaves a gap."""
    title: str = ""
    """For the axis of a picture; empty: made of the name."""
    group: str = "own"
    """First half of the TensorBoard tag ``group/name``."""
    better: Better = "neither"
    """Which direction is good, if one is."""

    def __post_init__(self) -> None:
        for field, allowed in (("name", _WORD), ("group", _WORD), ("unit", _LINE), ("formula", _LINE)):
            text = getattr(self, field)
            if not isinstance(text, str) or not allowed.fullmatch(text):
                said = (
                    "letters, digits and _, beginning with a letter" if allowed is _WORD else "a line of text"
                )
                raise ConfigError(f"measure {self.name!r}: {field} is {text!r}; allowed: {said}")
        if self.better not in get_args(Better):
            raise ConfigError(
                f"measure {self.name!r}: better is {self.better!r}; allowed: {', '.join(get_args(Better))}"
            )
        if not callable(self.of):
            raise ConfigError(
                f"measure {self.name!r}: of is a {type(self.of).__name__}; allowed: a function of a round's record"
            )
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())

    @property
    def tag(self) -> str:
        """TensorBoard tag, ``group/name``."""
        return f"{self.group}/{self.name}"

    def value(self, facts: RoundFacts) -> float | None:
        """The value in a round; None where there is none, or none that is finite.

        Raises:
            MeasureError: If the function raised, or returned something that is no number.
        """
        try:
            result = self.of(facts)
        except Exception as error:  # whatever a user's function does
            raise MeasureError(
                f"measure {self.name!r} raised {type(error).__name__}: {one_line(error)}, in round {facts.round}"
            ) from error
        if result is None:
            return None
        if not isinstance(result, Real):
            raise MeasureError(
                f"measure {self.name!r} returned a {type(result).__name__}; allowed: a number, or None where a round "
                "has no value"
            )
        number = float(result)
        return number if math.isfinite(number) else None
