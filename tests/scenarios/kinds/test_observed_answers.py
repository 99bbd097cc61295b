"""Judging on known answers: figures by brute force, and truths told apart on a table with a known law."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import refused, said_by, write_events
from kit.logs import log_of
from scipy.optimize import minimize

from rimsim import rng
from rimsim.data import EventLog, ObservedTable, load_observed
from rimsim.errors import DataError
from rimsim.evaluation.appeal import hidden_quality
from rimsim.intensity import UserStates
from rimsim.intensity.registry import make
from rimsim.market.consumers.truths import fit_truth
from rimsim.scenarios import load_run, load_validation
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.validate import answers
from rimsim.scenarios.kinds.validate.report import observed_sentences
from rimsim.scenarios.runs.digests import digest
from rimsim.testing.intensity import random_items

DRAW = rng.Purpose.MEASURE
COAT = Path(os.environ.get("RIMSIM_DEV_DATA", "")) / "coat"
USERS, ITEMS, CHOSEN = 200, 60, 6
USER, ITEM = np.arange(USERS)[:, None], np.arange(ITEMS)[None, :]


def law() -> np.ndarray:
    """(users, items) probabilities of a yes: three tastes, and items of uneven appeal."""
    logit = np.where(USER % 3 == ITEM % 3, 1.3, -1.3) + 1.5 * (rng.uniform(1, DRAW, ITEM) - 0.5)
    return 1 / (1 + np.exp(-logit))


def table_of(taken):
    """The dense table of answers (users, items)."""
    user, item = np.divmod(np.arange(taken.size), taken.shape[1])
    users, items = map(np.arange, taken.shape)
    value = taken[user, item].astype(float)
    return ObservedTable(user, item, value, users=users, items=items, time=None, shown_at_random=True)


def all_of(user, item, time):
    """A log of some events over all users and items."""
    return log_of(user, item, time, USERS, random_items(ITEMS))


FIRST = all_of(np.arange(USERS), np.zeros(USERS, np.int64), 1e9 + np.arange(USERS))
"""Each user's event with the first item."""
TAKEN = rng.uniform(2, DRAW, USER, ITEM) < law()
"""Answers that are drawn from the law."""


def selected(taken: np.ndarray, appeal: np.ndarray) -> EventLog:
    """A tenth of all pairs: of what each user takes, the items that a site showed, by their appeal to everybody."""
    chance = np.where(taken, rng.uniform(3, DRAW, USER, ITEM) ** (1 / appeal), -1.0)
    item = np.argsort(-chance, axis=1)[:, :CHOSEN].ravel()
    user = np.repeat(np.arange(USERS), CHOSEN)
    start = rng.uniform(4, DRAW, np.arange(USERS))[user] * 30 * 86_400
    return all_of(user, item, 1e9 + start + np.tile(np.arange(CHOSEN), USERS) * 3 * 86_400.0)


@dataclasses.dataclass(frozen=True)
class Known:
    """A truth that is the law itself."""

    p: np.ndarray

    def preference(self, users, states):
        """The law."""
        del states
        return self.p[users]

    def expected(self, users, states):
        """The sum of the law over what is left, so that the intensity is the law."""
        left = self.p[users].copy()
        left[np.repeat(np.arange(len(users)), states.lengths), states.items] = 0
        return left.sum(1)


def test_a_truth_of_a_selected_tenth_is_judged_as_it_deserves():
    """Fitted to chosen answers, a truth is above one of shuffled users beyond their intervals, and below the law."""
    p = law()
    log = selected(TAKEN, 0.5 + 2 * rng.uniform(5, DRAW, ITEM))
    strangers = log.item[np.argsort(rng.uniform(6, DRAW, np.arange(len(log))))]
    shuffled = all_of(log.user, strangers, log.time)
    truths = {
        "good": fit_truth(log, gap="30min", kind="factors", rank=4),
        "bad": fit_truth(shuffled, gap="30min", kind="factors", rank=4),
        "law": Known(p),
    }
    models = {"popularity": make("popularity").fit(log)}
    found = answers.judge_observed(answers.held_answers(table_of(TAKEN), log, taken_at=1.0), truths, models)
    table = found.table().set_index(["truth", "model", "metric"])
    for metric in ("auc", "precision", "log_likelihood"):
        law_itself, good, bad, popular, chance = (
            table.loc[(*key, metric)]
            for key in (("law", ""), ("good", ""), ("bad", ""), ("", "popularity"), ("", "random"))
        )
        assert law_itself["value"] > good["value"]
        if metric != "log_likelihood":  # users differ in how much they take, which pairs alone take out
            assert good["low"] > max(bad["high"], popular["high"], chance["high"])
    assert table.loc[("", "random", "auc"), "value"] == 0.5
    pairs = found.pairs().set_index(["truth", "other_truth", "metric"])
    for metric in ("auc", "precision", "log_likelihood"):
        assert pairs.loc[("good", "bad", metric), "settled"]
        assert pairs.loc[("good", "bad", metric), "low"] > 0
    assert table.loc[("law", "", "calibration_error"), "value"] < 0.05
    assert found.answers.left_out == len(log)
    assert len(found.answers) == USERS * ITEMS - len(log)


