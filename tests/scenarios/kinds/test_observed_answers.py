"""Judging on known answers: figures by brute force, and truths told apart on a table with a known law."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import refused, said_by, write_events
from kit.logs import log_of
from scipy.optimize import minimize

from rimsim import rng
from rimsim.data import EventLog, ObservedTable
from rimsim.errors import DataError
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
USERS = 200
ITEMS = 60
CHOSEN = 6
USER = np.arange(USERS)[:, None]
ITEM = np.arange(ITEMS)[None, :]


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
        remaining = self.p[users].copy()
        remaining[np.repeat(np.arange(len(users)), states.lengths), states.items] = 0
        return remaining.sum(1)


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
    judgement = answers.judge_observed(
        answers.held_answers(table_of(TAKEN), log, taken_at=1.0), truths, models
    )
    table = judgement.table().set_index(["truth", "model", "metric"])
    for metric in ("auc", "precision", "log_likelihood"):
        law_itself, good, bad, popular, chance = (
            table.loc[(*key, metric)]
            for key in (("law", ""), ("good", ""), ("bad", ""), ("", "popularity"), ("", "random"))
        )
        assert law_itself["value"] > good["value"]
        if metric != "log_likelihood":  # users differ in how much they take, which pairs alone take out
            assert good["low"] > max(bad["high"], popular["high"], chance["high"])
    assert table.loc[("", "random", "auc"), "value"] == 0.5
    pairs = judgement.pairs().set_index(["truth", "other_truth", "metric"])
    for metric in ("auc", "precision", "log_likelihood"):
        assert pairs.loc[("good", "bad", metric), "settled"]
        assert pairs.loc[("good", "bad", metric), "low"] > 0
    assert table.loc[("law", "", "calibration_error"), "value"] < 0.05
    assert judgement.answers.left_out == len(log)
    assert len(judgement.answers) == USERS * ITEMS - len(log)


def test_the_law_has_the_auc_and_the_deciles_that_it_must_have():
    """Of answers drawn from a law, AUC is as its probabilities say; shares of tenths add up, and their means grow."""
    p = law()
    held = answers.held_answers(table_of(TAKEN), FIRST, taken_at=1.0)
    figures = answers.judge_observed(held, {"law": Known(p)}, {}).table()
    figures = figures[figures["truth"] == "law"].set_index("metric")
    value, low, high = figures.loc["auc", ["value", "low", "high"]]
    expected = []
    for row in p[:, 1:]:
        weight = row[:, None] * (1 - row[None, :])
        np.fill_diagonal(weight, 0)
        expected.append((weight * (row[:, None] > row[None, :])).sum() / weight.sum())
    assert low - (high - low) < np.mean(expected) < high + (high - low)
    assert value > 0.7
    names = ([f"decile_{n}_{name}" for n in range(1, 11)] for name in ("taken", "predicted"))
    shares, predicted = (figures.loc[rows, "value"].tolist() for rows in names)
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
    ties = rng.bits(0, DRAW, np.arange(len(user)))
    p = 1 / (1 + np.exp(-score))
    auc = answers.user_aucs(user, score, taken, 14)
    best = answers.precisions(user, score, taken, ties, 12, 5)
    nats = answers.answer_likelihoods(user, p, taken, 13)
    for user_id in range(12):
        mine = user == user_id
        yes = score[mine & taken]
        no = score[mine & ~taken]
        wins = (yes[:, None] > no).sum() + 0.5 * (yes[:, None] == no).sum()
        assert auc[user_id] == pytest.approx(wins / (len(yes) * len(no)))
        rows = sorted(np.flatnonzero(mine), key=lambda row: (-score[row], ties[row]))
        assert best[user_id] == taken[rows[:5]].mean()
        assert nats[user_id] == pytest.approx(np.log(np.where(taken, p, 1 - p)[mine]).mean())
    assert np.isnan([*auc[12:], nats[12]]).all()
    assert np.isnan(answers.user_aucs(np.zeros(3, np.int64), np.arange(3.0), np.ones(3, bool), 1)).all()
    assert np.isnan(answers.precisions(user, score, taken, ties, 12, 400)).all()


def test_a_user_with_no_answer_beyond_the_best_has_no_precision():
    """Of two answers the two best are all, whatever the scores; of three, the two best have one yes."""
    user = np.array([0, 0, 1, 1, 1])
    taken = np.array([True, False, True, False, True])
    score = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
    best = answers.precisions(user, score, taken, np.arange(5), 2, 2)
    np.testing.assert_array_equal(best, [np.nan, 0.5])


def test_calibration_maximises_the_likelihood_of_other_folds():
    """As a general optimiser does; scores that order wrongly foretell the share; extreme ones stay within 0 and 1."""
    user, score, taken = random_answers()
    fold = user % 3
    calibration = answers.calibrated(score, taken, fold, 3)
    for left_out in range(3):
        x = score[fold != left_out]
        y = taken[fold != left_out]

        def loss(ab, x=x, y=y):
            return np.logaddexp(0, np.where(y, -1, 1) * (ab[0] + ab[1] * x)).sum()

        a, b = minimize(loss, [0.0, 0.0], tol=1e-12).x
        expected = 1 / (1 + np.exp(-a - b * score[fold == left_out]))
        np.testing.assert_allclose(calibration[fold == left_out], expected, atol=1e-4)
    backwards = answers.calibrated(-score, taken, fold, 3)
    for left_out in range(3):
        training = taken[fold != left_out]
        share = (training.sum() + 0.5) / (len(training) + 1)
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
    items = np.array([1, 2, 3, 4])
    values = np.array([1.0, 1, 0, 0])
    few_answers = dataclasses.replace(table_of(TAKEN), user=np.arange(4) % 2, item=items, value=values)
    judgement = answers.judge_observed(
        answers.held_answers(few_answers, FIRST, taken_at=1.0), {"law": Known(law())}, {}
    )
    assert np.isfinite(judgement.probability).all()
    one_user = dataclasses.replace(few_answers, user=np.zeros(4, np.int64))
    refused(DataError, "only 1 user .* at least two", answers.held_answers, one_user, FIRST, taken_at=1.0)


def test_the_interval_of_a_ratio_is_that_of_a_bootstrap():
    """Linearised bounds are within a tenth of those of ten thousand resamples of users."""
    draw = rng.generator(1, DRAW)
    count = draw.integers(1, 30, 150).astype(float)
    total = draw.binomial(count.astype(int), draw.beta(2, 3, 150)).astype(float)
    weights = draw.multinomial(150, np.full(150, 1 / 150), 10_000)
    ratios = (weights @ total) / (weights @ count)
    low, high = np.quantile(ratios, [0.025, 0.975])
    interval = answers.ratio_interval(total, count)
    assert interval.mean == total.sum() / count.sum()
    assert interval.high - interval.low == pytest.approx(high - low, rel=0.1)


def test_states_end_before_the_first_known_answer():
    """Answers to what the log has fall out; a user's state is what came before the first answer, else the whole log."""
    log = all_of(np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 1, 2]), np.array([10.0, 20, 30, 10, 20]))
    asked = np.array([0, 0, 0, 1, 1]), np.array([0, 2, 5, 1, 4]), np.array([1.0, 1, 0, 1, 1])
    columns = dict(zip(("user", "item", "value"), asked, strict=True))
    table = dataclasses.replace(table_of(TAKEN), **columns, time=np.array([np.nan, 5, 25, np.nan, np.nan]))
    held = answers.held_answers(table, log, taken_at=1.0)
    assert (held.item.tolist(), held.taken.tolist()) == ([0, 5, 4], [True, False, True])
    assert (held.users[held.row].tolist(), held.left_out) == ([0, 0, 1], 2)
    expected = UserStates.of(log, [0, 1], [25, 21])
    assert held.states.items.tolist() == expected.items.tolist() == [1, 2, 1, 2]
    message = "3 of 3 usable answers have a value of at least 0. Expected answers"
    refused(DataError, message, answers.held_answers, table, log, taken_at=0.0)


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
