"""Consumers whose answers are known from a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass as plain_dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import ScenarioConfig
from rimsim.data import EventLog, ObservedTable, load_observed
from rimsim.errors import ConfigError
from rimsim.intensity.contract import BLOCK
from rimsim.market.consumers.contract import NOTHING, Organic, SlateVisits, drawn, examination
from rimsim.market.records import Response


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ObservedOptions:
    """Options: table of answers, and meaning of its values."""

    table: str = Field(
        min_length=1, description="Path of the table of known answers; see rimsim.data.load_observed."
    )
    value: Literal["threshold", "probability"] = Field(
        default="threshold",
        description="Meaning of a value. threshold: a visitor who looks at the item takes it if the value is at least "
        "`taken_at`. probability: the value is the probability of taking it.",
    )
    taken_at: float = Field(
        default=1.0, gt=0, description="threshold: smallest value that counts as a consumption."
    )
    columns: str | None = Field(
        default=None,
        description="Columns, such as 'user=uid,item=sku,value=liked'; null: columns with usual names.",
    )
    unobserved: Literal["never"] = Field(
        default="never", description="Answer of pairs that the table does not have: never consumed."
    )


@plain_dataclass(frozen=True)
class TableReport:
    """Report on the coverage of a market by a table."""

    users: int
    """Users of the log with an answer in the table."""
    items: int
    """Items of the log with an answer in the table."""
    answered: float
    """Share of pairs with an answer in the table, among all pairs of the log's users and items."""
    taken: float
    """Mean probability that an examined item is consumed, over pairs with an answer."""
    left: float
    """Share of the table's expected consumptions that the log cannot use, because it lacks the user or the item."""
    shown_at_random: bool
    """True if the table's items were chosen independently of users' preferences."""

    def text(self) -> str:
        """Sentence that reports the coverage."""
        selection = "" if self.shown_at_random else ", and they may be selected by what users like"
        return (
            f"the table answers {self.answered:.1%} of all pairs of a user and an item ({self.users:,} users, "
            f"{self.items:,} items), {self.taken:.1%} of them by a consumption{selection}; other pairs are never "
            f"consumed; users do not meet {self.left:.1%} of what they would consume in the log"
        )


@plain_dataclass(frozen=True, eq=False)
class _Answers:
    """Answers of a table for a log's users and items."""

    pair: Ints
    """(n,) number user·M + item of each answered pair, ascending."""
    probability: Floats
    """(n,) probability that the pair's item is consumed if the user looks at it."""
    offsets: Ints
    """(users + 1,) index of each user's first answer."""
    n_items: int
    """M, the number of items."""

    def at(self, user: Ints, items: Ints) -> tuple[Floats, Bools]:
        """Probabilities of user-item pairs, and mask of known pairs."""
        # A pair without an answer has probability 0.
        pair = user[:, None] * self.n_items + items
        index = np.minimum(np.searchsorted(self.pair, pair), len(self.pair) - 1)
        is_known = (self.pair[index] == pair) & (items >= 0)
        return np.where(is_known, self.probability[index], 0.0), is_known


@lru_cache(maxsize=2)
def _read(path: str, columns: str | None, changed: int) -> ObservedTable:  # noqa: ARG001  # only the cache uses it, as a key
    """Table of answers, read again if the file has changed."""
    return load_observed(path, columns=columns)


@lru_cache(maxsize=4)
def _matched(table: ObservedTable, log: EventLog) -> ObservedTable:
    """Answers for users and items of a log, cached."""
    return table.matched(log)


@lru_cache(maxsize=4)
def _answers(options: ObservedOptions, table: ObservedTable, log: EventLog) -> _Answers:
    """Probabilities of consumption that a table gives, cached."""
    answers = _matched(table, log)
    is_taken = (answers.value >= options.taken_at).astype(np.float64)
    offsets = np.searchsorted(answers.user, np.arange(log.n_users + 1))
    return _Answers(
        pair=answers.user * log.n_items + answers.item,
        probability=answers.value if options.value == "probability" else is_taken,
        offsets=offsets.astype(np.int64),
        n_items=log.n_items,
    )


