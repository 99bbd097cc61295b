"""Measures as entries, built in and of one's own: promises, records of a round, places, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kit import refused

from rimsim.errors import ConfigError, MeasureError
from rimsim.measures import (
    MEASURES,
    Measure,
    made_up_round,
    measured,
    own_measures,
    recorded,
    records,
    try_measures,
)
from rimsim.testing import MeasureTests, random_items


class TestBuiltIn(MeasureTests):
    """Every built-in measure keeps the promises of a measure."""

    @pytest.fixture(autouse=True, params=MEASURES.values(), ids=MEASURES)
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
    return made_up_round(random_items())


def _measure(of, **fields):
    return Measure(**({"name": "mine", "unit": "share", "formula": "x", "of": of} | fields))


def _shuffled(facts):
    facts.items.iloc[0, 1] = "changed"
    return 0.5


_DRAWS = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("test", "wrong"),
    [
        ("it_says_what_it_measures", _measure(lambda _: 0.5, name="gini")),
        ("a_round_has_a_finite_value_or_none", _measure(lambda _: math.nan)),
        ("a_round_has_a_finite_value_or_none", _measure(lambda _: "a half")),
        ("some_round_has_a_value", _measure(lambda _: math.nan)),
        ("some_round_has_a_value", _measure(lambda _: None)),
        ("the_same_round_has_the_same_value", _measure(lambda _: float(_DRAWS.random()))),
        ("it_leaves_the_round_as_it_was", _measure(_shuffled)),
        ("the_order_of_arrivals_does_not_matter", _measure(lambda facts: float(facts.slates[0, 0]))),
    ],
)
def test_the_tests_of_a_measure_find_what_is_wrong(test, wrong):
    """Each test of the mixin passes a good measure and fails for one that breaks its promise."""

    class Good(MeasureTests):
        def make(self):
            return _measure(lambda facts: float(facts.consumed.mean()))

    class Wrong(MeasureTests):
        def make(self):
            return wrong

    getattr(Good(), f"test_{test}")()
    with pytest.raises((AssertionError, MeasureError)):
        getattr(Wrong(), f"test_{test}")()


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
class TestOfPrices(MeasureTests):
    """A measure that is NaN where nothing is shown, which leaves a gap as None does."""

    def make(self):
        """The mean price of what is shown."""
        return _measure(lambda facts: float(np.nanmean(facts.price.astype(np.float64))))


def test_a_record_cannot_be_written_to_and_counts_its_slates(facts):
    """A measure that sorts in place is an error; each item's exposures and consumptions are those of positions."""
    refused(ValueError, "read-only", facts.slates.sort)
    told = "'mine' raised ValueError.*read-only, in round 1"
    refused(MeasureError, told, _measure(lambda f: f.required.sort()).value, facts)
    for item in range(facts.n_items):
        shown = facts.slates == item
        assert facts.exposure[item] == shown.sum()
        assert facts.consumption[item] == (shown & facts.consumed).sum()


def test_what_has_no_finite_value_is_left_out(facts):
    """None, NaN and infinity leave a gap; whole numbers become floats; title and tag follow from the name."""
    values = {"none": None, "nan": math.nan, "inf": np.inf, "whole": np.int64(3), "yes": True}
    given = [_measure(lambda _, value=value: value, name=name) for name, value in values.items()]
    assert measured(facts, given) == {"whole": 3.0, "yes": 1.0}
    measure = _measure(lambda _: 0.5, name="new_items")
    assert (measure.title, measure.tag, measure.better) == ("New items", "own/new_items", "neither")


