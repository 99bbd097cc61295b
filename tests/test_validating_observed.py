"""Judging on known answers: figures by brute force, and truths told apart on a table with a known law."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_logs import log_of
from scipy.optimize import minimize

from rimsim import rng
from rimsim.data import EventLog, ObservedTable
from rimsim.errors import DataError
from rimsim.intensity import UserStates
from rimsim.intensity.registry import make
from rimsim.market.consumers.truths import fit_truth
from rimsim.scenarios import load_run, load_validation
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.validate.answers import (
    answer_likelihoods,
    calibrated,
    folds_of,
    held_answers,
    judge_observed,
    precisions,
    ratio_interval,
    user_aucs,
)
from rimsim.scenarios.kinds.validate.report import observed_sentences
from rimsim.scenarios.runs.status import digest
from rimsim.testing.intensity import random_items

DRAW = rng.Purpose.MEASURE
USERS, ITEMS, CHOSEN = 200, 60, 6
USER, ITEM = np.arange(USERS)[:, None], np.arange(ITEMS)[None, :]


def law() -> np.ndarray:
    """(users, items) probabilities of a yes: three tastes, and items of uneven appeal."""
    logit = np.where(USER % 3 == ITEM % 3, 1.3, -1.3) + 1.5 * (rng.uniform(1, DRAW, ITEM) - 0.5)
    return 1 / (1 + np.exp(-logit))


def table_of(taken: np.ndarray) -> ObservedTable:
    """The dense table of answers (users, items)."""
    user, item = np.divmod(np.arange(taken.size), taken.shape[1])
    return ObservedTable(
        user=user,
        item=item,
        value=taken[user, item].astype(float),
        users=np.arange(taken.shape[0]),
        items=np.arange(taken.shape[1]),
        time=None,
        shown_at_random=True,
    )


def all_of(user: np.ndarray, item: np.ndarray, time: np.ndarray) -> EventLog:
    """A log of some events over all users and items."""
    return log_of(user, item, time, USERS, random_items(ITEMS))


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
    taken = rng.uniform(2, DRAW, USER, ITEM) < p
    log = selected(taken, 0.5 + 2 * rng.uniform(5, DRAW, ITEM))
    strangers = log.item[np.argsort(rng.uniform(6, DRAW, np.arange(len(log))))]
    shuffled = all_of(log.user, strangers, log.time)
    truths = {
        "good": fit_truth(log, gap="30min", kind="factors", rank=4),
        "bad": fit_truth(shuffled, gap="30min", kind="factors", rank=4),
        "law": Known(p),
    }
    models = {"popularity": make("popularity").fit(log)}
    found = judge_observed(table_of(taken), log, truths, models, taken_at=1.0)
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


def test_the_law_has_the_auc_that_it_must_have():
    """With answers drawn from a law, the mean AUC of the law is the one that its probabilities say, within error."""
    p = law()
    taken = rng.uniform(2, DRAW, USER, ITEM) < p
    log = all_of(np.arange(USERS), np.zeros(USERS, np.int64), 1e9 + np.arange(USERS))
    found = judge_observed(table_of(taken), log, {"law": Known(p)}, {}, taken_at=1.0).table()
    value, low, high = found[(found.truth == "law") & (found.metric == "auc")][["value", "low", "high"]].iloc[
        0
    ]
    expected = []
    for row in p[:, 1:]:
        weight = row[:, None] * (1 - row[None, :])
        weight[np.arange(ITEMS - 1), np.arange(ITEMS - 1)] = 0
        expected.append((weight * (row[:, None] > row[None, :])).sum() / weight.sum())
    assert low - (high - low) < np.mean(expected) < high + (high - low)
    assert value > 0.7


def test_deciles_hold_all_answers_and_their_shares():
    """Over the tenths, shares of yes add up to the table's share, each mean probability grows, intervals hold it."""
    taken = rng.uniform(2, DRAW, USER, ITEM) < law()
    log = all_of(np.arange(USERS), np.zeros(USERS, np.int64), 1e9 + np.arange(USERS))
    evidence = judge_observed(table_of(taken), log, {"law": Known(law())}, {}, taken_at=1.0)
    found = evidence.table().query("truth == 'law'").set_index("metric")["value"]
    shares = [found[f"decile_{number}_taken"] for number in range(1, 11)]
    assert np.mean(shares) == pytest.approx(taken[:, 1:].mean())
    predicted = [found[f"decile_{number}_predicted"] for number in range(1, 11)]
    assert predicted == sorted(predicted)


def random_answers(n=400, users=12):
    """Answers of uneven users with tied scores."""
    draw = rng.generator(0, DRAW)
    user = np.sort(draw.integers(0, users, n))
    score = draw.integers(0, 6, n) / 2.0
    return user, score, draw.random(n) < 1 / (1 + np.exp(1 - score))


