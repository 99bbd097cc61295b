"""Tests for measures of your own.

Subclass :class:`MeasureTests`, define ``make`` and run pytest::

    from rimsim.testing import MeasureTests

    class TestMine(MeasureTests):
        def make(self) -> Measure:
            return mine
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import pandas as pd

from rimsim.measures import MEASURES, Measure, RoundFacts, made_up_round

_OF_POSITIONS = ("slates", "consumed", "probability", "true_intensity", "intensity", "price", "propensity")
_OF_ARRIVALS = (
    *_OF_POSITIONS,
    "user",
    "time",
    "history",
    "ground_intensity",
    "relevant",
    "repeats",
    "organic",
)
"""Names of fields of :class:`rimsim.measures.RoundFacts` with a row per arrival, some of which may be None."""


def random_items(n_items: int = 40) -> pd.DataFrame:
    """Item table with genres and prices that differ between items."""
    number = range(n_items)
    return pd.DataFrame(
        {
            "id": np.arange(n_items),
            "title": [f"item {i}" for i in number],
            "genres": ["Even" if i % 2 == 0 else "Odd|Drama" for i in number],
            "year": pd.array([1960 + i % 50 for i in number], dtype="Int64"),
            "release": np.zeros(n_items),
            "price": [1.0 + i % 7 for i in number],
        }
    )


class MeasureTests:
    """Conditions of any measure; subclass this class and define ``make``."""

    depends_on_order: ClassVar[bool] = False
    """True if the value may depend on the order of arrivals."""

    @abstractmethod
    def make(self) -> Measure:
        """The measure."""

    def rounds(self) -> list[RoundFacts]:
        """Usual rounds and edge cases, such as empty slates."""
        items = random_items()
        return [
            *(made_up_round(items, seed=seed) for seed in range(3)),
            made_up_round(items, filled=0.5, complete=False),
            made_up_round(items, arrivals=1),
            made_up_round(items, filled=0.0, complete=False),
        ]

    def test_it_says_what_it_measures(self) -> None:
        """A measure is a ``Measure`` with a unique name."""
        measure = self.make()
        assert isinstance(measure, Measure)
        assert MEASURES.get(measure.name, measure) == measure

    def test_a_round_has_a_finite_value_or_none(self) -> None:
        """A value is a finite number or None."""
        usual, *edge_cases = self.rounds()
        measure = self.make()
        assert measure.value(usual) is not None or measure.of(usual) is None, f"it is {measure.of(usual)!r}"
        for facts in edge_cases:
            measure.value(facts)  # this raises an error if the value is not a number

    def test_some_round_has_a_value(self) -> None:
        """A measure has a finite value in some round."""
        assert any(self.make().value(facts) is not None for facts in self.rounds())

    def test_the_same_round_has_the_same_value(self) -> None:
        """The value depends on nothing but the round."""
        measure = self.make()
        rounds = self.rounds()
        values = [measure.value(facts) for facts in rounds]
        assert [measure.value(facts) for facts in reversed(rounds)] == values[::-1]

    def test_it_leaves_the_round_as_it_was(self) -> None:
        """A measure does not change the round."""
        facts = self.rounds()[0]
        before = facts.items.copy()
        self.make().value(facts)
        pd.testing.assert_frame_equal(facts.items, before)

    def test_the_order_of_arrivals_does_not_matter(self) -> None:
        """Order of arrivals matters only if the measure says so."""
        if self.depends_on_order:
            return
        for facts in self.rounds():
            rows = np.arange(len(facts.slates))[::-1]
            columns = {name: getattr(facts, name) for name in _OF_ARRIVALS}
            reversed_facts = dataclasses.replace(
                facts, **{name: column[rows] for name, column in columns.items() if column is not None}
            )
            value = self.make().value(facts)
            reversed_value = self.make().value(reversed_facts)
            is_same = value == reversed_value
            if value is not None and reversed_value is not None:
                is_same = math.isclose(value, reversed_value, rel_tol=1e-9, abs_tol=1e-12)
            assert is_same, f"{value!r} became {reversed_value!r}; say depends_on_order = True if it may"
