"""Slips and damaged files: each is mended, refused by name with a remedy, or told in a note."""

import dataclasses
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import MODEL, cases, refused
from kit.markets import played, small_run, small_scenario, stopped_after_a_round
from scipy import stats

from rimsim import config as records
from rimsim import data
from rimsim.config import ArrivalsConfig, ConsumerConfig, ExposureConfig, PlatformConfig, ReleasesConfig
from rimsim.errors import (
    AgentError,
    ArmsError,
    ConfigError,
    DataError,
    MarketError,
    ModelError,
    RunFolderError,
)
from rimsim.intensity.cache import kept
from rimsim.intensity.contract import resolved
from rimsim.intensity.registry import make
from rimsim.market import Market, Slates
from rimsim.market.world import warm_model
from rimsim.scenarios import load_run
from rimsim.scenarios.kinds import evaluate
from rimsim.scenarios.kinds.experiment import effects
from rimsim.scenarios.kinds.experiment import report as experiment_report
from rimsim.scenarios.report import sentences, tables
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.runs.execution import Stage, run_here, run_stages
from rimsim.scenarios.runs.files import read_arrays
from rimsim.scenarios.runs.locks import folder_for
from rimsim.scenarios.runs.progress import Progress
from rimsim.scenarios.study.compare import resume
from rimsim.scenarios.study.notes import notes_of