def test_the_law_has_the_auc_and_the_deciles_that_it_must_have():
    """Of answers drawn from a law, AUC is as its probabilities say; shares of tenths add up, and their means grow."""
    p = law()
    held = answers.held_answers(table_of(TAKEN), FIRST, taken_at=1.0)
    found = answers.judge_observed(held, {"law": Known(p)}, {}).table()
    found = found[found["truth"] == "law"].set_index("metric")
    value, low, high = found.loc["auc", ["value", "low", "high"]]
    expected = []
    for row in p[:, 1:]:
        weight = row[:, None] * (1 - row[None, :])
        np.fill_diagonal(weight, 0)
        expected.append((weight * (row[:, None] > row[None, :])).sum() / weight.sum())
    assert low - (high - low) < np.mean(expected) < high + (high - low)
    assert value > 0.7
    names = ([f"decile_{n}_{name}" for n in range(1, 11)] for name in ("taken", "predicted"))
    shares, predicted = (found.loc[rows, "value"].tolist() for rows in names)
    assert np.mean(shares) == pytest.approx(TAKEN[:, 1:].mean())
    assert predicted == sorted(predicted)


def random_answers(n=400, users=12):
    """Answers of uneven users with tied scores."""
    draw = rng.generator(0, DRAW)
    user = np.sort(draw.integers(0, users, n))
    score = draw.integers(0, 6, n) / 2.0
    return user, score, draw.random(n) < 1 / (1 + np.exp(1 - score))


def test_auc_precision_and_likelihood_are_those_of_counts_by_user():
    """AUC by all pairs with ties for a half; the best k answers; the mean of log p. Without a pair there is none."""
    user, score, taken = random_answers()
    ties, p = rng.bits(0, DRAW, np.arange(len(user))), 1 / (1 + np.exp(-score))
    auc, best = answers.user_aucs(user, score, taken, 14), answers.precisions(user, score, taken, ties, 12, 5)
    nats = answers.answer_likelihoods(user, p, taken, 13)
    for who in range(12):
        mine = user == who
        yes, no = score[mine & taken], score[mine & ~taken]
        wins = (yes[:, None] > no).sum() + 0.5 * (yes[:, None] == no).sum()
        assert auc[who] == pytest.approx(wins / (len(yes) * len(no)))
        rows = sorted(np.flatnonzero(mine), key=lambda row: (-score[row], ties[row]))
        assert best[who] == taken[rows[:5]].mean()
        assert nats[who] == pytest.approx(np.log(np.where(taken, p, 1 - p)[mine]).mean())
    assert np.isnan([*auc[12:], nats[12]]).all()
    assert np.isnan(answers.user_aucs(np.zeros(3, np.int64), np.arange(3.0), np.ones(3, bool), 1)).all()
    assert np.isnan(answers.precisions(user, score, taken, ties, 12, 400)).all()


def test_calibration_maximises_the_likelihood_of_other_folds():
    """As a general optimiser does; scores that order wrongly foretell the share; extreme ones stay within 0 and 1."""
    user, score, taken = random_answers()
    fold = user % 3
    found = answers.calibrated(score, taken, fold, 3)
    for left_out in range(3):
        x, y = score[fold != left_out], taken[fold != left_out]

        def loss(ab, x=x, y=y):
            return np.logaddexp(0, np.where(y, -1, 1) * (ab[0] + ab[1] * x)).sum()

        a, b = minimize(loss, [0.0, 0.0], tol=1e-12).x
        expected = 1 / (1 + np.exp(-a - b * score[fold == left_out]))
        np.testing.assert_allclose(found[fold == left_out], expected, atol=1e-4)
    backwards = answers.calibrated(-score, taken, fold, 3)
    for left_out in range(3):
        others = taken[fold != left_out]
        share = (others.sum() + 0.5) / (len(others) + 1)
        np.testing.assert_allclose(backwards[fold == left_out], share)
    user, score, taken = random_answers()
    for extreme in (np.where(taken, 30.0, -30.0), np.zeros(len(score))):
        p = answers.calibrated(extreme, taken, user % 2, 2)
        assert ((p > 0) & (p < 1)).all()
        assert np.isfinite(answers.answer_likelihoods(user, p, taken, 12)).all()


