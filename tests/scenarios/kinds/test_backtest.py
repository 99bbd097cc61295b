"""The back-test: splits against plain loops, no leakage, tables that follow from slates, the command end to end."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, said_by
from kit.logs import log_of
from kit.markets import drawn
from scipy.stats import t as student

from rimsim import measures
from rimsim.data import load
from rimsim.errors import ConfigError, ModelError, RunFolderError
from rimsim.intensity import Popularity
from rimsim.intensity.registry import make, parts, register
from rimsim.intensity.scores import JoinedScores, ModelScores
from rimsim.matching import price_slates
from rimsim.rng import Purpose, bits
from rimsim.scenarios import BacktestConfig, SplitConfig, backtest, load_backtest, load_run
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.backtest import COLUMNS, tasks
from rimsim.scenarios.kinds.backtest.models import Models
from rimsim.scenarios.kinds.backtest.report import backtest_report, backtest_sentences, by_window
from rimsim.scenarios.kinds.backtest.split import make_split
from rimsim.tracking import read_scalars

SMALL = ("popularity-hp", "popularity", "als-pop")
_QUIET = lambda _: None  # noqa: E731


@pytest.fixture(scope="module")
def log():
    """60 users and 70 items over some weeks: sessions, ties within them, users of very different activity."""
    source = np.random.default_rng(4)
    weight = 1.0 / np.arange(3, 73)
    rows = []
    for user in range(60):
        count = int(source.integers(8, 40))
        kind = source.random(count)
        waited = source.exponential(size=count)
        pause = np.where(kind < 0.3, 0.0, np.where(kind < 0.75, 600.0, 86400.0)) * waited
        times = float(source.integers(0, 5 * 86400)) + np.cumsum(pause.astype(int))
        items = source.choice(70, size=count, replace=False, p=weight / weight.sum())
        rows += [(user, int(item), float(time)) for item, time in zip(items, times, strict=True)]
    return _log(rows)


def _log(rows):
    """An EventLog from (user, item, time) rows."""
    embedded = load("ml-latest-small")
    user, item, time = zip(*rows, strict=True)
    users = embedded.users.iloc[: max(user) + 1]
    items = embedded.items.iloc[: max(item) + 1]
    return log_of(user, item, time, users.reset_index(drop=True), items.reset_index(drop=True))


def _busy(log):
    """The log as long as most users are still there."""
    return log.before(float(np.quantile(log.time, 0.7)))


def _events(log):
    return [(int(u), int(i), float(t)) for u, i, t in zip(log.user, log.item, log.time, strict=True)]


def _kept(log, share, seed):
    """The last events of each user, in plain Python: rank by (time, lot), kept where rank / size ≥ 1 − share."""
    lot = bits(seed, Purpose.SPLIT, 0, np.arange(len(log)))
    rows = []
    for user in range(log.n_users):
        user_events = sorted(
            (t, int(lot[row]), row) for row, (u, _, t) in enumerate(_events(log)) if u == user
        )
        rows += [
            row for rank, (_, _, row) in enumerate(user_events, 1) if rank / len(user_events) >= 1 - share
        ]
    return [_events(log)[row] for row in sorted(rows)]


@cases("seed items repeatable", (0, 70, False), (1, 70, False), (7, 12, False), (7, 12, True))
def test_the_user_relative_split_is_the_recipe_in_plain_loops(log, seed, items, repeatable):
    """Halves, T, groups, training, targets, states and folds equal a rewrite with loops, also where items repeat."""
    log = dataclasses.replace(log, item=log.item % items, repeatable=repeatable)
    split = make_split(log, SplitConfig(), seed)
    events = _kept(log, 0.5, seed)
    assert _events(split.log) == events
    mine = {user: [t for u, _, t in events if u == user] for user in range(log.n_users)}
    horizon = float(np.median([max(times) - min(times) for times in mine.values()]))
    assert split.horizon == horizon
    start = {user: min(times) + horizon for user, times in mine.items()}
    group_a = set(split.past.user.tolist())
    group_b = set(split.test.user.tolist())
    assert not group_a & group_b
    assert len(group_a) == len(group_b) == 30
    train = [event for event in events if event[0] in group_a or event[2] < start[event[0]]]
    assert _events(split.train) == train
    known_items = {item for _, item, _ in train}
    assert set(np.flatnonzero(split.is_known).tolist()) == known_items
    for row, user in enumerate(split.test.user.tolist()):
        begin = start[user]
        past = [(i, t) for u, i, t in events if u == user and t < begin]
        coming = [i for u, i, t in events if u == user and begin <= t < begin + horizon and i in known_items]
        states = split.test.states
        slots = slice(states.offsets[row], states.offsets[row + 1])
        assert list(zip(states.items[slots].tolist(), states.times[slots].tolist(), strict=True)) == past
        assert split.test.counts[row] == len(coming)
        targets = split.targets.key[split.targets.key // log.n_items == row] % log.n_items
        had = {i for i, _ in past}
        assert set(targets.tolist()) == set(coming) - (set() if repeatable else had)
        if repeatable:
            repeats = split.targets.repeat_key
            of_row = repeats[repeats // log.n_items == row] % log.n_items
            assert of_row.tolist() == sorted(set(coming) & had)
    assert (split.targets.repeats is not None) == repeatable
    for row, user in enumerate(split.past.user.tolist()):
        begin = start[user]
        assert split.past.counts[row] == sum(begin <= t < begin + horizon for u, _, t in events if u == user)
    rows = np.concatenate([fold.rows for fold in split.folds])
    assert sorted(rows.tolist()) == list(range(30))
    for fold in split.folds:
        held = set(split.past.user[fold.rows].tolist())
        assert _events(fold.train) == [e for e in train if e[0] not in held or e[2] < start[e[0]]]


@cases("windows horizon", (1, 1.0), (3, 0.5))
def test_windows_by_time_are_a_plain_loop_over_events(log, windows, horizon):
    """States, training, targets and past states of each window by brute force; windows do not overlap; some users."""
    log = _busy(log)
    day = 86400.0
    stop = float(np.nextafter(log.time[-1], np.inf))
    # Five users begin within the last window: before it they have no past, so no earlier window tests them.
    log = log.rows((log.user % 12 != 0) | (log.time >= stop - horizon * day))
    config = SplitConfig(kind="time", horizon=f"{24 * horizon:g}h", windows=windows)
    events = _events(log)
    tested = []
    for window in range(windows):
        split = make_split(log, config, 0, window)
        end = stop - (windows - 1 - window) * horizon * day
        begin = end - horizon * day
        earlier = end - 2 * horizon * day
        train = [event for event in events if event[2] < begin]
        assert _events(split.train) == train
        assert max(t for _, _, t in _events(split.log)) < end
        known_items = {item for _, item, _ in train}
        assert set(split.test.user.tolist()) == {user for user, _, _ in train}
        for row, user in enumerate(split.test.user.tolist()):
            had = {i for u, i, _ in train if u == user}
            took = [i for u, i, t in events if u == user and begin <= t < end and i in known_items]
            assert split.test.counts[row] == len(took)
            targets = split.targets.key[split.targets.key // log.n_items == row] % log.n_items
            assert set(targets.tolist()) == set(took) - had
        assert (set(split.test.states.now), set(split.past.states.now)) == ({begin}, {earlier})
        sampled_users = set(
            make_split(log, dataclasses.replace(config, users=12), 0, window).test.user.tolist()
        )
        assert (len(sampled_users), sampled_users < set(split.test.user.tolist())) == (12, True)
        (fold,) = split.folds
        assert _events(fold.train) == [event for event in events if event[2] < earlier]
        tested += [t for _, _, t in events if begin <= t < end]
    assert sorted(tested) == [t for _, _, t in events if t >= stop - windows * horizon * day]


def test_models_are_fitted_again_for_each_window(log, tmp_path, monkeypatch):
    """Each fit sees the events before its window alone; means and intervals are over windows, seeds are averaged."""
    log = _busy(log)
    seen = []
    fit = Popularity.fit
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Popularity, "fit", lambda self, train: (seen.append(train), fit(self, train))[1])
    monkeypatch.setattr("rimsim.scenarios.kinds.backtest.usable_log", lambda *_: log)
    split = SplitConfig(kind="time", horizon="12h", windows=3)
    bag = "bag(steps=20)"
    config = BacktestConfig(models=("popularity", bag), split=split, seeds=(0, 1), beta=(), cap=())
    run = backtest(config, out=tmp_path / "run")
    stop = float(np.nextafter(log.time[-1], np.inf))
    last = sorted({float(train.time[-1]) for train in seen})
    ends = [stop - number * 43200.0 for number in (3, 2, 1)]
    assert last == [max(t for _, _, t in _events(log) if t < end) for end in ends]
    table = run.table
    assert set(zip(table["seed"], table["window"], strict=True)) == {(s, w) for s in (0, 1) for w in range(3)}
    means = by_window(table)
    rows = table.query("task == 'item-rec' and model == @bag and metric == 'ndcg'")
    expected = rows.groupby("window")["value"].mean()
    averages = means.query("task == 'item-rec' and model == @bag and metric == 'ndcg'").set_index("window")
    assert averages["value"].to_dict() == pytest.approx(expected.to_dict())
    report = backtest_report(load_run(run.folder))
    assert "3 windows" in report.setting
    assert "3 windows, ± half a 95% interval" in report.sections[0].tables[0].title


def _precise(**models):
    rows = [
        ("item-rec", model, np.nan, np.nan, seed, "precision", value)
        for model, values in models.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@cases(
    "models expected",
    ({"a": (0.101, 0.102), "b": (0.101, 0.102)}, "a tie of `a` and `b`, precision 10.2%."),
    ({"a": (0.1,), "b": (0.1,)}, "a tie of `a` and `b`, precision 10.0%."),
    ({"a": (0.2, 0.1, 0.15), "b": (0.1, 0.15, 0.14)}, "a tie of `a` and `b`, precision 15.0% to 13.0%, a"),
    ({"a": (0.2, 0.1), "b": (0.2, 0.1), "c": (0.05, 0.19)}, "two splits cannot tell `a`, `b` and `c` apart"),
    (
        {"a": (0.2, 0.21, 0.2), "b": (0.1,) * 3},
        "`a`, precision 20.3%, 10.3 points (8.9 to 11.8) ahead of `b`.",
    ),
    ({"a": (0.2,), "b": (0.1,)}, "`a` 20.0%, `b` 10.0%, in one draw, without an interval."),
    ({"a": (0.2,)}, "`a`, precision 20.0%."),
)
def test_a_lead_is_claimed_only_where_the_interval_shows_it(models, expected):
    """Equal figures, and differences whose interval includes 0, are ties (F12)."""
    (text,) = backtest_sentences(_precise(**models))
    assert expected in text
    assert ("ahead" in text) == ("ahead" in expected)


def test_splits_that_overlap_tie_sooner():
    """A lead that three independent draws show is a tie where the draws are halves of one log."""
    table = _precise(a=(0.2, 0.21, 0.22), b=(0.18, 0.18, 0.18))
    assert "ahead" in backtest_sentences(table)[0]
    assert "tie" in backtest_sentences(table, overlap=1.0)[0]
    values = np.array([0.2, 0.21, 0.24])
    for kind, variance in (("user-relative", 1 / 3 + 1), ("time", 1 / 3)):
        interval = measures.mean_interval(values, overlap=SplitConfig(kind=kind).overlap)
        half = student.ppf(0.975, 2) * values.std(ddof=1) * np.sqrt(variance)
        assert interval.high - interval.mean == pytest.approx(half), kind


def _moved(log, users, instants):
    """The log with other items after an instant of each of some users, and how many events that are."""
    start = np.full(log.n_users, np.inf)
    start[users] = instants
    later = log.time >= start[log.user]
    return dataclasses.replace(log, item=np.where(later, (log.item + 17) % 70, log.item)), later.sum()


@pytest.mark.parametrize("kind", ["user-relative", "time"])
def test_what_test_users_do_next_changes_no_score(log, kind):
    """Other items after the test's start leave models, states, λ, scores and past scores as they were."""
    log = _busy(log) if kind == "time" else log
    config = SplitConfig(kind=kind, horizon="1d" if kind == "time" else None)
    split = make_split(log, config, 3)
    moved_log, events = _moved(log, split.test.user, split.test.states.now)
    assert events > 20
    about = BacktestConfig(models=SMALL, split=config)
    again = make_split(moved_log, config, 3)
    models_before = Models(split, about, 3, _QUIET)
    models_after = Models(again, about, 3, _QUIET)
    assert not np.array_equal(split.targets.key, again.targets.key)
    for name in SMALL:
        for side in ("test", "past"):
            first, second = (_matrix(getattr(models, side)(name)) for models in (models_before, models_after))
            assert np.array_equal(first, second)