@pytest.mark.parametrize("value", ["0.5", [0.5], np.ones(2), 1j])
def test_what_is_no_number_is_refused(facts, value):
    """A text, a list, an array and a complex number are errors that name the measure and what it returned."""
    with pytest.raises(MeasureError, match=f"'mine' returned a {type(value).__name__}; allowed: a number"):
        _measure(lambda _: value).value(facts)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "my measure"}, "name is 'my measure'; allowed: letters, digits and _"),
        ({"name": 3}, "name is 3"),
        ({"group": "a/b"}, "group is 'a/b'"),
        ({"unit": ""}, "unit is ''; allowed: a line of text"),
        ({"formula": "two\nlines"}, "formula is"),
        ({"better": "more"}, "better is 'more'; allowed: higher, lower, neither"),
        ({"of": 0.5}, "of is a float; allowed: a function"),
    ],
)
def test_a_measure_that_cannot_stand_in_a_table_is_refused(fields, said):
    """Each field that does not fit is named, with what was found and what is allowed."""
    refused(ConfigError, said, _measure, **{"of": lambda _: 0.5} | fields)


MINE = """\
from rimsim.measures import Measure


def share(facts):
    return (facts.slates < 0).mean()


empty = Measure("empty", "share", "#{positions: -1} / (n·k)", of=share, title="Empty positions", better="lower")
again = Measure("empty", "share", "the same", of=share)
taken = Measure("gini", "index", "the same name", of=share)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of the user's own and goes where it lies."""
    monkeypatch.chdir(tmp_path)
    return lambda text, name="mine.py": (tmp_path / name).write_text(text)


def test_a_measure_is_found_by_its_place_and_kept_without_its_function(write):
    """What a run folder records of a measure gives back all that tables and pictures show."""
    write(MINE)
    measures = own_measures(["mine.py:empty"])
    (record,) = records(measures).values()
    back = recorded(record)
    (measure,) = measures.values()
    assert (back.name, back.title, back.unit, back.better) == ("empty", "Empty positions", "share", "lower")
    assert back.tag == measure.tag == "own/empty"


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["mine.py"], r"measure 'mine.py' is a file; allowed: .*mine.py:empty or mine.py:again"),
        (["mine.py:emty"], r"mine.py has no 'emty'. Did you mean 'empty'\? Allowed: again, empty, taken"),
        (["mine.py:share"], r"found a function; allowed: a Measure \(mine.py has empty, again, taken\)"),
        (["mime.py:empty"], r"no file 'mime.py'. Did you mean 'mine.py'"),
        (["gini"], "measure 'gini' is built in, every run has it"),
        (["fresh"], "measure 'fresh' is unknown; allowed: file.py:name"),
        (["mine.py:taken"], "is called 'gini', which is that of a built-in one"),
        (["mine.py:empty", "mine.py:again"], "is called 'empty', which is that of 'mine.py:empty'"),
    ],
)
def test_what_is_no_measure_is_refused_by_name(write, places, said):
    """A place without a measure, or a name that is taken, is told with what was found and what is allowed."""
    write(MINE)
    refused(ConfigError, said, own_measures, places)


def test_a_slip_in_a_measure_is_told_when_it_is_loaded(write):
    """A measure without a unit is refused with its file; NaN where nothing is shown is a gap, not an error."""
    write(MINE.replace('"share", "#{', '"", "#{'))
    told = "'mine.py:empty': cannot import 'mine.py': .*unit is ''"
    refused(ConfigError, told, own_measures, ["mine.py:empty"])
    write(MINE.replace("(facts.slates < 0).mean()", "facts.intensity[facts.slates >= 0].mean()"))
    try_measures(own_measures(["mine.py:empty"]), random_items(), slate=5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("facts.slate.mean()", r"'empty' raised AttributeError: .*'slate'.*mine.py:5"),
        ("facts.exposure / facts.required", r"'empty' returned a ndarray; allowed: a number.*"),
        ("1 / facts.exposure.sum().item()", r"'empty' raised ZeroDivisionError.*mine.py:5"),
        ("facts.price.mean()", r"'mine.py:empty' returned nan for a made-up round; allowed: a finite"),
    ],
)
def test_a_measure_that_cannot_be_computed_is_refused_before_a_run(write, body, said):
    """A measure is tried on made-up rounds, one of them with nothing shown; a slip is told with its line."""
    write(MINE.replace("(facts.slates < 0).mean()", body))
    measures = own_measures(["mine.py:empty"])
    refused(MeasureError, said, try_measures, measures, random_items(), slate=5)