# -- damaged folders --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of one agent over two rounds."""
    return small_run(tmp_path_factory.mktemp("whole") / "run", ("relevance",), small_scenario(rounds=2))


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory):
    """The same, ended after its first round."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, stopped_after_a_round(patch), pytest.raises(ArmsError):
        small_run(folder, ("relevance",), small_scenario(rounds=2))
    return folder


@pytest.fixture
def stopped(_stopped, tmp_path):
    """A copy of the stopped run, to be damaged."""
    return shutil.copytree(_stopped, tmp_path / "run")


def _cut(path):
    path.write_bytes(path.read_bytes()[:12])


def _rob(path):
    """Take an array out of an archive, as an older version would have left it."""
    with np.load(path) as arrays:
        rest = {name: arrays[name] for name in arrays.files if name != "bound_price"}
    np.savez(path, **rest)


@cases(
    "file damage said",
    ("state/relevance-0/round-0001/arm.npz", _cut, "the state of the arm cannot be read: .*zip file"),
    ("state/relevance-0/round-0001/arm.npz", _rob, "the state of the arm cannot be read: .*bound_price"),
    ("state/relevance-0/round-0001/state.npz", _cut, "cannot be read: .*state of a market"),
    ("state/relevance-0/round-0001/model/model.json", _cut, "the state of the arm cannot be read: .*model"),
    ("ledger/relevance-0-000.parquet", _cut, "cannot be read as a table"),
    ("ledger/relevance-0-000.parquet", lambda path: path.unlink(), "is missing"),
    ("rounds/relevance-0.parquet", _cut, "cannot be read as a table"),
)
def test_a_run_with_a_damaged_arm_is_resumed_once_its_folder_is_removed(stopped, whole, file, damage, said):
    """The file is named before any arm is played, with what to remove; then the arm is played again."""
    damage(stopped / file)
    arm = stopped / "state" / "relevance-0"
    said, either = f"{said}.*Remove {arm} and resume", (RunFolderError, ArmsError)
    text = refused(either, said, resume, stopped, workers=1)
    assert str(stopped / file).removesuffix("state.npz").removesuffix("model/model.json") in text
    shutil.rmtree(arm)
    assert digest(resume(stopped, workers=1)) == digest(whole)


def test_an_empty_table_of_the_opening_is_named_and_made_again(stopped, whole):
    """No arm is played before the file has been named; once it is removed, the run is resumed."""
    opening = stopped / "opening" / "0.parquet"
    opening.write_bytes(b"")
    refused(RunFolderError, f"{opening}: cannot be read as a table. Remove it and", resume, stopped)
    opening.unlink()
    assert digest(resume(stopped, workers=1)) == digest(whole)


def test_a_missing_part_of_a_finished_table_is_named(whole, tmp_path):
    """A table with a hole is not read, drawn or digested as if it were whole."""
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    part = folder / "ledger" / "relevance-0-001.parquet"
    part.unlink()
    said = f"{part}: is missing. Restore it, or make the run again: rimsim"
    refused(RunFolderError, said, lambda: load_run(folder).ledger)
    refused(RunFolderError, said, digest, load_run(folder))
    assert len(load_run(folder).arrivals) == len(whole.arrivals)


def test_a_config_of_another_program_is_no_run(tmp_path):
    """The message says who makes such folders."""
    (tmp_path / "config.yaml").write_text("a: b")
    refused(RunFolderError, "rimsim did not write it.*a folder that rimsim compare", load_run, tmp_path)


def test_a_cached_entry_with_one_wrong_byte_is_made_again(tmp_path):
    """A checksum finds what no reader of the format notices."""
    made = []

    def entry():
        return kept(
            tmp_path / "entry",
            lambda folder: (folder / "value").read_text(),
            lambda: made.append(1) or "100",
            lambda value, folder: (folder / "value").write_text(value),
        )

    assert [entry(), entry()] == ["100", "100"]
    assert len(made) == 1
    (tmp_path / "entry" / "value").write_text("101")
    assert entry() == "100"
    assert len(made) == 2


@cases("content", (b"",), (b"PK\x03\x04 and then nothing",), (b"nothing of the kind",))
def test_a_damaged_archive_that_arms_share_is_made_again(tmp_path, content):
    """Solutions and shadows of other arms are read as if they were not there."""
    path = tmp_path / "shared.npz"
    np.savez(path, a=np.arange(3))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    path.write_bytes(content)
    assert read_arrays(path) is None


def test_two_runs_of_one_second_have_two_folders(monkeypatch):
    """Folders that nobody named differ by the millisecond."""
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    ticks = iter([10**6, 2 * 10**6])
    monkeypatch.setattr("time.time_ns", lambda: next(ticks))
    assert folder_for(None, "x") != folder_for(None, "x")


def test_a_bar_of_progress_does_not_pass_its_end(monkeypatch):
    """More arrivals than were expected move the end, and the last update fills the bar."""
    seen = []
    monkeypatch.setattr(Progress, "update", lambda *_, completed, total: seen.append((completed, total)))
    task = Stage("served", lambda _, report: [report(3), report(3)], [0], 4)
    run_stages([task], run_here, None)
    assert seen == [(3, 4), (6, 6), (6, 6)]


# -- logs -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def events():
    """2,500 events over a year, most of few of 150 items, as a table."""
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, 151) ** 0.8
    table = {"user": draw.integers(0, 150, 2500), "item": draw.choice(150, 2500, p=share / share.sum())}
    table["time"] = 1.5e9 + np.sort(draw.integers(0, 365 * 86_400, 2500))
    return pd.DataFrame(table).drop_duplicates(["user", "item"])


def _copies(events, n):
    return pd.concat([events] * n)


def _moved(events, time):
    return events.assign(time=[time, *events["time"][1:]])


@cases(
    "change least said",
    (
        partial(_copies, n=1),
        30,
        r"min_item_events=30 leaves \d+ of 1\d\d items .*lower data.min_item_events \(--min-item-events\):",
    ),
    (partial(_copies, n=5), 1, r"events \(80%\) repeat another in all columns.* remove the copies"),
    (partial(_moved, time=0), 1, r"1 event, of 1970-01-01, 17,\d+ days before .* set data.start=2017-07-"),
    (partial(_moved, time=4e9), 1, r"1 event, of 2096-10-02, 28,\d+ days after .* set data.stop=2018-07-"),
)
def test_a_log_that_looks_mistaken_is_warned_of(events, tmp_path, change, least, said):
    """The warning has a remedy, and stands wherever the log is described."""
    path = tmp_path / "log.csv"
    change(events).to_csv(path, index=False)
    described = data.check(path, min_item_events=least)
    (warning,) = described.log.report.warnings
    assert pd.Series([warning]).str.contains(said).all(), warning
    assert f"warning: {warning}" in described.text()


def test_the_remedy_of_a_small_catalogue_keeps_what_it_says(events, tmp_path):
    """The check of a log and a run of it name the same threshold; without signs of mistakes no log is warned of."""
    path = tmp_path / "log.csv"
    events.to_csv(path, index=False)
    (warning,) = data.load(path, min_item_events=30).report.warnings
    remedy = warning.rpartition(": ")[2]
    assert remedy in data.check(path).text()
    least, kept_items = (int(word) for word in remedy.removeprefix("min_item_events=").split(" keeps "))
    assert data.load(path, min_item_events=least).n_items == kept_items
    assert data.load(path).report.warnings == data.load(min_item_events=120).report.warnings == ()


def test_times_in_two_units_are_refused(events, tmp_path):
    """Half a log would else lie in January 1970."""
    path = tmp_path / "log.csv"
    time = events["time"].to_numpy() * np.where(np.arange(len(events)) % 2, 1000, 1)
    events.assign(time=time).to_csv(path, index=False)
    said = "time values look like m?s since 1970, .* like m?s. Write all times in one unit, or"
    refused(DataError, said, data.load, path)
    assert data.load(path, time_unit="ms").report.time_unit == "ms"


# -- settings that do not do what they seem to ------------------------------------------------------------------------
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


def test_a_log_to_which_nobody_comes_back_is_said_to_tell_nothing_of_its_truth(tmp_path, events):
    """Each run says how far its truth agrees with the log, or why nothing is known of it."""
    path = tmp_path / "log.csv"
    few = events[events["user"] < 60]
    few.assign(time=1.5e9 + few["user"] * 10_000 + few["item"]).to_csv(path, index=False)
    config = small_scenario(rounds=1)
    log = dataclasses.replace(config.data, source=str(path), min_item_events=1, session_gap="1d")
    run = small_run(tmp_path / "run", ("random",), dataclasses.replace(config, data=log))
    said = "The truth `factors` cannot be judged on this log: fewer than two users have a later session."
    assert run.report().answer[0].startswith(said)


# -- answers of your own agents, models and consumers -----------------------------------------------------------------
@cases(
    "field value said",
    ("price", np.inf, "price is infinite at a shown item"),
    ("propensity", 3.0, "propensity holds 3. Expected chances above 0 and at most 1"),
    ("propensity", -0.5, "propensity holds -0.5. Expected"),
    ("propensity", 0.0, "propensity holds 0. Expected"),
)
def test_prices_and_chances_that_cannot_be_are_refused(field, value, said):
    """They would stand in the ledger, and in what a platform learns by inverse propensities."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(1)
    items = np.full((1, market.config.slate), -1)
    items[0, 1] = int(arrivals.admissible[0].nonzero()[0, 0])
    numbers = np.full(items.shape, np.nan, np.float32)  # nothing is said of empty positions
    numbers[0, 1] = value
    refused(AgentError, said, market.serve, arrivals, Slates(items, **{field: numbers}))
    numbers[0, 1] = 0.5
    market.serve(arrivals, Slates(items, **{field: numbers}))