def test_past_scores_for_prices_know_nothing_of_what_past_users_did_next(log):
    """A fold's futures moved to other items leave its rows of the past scores alone, unless prices are seen."""
    config = BacktestConfig(models=("als-hp",))
    split = make_split(log, config.split, 2)
    fold = split.folds[0]
    equal_scores = {}
    moved_log, _ = _moved(log, split.past.user[fold.rows], split.past.states.now[fold.rows])
    for prices in ("cross-fitted", "seen"):
        about = dataclasses.replace(config, prices=prices)
        models = [
            Models(make_split(events, config.split, 2), about, 2, _QUIET) for events in (log, moved_log)
        ]
        rows = np.arange(len(fold.rows)) if prices == "cross-fitted" else fold.rows
        scores, two = (_matrix(each.past("als-hp"))[rows] for each in models)
        is_scored = np.isfinite(scores) & np.isfinite(two)
        equal_scores[prices] = np.array_equal(scores[is_scored], two[is_scored])
    assert equal_scores == {"cross-fitted": True, "seen": False}


@pytest.fixture(scope="module")
def fitted_models(log):
    """The models of one seed on the made-up log."""
    config = BacktestConfig(models=SMALL)
    return Models(make_split(log, config.split, 0), config, 0, _QUIET)


def _matrix(scores):
    return scores.rows(0, scores.shape[0])


