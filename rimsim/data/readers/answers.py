"""Columns of impressions: flags, positions, propensities and policies."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rimsim.arrays import Bools, Floats
from rimsim.data.readers.columns import ANSWER_ROLES, Role
from rimsim.data.readers.lines import numbers_of
from rimsim.data.readers.values import MISSING, short

_FLAGS: Final = ("0", "1", "0.0", "1.0", "false", "true")
"""Texts that mean no (at even places) and yes (at odd places)."""
_LARGEST_POSITION: Final = 1e5
"""Largest position of a slate. Nobody looks that deep, and each position has an entry in tables of positions."""
_SMALLEST_PROPENSITY: Final = 1e-12
"""Smallest propensity. An impression counts with 1 / propensity, whose square overflows for much smaller ones."""


@dataclass(frozen=True, eq=False)
class AnswerColumns:
    """Columns of a block of n impressions; None: absent."""

    taken: Bools
    """(n,) True if the item was taken."""
    shown: Bools
    """(n,) False for an event that no impression caused."""
    position: Floats | None = None
    """(n,) position in the slate, as the log counts; NaN where unknown."""
    propensity: Floats | None = None
    """(n,) probability with which the policy showed the item; NaN where unknown."""
    policy: pa.Array | None = None
    """(n,) texts of policies."""

    def rows(self, rows: Bools) -> AnswerColumns:
        """Columns of chosen rows."""
        return AnswerColumns(
            taken=self.taken[rows],
            shown=self.shown[rows],
            position=None if self.position is None else self.position[rows],
            propensity=None if self.propensity is None else self.propensity[rows],
            policy=None if self.policy is None else self.policy.filter(pa.array(rows)),
        )


def answer_columns(
    fields: Mapping[str, pa.Array],
    labels: Mapping[str, str],
    problems: MutableMapping[Role, dict[int, str]],
) -> AnswerColumns | None:
    """Columns of impressions from texts; None without answers.

    Args:
        fields: Role → texts of its column.
        labels: Role → its name in messages.
        problems: Role → row → problem; the problems of these columns are added.
    """
    if "taken" not in fields:
        return None
    taken, problems["taken"] = _flags(fields["taken"], labels["taken"])
    shown = np.ones(len(taken), bool)
    if "shown" in fields:
        shown, problems["shown"] = _flags(fields["shown"], labels["shown"])
        problem = f"{labels['taken']} is 0 where {labels['shown']} is 0. An event without an impression must be taken"
        organic = dict.fromkeys(np.flatnonzero(~taken & ~shown).tolist(), problem)
        problems["shown"] = organic | problems["shown"]
    position = None
    if "position" in fields:
        position, problems["position"] = _numbers(fields["position"], labels["position"], _LARGEST_POSITION)
        fraction = position != np.floor(position)
        for row in np.flatnonzero(fraction & np.isfinite(position)).tolist():
            problems["position"][row] = f"{labels['position']} is {position[row]:g}. Expected a whole number"
    propensity = None
    if "propensity" in fields:
        propensity, problems["propensity"] = _numbers(fields["propensity"], labels["propensity"], 1.0)
        for row in np.flatnonzero(propensity < _SMALLEST_PROPENSITY).tolist():
            problems["propensity"][row] = (
                f"{labels['propensity']} is {propensity[row]:g}. Expected a probability of at least "
                f"{_SMALLEST_PROPENSITY:g}, because the item was shown"
            )
    return AnswerColumns(taken, shown, position, propensity, fields.get("policy"))


def answer_texts(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Columns of impressions as texts, as in a text file."""
    return {
        role: pc.fill_null(column.cast(pa.string()), "")
        for role, column in columns.items()
        if role in ANSWER_ROLES
    }


def _flags(texts: pa.Array, label: str) -> tuple[Bools, dict[int, str]]:
    """True for 1 or true, and problems by row."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    form = pc.index_in(words, pa.array(_FLAGS, words.type)).fill_null(-1).to_numpy(zero_copy_only=False)
    wrong_rows = np.flatnonzero(form < 0).tolist()
    problems = {row: f"{label} is {short(texts[row].as_py())}. Expected 0 or 1" for row in wrong_rows}
    return form % 2 == 1, problems


def _numbers(texts: pa.Array, label: str, largest: float) -> tuple[Floats, dict[int, str]]:
    """Numeric values, NaN where missing, and problems by row."""
    missing_texts = pa.array(sorted(MISSING), texts.type)
    is_missing = pc.is_in(pc.utf8_trim_whitespace(texts), missing_texts)
    rows = np.flatnonzero(~is_missing.to_numpy(zero_copy_only=False))
    numbers = np.full(len(texts), np.nan)
    numbers[rows], problems = numbers_of(texts.take(pa.array(rows)), label, largest)
    return numbers, {int(rows[row]): problem for row, problem in problems.items()}