def test_folds_are_of_one_size_and_none_is_empty():
    """Whatever is drawn, parts of the users differ by one user at most; two users are in two parts."""
    for n in (2, 3, 7, 40):
        for seed in range(20):
            count = np.bincount(answers.folds_of(np.arange(n) * 3, seed, min(5, n)), minlength=min(5, n))
            assert count.min() >= 1
            assert np.ptp(count) <= 1
    assert len({tuple(answers.folds_of(np.arange(7), seed, 5)) for seed in range(9)}) > 1


def test_answers_of_two_users_are_judged_and_those_of_one_are_refused():
    """Each user's answers are foretold from the other's; one user has no other."""
    items, values = np.array([1, 2, 3, 4]), np.array([1.0, 1, 0, 0])
    few = dataclasses.replace(table_of(TAKEN), user=np.arange(4) % 2, item=items, value=values)
    found = answers.judge_observed(answers.held_answers(few, FIRST, taken_at=1.0), {"law": Known(law())}, {})
    assert np.isfinite(found.probability).all()
    one = dataclasses.replace(few, user=np.zeros(4, np.int64))
    refused(DataError, "only 1 user .* at least two", answers.held_answers, one, FIRST, taken_at=1.0)


def test_the_interval_of_a_ratio_is_that_of_a_bootstrap():
    """Linearised bounds are within a tenth of those of ten thousand resamples of users."""
    draw = rng.generator(1, DRAW)
    count = draw.integers(1, 30, 150).astype(float)
    total = draw.binomial(count.astype(int), draw.beta(2, 3, 150)).astype(float)
    weights = draw.multinomial(150, np.full(150, 1 / 150), 10_000)
    ratios = (weights @ total) / (weights @ count)
    low, high = np.quantile(ratios, [0.025, 0.975])
    found = answers.ratio_interval(total, count)
    assert found.mean == total.sum() / count.sum()
    assert found.high - found.low == pytest.approx(high - low, rel=0.1)


def test_states_end_before_the_first_known_answer():
    """Answers to what the log has fall out; a user's state is what came before the first answer, else the whole log."""
    log = all_of(np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 1, 2]), np.array([10.0, 20, 30, 10, 20]))
    asked = np.array([0, 0, 0, 1, 1]), np.array([0, 2, 5, 1, 4]), np.array([1.0, 1, 0, 1, 1])
    given = dict(zip(("user", "item", "value"), asked, strict=True))
    table = dataclasses.replace(table_of(TAKEN), **given, time=np.array([np.nan, 5, 25, np.nan, np.nan]))
    found = answers.held_answers(table, log, taken_at=1.0)
    assert (found.item.tolist(), found.taken.tolist()) == ([0, 5, 4], [True, False, True])
    assert (found.users[found.row].tolist(), found.left_out) == ([0, 0, 1], 2)
    expected = UserStates.of(log, [0, 1], [25, 21])
    assert found.states.items.tolist() == expected.items.tolist() == [1, 2, 1, 2]
    told = "3 of 3 usable answers have a value of at least 0. Expected answers"
    refused(DataError, told, answers.held_answers, table, log, taken_at=0.0)


def test_the_command_judges_known_answers(tmp_path, capsys):
    """Tables, facts, page and report have what truths and models say of the answers; the digest changes with them."""
    log = selected(TAKEN, 0.5 + 2 * rng.uniform(5, DRAW, ITEM))
    write_events(tmp_path / "log.csv", log.user, log.item, log.time)
    user, item = np.divmod(np.arange(TAKEN.size), ITEMS)
    table = pd.DataFrame({"who": user, "what": item, "liked": np.where(TAKEN[user, item], 5, 2)})
    table.to_csv(tmp_path / "answers.csv", index=False)
    line = f"validate --data {tmp_path / 'log.csv'} --models popularity,random --draws 1 --taken-at 4"
    line += f" --observed {tmp_path / 'answers.csv'} --observed-columns user=who,item=what,value=liked"
    line += f" --truths bag --resamples 100 --out {tmp_path / 'run'}"
    assert main(line.split()) == 0
    validated = load_validation(tmp_path / "run")
    table = validated.observed.set_index(["truth", "model", "metric"])
    assert table.loc[("bag", "", "auc"), "low"] > table.loc[("", "popularity", "auc"), "high"]
    assert table.loc[("", "random", "auc"), "value"] == 0.5
    facts = validated.described["observed"]
    assert facts["answers"] == USERS * ITEMS - validated.described["log"]["events"]
    assert facts["shown_at_random"]
    page = (validated.folder / "README.md").read_text(encoding="utf-8")
    assert "Of answers without selection, the truth `bag` puts" in page
    assert "Known answers: calibrated probability against the share of a yes" in page
    assert "items are worth what the log's popularity says with a correlation of" in page
    assert table.loc[("", "", "hidden_rho"), "low"] < table.loc[("", "", "hidden_rho"), "high"]
    assert validated.config.observed.taken_at == 4
    assert "Known answers" in said_by(capsys, f"report {validated.folder}").out
    run = load_run(validated.folder)
    before = digest(run)
    run.observed.loc[0, "value"] += 1
    assert digest(run) != before