def test_scores_are_the_models_with_consumed_and_unknown_items_left_out(fitted_models):
    """A block's row is λ(x)·p(y|x), −inf where nothing may be shown, whatever the block."""
    split = fitted_models.split
    scores = fitted_models.test("popularity-hp")
    matrix = _matrix(scores)
    p = np.bincount(split.train.item, minlength=70) + 0.01
    rate = fitted_models.rate("hp")
    for row in range(len(split.test.user)):
        state = split.test.states.take([row])
        expected = rate[row] * p / p.sum()
        expected[~split.is_known] = -np.inf
        expected[state.items] = -np.inf
        assert matrix[row] == pytest.approx(expected, rel=1e-5)
        assert np.array_equal(scores.rows(row, row + 1)[0], matrix[row])
    joined = JoinedScores([scores, fitted_models.past("popularity")])
    assert joined.shape == (60, 70)
    assert np.array_equal(joined.rows(25, 35)[:5], matrix[25:])


@pytest.mark.parametrize("name", SMALL)
def test_recommendation_metrics_follow_from_slates_made_here(fitted_models, name, monkeypatch):
    """Both tasks' metrics equal those of a ranking of the whole matrix, counted in loops, also in blocks of items."""
    split = fitted_models.split
    scores = fitted_models.test(name)
    matrix = _matrix(scores).astype(np.float64)
    wanted = {(int(key) // 70, int(key) % 70) for key in split.targets.key}
    slates = price_slates(matrix, 0.0, 5, tie_seed=0, row_keys=split.test.user)
    hits = np.array([[(row, item) in wanted for item in slate] for row, slate in enumerate(slates.tolist())])
    number = [sum(row == user for user, _ in wanted) for row in range(len(slates))]
    exposure = measures.exposure_counts(slates, 70)
    expected = {
        "precision": hits.mean(),
        "recall": np.mean([h.sum() / n for h, n in zip(hits, number, strict=True) if n]),
        "ndcg": measures.ndcg(hits, number),
        "perplexity": measures.perplexity(exposure),
        "coverage": (exposure[split.is_known] > 0).mean(),
    }
    assert tasks.item_recommendation(scores, split, 5, 0) == pytest.approx(expected)
    known_items = np.flatnonzero(split.is_known)
    users = [
        price_slates(matrix[:, [item]].T.copy(), 0.0, 3, tie_seed=0, row_keys=[item])[0].tolist()
        for item in known_items
    ]
    is_hit = [[(row, item) in wanted for row in rows] for item, rows in zip(known_items, users, strict=True)]
    figures = tasks.user_recommendation(scores, split, 3, 0)
    assert figures["precision"] == pytest.approx(np.mean(is_hit))
    shown = np.bincount(np.ravel(users), minlength=len(slates))
    assert figures["perplexity"] == pytest.approx(measures.perplexity(shown))
    monkeypatch.setattr("rimsim.scenarios.kinds.backtest.tasks._CELLS", 100)
    assert tasks.user_recommendation(scores, split, 3, 0) == figures


def test_repeats_and_new_items_are_counted_apart_where_users_take_items_again(log):
    """Consumed items are ranked too; precision and recall of repeats and new items equal loops over slates."""
    log = dataclasses.replace(log, item=log.item % 12, repeatable=True)
    split = make_split(log, SplitConfig(), 7)
    states = split.test.states
    scores = ModelScores(Popularity().fit(split.train), states, split.is_known, repeatable=True)
    matrix = _matrix(scores)
    assert np.isfinite(matrix[:, split.is_known]).all()
    slates = price_slates(matrix.astype(np.float64), 0.0, 3, tie_seed=0, row_keys=split.test.user)
    hits = {"repeat": [], "new": []}
    recalls = {"repeat": [], "new": []}
    targets = split.targets
    for row, slate in enumerate(slates.tolist()):
        wanted = {int(key) % log.n_items for key in targets.key if int(key) // log.n_items == row}
        had = set(states.items[states.offsets[row] : states.offsets[row + 1]].tolist())
        for kind, taken in (("repeat", wanted & had), ("new", wanted - had)):
            hits[kind].append(len(taken & set(slate)) / 3)
            recalls[kind] += [len(taken & set(slate)) / len(taken)] if taken else []
    figures = tasks.item_recommendation(scores, split, 3, 0)
    for kind in ("repeat", "new"):
        assert figures[f"precision_{kind}"] == pytest.approx(np.mean(hits[kind]))
        assert figures[f"precision_{kind}"] > 0
        assert figures[f"recall_{kind}"] == pytest.approx(np.mean(recalls[kind]))
    assert figures["precision_repeat"] + figures["precision_new"] == pytest.approx(figures["precision"])


def test_floors_widen_exposure_at_the_cost_of_the_inactive(fitted_models):
    """β = 0 is item recommendation; floors raise perplexity and items met, and low λ pays for them."""
    split = fitted_models.split
    name = "popularity-hp"
    scores = fitted_models.test(name)
    past = fitted_models.past(name)
    rate = fitted_models.rate("hp")
    online = tasks.Matching(scores, past, split, 5, tasks.Pricing(0, 1e-4, 0.01))
    results = online.with_floors((0.0, 0.7), rate)
    free = tasks.item_recommendation(scores, split, 5, 0)
    assert {metric: results[0.0][metric] for metric in free} == free
    assert results[0.0]["shortfall"] == 0
    assert results[0.7]["perplexity"] > 1.1 * free["perplexity"]
    assert results[0.7]["gap"] <= 1e-4
    paid = [results[0.7][f"guaranteed_decile_{number}"] for number in range(1, 11)]
    assert results[0.7]["guaranteed_lowest_minus_highest"] == paid[0] - paid[-1] > 1


def test_floors_that_cannot_be_met_are_met_as_far_as_they_can(log):
    """Where every past user has consumed an item, its floor does not end the run."""
    rows = [event for event in _events(log) if event[1] != 0]
    name = "popularity-hp"
    rows += [(user, 0, min(t for u, _, t in rows if u == user) - 1) for user in range(60)]
    config = BacktestConfig(models=(name,), split=SplitConfig(recent=1.0))
    models = Models(make_split(_log(rows), config.split, 0), config, 0, _QUIET)
    scores = models.test(name)
    past = models.past(name)
    split = models.split
    results = tasks.Matching(scores, past, split, 3, tasks.Pricing(0, 1e-3, 0.0)).with_floors((1.0,), None)
    assert 0 < results[1.0]["shortfall"] < 1


def test_caps_let_users_have_more_and_count_precision_per_exposure(log):
    """Of what caps allow of known items, exposures and hits are whole numbers; more positions find more."""
    name = "popularity-hp"
    known_events = [event for event in _events(log) if event[1] != 0]
    config = BacktestConfig(models=(name,))
    models = Models(make_split(_log(known_events), config.split, 0), config, 0, _QUIET)
    split = models.split
    assert split.n_known < 70
    scores = models.test(name)
    past = models.past(name)
    results = tasks.Matching(scores, past, split, 2, tasks.Pricing(0, 1e-3, 0.0)).with_caps((1.0, 10.0), 0.1)
    for multiple in (1.0, 10.0):
        values = results[multiple]
        exposures = values["filled"] * min(30 * min(2 * multiple, 70), 3 * split.n_known)
        hits = values["precision"] * exposures
        assert exposures == pytest.approx(round(exposures), abs=1e-6)
        assert hits == pytest.approx(round(hits), abs=1e-6)
    assert results[10.0]["perplexity"] > results[1.0]["perplexity"]


def test_large_pasts_are_priced_in_chunks_with_the_same_certificate(fitted_models, monkeypatch):
    """Without the whole matrix the prices are certified to the same gap and serve as well."""
    split = fitted_models.split
    name = "als-pop"
    scores = fitted_models.test(name)
    past = fitted_models.past(name)
    arguments = scores, past, split, 5, tasks.Pricing(0, 1e-3, 0.0)
    at_once = tasks.Matching(*arguments).with_floors((0.7,), None)[0.7]
    monkeypatch.setattr("rimsim.scenarios.kinds.backtest.tasks._DENSE", 0)
    chunked = tasks.Matching(*arguments).with_floors((0.7,), None)[0.7]
    assert chunked["gap"] <= 1e-3
    assert chunked["perplexity"] == pytest.approx(at_once["perplexity"], rel=0.15)


class _Nonsense(Popularity):
    """A model whose scores are negative."""

    def score_hidden(self, hidden, now):
        return -super().score_hidden(hidden, now)


def test_a_model_of_ones_own_takes_part_by_name_and_nonsense_is_told(log):
    """A registered name needs no mark or ground; scores that are no intensities end in an error of ours."""
    register("backtest-own", lambda seed, device: Popularity())
    register("backtest-nonsense", lambda seed, device: _Nonsense())
    assert parts("backtest-own") is None
    split = make_split(log, SplitConfig(), 0)
    models = Models(split, BacktestConfig(models=("backtest-own", "popularity")), 0, _QUIET)
    assert np.array_equal(_matrix(models.test("backtest-own")), _matrix(models.test("popularity")))
    bad = ModelScores(_Nonsense().fit(split.train), split.test.states, split.is_known)
    refused(ModelError, "finite intensities of at least 0", bad.rows, 0, 3)


def test_hybrids_share_fits_and_ground_levels_come_from_the_past_states(log):
    """Marks that can remember are fitted once a fold, the rest once; λ sums to the events of V on V."""
    split = make_split(log, SplitConfig(), 0)
    config = BacktestConfig(models=("popularity-hp", "als-hp", "als", "popularity-hawkes", "popularity-ema"))
    models = Models(split, config, 0, _QUIET)
    reports = {report.part: report for report in models.reports()}
    for name in config.models:
        models.test(name), models.past(name)
    fits = [(fit.part, fit.fold) for fit in models.fits]
    assert {part for part, fold in fits if fold >= 0} == {"als"}
    assert len(fits) == len(set(fits)) == 7
    for part, figures in (
        ("als", {"nll", "perplexity"}),
        ("hp", {"predicted", "realised", "deviance", "deviance_constant", "predicted_10"}),
        ("hawkes", {"ks", "ks_p_value"}),
    ):
        assert figures <= set(reports[part].figures)
    assert reports["hp"].figures["realised"] == split.test.counts.sum()
    level = models._ground("hp").intensity(split.past.states).double().sum()
    assert float(level) == pytest.approx(split.past.counts.sum(), rel=0.02)


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    """A finished back-test of the made-up log in a file, from the command line."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    path = folder.with_name("log.csv")
    pd.DataFrame({"uid": log.user, "sku": log.item, "at": log.time.astype(int)}).to_csv(path, index=False)
    line = f"backtest --data {path} --out {folder} --columns user=uid,item=sku,time=at --seeds 2 --caps 3"
    with drawn():
        assert main(f"{line} --models als-hp,popularity-hp,popularity".split()) == 0
    return load_backtest(folder)


def test_the_command_leaves_a_folder_that_says_all(run, capsys):
    """Columns as promised, config, pictures, events, calibration; report prints and draws again."""
    table = run.table
    assert tuple(table.columns) == COLUMNS
    assert (set(table["task"]), set(table["seed"])) == ({"item-rec", "user-rec", "online"}, {0, 1})
    assert set(table["beta"].dropna()) == {0.0, 0.3, 0.7, 1.0}
    assert set(table["cap"].dropna()) == {3.0}
    assert not table["value"].isna().any()
    assert not table.duplicated(list(COLUMNS[:-1])).any()
    assert load_run(run.folder).backtest.equals(table)
    assert run.described["command"].startswith("rimsim ")
    assert run.described["splits"][0]["k"] == 1
    assert {"torch", "numpy", "rimsim"} <= set(run.described["versions"])
    assert run.config.models == ("als-hp", "popularity-hp", "popularity")
    assert set(run.calibration["part"]) == {"als", "popularity", "hp"}
    assert set(run.fits["fold"]) == {-1, 0, 1}
    points = read_scalars(run.folder / "events/popularity-hp/seed-0")["online/perplexity"]
    rows = table.query("task == 'online' and model == 'popularity-hp' and seed == 0")
    rows = rows[rows["metric"] == "perplexity"]
    assert [point.step for point in points] == [0, 30, 70, 100]
    values = rows.dropna(subset="beta")["value"].to_list()
    assert [point.value for point in points] == pytest.approx(values, rel=1e-6)
    pictures = run.folder / "pictures"
    assert sorted(path.name for path in pictures.glob("*.png")) == ["fronts.png", "recommendation.png"]
    before = (pictures / "fronts.png").read_bytes()
    (pictures / "fronts.png").unlink()
    with drawn():
        printed = said_by(capsys, f"report {run.folder}").out
    assert "Who pays" in printed
    assert "What floors cost" in printed
    assert (pictures / "fronts.png").read_bytes() == before
    sentences = backtest_sentences(run.table, run.config.split.overlap)
    assert sentences[0].startswith("Best at recommending items to users: ")
    assert sentences[0].replace("`", "") in printed[: printed.index("Item recommendation,")]
    page = said_by(capsys, f"report {run.folder} --markdown").out
    assert page.startswith(sentences[0])
    assert "| `popularity-hp` |" in page


def test_a_back_test_is_reproducible_bit_for_bit(run, tmp_path, monkeypatch):
    """Another folder, an empty cache and some seeds give the same numbers; seen prices change matching alone."""
    seen = backtest(dataclasses.replace(run.config, prices="seen", seeds=(0,)), out=tmp_path / "seen").table
    mine = run.table[run.table["seed"] == 0].reset_index(drop=True)
    alone = mine["task"] != "online"
    assert seen[alone].equals(mine[alone])
    assert not seen.equals(mine)
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path / "cache"))
    again = backtest(dataclasses.replace(run.config, seeds=(1,)), out=tmp_path / "again")
    assert again.table.equals(run.table[run.table["seed"] == 1].reset_index(drop=True))
    assert not again.fits["cached"].any()


TIED = "user,item,time\n" + "".join(f"{n % 6},{n // 6},{1000 + n % 6}\n" for n in range(24))


@cases(
    "options message",
    ("--models gru-hq", "Did you mean 'gru-hp'"),
    ("--models hp,hp", "holds a value twice"),
    ("--beta 0,1.5", "--beta: 1.5. It must be less than or equal to 1"),
    ("--beta much", "'much' is not a list of numbers. Write"),
    ("--seeds 0", "Give a number of seeds"),
    ("--horizon soon", "is not a duration"),
    ("--horizon 14", "has no unit"),
    ("--data nowhere.csv", "no such file"),
    ("--data tied.csv --min-item-events 1", "with an earlier one of the same user"),
    ("--split time --horizon 10000d", "too little for a time back-test"),
    ("--min-item-events 341", "too small to back-test"),
    ("--windows 2", "windows is 2, which needs a split by time. Add --split time"),
)
def test_what_does_not_fit_is_told_before_anything_is_made(tmp_path, monkeypatch, capsys, options, message):
    """One sentence that names the option or what the log lacks, status 2, no folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tied.csv").write_text(TIED)
    assert message in said_by(capsys, f"backtest {options} --out run", 2).err.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_and_one_of_another_kind_are_refused(run, tmp_path):
    """Nothing is written over, and a comparison is not read as a back-test; all default models have names."""
    refused(RunFolderError, "already holds a run", backtest, run.config, out=run.folder)
    (tmp_path / "config.yaml").write_text("scenario: {}\narms: []\n")
    refused(RunFolderError, "holds a comparison. Expected a back-test", load_backtest, tmp_path)
    all_items = dataclasses.replace(run.config, item_share=1.0)
    refused(ConfigError, "all of it|all of them", backtest, all_items, out=tmp_path / "all")
    for name in BacktestConfig().models:
        make(name, seed=0)
