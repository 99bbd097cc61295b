"""Rows read from files, collected with numbered ids."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints, Ints32
from rimsim.data.read_report import BadRow, Returns
from rimsim.data.readers import values
from rimsim.data.readers.answers import AnswerColumns
from rimsim.data.readers.columns import EVENTS, ColumnPlaces, Role, TableKind
from rimsim.data.readers.item_columns import ItemColumn, item_column
from rimsim.data.readers.swapped import ValuesOfColumn
from rimsim.errors import DataError, many, refuse

_MIXED: Final = 0.01
"""Largest share of times in another unit; a log with a larger share is refused."""
BAD_KINDS_SHOWN: Final = 10
"""Largest number of kinds of bad rows that a report counts."""
_BOUNDS: Final[tuple[tuple[values.Unit, float], ...]] = (
    ("s", 1e11),
    ("ms", 1e14),
    ("us", 1e17),
    ("ns", np.inf),
)
"""Each unit, with the smallest number that is too large for it: seconds reach 1e11 in the year 5138, milliseconds 1e14,
and so on."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RawAnswers:
    """Answers to n impressions, in the rows' order."""

    taken: Bools
    """(n,) True if the item was taken."""
    shown: Bools
    """(n,) False for an event that no impression caused."""
    position: Floats | None
    """(n,) position in the slate, as the log counts; NaN where unknown."""
    propensity: Floats | None
    """(n,) probability with which the policy showed the item; NaN where unknown."""
    policy: Ints32 | None
    """(n,) position in ``policies``; −1 where unknown."""
    policies: tuple[str, ...]
    """Names of the policies, in the order of their first rows."""

    @classmethod
    def joined(cls, blocks: Sequence[AnswerColumns]) -> RawAnswers:
        """Answers of all blocks of a file, in their order."""
        policies = values.Vocabulary()
        codes = []
        for block in blocks:
            if block.policy is not None:
                words = values.Words(block.policy)
                is_known = np.ones(len(block.taken), bool)
                is_known[list(words.problems)] = False
                block_codes = np.full(len(is_known), -1, np.int32)
                block_codes[is_known] = words.codes(is_known, policies)
                codes.append(block_codes)

        def column(name: str) -> Floats | None:
            """Column of all blocks; None if the file lacks it."""
            parts = [getattr(block, name) for block in blocks]
            return None if parts[0] is None else np.concatenate(parts)

        return cls(
            taken=np.concatenate([block.taken for block in blocks]),
            shown=np.concatenate([block.shown for block in blocks]),
            position=column("position"),
            propensity=column("propensity"),
            policy=np.concatenate(codes) if codes else None,
            policies=tuple(policies.texts()),
        )


@dataclass(frozen=True, eq=False)
class RawEvents:
    """n events in any order, with ids as numbers."""

    source: str
    """Name or path of the log, for messages."""
    user: Ints32
    """(n,) position in ``user_ids``."""
    item: Ints32
    """(n,) position in ``item_ids``."""
    time: Floats
    """(n,) seconds since 1970; NaN where unknown."""
    value: Float32s | Floats
    """(n,) logged or observed values."""
    user_ids: values.Ids
    """Distinct user ids: int64, or Python strings."""
    item_ids: values.Ids
    """Distinct item ids: int64, or Python strings."""
    answers: RawAnswers | None = None
    """Answers to impressions, if the rows are impressions."""


@dataclass(frozen=True, eq=False)
class RowBlock:
    """n rows of a file, and problems of bad rows."""

    lines: Ints
    """(n,) line of each row in its text file, or its number in a Parquet file, from 1."""
    users: values.Words
    """User id of each row."""
    items: values.Words
    """Item id of each row."""
    time: Floats | None
    """(n,) times in the file's unit, NaN where unknown; None: no time is known."""
    value: Floats | None
    """(n,) values; None: every value is 1."""
    problems: Mapping[Role, Mapping[int, str]] = field(default_factory=dict)
    """Role → row → problem, besides problems of users and items."""
    answers: AnswerColumns | None = None
    """Answers to the rows; None if the rows are not impressions."""
    other_columns: Mapping[str, values.Words] = field(default_factory=dict)
    """Name of a column without a role → its n texts, which may describe items."""
    quantities: values.Words | None = None
    """Quantity of each row; None without such a column."""
    uncut: Mapping[int, str] = field(default_factory=dict)
    """Line number → problem, for lines that could not be split into fields."""


