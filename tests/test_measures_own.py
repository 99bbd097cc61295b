"""Measures of one's own: found by their place, tried before a run, shown as built-in ones are."""

from __future__ import annotations

import pytest

from rimsim.errors import ConfigError, MeasureError
from rimsim.measures import own_measures, recorded, records, try_measures
from rimsim.testing import random_items

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
    with pytest.raises(ConfigError, match=said):
        own_measures(places)


def test_a_slip_in_a_measure_is_told_when_it_is_loaded(write):
    """A measure without a unit cannot be made; the file is named."""
    write(MINE.replace('"share", "#{', '"", "#{'))
    with pytest.raises(ConfigError, match=r"'mine.py:empty': cannot import 'mine.py': .*unit is ''"):
        own_measures(["mine.py:empty"])


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
    with pytest.raises(MeasureError, match=said):
        try_measures(measures, random_items(), slate=5)


def test_a_measure_that_is_nan_where_nothing_is_shown_may_run(write):
    """NaN in a round with nothing shown is a gap, not an error."""
    write(MINE.replace("(facts.slates < 0).mean()", "facts.intensity[facts.slates >= 0].mean()"))
    try_measures(own_measures(["mine.py:empty"]), random_items(), slate=5)
