"""Changes by processes in reports: marks by round, the chart by hour, and the table of a round."""

import numpy as np
import pandas as pd
import pytest
from kit import cases
from kit.markets import drawn, small_run, small_scenario
from matplotlib.patches import Rectangle
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim import tracking
from rimsim.scenarios import load_run
from rimsim.scenarios.report import charts, happenings, hours
from rimsim.scenarios.report.comparison import PICTURES
from rimsim.scenarios.report.html import html
from rimsim.scenarios.report.picture_tables import picture_tables

PROCESSES = ("outage(after='2h', lasts='3h', every=None)", "stock(units=2, lead='1d')")


def _changes(*rows):
    """Table of changes of one arm, from rounds, processes and changes."""
    table = pd.DataFrame(rows, columns=["round", "process", "what"])
    return table.assign(
        agent="relevance", seed=0, time=10.0 * np.arange(len(table)), item=np.arange(len(table))
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run of two agents in a market with an outage and a stock."""
    folder = tmp_path_factory.mktemp("happenings") / "run"
    return small_run(folder, ("relevance", "rim-feedback"), small_scenario(processes=PROCESSES))


def test_changes_in_the_same_rounds_share_a_mark():
    """A mark has the rounds of its changes, each once, with processes by their names."""
    table = _changes(
        *(
            (number, "outage(lasts='1h')", change)
            for number in (0, 2)
            for change in ("stop_model", "start_model")
        ),
        *((number, "mine.py:Sale(factor=2)", "demand") for number in (0, 0, 2)),
        (1, "stock", "end"),
    )
    assert happenings.round_marks(happenings.grouped(table, 30)) == (
        ("a", "outage (model stopped, model started); Sale (factor changed)", (0, 2)),
        ("b", "stock (items ended)", (1,)),
    )


def test_many_marks_are_merged():
    """Beyond six marks, a process has one, and the last mark stands for all other processes."""
    table = _changes(
        *((number, f"process{number}", "end") for number in range(8)), (9, "process0", "release")
    )
    marks = happenings.round_marks(happenings.grouped(table, 30))
    assert [mark.rounds for mark in marks] == [(0, 9), (1,), (2,), (3,), (4,), (5, 6, 7)]
    assert marks[0].label == "process0 (items released, items ended)"
    assert marks[-1].label == "other processes"


def test_processes_of_one_name_keep_their_options():
    """Two processes with the same name are shown by their whole texts."""
    table = _changes((0, "outage(lasts='1h')", "stop_model"), (0, "outage(lasts='2h')", "stop_model"))
    assert list(happenings.grouped(table, 30)["process"]) == ["outage(lasts='1h')", "outage(lasts='2h')"]


def test_a_change_of_all_items_counts_them():
    """A row about all items stands for the whole catalogue."""
    table = _changes((0, "mine.py:Close", "end")).assign(item=-1)
    assert list(happenings.grouped(table, 30)["items"]) == [30]
    assert "| items ended | all |" in happenings.markdown(table)


def test_a_change_of_the_first_item_counts_one():
    """A row about item 0 does not stand for the catalogue."""
    table = _changes((0, "stock", "end"), (1, "stock", "end"))
    assert list(happenings.grouped(table, 30)["items"]) == [1, 1]


def test_a_round_as_markdown_is_short():
    """Items of one instant share a row, and a long table says how many rows it leaves out."""
    table = pd.DataFrame(
        {"time": np.repeat(np.arange(50.0), 6), "process": "a|b", "what": "end", "item": np.arange(300)}
    )
    lines = happenings.markdown(table).splitlines()
    assert lines[2] == "| 1970-01-01 00:00:00 | `a&#124;b` | items ended | 6 items |"
    assert len(lines) == 2 + 40 + 2
    assert lines[-1] == "10 later rows in the table `happenings`."


def test_ticks_of_marks_stand_at_their_rounds(run):
    """Each panel by round has a row of ticks per mark, below its axis, and the caption explains its letter."""
    tables = picture_tables(run)
    with drawn(), charts.style():
        figure = PICTURES["rounds"](tables)
        assert f"{tables.marks[0].letter}: {tables.marks[0].label}" in figure.heading.caption
        for ax in figure.axes[:2]:
            rows = [
                ticks.get_offsets()[:, 0].tolist() for ticks in ax.collections if len(ticks.get_offsets())
            ]
            assert rows[: len(tables.marks)] == [list(mark.rounds) for mark in tables.marks]
            assert [text.get_text() for text in ax.texts] == [mark.letter for mark in tables.marks]


def test_the_chart_by_hour_counts_visits_and_consumptions(run):
    """Visits, consumptions and changes of the chart are those of the run's tables, and shading is the outage."""
    tables = picture_tables(run)
    chosen = tables.hours
    of_arm = "agent == @chosen.agent and seed == @chosen.seed and round == @chosen.round"
    assert len(chosen.visits) == len(run.arrivals.query(of_arm))
    assert chosen.consumptions.sum() == run.ledger.query(of_arm)["consumed"].sum() > 0
    stops = run.happenings.query(f"{of_arm} and what == 'stop_model'")["time"]
    starts = run.happenings.query(f"{of_arm} and what == 'start_model'")["time"]
    assert chosen.stopped == tuple(zip(stops, starts, strict=True))
    with drawn(), charts.style():
        figure = hours.hours_figure(chosen)
        visits, taken = (np.sum(patch.get_data()[0]) for patch in figure.axes[0].patches[:2])
        assert (visits, taken) == (len(chosen.visits), chosen.consumptions.sum())
        assert len(figure.axes) == 1 + len(chosen.changes.drop_duplicates(["process", "what"]))


@cases(
    "switches stopped",
    (((0, "stop_model"), (3, "start_model")), ((1, 3),)),
    (((2, "stop_model"),), ((2, 9),)),
    (((4, "stop_model"), (5, "start_model"), (12, "stop_model")), ((4, 5),)),
    (((2, "stop_model"), (5, "stop_model"), (7, "start_model")), ((2, 7),)),
    (((0, "stop_model"), (1, "start_model")), ()),
)
def test_shading_ends_with_the_round(switches, stopped):
    """A model that is stopped is shaded within the round alone, from the first of several stops to the start."""
    table = pd.DataFrame(
        [(0, "outage", change, time) for time, change in switches],
        columns=["round", "process", "what", "time"],
    )
    arm = {"agent": "relevance", "seed": 0, "items": 1}
    visits = pd.DataFrame(
        {"agent": "relevance", "seed": 0, "round": 1, "arrival": [0, 1], "time": [1.0, 9.0]}
    )
    assert happenings.round_hours(table.assign(**arm), ("relevance", 0, 1), visits, None).stopped == stopped


@cases("n rest", (3, ""), (4, "; 1 more"), (5, "; 2 more"))
def test_a_title_counts_the_processes_that_it_does_not_name(n, rest):
    """The title of a chart by hour names three processes, and says how many more changed the round."""
    changes = pd.DataFrame(
        {"time": 60.0 * np.arange(n), "process": list("abcde"[:n]), "what": "train", "items": 1}
    )
    chart = happenings.RoundHours("relevance", 0, 2, changes, np.zeros(1), None, ())
    named = "; ".join(f"{process}: training started once" for process in "abc")
    assert hours._title(chart) == f"Round 2. {named}{rest}"


@cases("days begin length", (2, 24.0, 12.0), (7, 1.0, 0.5))
def test_shading_has_the_unit_of_the_axis(days, begin, length):
    """A stop in the first half of the second day is shaded in hours, and in a long round in days."""
    day = 86_400.0
    changes = pd.DataFrame(
        {"time": [day, 1.5 * day], "process": "outage", "what": ["stop_model", "start_model"], "items": 1}
    )
    visits = np.linspace(0.0, days * day, 20)
    stopped = ((day, 1.5 * day),)
    with drawn(), charts.style():
        figure = hours.hours_figure(happenings.RoundHours("relevance", 0, 0, changes, visits, None, stopped))
        (shade,) = (patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle))
        assert (shade.get_x(), shade.get_width()) == pytest.approx((begin, length))


def test_tensorboard_has_the_changes_of_each_round(run):
    """A round with changes has its table as text at the round's step."""
    events = EventAccumulator(
        str(tracking.event_folder(run.folder, "relevance", 0)), size_guidance={"tensors": 0}
    )
    events.Reload()
    texts = {
        event.step: event.tensor_proto.string_val[0].decode()
        for event in events.Tensors("happenings/changes")
    }
    of_arm = run.happenings[run.happenings["agent"] == "relevance"]
    assert set(texts) == set(of_arm["round"])
    assert "model stopped" in texts[0]


def test_only_runs_with_changes_show_them(run, tmp_path):
    """The page of a run without processes has neither marks nor the chart."""
    quiet = small_run(tmp_path / "quiet", ("relevance",))
    with drawn():
        assert "Rows: changes by processes" in html(load_run(run.folder).report(), run)
        assert "Rows: changes by processes" not in html(load_run(quiet.folder).report(), quiet)
        assert picture_tables(quiet).marks == ()