@dataclass(eq=False)
class Collector:
    """Growing table of rows, with times in the file's unit."""

    kind: TableKind
    """Content of the rows: events of a log (``EVENTS``), or observed answers (``ANSWERS``)."""
    unit: values.Unit | None = None
    """Unit of numeric times; None: detected from the times."""
    skip_bad_rows: bool = False
    """True if bad rows are left out; False: the first bad row is an error."""
    drop_returns: bool = False
    """True if rows with a negative quantity are left out."""
    largest_value: float = values.LARGEST_VALUE
    """Largest valid value of a row."""
    items: values.Vocabulary = field(default_factory=values.Vocabulary, init=False)
    """Ids of the items, by code."""
    rows: int = field(default=0, init=False)
    """Number of rows read so far, without bad rows."""
    backwards: int = field(default=0, init=False)
    """Number of rows whose time is earlier than that of the previous row."""
    skipped: int = field(default=0, init=False)
    """Number of bad rows that were left out."""
    n_returns: int = field(default=0, init=False)
    """Number of rows with a negative quantity, whether they are left out or not."""
    quantity: str | None = field(default=None, init=False)
    """Name of the column of quantities; None: the log has none."""
    price: str | None = field(default=None, init=False)
    """Name of the column with the role of the price; None: the caller named none."""
    _first_of_kind: dict[str, BadRow] = field(default_factory=dict, init=False)
    """Kind of a problem → the first row with it, and the number of these rows."""
    other_columns: dict[str, ItemColumn] = field(default_factory=dict, init=False)
    """Name of a column without a role → its texts for each item."""
    nested: dict[str, str] = field(default_factory=dict, init=False)
    """Name of a column of lists or records, which rimsim does not read → its type."""
    values_of: dict[str, ValuesOfColumn] = field(default_factory=dict, init=False)
    """Name of a column with titles, genres or years → its values by user and by item."""

    def __post_init__(self) -> None:
        self._users = values.Vocabulary()
        self._parts: list[tuple[Ints32, Ints32, Floats, Float32s | Floats]] = []
        self._answers: list[AnswerColumns] = []
        self._last = -np.inf
        self._votes = dict.fromkeys((unit for unit, _ in _BOUNDS), 0)
        self._latest = 0.0

    @property
    def largest_time(self) -> float:
        """Largest number that can be a time."""
        return math.nextafter(values.LATEST * values.UNITS[self.unit or "ns"], 0.0)

    def take(self, name: str, block: RowBlock) -> None:
        """Collect the rows of a block, and report bad rows.

        Raises:
            DataError: At the first bad row of the file ``name``, unless bad rows are skipped.
        """
        problems_of_role = {**block.problems, "user": block.users.problems, "item": block.items.problems}
        problems: dict[int, str] = {}
        # If a row has several problems, that of the first role overwrites the others.
        for role in reversed(self.kind.roles):
            problems |= problems_of_role.get(role, {})
        is_return = (
            np.zeros(len(block.lines), bool) if block.quantities is None else block.quantities.negative()
        )
        if self.drop_returns:  # a return is no bad row, although its value may be negative
            problems = {row: problem for row, problem in problems.items() if not is_return[row]}
        bad = {**block.uncut, **{int(block.lines[row]): problem for row, problem in problems.items()}}
        return_lines = set(block.lines[is_return].tolist())
        # If all rows are bad, it would not help to skip bad rows, so the message does not offer it.
        all_are_bad = len(bad) > 1 and len(bad) >= len(block.lines)
        for line in sorted(bad):
            self.bad(name, line, bad[line], skippable=not all_are_bad, is_return=line in return_lines)
        rows = np.ones(len(block.lines), bool)
        rows[list(problems)] = False
        self.n_returns += int((is_return & rows).sum())
        if self.drop_returns:
            rows &= ~is_return
        if not rows.any():
            return
        user = block.users.codes(rows, self._users)
        item = block.items.codes(rows, self.items)
        # Adding 0 turns −0 into 0. So equal logs have equal bytes.
        time = np.full(len(user), np.nan) if block.time is None else block.time[rows] + 0.0
        value = np.ones(len(user)) if block.value is None else block.value[rows] + 0.0
        self._parts.append((user, item, time, value.astype(self.kind.value_type)))
        if block.answers is not None:
            self._answers.append(block.answers.rows(rows))
        self._take_other_columns(block, rows, user, item)
        self.rows += len(user)
        self.backwards += int((np.diff(time, prepend=self._last) < 0).sum())
        self._last = float(time[-1])
        self._latest = float(np.fmax.reduce(time, initial=self._latest))
        self._vote(time)

    def _take_other_columns(self, block: RowBlock, rows: Bools, user: Ints32, item: Ints32) -> None:
        """Collect the texts of columns without a role."""
        for name, texts in block.other_columns.items():
            column = self.other_columns[name]
            word, words = texts.texts(rows)
            column.take(item, word, words)
            # Titles, genres and years describe items for certain. Any other column, such as a country, may describe
            # users.
            if not column.must_agree:
                self.values_of.setdefault(name, ValuesOfColumn()).take(user, item, word, words)

    def _vote(self, time: Floats) -> None:
        """Count the times that are plausible in each unit."""
        n_below_before = 0  # times below the last bound, which smaller units have counted
        for unit, bound in _BOUNDS:
            n_below = int((time < bound).sum())
            self._votes[unit] += n_below - n_below_before
            n_below_before = n_below

    def wants(self, column: str) -> bool:
        """True if the texts of another column are still needed."""
        return not self.other_columns.setdefault(column, item_column(column, self.price)).is_closed

    def quantity_column(self, places: ColumnPlaces) -> str | None:
        """Name of a file's column of quantities, or None.

        The collector keeps this name and that of the column of prices.
        """
        self.quantity = places.describing.get("quantity")
        self.price = places.describing.get("price")
        return self.quantity

    def returns(self, source: str) -> Returns:
        """Rows with a negative quantity in the whole log.

        Raises:
            DataError: If returns are to be left out, but no column has quantities.
        """
        if self.drop_returns and self.quantity is None:
            raise DataError(
                f"{source}: drop_returns (--drop-returns) is set, but no column has a usual name of quantities. Name "
                "the column: columns='user=…,item=…,time=…,quantity=COLUMN'"
            )
        return Returns(self.n_returns, self.quantity or "", self.drop_returns)

    def bad(
        self, file: str, line: int, problem: str, *, skippable: bool = True, is_return: bool = False
    ) -> None:
        """Report a row that cannot be read.

        Raises:
            DataError: If bad rows are not to be skipped.
        """
        row = BadRow(file, line, problem)
        if not self.skip_bad_rows:
            skip = ". To leave bad rows out, set skip_bad_rows (--skip-bad-rows)"
            returns = ". To leave returns out, set drop_returns (--drop-returns)" if is_return else ""
            raise DataError(f"{row}{returns}{skip if self.kind is EVENTS and skippable else ''}")
        self.skipped += 1
        if (first := self._first_of_kind.get(row.kind)) is not None:
            self._first_of_kind[row.kind] = replace(first, count=first.count + 1)
        elif len(self._first_of_kind) < BAD_KINDS_SHOWN:
            self._first_of_kind[row.kind] = row

    @property
    def bad_rows(self) -> tuple[BadRow, ...]:
        """First bad row of each kind, with a count."""
        return tuple(self._first_of_kind.values())

    def likely_unit(self) -> values.Unit:
        """Time unit that fits most times; seconds if in doubt."""
        return max(self._votes, key=lambda unit: self._votes[unit])

    def require_one_unit(self, source: str) -> None:
        """Refuse times in two units, unless the unit was given.

        Raises:
            DataError: If more than a hundredth of the times fit a different unit than most times.
        """
        if self.unit is not None or self.skip_bad_rows:
            return
        by_votes = sorted(self._votes.items(), key=lambda vote: -vote[1])
        (unit, n_times), (second_unit, n_second_times) = by_votes[:2]
        if n_second_times > _MIXED * (n_times + n_second_times):
            raise DataError(
                f"{source}: {n_times:,} time values look like {unit} since 1970, but {n_second_times:,} look like "
                f"{second_unit}. Write all times in one unit, or name the unit: data.time_unit={unit} "
                f"(--time-unit {unit})"
            )

    def beyond(self, unit: values.Unit) -> bool:
        """True if a time is after the year 9999."""
        return self._latest >= values.LATEST * values.UNITS[unit]

    def events(self, source: str, unit: values.Unit) -> RawEvents:
        """Collected rows; the collector is empty afterwards."""
        if not self.rows:
            example = f"; the first of {self.skipped:,} bad rows: {self.bad_rows[0]}" if self.skipped else ""
            if self.drop_returns and self.n_returns:
                example = f"; {many(self.n_returns, 'return')} were left out{example}"
            raise DataError(
                f"{source}: it has no {self.kind.rows}. A {self.kind.table} needs at least one row of "
                f"data{example}"
            )
        user = np.empty(self.rows, np.int32)
        item = np.empty(self.rows, np.int32)
        time = np.empty(self.rows, np.float64)
        value = np.empty(self.rows, self.kind.value_type)
        n_copied = 0
        self._parts.reverse()
        # Each block is freed once it is copied, so that memory does not hold the log twice.
        while self._parts:
            block_user, block_item, block_time, block_value = self._parts.pop()
            span = slice(n_copied, n_copied + len(block_user))
            user[span] = block_user
            item[span] = block_item
            time[span] = block_time
            value[span] = block_value
            n_copied = span.stop
        time = values.in_seconds(time, unit)
        user_ids = values.canonical(self._users.texts())
        item_ids = values.canonical(self.items.texts())
        return RawEvents(
            source=source,
            user=user,
            item=item,
            time=time,
            value=value,
            user_ids=user_ids,
            item_ids=item_ids,
            answers=RawAnswers.joined(self._answers) if self._answers else None,
        )