def test_auc_is_that_of_all_pairs():
    """The rank formula equals a count over all pairs with ties for a half; without a pair there is none."""
    user, score, taken = random_answers()
    found = user_aucs(user, score, taken, 14)
    for who in range(12):
        yes, no = score[(user == who) & taken], score[(user == who) & ~taken]
        wins = (yes[:, None] > no).sum() + 0.5 * (yes[:, None] == no).sum()
        assert found[who] == pytest.approx(wins / (len(yes) * len(no)))
    assert np.isnan(found[12:]).all()
    assert np.isnan(user_aucs(np.zeros(3, np.int64), np.arange(3.0), np.ones(3, bool), 1)).all()


def test_precision_is_that_of_the_best_of_what_was_asked():
    """The best k answers are counted one by one; users with no more than k answers have none."""
    user, score, taken = random_answers()
    ties = rng.bits(0, DRAW, np.arange(len(user)))
    found = precisions(user, score, taken, ties, 12, 5)
    for who in range(12):
        rows = sorted(np.flatnonzero(user == who), key=lambda row: (-score[row], ties[row]))
        assert found[who] == taken[rows[:5]].mean()
    assert np.isnan(precisions(user, score, taken, ties, 12, 400)).all()


def test_calibration_maximises_the_likelihood_of_other_folds():
    """α and β are those of a general optimiser; scores that order the wrong way foretell nothing but the share."""
    user, score, taken = random_answers()
    fold = user % 3
    found = calibrated(score, taken, fold, 3)
    for left_out in range(3):
        x, y = score[fold != left_out], taken[fold != left_out]

        def loss(ab, x=x, y=y):
            return np.logaddexp(0, np.where(y, -1, 1) * (ab[0] + ab[1] * x)).sum()

        a, b = minimize(loss, [0.0, 0.0], tol=1e-12).x
        expected = 1 / (1 + np.exp(-a - b * score[fold == left_out]))
        np.testing.assert_allclose(found[fold == left_out], expected, atol=1e-4)
    backwards = calibrated(-score, taken, fold, 3)
    for left_out in range(3):
        others = taken[fold != left_out]
        share = (others.sum() + 0.5) / (len(others) + 1)
        np.testing.assert_allclose(backwards[fold == left_out], share)


def test_calibration_stands_scores_that_separate_or_do_not_differ():
    """Perfect scores and constant ones give probabilities strictly within 0 and 1, and finite likelihoods."""
    user, score, taken = random_answers()
    for extreme in (np.where(taken, 30.0, -30.0), np.zeros(len(score))):
        p = calibrated(extreme, taken, user % 2, 2)
        assert ((p > 0) & (p < 1)).all()
        assert np.isfinite(answer_likelihoods(user, p, taken, 12)).all()


def test_folds_are_of_one_size_and_none_is_empty():
    """Whatever is drawn, parts of the users differ by one user at most; two users are in two parts."""
    for n in (2, 3, 7, 40):
        for seed in range(20):
            count = np.bincount(folds_of(np.arange(n) * 3, seed, min(5, n)), minlength=min(5, n))
            assert count.min() >= 1
            assert np.ptp(count) <= 1
    assert len({tuple(folds_of(np.arange(7), seed, 5)) for seed in range(9)}) > 1


@pytest.mark.parametrize("users", [1, 2])
def test_answers_of_two_users_are_judged_and_those_of_one_are_refused(users):
    """Each user's answers are foretold from the other's; one user has no other."""
    log = all_of(np.arange(USERS), np.zeros(USERS, np.int64), 1e9 + np.arange(USERS))
    table = dataclasses.replace(
        table_of(np.eye(USERS, ITEMS, dtype=bool)),
        user=np.arange(4) % users,
        item=np.array([1, 2, 3, 4]),
        value=np.array([1.0, 1, 0, 0]),
    )
    if users == 1:
        with pytest.raises(DataError, match="answers of 1 user .* at least two"):
            judge_observed(table, log, {}, {}, taken_at=1.0)
    else:
        found = judge_observed(table, log, {"law": Known(law())}, {}, taken_at=1.0)
        assert np.isfinite(found.probability).all()


def test_likelihoods_are_means_by_user():
    """The mean of log p of what was answered, by user."""
    user, score, taken = random_answers()
    p = 1 / (1 + np.exp(-score))
    found = answer_likelihoods(user, p, taken, 13)
    for who in range(12):
        there = user == who
        assert found[who] == pytest.approx(np.log(np.where(taken, p, 1 - p)[there]).mean())
    assert np.isnan(found[12])


def test_the_interval_of_a_ratio_is_that_of_a_bootstrap():
    """Linearised bounds are within a tenth of those of ten thousand resamples of users."""
    draw = rng.generator(1, DRAW)
    count = draw.integers(1, 30, 150).astype(float)
    total = draw.binomial(count.astype(int), draw.beta(2, 3, 150)).astype(float)
    weights = draw.multinomial(150, np.full(150, 1 / 150), 10_000)
    ratios = (weights @ total) / (weights @ count)
    low, high = np.quantile(ratios, [0.025, 0.975])
    found = ratio_interval(total, count)
    assert found.mean == total.sum() / count.sum()
    assert found.high - found.low == pytest.approx(high - low, rel=0.1)