class Observed:
    """Consumers whose answers to items come from a table.

    An item shown at position r is consumed with probability p·γ^(r−1). With ``value: threshold``, p is 1 if the value
    is at least ``taken_at``, and 0 otherwise, so only examination is random. With ``value: probability``, p is the
    value. A pair that is not observed has p = 0. Each pair of arrival and item has its own random number.

    The true intensity of an item is p, the expected number of consumptions if the item is examined. So the intensity is
    finite even if p is 1, and its sum over items is the expected consumption if a visitor examined the whole catalogue.

    Raises:
        DataError: If the table cannot be read.
        ConfigError: If a value is not a probability, or if the scenario has settings that multiply intensities, because
            this consumer does not use intensities.
    """

    needs_truth = False

    def __init__(self, options: ObservedOptions, scenario: ScenarioConfig) -> None:
        if scenario.consumer.attraction != 1:
            raise ConfigError(
                f"consumer.attraction is {scenario.consumer.attraction:g}, but consumer.kind 'observed' "
                "has no intensity to multiply. Set attraction to 1"
            )
        self._options = options
        self._table = _read(options.table, options.columns, _changed(options.table))
        largest_value = self._table.value.max()
        if options.value == "probability" and largest_value > 1:
            raise ConfigError(
                f"consumer.options.value is 'probability', but {options.table} has a value of "
                f"{largest_value:g}. Expected values from 0 to 1. For other values set value to 'threshold'"
            )
        self._examination = examination(scenario.consumer.position_decay, scenario.slate)

    def report(self, log: EventLog) -> TableReport:
        """Report on the coverage of a log by the table.

        Raises:
            DataError: If the table has no answer for any pair of a user and an item of the log.
        """
        matched = _matched(self._table, log)
        answers = self._known(log)
        is_new = ~np.isin(answers.pair, np.unique(log.user * log.n_items + log.item))
        total = float(answers.probability.sum())
        return TableReport(
            users=len(np.unique(matched.user)),
            items=len(np.unique(matched.item)),
            answered=len(matched) / (log.n_users * log.n_items),
            taken=float(answers.probability.mean()),
            left=float(answers.probability[is_new].sum()) / total if total else 0.0,
            shown_at_random=matched.shown_at_random,
        )

    def note(self, log: EventLog) -> str:
        """Sentence about the coverage, shown before a run."""
        return f"{self._table.source}: {self.report(log).text()}"

    def digest(self) -> str:
        """Digest of the table's answers."""
        table = self._table
        parts = [column.tobytes() for column in (table.user, table.item, table.value)]
        parts += [repr(ids.tolist()).encode() for ids in (table.users, table.items)]
        return sha256(b"".join(parts)).hexdigest()

    def observed(self, visits: SlateVisits, slates: Ints) -> Bools:
        """Mask of visitor-item pairs that the table has."""
        return self._known(visits.world.log).at(visits.log_user, slates)[1]

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response of visits to their slates."""
        taken, _ = self._known(visits.world.log).at(visits.log_user, slates)
        return drawn(visits, slates, taken * self._examination, taken)

    def organic(self, visits: SlateVisits) -> Organic:  # noqa: ARG002  # the protocol requires this argument
        """No organic consumption."""
        return NOTHING

    def true_intensity(self, visits: SlateVisits) -> torch.Tensor:
        """Probability p of each admissible item, 0 of all others."""
        answers = self._known(visits.world.log)
        times = visits.world.times
        true = torch.zeros(len(visits), answers.n_items)
        for first in range(0, len(visits), BLOCK):
            block = dataclasses.replace(visits, row=visits.row[first : first + BLOCK])
            block_intensity = true[first : first + BLOCK].numpy()  # a view: writing to it fills in ``true``
            for visit_intensity, user in zip(block_intensity, block.log_user.tolist(), strict=True):
                user_answers = slice(answers.offsets[user], answers.offsets[user + 1])
                item = answers.pair[user_answers] - user * answers.n_items
                visit_intensity[item] = answers.probability[user_answers]
            block_intensity[~times.at(block.tick)] = 0.0
            block_intensity[block.inadmissible()] = 0.0
        return true

    def relevant(self, visits: SlateVisits) -> Floats:
        """Sum of p over items admissible at the opening."""
        # The market calls this method at the end of a round, when earlier consumptions and those of the visit itself
        # cannot be separated. So all items that were consumed in the market are included again.
        visit, item = visits.inadmissible_from_market()
        probability, _ = self._known(visits.world.log).at(visits.log_user[visit], item[:, None])
        total = np.bincount(visit, weights=probability[:, 0], minlength=len(visits)).astype(np.float64)
        for first in range(0, len(visits), BLOCK):
            block = dataclasses.replace(visits, row=visits.row[first : first + BLOCK])
            total[first : first + BLOCK] += self.true_intensity(block).double().sum(1).numpy()
        return total

    def _known(self, log: EventLog) -> _Answers:
        """Probabilities of consumption in a market of a log."""
        return _answers(self._options, self._table, log)


def _changed(path: str) -> int:
    """Nanoseconds at which a file last changed, or 0."""
    try:
        return Path(path).expanduser().stat().st_mtime_ns
    except OSError:
        return 0