@cases(
    "scores said",
    ("+ torch.rand(1)", "its scores change from call to call"),
    ("* len(states)", "its scores change with the other states of a batch"),
    ("* 1e30", r"the intensity λ\(x\) of a state is .*e\+\d+, more than the [\d,]+ events"),
)
def test_a_model_whose_scores_depend_on_more_than_the_state_is_refused(write, scores, said):
    """A market would else depend on the size of its batches."""
    write(MODEL.replace("self.n_items)", f"self.n_items) {scores}"))
    config = small_scenario(platform=PlatformConfig(model="mine.py:Mine"))
    refused(ModelError, f"mine.py:Mine: {said}", warm_model, config, 0)


def test_a_model_of_your_own_is_told_a_device_that_is_there(write):
    """PyTorch knows no device called auto."""
    write(MODEL.replace("        pass", "        self.given = device"))
    assert make("mine.py:Mine", device="auto").given == str(resolved("auto"))
    config = small_scenario(platform=PlatformConfig(model="mine.py:Mine"))
    assert warm_model(config, 0).given in {"cpu", "cuda"}


def test_a_consumer_that_does_not_draw_with_its_probabilities_is_refused(write):
    """Utilities are of probabilities, returns of consumptions: they must be of one law."""
    write(
        "from rimsim.market.consumers import Intensity\n"
        "from dataclasses import replace\n"
        "class Greedy(Intensity):\n"
        "    def respond(self, visits, slates):\n"
        "        found = super().respond(visits, slates)\n"
        "        return replace(found, consumed=slates >= 0, probability=(slates >= 0) * 0.01)\n"
    )
    config = small_scenario(rounds=1, consumer=ConsumerConfig(kind="mine.py:Greedy"))
    refused(MarketError, r"Greedy.respond: it returned 600 consumptions, .* add up to 6\.0", played, config)


