"""The contract of a measure: what built-in ones keep, what its tests find, and fields that are refused."""

import math

import numpy as np
import pytest
from kit import cases, refused

from rimsim import measures as room
from rimsim.errors import ConfigError, MeasureError
from rimsim.testing import MeasureTests, random_items


class TestBuiltIn(MeasureTests):
    """Every built-in measure keeps the promises of a measure."""

    @pytest.fixture(autouse=True, params=room.MEASURES.values(), ids=room.MEASURES)
    def _measure(self, request):
        self.measure = request.param
        self.depends_on_order = self.measure.name == "jaccard"  # it looks at sampled pairs of rows

    def make(self):
        """The measure of the case."""
        return self.measure

    def test_it_is_a_finite_number_or_none(self):
        """No built-in measure leaves it to the run to drop what is not finite."""
        values = [self.measure.of(facts) for facts in self.rounds()]
        assert all(value is None or math.isfinite(value) for value in values)


@pytest.fixture
def facts():
    """A made-up round."""
    return room.made_up_round(random_items())


def _measure(of, **fields):
    return room.Measure(**({"name": "mine", "unit": "share", "formula": "x", "of": of} | fields))


def _shuffled(facts):
    facts.items.iloc[0, 1] = "changed"
    return 0.5


_DRAWS = np.random.default_rng(0)


@cases(
    "test wrong",
    ("it_says_what_it_measures", _measure(lambda _: 0.5, name="gini")),
    ("a_round_has_a_finite_value_or_none", _measure(lambda _: math.nan)),
    ("a_round_has_a_finite_value_or_none", _measure(lambda _: "a half")),
    ("some_round_has_a_value", _measure(lambda _: math.nan)),
    ("some_round_has_a_value", _measure(lambda _: None)),
    ("the_same_round_has_the_same_value", _measure(lambda _: float(_DRAWS.random()))),
    ("it_leaves_the_round_as_it_was", _measure(_shuffled)),
    ("the_order_of_arrivals_does_not_matter", _measure(lambda facts: float(facts.slates[0, 0]))),
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_the_tests_of_a_measure_find_what_is_wrong(test, wrong):
    """Each test of the mixin passes a good measure and fails for one that breaks its promise.

    A measure that is NaN where nothing is shown leaves a gap, as None does.
    """

    def tested(measure):
        return getattr(type("Mine", (MeasureTests,), {"make": lambda _: measure})(), f"test_{test}")

    tested(_measure(lambda facts: float(np.nanmean(facts.price.astype(np.float64)))))()
    refused((AssertionError, MeasureError), None, tested(wrong))


def test_a_record_cannot_be_written_to_and_counts_its_slates(facts):
    """A measure that sorts in place is an error; each item's exposures and consumptions are those of positions."""
    refused(ValueError, "read-only", facts.slates.sort)
    message = "'mine' raised ValueError in round 1: .*read-only"
    refused(MeasureError, message, _measure(lambda f: f.required.sort()).value, facts)
    for item in range(facts.n_items):
        shown = facts.slates == item
        assert facts.exposure[item] == shown.sum()
        assert facts.consumption[item] == (shown & facts.consumed).sum()


def test_what_has_no_finite_value_is_left_out(facts):
    """None, NaN and infinity leave a gap; texts, lists, arrays and complex numbers are refused; tags follow names."""
    values = {"none": None, "nan": math.nan, "inf": np.inf, "whole": np.int64(3), "yes": True}
    constants = [_measure(lambda _, value=value: value, name=name) for name, value in values.items()]
    assert room.measured(facts, constants) == {"whole": 3.0, "yes": 1.0}
    measure = _measure(lambda _: 0.5, name="new_items")
    assert (measure.title, measure.tag, measure.better) == ("New items", "own/new_items", "neither")
    for value in ("0.5", [0.5], np.ones(2), 1j):
        message = f"'mine' returned a {type(value).__name__}. Expected a number"
        refused(MeasureError, message, _measure(lambda _, value=value: value).value, facts)


@cases(
    "fields message",
    ({"name": "my measure"}, "name is 'my measure'. Expected letters, digits and _"),
    ({"name": 3}, "name is 3"),
    ({"group": "a/b"}, "group is 'a/b'"),
    ({"unit": ""}, "unit is ''. Expected a line of text"),
    ({"formula": "two\nlines"}, "formula is"),
    ({"better": "more"}, "better is 'more'. Expected higher, lower, neither"),
    ({"of": 0.5}, "of is a float. Expected a function"),
)
def test_a_measure_that_cannot_stand_in_a_table_is_refused(fields, message):
    """Each field that does not fit is named, with what was found and what is allowed."""
    refused(ConfigError, message, _measure, **{"of": lambda _: 0.5} | fields)