def collected(
    read: Callable[[Collector], T], collector: Collector, source: str
) -> tuple[Collector, values.Unit, T]:
    """Collector after reading, the unit of times, and ``read``'s result.

    If a time is beyond the calendar, the source is read again to find its row.
    """
    result = read(collector)
    collector.require_one_unit(source)
    unit = collector.unit or collector.likely_unit()
    if collector.beyond(unit):
        collector = dataclasses.replace(collector, unit=unit)
        result = read(collector)
    return collector, unit, result


def written_dates(source: str, time: Floats) -> Floats | None:
    """Times in seconds, from numbers that mean dates, like 20150131.

    If dates such as 20150131 were read as seconds, all would be in two weeks of August 1970, and nothing would show the
    mistake. By chance, only one number of this size in twenty-five looks like a date. So most times look like dates
    only if they are dates.

    Raises:
        DataError: If most times are dates, but not all.
    """
    if ((time >= 19_700_101) & (time < 21_000_101)).sum() * 2 <= len(time):
        return None
    day = np.floor(time) % 100
    month = np.floor(time / 100) % 100
    year = np.floor(time / 10_000)
    is_date = (time == np.floor(time)) & (year >= 1970) & (year < 2100) & (month >= 1) & (month <= 12)
    months_since_1970 = np.where(is_date, (year - 1970) * 12 + month - 1, 0).astype(np.int64)
    month_start = months_since_1970.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_month_start = (
        (months_since_1970 + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    )
    is_date &= (day >= 1) & (day <= next_month_start - month_start)  # not after the last day of the month
    if not is_date.all():
        if is_date.sum() * 2 <= len(time):
            return None
        problem = (
            f"{is_date.sum():,} times are dates such as {time[is_date][0]:.0f}, but {(~is_date).sum():,} are not, "
            f"such as {time[~is_date][0]:.0f}"
        )
        refuse(
            DataError, source, problem, "times of one kind. To read all times as seconds, set time_unit='s'"
        )
    seconds: Floats = (month_start + day - 1) * 86_400.0
    return seconds