def sentences(low, difference, *, at_random):
    """What is concluded from a truth with an AUC of .6 and some interval and likelihood."""
    columns = ["truth", "model", "metric", "value", "low", "high"]
    table = pd.DataFrame([("t", "", "auc", 0.6, low, 0.7)], columns=columns)
    columns = ["other_model", "metric", "difference", "low", "high"]
    rows = [("random", "log_likelihood", difference, 0.0, 0.0), ("bag", "auc", -0.1, -0.2, -0.05)]
    pairs = pd.DataFrame(rows, columns=columns).assign(truth="t", model="", other_truth="", settled=True)
    facts = {"answers": 10, "users": 2, "taken": 4, "source": "t.csv", "shown_at_random": at_random}
    return observed_sentences(table, pairs, facts)


def test_sentences_say_what_was_found():
    """A truth above chance may be believed, another not; selection and better models are named."""
    good, bad = sentences(0.55, 0.1, at_random=True)
    assert "10 answers of 2 users" in good[0]
    assert "Of answers without selection, the truth `t` puts 0.600" in good[1]
    assert bad == ["The truth `t` orders known answers worse than `bag`, beyond the paired interval."]
    for low, difference in ((0.49, 0.1), (0.55, -0.1)):
        good, bad = sentences(low, difference, at_random=False)
        assert len(good) == 1
        assert "may be about items that were chosen" in bad[0]
        assert "says nothing sure" in bad[1]


# -- hidden quality ---------------------------------------------------------------------------------------------------


def exposed(rho, seed, items=120, users=150):
    """Random exposures of items whose log worth has a spread of .8 and a correlation ρ with popularity, and a log."""
    draw = rng.generator(seed, DRAW)
    count = draw.poisson(np.exp(4 + draw.standard_normal(items)))
    popularity = np.log(count + 1.0)
    z = (popularity - popularity.mean()) / popularity.std()
    worth = -1.8 + 0.8 * (rho * z + np.sqrt(1 - rho**2) * draw.standard_normal(items))
    user, item = np.repeat(np.arange(users), 20), np.argsort(draw.random((users, items)))[:, :20].ravel()
    yes = draw.random(len(item)) < -np.expm1(-np.exp(worth[item]))
    ids = np.arange(users), np.arange(items)
    table = ObservedTable(user, item, yes * 1.0, *ids, None, shown_at_random=True)
    event = np.repeat(np.arange(items), count)
    return table, log_of(event % users, event, 1e9 + np.arange(len(event)), users, random_items(items))


def estimates(rho, draws, resamples=100):
    """Estimates from so many draws of exposures, by name."""
    found = [hidden_quality(*exposed(rho, seed), taken_at=1.0, resamples=resamples) for seed in range(draws)]
    return np.array([one.rho for one in found]).T, np.array([one.sd for one in found]).T


def test_hidden_quality_of_a_known_law_lies_in_its_interval():
    """Binomial noise does not pull the estimates to 0, and most intervals cover the law."""
    for rho in (0.0, 0.8):
        for (value, low, high), known in zip(estimates(rho, 12, 50), (rho, 0.8), strict=True):
            assert value.mean() == pytest.approx(known, abs=0.1)
            assert ((low <= known) & (known <= high)).sum() >= 10


@pytest.mark.findings
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_intervals_of_hidden_quality_cover_in_95_of_100(rho):
    """Of 200 draws at least 190 intervals cover ρ."""
    (_, low, high), _ = estimates(rho, 200)
    assert ((low <= rho) & (rho <= high)).sum() >= 190


def test_what_users_chose_says_nothing_of_hidden_quality():
    """Answers that may be selected, and items that are all alike in the log, give no estimate."""
    table, log = exposed(0.5, 0)
    assert hidden_quality(dataclasses.replace(table, shown_at_random=False), log, taken_at=1.0) is None
    assert hidden_quality(table, log.rows(np.unique(log.item, return_index=True)[1]), taken_at=1.0) is None


@pytest.mark.skipif(not COAT.is_dir(), reason="Coat is not there")
@pytest.mark.parametrize(("taken_at", "rho"), [(4, 0.81), (1, 0.33)])
def test_the_world_is_not_what_its_log_says(taken_at, rho):
    """On Coat the interval covers the correlation of likes, and of choices, that halves of the users give."""
    log = load_observed(COAT / "train.ascii").as_log(taken_at)
    found = hidden_quality(load_observed(COAT / "test.ascii"), log, taken_at=4, resamples=100)
    assert found.rho[1] < rho < found.rho[2] < 0.95
