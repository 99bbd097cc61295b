"""Notes before a run on settings that do not do what they seem to."""

import io

import numpy as np
import pandas as pd
from kit import cases
from kit.markets import small_broadcast, small_replay, small_run, small_scenario
from rich.console import Console

from rimsim import config as records
from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import ArrivalsConfig, ConsumerConfig, ExposureConfig, ReleasesConfig
from rimsim.measures import weighted_exposure
from rimsim.scenarios import compare, sweep
from rimsim.scenarios.study.notes import notes_of, print_notes, undeliverable_notes

HORROR = records.GroupConfig(column="genres", beta=0.9, values=("Horror",))
CAPPED = ExposureConfig(beta=0.0, most=0.2, groups=(HORROR,))


@cases(
    "changes said",
    ({"consumer": ConsumerConfig(delay="60d")}, "delay=60d is no shorter than all rounds .* Shorten it"),
    (
        {"releases": ReleasesConfig(share=0.3, first_round=5, last_round=9)},
        r"\d+ items are released after the last round .* set releases.last_round below 2",
    ),
    ({"exposure": ExposureConfig(forecast=1e-6)}, r"nothing is guaranteed .*exposure.forecast=1e-06"),
    ({"exposure": ExposureConfig(beta=0)}, r"nothing is guaranteed .*exposure.beta=0"),
    ({"exposure": ExposureConfig(per="1d")}, "exposure.per=1d is shorter than a round of 7 days"),
    ({"exposure": ExposureConfig(per="10d")}, "exposure.per=10d is no multiple of a round of 7 days"),
    ({"exposure": ExposureConfig(beta=1)}, "the guarantees take up all positions .* Lower exposure.beta"),
    ({"exposure": CAPPED}, "first round, genres Horror cannot .* asked for .* since caps allow no more"),
    ({"exposure": ExposureConfig(each=500)}, "all items cannot be delivered in full: asked for .* at most"),
)
def test_a_setting_that_does_not_do_what_it_seems_to_is_noted(changes, said):
    """Before the run, with a remedy; one line each."""
    notes = notes_of(small_scenario(rounds=2, **changes))
    assert len(notes) == 1 + ("each=500" in str(changes) or ExposureConfig(each=500) in changes.values())
    assert pd.Series(notes).str.contains(said).sum() == 1, notes


@cases(
    "changes",
    ({},),
    ({"exposure": ExposureConfig(per="14d")},),
    ({"consumer": ConsumerConfig(delay="2d")},),
    ({"arrivals": ArrivalsConfig(kind="replay", per_round=80, warmup_share=0.9)},),
)
def test_a_usual_setting_has_no_note(changes):
    """A note on everything would be read by nobody."""
    if "arrivals" in changes:
        changes = changes | {"consumer": ConsumerConfig(kind="replay")}
    assert notes_of(small_scenario(**changes)) == []


def test_notes_stand_in_the_summary_and_the_report(tmp_path):
    """A run is read when its first lines on the terminal have long been gone."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(per="10d"))
    run = small_run(tmp_path / "run", ("random",), config)
    note = "note: exposure.per=10d is no multiple of a round of 7 days: its periods differ in their rounds"
    assert note in run.report().cautions
    assert note in " ".join(run.summary().split())
    assert "exposure.per=10d is no multiple" in run._repr_html_()


@cases(
    "make fields",
    (small_broadcast, {}),
    (small_broadcast, {"exposure": records.ExposureConfig(items=30, each=12)}),
    (small_broadcast, {"exposure": records.ExposureConfig(each=500)}),
    (small_scenario, {"exposure": records.ExposureConfig(items=40, each=120), "user_cap": 4}),
    (small_replay, {"exposure": records.ExposureConfig(each=9)}),
    (small_scenario, {"exposure": records.ExposureConfig(beta=1.0)}),
)
def test_a_note_is_there_where_a_round_asks_for_more_than_it_has(make, fields):
    """The note is what the market that opens asks for and its slates hold, and no agent can do better than it says."""
    config = make(rounds=1, **fields)
    market = market_for(make_agent("random"), config)
    required = market.required
    weights = market.open.requirements.position_weights
    filled = market.capacity if market.capacity is not None else np.full(len(market.schedule), config.slate)
    available = np.concatenate([[0.0], np.cumsum(weights)])[filled].sum()
    notes = undeliverable_notes(config)
    if required.sum() <= available * (1 + 1e-5):
        assert notes == []
        return
    asked = f"asked for {required.sum():,.1f}, at most {available:,.1f}, since there are too few positions"
    assert notes[0] == f"in the first round, all items cannot be delivered in full: {asked}"
    play_round(market, make_agent("random"))
    delivered = weighted_exposure(market.closed[-1].ledger.item, weights, market.n_items)
    assert np.maximum(required - delivered, 0).sum() >= required.sum() - available - 1e-9


def test_the_note_is_printed_once_before_the_run(tmp_path):
    """Compare and sweep say it on the console, a sweep once for all points that ask alike."""
    arrivals = records.ArrivalsConfig(kind="broadcast", per_round=20)
    config = small_broadcast(rounds=1, arrivals=arrivals)
    text = io.StringIO()
    options = {"seeds": 1, "workers": 1, "certify": False, "console": Console(file=text, width=200)}
    sweep(config, {"exposure.cost": [1.0, 2.0]}, ("random",), out=tmp_path / "many", **options)
    said = "all items cannot be delivered in full: asked for 111.0, at most 37.0, since there are too few positions"
    assert text.getvalue().count(said) == 1
    compare(config, ("random",), out=tmp_path / "one", **options)
    assert text.getvalue().count(said) == 2


def test_a_note_on_some_points_of_a_sweep_says_on_how_many():
    """A point without a guarantee does not let the note seem to speak of the points that have one."""
    points = [small_scenario(exposure=ExposureConfig(beta=beta)) for beta in (0.0, 0.3)]
    console = Console(file=io.StringIO(), width=500)
    print_notes(points, console)
    assert "note on 1 of 2 points: nothing is guaranteed in the first round" in console.file.getvalue()
    console = Console(file=io.StringIO(), width=500)
    print_notes(points[:1], console)
    assert "note: nothing is guaranteed in the first round" in console.file.getvalue()