# -- estimates and sentences ------------------------------------------------------------------------------------------
_DRAWS = """
from rimsim.agents import Random
from rimsim.market.records import as_slates

class Mine:
    name, order_free, barrier_every = "mine", True, None

    def __init__(self):
        self.inner = Random()

    def begin_round(self, view):
        self.inner.begin_round(view)

    def act(self, arrivals):
        return as_slates(self.inner.act(arrivals)).items
"""


def test_a_target_that_draws_without_saying_its_chances_is_refused(write):
    """Its estimates would be those of a deterministic agent; one that draws nothing is valued."""
    write(_DRAWS)
    config = small_scenario(rounds=1)
    said = "--target: 'mine' samples its slates: 100% of the slates change .* the method chance_of"
    refused(ConfigError, said, evaluate.replayed, config, 0, "random", "mine.py:Mine", lambda _: None)
    write(_DRAWS.replace("Random", "Relevance"))
    sys.modules.pop("mine", None)
    assert len(evaluate.replayed(config, 0, "random", "mine.py:Mine", lambda _: None)) == 1


def test_estimates_that_rest_on_few_slates_are_warned_of():
    """The caution names the estimators, their effective slates, and a remedy."""
    row = {"target": "t", "logged": "l", "part": "first visits", "seed": 0, "truth": 0.4, "truth_at_log": 0.4}
    row |= {"estimate": 0.8, "low": -0.3, "high": 1.9, "support": 1.0, "slates": 308}
    rows = [row | {"estimator": "ips", "effective": 7.0}, row | {"estimator": "direct", "effective": 308.0}]
    done = evaluate.Evaluation(Path("run"), "l", "t", pd.DataFrame(rows))
    (caution,) = [text for text in evaluate.evaluation_report(done).cautions if "rest on few" in text]
    assert "few of the 308 slates (ips 7 effective slates)" in caution
    assert "Log more arrivals" in caution


def _experiment(naive, total):
    columns = {"design": "user", "training": "shared", "prices": "shared", "metric": "utility"}
    table = pd.DataFrame({"seed": range(len(naive)), "naive": naive, "total_effect": total})
    return table.assign(low=table["naive"] - 0.1, high=table["naive"] + 0.1, **columns)


def test_a_seed_without_an_estimate_counts_for_no_figure():
    """Bias is the difference of the means beside it, and an estimate that is not there has no wrong sign."""
    found = effects.summary(_experiment([0.3, np.nan, 0.5], [0.2, 0.25, 0.3])).iloc[0]
    assert found["bias"] == pytest.approx(found["naive"] - found["total_effect"]) == pytest.approx(0.15)
    assert (found["seeds"], found["half"]) == (2, pytest.approx(12.706 * 0.05, rel=1e-3))
    assert found["sign"] == 1.0
    (said,) = experiment_report._sentences(effects.summary(_experiment([0.3, np.nan], [0.2, 0.2])))
    assert said.startswith("fewer than two seeds have an estimate")