def test_states_end_before_the_first_known_answer():
    """Answers to what the log has fall out; a user's state is what came before the first answer, else the whole log."""
    log = all_of(np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 1, 2]), np.array([10.0, 20, 30, 10, 20]))
    table = dataclasses.replace(
        table_of(np.eye(USERS, ITEMS, dtype=bool)),
        user=np.array([0, 0, 0, 1, 1]),
        item=np.array([0, 2, 5, 1, 4]),
        value=np.array([1.0, 1, 0, 1, 1]),
        time=np.array([np.nan, 5, 25, np.nan, np.nan]),
    )
    found = held_answers(table, log, taken_at=1.0)
    assert found.item.tolist() == [0, 5, 4]
    assert found.taken.tolist() == [True, False, True]
    assert found.users[found.row].tolist() == [0, 0, 1]
    assert found.left_out == 2
    expected = UserStates.of(log, [0, 1], [25, 21])
    assert found.states.items.tolist() == expected.items.tolist() == [1, 2, 1, 2]
    with pytest.raises(
        DataError, match="found 3 answers .* 3 of them with a value of at least 0; allowed: some"
    ):
        held_answers(table, log, taken_at=0.0)


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """The command on a chosen tenth of a made-up table, with the whole table as known answers."""
    folder = tmp_path_factory.mktemp("observed")
    taken = rng.uniform(2, DRAW, USER, ITEM) < law()
    log = selected(taken, 0.5 + 2 * rng.uniform(5, DRAW, ITEM))
    pd.DataFrame({"user": log.user, "item": log.item, "time": log.time}).to_csv(
        folder / "log.csv", index=False
    )
    user, item = np.divmod(np.arange(taken.size), ITEMS)
    table = pd.DataFrame({"who": user, "what": item, "liked": np.where(taken[user, item], 5, 2)})
    table.to_csv(folder / "answers.csv", index=False)
    words = ["validate", "--data", str(folder / "log.csv"), "--models", "popularity,random", "--draws", "1"]
    words += [
        "--observed",
        str(folder / "answers.csv"),
        "--observed-columns",
        "user=who,item=what,value=liked",
    ]
    words += ["--taken-at", "4", "--truths", "bag", "--resamples", "100"]
    words += ["--out", str(folder / "run")]
    assert main(words) == 0
    return load_validation(folder / "run")


def test_the_command_judges_known_answers(validated):
    """Tables, facts and page have what truths and models say of the answers; the truth is above bestsellers."""
    table = validated.observed.set_index(["truth", "model", "metric"])
    assert table.loc[("bag", "", "auc"), "low"] > table.loc[("", "popularity", "auc"), "high"]
    assert table.loc[("", "random", "auc"), "value"] == 0.5
    facts = validated.described["observed"]
    assert facts["answers"] == USERS * ITEMS - validated.described["log"]["events"]
    assert facts["shown_at_random"]
    page = (validated.folder / "README.md").read_text(encoding="utf-8")
    assert "Of answers without selection, the truth `bag` puts" in page
    assert "Known answers: calibrated probability against the share of a yes" in page
    assert validated.config.observed.taken_at == 4


def test_reports_and_digests_have_known_answers(validated, capsys):
    """A report prints them again, and the digest changes with them."""
    assert main(["report", str(validated.folder)]) == 0
    assert "Known answers" in capsys.readouterr().out
    run = load_run(validated.folder)
    before = digest(run)
    run.observed.loc[0, "value"] += 1
    assert digest(run) != before


def test_answers_that_cannot_be_read_end_a_validation_at_once(tmp_path, capsys):
    """A missing table is an error before anything is fitted or written."""
    out = tmp_path / "run"
    assert main(["validate", "--observed", str(tmp_path / "no.csv"), "--out", str(out)]) != 0
    assert "no such file" in capsys.readouterr().err
    assert not out.exists()


def sentences(low, difference, *, at_random):
    """What is concluded from a truth with an AUC of .6 and some interval and likelihood."""
    table = pd.DataFrame(
        [("t", "", "auc", 0.6, low, 0.7)], columns=["truth", "model", "metric", "value", "low", "high"]
    )
    columns = [
        "truth", "model", "other_truth", "other_model", "metric", "difference", "low", "high", "settled",
    ]  # fmt: skip
    pairs = pd.DataFrame(
        [
            ("t", "", "", "random", "log_likelihood", difference, 0.0, 0.0, True),
            ("t", "", "", "bag", "auc", -0.1, -0.2, -0.05, True),
        ],
        columns=columns,
    )
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