@cases(
    "naive said",
    ([0.3, 0.301, 0.299], "utility: biased beyond chance"),
    ([0.19, 0.2, 0.21], "utility: no bias found"),
    (
        [0.17, 0.2, 0.23],
        "utility: these seeds cannot tell if there is a bias of 20%",
    ),  # 90% CI ±25% of the effect
    ([-1.0, 0.2, 1.0], "utility: these seeds cannot tell if there is a bias of 20%"),
)
def test_no_bias_is_found_only_where_it_is_within_the_margin(naive, said):
    """The interval of the bias must lie within 20% of the effect; otherwise nothing is claimed."""
    (found,) = experiment_report._sentences(effects.summary(_experiment(naive, [0.2, 0.2, 0.2])))
    assert found.startswith(said)
    assert "of the total effect (95% CI ±" in found


def test_a_bias_has_percent_and_signs_only_beside_an_effect():
    """The relative bias by hand, with the interval of a ratio; beside an effect of 0 there is none, nor a sign."""
    naive = np.array([0.31, 0.27, 0.29, 0.34])
    total = np.array([0.20, 0.21, 0.19, 0.22])
    found = effects.summary(_experiment(naive, total)).iloc[0]
    ratio = (naive - total).mean() / total.mean()
    rest = (naive - total) - ratio * total
    half = stats.t.ppf(0.975, 3) * rest.std(ddof=1) / 2 / total.mean()
    assert (found["relative"], found["relative_half"]) == pytest.approx((ratio, half))
    assert found["sign"] == 1.0
    around_zero = effects.summary(_experiment(naive, [0.2, -0.2, 0.1, -0.1])).iloc[0]
    assert np.isnan(around_zero[["relative", "relative_half", "sign"]].astype(float)).all()
    (said,) = experiment_report._sentences(effects.summary(_experiment(naive / 10, [0.2, -0.2, 0.1, -0.1])))
    assert "cannot tell" in said
    assert "total effect does not differ from 0" in said
    table = experiment_report._table("utility", effects.summary(_experiment(naive, [0.0] * 4)), ("a", "b"))
    assert [table.rows[0][table.columns.index(name)] for name in ("bias / effect", "right sign")] == [
        "–",
        "–",
    ]


def test_a_bias_that_is_the_same_in_all_seeds_is_not_claimed():
    """Equal biases have no interval; the table marks them, and the sentence says that nothing can be told."""
    summed = effects.summary(_experiment([0.31, 0.32, 0.30], [0.307, 0.317, 0.297]))
    assert np.isnan(summed["half"].item())
    assert not summed["significant"].item()
    table = experiment_report._table("utility", summed, ("a", "b"))
    assert table.rows[0][table.columns.index("bias")] == "+0.0030="
    assert "= the same in all 3 seeds" in table.title
    (said,) = experiment_report._sentences(summed)
    assert "cannot tell" in said
    assert "+1% of the total effect (the same in all 3 seeds)" in said


def test_a_sentence_claims_a_difference_only_where_its_table_has_a_star():
    """An interval without 0 is not enough among many comparisons."""
    draw = np.random.default_rng(0)
    rows = [
        {"agent": agent, "seed": seed, "round": 0, "metric": metric, "value": value}
        for seed in range(4)
        for agent, more in (("relevance", 0.0), ("mine", 0.1))
        for metric in tables.shown_metrics("examined")
        for value in [1 + (more if metric == "utility" else 0) + 0.04 * draw.normal()]
    ]
    rounds = pd.DataFrame(rows)
    table = tables.differences(rounds, ["relevance", "mine"], tables.shown_metrics("examined"))
    utility = table[table["metric"] == "utility"].iloc[0]
    assert utility["low"] > 0
    assert not table["significant"].any()
    said = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")[-1]
    assert "does not differ significantly from that of `relevance`" in said
    assert "not significant among all comparisons of the table" in said
