"""Validation: agreement against plain loops and SciPy, made-up laws, tables that follow from slates, the command."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from kit import MODEL, cases, refused, said_by, write_events
from kit.logs import log_of
from kit.markets import drawn
from scipy import stats

from rimsim import rng
from rimsim.data import load
from rimsim.errors import ConfigError, DataError, RunFolderError
from rimsim.intensity import UserStates
from rimsim.intensity.registry import make
from rimsim.intensity.states import session_examples
from rimsim.market import agreement as evidence_of
from rimsim.market.consumers.false_truths import FALSE, false_truths
from rimsim.measures import UNFIT, agreement, pairs_of
from rimsim.scenarios import ValidateConfig, load_run, load_validation, validate
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds import validate as kind
from rimsim.scenarios.kinds.validate import COLUMNS, checks, value_table, with_serving
from rimsim.scenarios.kinds.validate import report as validate_report
from rimsim.scenarios.kinds.validate.checks import PAST
from rimsim.scenarios.kinds.validate.report import rate_sentences, real_against_simulated
from rimsim.scenarios.report.sentences import agreement_sentence
from rimsim.scenarios.runs.digests import digest
from rimsim.session import session_model

USERS = 150
ITEMS = 60
DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Law:
    """A truth that is known: p* by user, and as many events a session for everybody."""

    share: np.ndarray
    mean: float = 4.0
    kind: str = "law"

    def preference(self, users, states):
        """(n, M) p* of the users, whatever they have consumed."""
        assert len(states) == len(users)
        return self.share[users]

    def expected(self, users, states):
        """(n,) the same for all."""
        assert len(states) == len(users)
        return np.full(len(users), self.mean)


@pytest.fixture(scope="module")
def law():
    """Three tastes, each with its own third of the catalogue, the items of a third of falling popularity."""
    weight = np.full((3, ITEMS), 0.05)
    for taste in range(3):
        weight[taste, taste::3] = 6.0 / np.arange(1, ITEMS // 3 + 1)
    of_user = weight[np.arange(USERS) % 3]
    return Law(of_user / of_user.sum(1, keepdims=True))


@pytest.fixture(scope="module")
def log(law):
    """Six sessions of four items for every user, drawn from the law without replacement."""
    source = np.random.default_rng(5)
    rows = []
    for user in range(USERS):
        items = source.choice(ITEMS, size=24, replace=False, p=law.share[user])
        begins = np.sort(source.uniform(0, 100 * DAY, 6))
        times = np.repeat(begins, 4) + np.tile(60.0 * np.arange(4), 6)
        rows += [(user, int(item), float(time)) for item, time in zip(items, times, strict=True)]
    user, item, time = zip(*rows, strict=True)
    embedded = load("ml-latest-small")
    users = embedded.users.iloc[:USERS]
    items = embedded.items.iloc[:ITEMS]
    return log_of(user, item, time, users.reset_index(drop=True), items.reset_index(drop=True))


@pytest.fixture(scope="module")
def cut(log):
    """One draw of later sessions."""
    return evidence_of.make_cut(log, 1, gap="30min", after=0.3)


def test_settled_pairs_are_those_whose_paired_interval_leaves_out_zero():
    """Against SciPy's paired t-test; the better model stands first."""
    source = np.random.default_rng(0)
    user = source.normal(size=40)
    worth = user + source.normal(size=(5, 40)) * 0.3 + np.array([[0.0], [0.02], [0.3], [0.6], [0.6]])
    pairs = pairs_of(worth)
    assert {frozenset((pair.first, pair.second)) for pair in pairs} == {
        frozenset(pair) for pair in itertools.combinations(range(5), 2)
    }
    for pair in pairs:
        test = stats.ttest_rel(worth[pair.first], worth[pair.second])
        assert pair.difference == pytest.approx(worth[pair.first].mean() - worth[pair.second].mean())
        assert pair.difference >= 0
        assert pair.settled == (test.pvalue < 0.05)
        interval = test.confidence_interval(0.95)
        assert (pair.low, pair.high) == pytest.approx((interval.low, interval.high))
    assert {pair.settled for pair in pairs} == {True, False}


def test_agreement_by_hand():
    """Four models, all pairs settled, one of six the wrong way round: 4/6 of agreement; tied or reversed, too."""
    real = np.array([[1.0], [2.0], [3.0], [4.0]]) + np.array([[0.0, 0.1, -0.1, 0.05]])
    simulated = np.array([[10.0], [30.0], [20.0], [40.0]]) + np.zeros(4)
    real = real + 0.01 * np.array([[0.0, 1.0, 2.0, 4.0]]) * np.arange(4)[:, None]  # differences have a spread
    figures = agreement(real, simulated, resamples=100)
    assert (figures.pairs, figures.settled_pairs, figures.concordant_pairs, figures.discordant_pairs) == (
        6,
        6,
        5,
        1,
    )
    assert figures.kendall == pytest.approx(4 / 6)
    assert figures.kendall_settled == pytest.approx(4 / 6)
    assert figures.spearman == pytest.approx(0.8)
    assert (figures.kendall_low, figures.kendall_high) == pytest.approx(
        (4 / 6, 4 / 6)
    )  # the order never changes
    assert (figures.models, figures.users, figures.settled_share) == (4, 4, 1.0)
    tied = agreement(real[:3], np.array([[1.0], [1.0], [2.0]]) + np.zeros(4), resamples=100)
    assert (tied.settled_pairs, tied.concordant_pairs, tied.discordant_pairs) == (3, 2, 0)
    assert tied.kendall_settled == pytest.approx(2 / 3)
    reverse = agreement(real, -simulated, resamples=100)
    assert reverse.kendall == pytest.approx(-4 / 6)


def test_means_over_draws_leave_out_draws_without_a_value():
    """A user that took nothing in one of two draws counts with the other; with none it stays unknown."""
    ndcg = np.array([[[0.2, np.nan, np.nan], [0.4, 0.6, np.nan]]])
    evidence = evidence_of.Evidence(("a",), np.arange(3), (0, 1), {"ndcg": ndcg}, {})
    np.testing.assert_allclose(evidence.by_user(metric="ndcg"), [[0.3, 0.6, np.nan]])


def test_agreement_against_scipy_and_plain_loops():
    """τ, ρ and the bootstrap of users are SciPy's; settled pairs are counted one by one."""
    source = np.random.default_rng(3)
    real = source.normal(size=(7, 60)) + np.linspace(0, 0.5, 7)[:, None]
    simulated = source.normal(size=(7, 60)) + np.linspace(0, 0.4, 7)[:, None]
    figures = agreement(real, simulated, seed=2, resamples=200)
    means = real.mean(1)
    expected = simulated.mean(1)
    assert figures.kendall == pytest.approx(stats.kendalltau(means, expected).statistic)
    assert figures.spearman == pytest.approx(stats.spearmanr(means, expected).statistic)
    concordant = discordant = settled = 0
    for first, second in itertools.combinations(range(7), 2):
        if stats.ttest_rel(real[first], real[second]).pvalue < 0.05:
            settled += 1
            product = (means[first] - means[second]) * (expected[first] - expected[second])
            concordant += product > 0
            discordant += product < 0
    assert (figures.settled_pairs, figures.concordant_pairs, figures.discordant_pairs) == (
        settled,
        concordant,
        discordant,
    )
    assert figures.kendall_settled == pytest.approx((concordant - discordant) / settled)
    assert figures.kendall_low < figures.kendall < figures.kendall_high
    assert figures == agreement(real, simulated, seed=2, resamples=200)
    longer = agreement(np.tile(real, 9), np.tile(simulated, 9), resamples=200)
    assert longer.kendall_high - longer.kendall_low < figures.kendall_high - figures.kendall_low


def test_models_of_the_same_worth_stay_equal_in_every_resample():
    """Rows that are the same, or the same for other users, are tied, and not ordered by the last bits of sums."""
    source = np.random.default_rng(1)
    real = source.random((4, 285)) + np.arange(4.0)[:, None]
    simulated = real.copy()
    real[3] = real[1]
    simulated[3] = simulated[1]
    figures = agreement(real, simulated, resamples=300)
    assert figures.kendall == pytest.approx(1)
    assert (figures.kendall_low, figures.kendall_high) == pytest.approx((1, 1))
    worth = (source.integers(0, 5, 285) / 10 + source.integers(0, 5, 285) / 10) / 2
    strangers = np.array([worth, *(source.permutation(worth) for _ in range(20))])
    assert agreement(strangers, source.random((21, 285)), resamples=100).kendall is None


def test_a_log_to_which_one_user_comes_back_is_refused(log):
    """One user says nothing of how users differ, and is told before anything is fitted."""
    first = log.sessions("30min")
    once = np.isin(first.of_event, np.unique(first.user, return_index=True)[1]) | (log.user == 3)
    said = "fewer than two users .* at least two users came back"
    refused(DataError, said, evidence_of.make_cut, log.rows(once), 0, gap="30min", after=0.3)


def test_a_figure_that_does_not_exist_is_drawn_without_bars_and_is_not_the_best():
    """Means without intervals are drawn, and a truth that settles nothing is not the one that is spoken of."""
    rows = [
        (model, truth, metric, mean, np.nan, np.nan, 1)
        for truth, metric in (("", "precision"), ("a", "utility"), ("b", "utility"))
        for model, mean in (("bag", 0.2), ("random", 0.0))
    ]
    columns = ["model", "truth", "metric", "mean", "low", "high", "users"]
    agreed = {"chosen": 0.0, "kendall": np.nan, "settled_pairs": 1.0, "concordant_pairs": 1.0}
    figures = [
        (truth, metric, value)
        for truth, settled in (("a", np.nan), ("b", 1.0))
        for metric, value in {**agreed, "kendall_settled": settled}.items()
    ]
    table = pd.DataFrame(figures, columns=["truth", "metric", "value"])
    figure = real_against_simulated(pd.DataFrame(rows, columns=columns), table, {})
    said = [text.get_text() for text in figure.texts]
    assert any("The truth b puts" in text for text in said)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Truth a: τ = –", "Truth b: τ = –"]


def test_a_log_that_settles_nothing_says_so():
    """Models that are alike for every user: no pair is settled, no truth is unfit, no figure is claimed."""
    alike = np.ones((3, 20))
    figures = agreement(alike, np.arange(3.0)[:, None] + np.zeros(20), resamples=100)
    assert figures.settled_pairs == 0
    assert figures.kendall_settled is figures.kendall is figures.spearman is None
    assert "tell none of 3 pairs" in agreement_sentence("law", figures.figures)


def test_sentences_name_the_counts_of_a_validations_models():
    """The sentence on a validation's own models has the counts of settled pairs and τ, and who chose the truth."""
    source = np.random.default_rng(5)
    real = np.arange(4.0)[:, None] + 0.1 * source.normal(size=(4, 30))
    good = agreement(real, real, resamples=100).figures
    assert "puts 6 of 6 significant pairs" in agreement_sentence("bag", good)
    assert "later sessions choose" in agreement_sentence("bag", good | {"chosen": 1.0})


def test_a_cut_holds_what_was_taken_for_the_first_time(log, cut):
    """Taken items are the future's, without what is in the state, unknown to the past or unreleased, by plain loops."""
    for row, user in enumerate(cut.later.user.tolist()):
        mine = [(int(i), float(t)) for u, i, t in zip(log.user, log.item, log.time, strict=True) if u == user]
        before = {item for item, time in mine if time < cut.later.time[row]}
        known_items = set(np.flatnonzero(cut.known).tolist())
        after = {item for item, time in mine if time >= cut.later.time[row]} & known_items - before
        assert set(cut.taken_item[cut.taken_row == row].tolist()) == after
        assert cut.taken[row] == len(after)
        inside = {item for item, time in mine if 0 <= time - cut.later.time[row] <= 240} & after
        assert set(cut.taken_item[(cut.taken_row == row) & cut.first_session].tolist()) == inside
        shown = set(np.flatnonzero(cut.admissible(row, row + 1)[0]).tolist())
        assert shown == known_items - before
    late = cut.release.copy()
    late[7] = 1e12
    changed = dataclasses.replace(cut, release=late)
    assert not changed.admissible(0, len(cut))[:, 7].any()


def test_real_worth_by_plain_loops(cut):
    """Precision, NDCG and log-likelihood of a model are those of a rewrite with loops."""
    scores = evidence_of.scores_of("popularity", cut, "cpu")
    figures = evidence_of.judged(scores, cut, 10)
    p = np.bincount(cut.later.past.item, minlength=ITEMS) + 0.01
    discount = 1 / np.log2(np.arange(2, 12))
    for row in range(len(cut)):
        shown = cut.admissible(row, row + 1)[0]
        taken = set(cut.taken_item[cut.taken_row == row].tolist())
        slate = figures.slates[row]
        assert shown[slate].all()
        assert len(set(slate.tolist())) == 10
        assert p[slate].min() >= np.sort(p[shown])[-10]
        hits = np.array([item in taken for item in slate])
        assert figures.precision[row] == pytest.approx(hits.mean())
        assert figures.ndcg[row] == pytest.approx((hits * discount).sum() / discount[: len(taken)].sum())
        logs = np.log(p[list(taken)] / p[shown].sum())
        assert figures.log_likelihood[row] == pytest.approx(logs.mean(), rel=1e-5)


def test_repeats_count_where_items_are_taken_again(log):
    """Only the drawn session counts, repeats with it, nothing consumed is left out, and precision is split.

    All by plain loops.
    """
    twice = np.arange(0, len(log), 3)  # a third of the events happen again, a day later
    again = log_of(
        np.append(log.user, log.user[twice]),
        np.append(log.item, log.item[twice]),
        np.append(log.time, log.time[twice] + DAY),
        log.users,
        log.items,
    )
    cut = evidence_of.make_cut(dataclasses.replace(again, repeatable=True), 1, gap="30min", after=0.3)
    scores = evidence_of.scores_of("popularity", cut, "cpu")
    figures = evidence_of.judged(scores, cut, 10)
    n_repeats = 0
    n_left_out = 0
    for row, user in enumerate(cut.later.user.tolist()):
        is_after = again.time >= cut.later.time[row]
        mine = again.user == user
        before = set(again.item[mine & ~is_after].tolist())
        in_session = again.item[mine & is_after][: cut.later.count[row]]
        n_left_out += np.count_nonzero(mine & is_after) - len(in_session)
        after = set(in_session.tolist()) & set(np.flatnonzero(cut.known).tolist())
        taken = cut.taken_row == row
        assert set(cut.taken_item[taken].tolist()) == after
        assert set(cut.taken_item[taken & cut.is_repeat].tolist()) == after & before
        np.testing.assert_array_equal(cut.admissible(row, row + 1)[0], cut.known)
        slate = set(figures.slates[row].tolist())
        metrics = {name: values[row] for name, values in figures.metrics.items()}
        assert metrics["precision_repeat"] == pytest.approx(len(slate & after & before) / 10)
        assert metrics["precision_new"] == pytest.approx(len((slate & after) - before) / 10)
        n_repeats += len(slate & after & before)
    assert n_repeats >= 5
    assert n_left_out >= 5
    assert "precision_new" not in evidence_of.judged(scores, _without_repeats(again), 10).metrics


def _without_repeats(log):
    """The cut of a log in which repeats are history."""
    return evidence_of.make_cut(log, 1, gap="30min", after=0.3)


def test_utility_is_the_law_of_consumption(law, cut):
    """1 − exp(−λ*·p*·γ^(r−1)) over what is unconsumed; the oracle's slate is the best under the truth."""
    slates = evidence_of.judged(evidence_of.Uniform((len(cut), ITEMS)), cut, 5).slates
    worth = evidence_of.utilities(law, cut, [slates], evidence_of.SlateSetting(slate=5))
    for row in range(len(cut)):
        share = np.where(cut.admissible(row, row + 1)[0], law.share[cut.later.user[row]], 0.0)
        share /= share.sum()
        seen = 0.85 ** np.arange(5)
        assert worth[0, row] == pytest.approx((1 - np.exp(-4.0 * share[slates[row]] * seen)).sum())
        assert worth[1, row] == pytest.approx((1 - np.exp(-4.0 * np.sort(share)[-5:][::-1] * seen)).sum())
    assert (worth[1] >= worth[0]).all()


def test_the_law_agrees_with_reality_and_a_shuffled_law_does_not(law, log):
    """A truth equal to the law that made the log orders models as reality does; one of other users' tastes does not."""
    cuts = [evidence_of.make_cut(log, draw, gap="30min", after=0.3) for draw in range(2)]
    knowing = [session_model(Prefers(law.share, degree)) for degree in (0.4, 1.0)]
    models = ("popularity", "transformer", "hp", "random", *knowing)
    truths = {"law": law, "shuffled": Law(law.share[:, np.random.default_rng(1).permutation(ITEMS)])}
    evidence = evidence_of.gather(cuts, models, truths, evidence_of.SlateSetting())
    real = evidence.by_user()
    good, bad = (agreement(real, evidence.by_user(name)[:-1], resamples=100) for name in truths)
    assert good.settled_pairs >= 6
    assert good.kendall_settled >= 0.8
    assert bad.kendall_settled < UNFIT
    assert evidence.utility["law"].shape == (7, 2, USERS)
    again = evidence_of.gather(cuts, models, {"law": law}, evidence_of.SlateSetting())
    assert np.array_equal(again.utility["law"], evidence.utility["law"])


def test_wrong_tastes_are_those_of_nobody_of_others_and_turned(law, log):
    """Popularity alone, the next row's shares, and log shares mirrored at log popularity; session sizes stay."""
    false = false_truths({"law": law}, log)
    users = np.arange(5)
    states = UserStates.of(log, users, np.full(5, log.time[-1] + 1.0))
    events = np.bincount(log.item, minlength=ITEMS) + 0.5
    share = law.preference(users, states)
    nobody, shuffled, turned = (false_law.preference(users, states) for false_law in false.values())
    assert list(false) == [f"law: {bar}" for bar in FALSE]
    np.testing.assert_allclose(nobody, np.tile(events / events.sum(), (5, 1)))
    np.testing.assert_array_equal(shuffled, share[[4, 0, 1, 2, 3]])
    np.testing.assert_allclose(np.log(turned * share), np.log(nobody**2))
    for false_law in false.values():
        np.testing.assert_array_equal(false_law.expected(users, states), law.expected(users, states))


def test_acceptance_tells_positives_from_negatives(law, cut):
    """The law accepts better than chance, as many items as are positive; ratios and figures are consistent."""
    acceptance = checks.acceptance(law, cut)
    blind = checks.acceptance(Law(np.full_like(law.share, 1 / ITEMS)), cut)
    assert list(acceptance) == [1, 3, 9]
    for m, figures in acceptance.items():
        assert figures.accuracy == pytest.approx(1 - 2 * (1 - figures.f1) / (1 + m))
        assert figures.auc > 0.6
        assert blind[m].auc == pytest.approx(0.5)
        assert figures.f1 > blind[m].f1 + 0.05
    assert acceptance[1].users == len(cut)
    positive = np.arange(5) < 2
    assert checks.answers(np.array([0.5, 0.1, 0.3, 0.2, 0.05]), positive).tolist() == [1, 0, 1, 0, 0]


def test_distances_of_distributions():
    """KS against SciPy, weights as repetitions, quantiles and total variation by hand."""
    source = np.random.default_rng(8)
    first_sample = source.poisson(5, 80)
    second_sample = source.poisson(7, 50)
    assert checks.ks_distance(first_sample, second_sample) == pytest.approx(
        stats.ks_2samp(first_sample, second_sample).statistic
    )
    weights = source.integers(1, 4, 80)
    repeated = stats.ks_2samp(np.repeat(first_sample, weights), second_sample).statistic
    assert checks.ks_distance(first_sample, second_sample, weights.astype(float)) == pytest.approx(repeated)
    values = np.array([3, 1, 2])
    weights = np.array([1.0, 2.0, 1.0])
    assert checks.weighted_quantiles(values, weights, (0.1, 0.5, 0.75, 1.0)) == [1, 1, 2, 3]
    assert checks.total_variation(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])) == 0.5


def test_rates_are_of_sessions_that_they_were_not_fitted_to(log):
    """λ of every session comes from a fit to the half of the users without its own; totals and tenths by hand."""
    figures = checks.rate_of_ground("visits", log, "30min", "cpu")
    half = rng.uniform(0, rng.Purpose.MEASURE, 14, np.arange(USERS)) < 0.5
    assert 0 < half.sum() < USERS
    examples = session_examples(log, "30min")
    rate = np.empty(len(examples.counts))
    for side in (half, ~half):
        ground = make("visits").ground.fit(log.rows(side[log.user]))
        for row in np.flatnonzero(~side[examples.user]):
            rate[row] = float(ground.intensity(examples.states.take([row]))[0])
    first = examples.states.lengths == 0
    for name, rows in (("", first | True), ("_first", first), ("_later", ~first)):
        expected = rate[rows].sum() / examples.counts[rows].sum()
        assert figures[f"rate_ratio{name}"] == pytest.approx(expected, rel=1e-4)
    assert figures["rate_predicted_10"] > figures["rate_predicted_1"]


@pytest.mark.parametrize("users", [2, 3])
def test_rates_of_a_few_users_have_two_halves(log, users):
    """Whoever is drawn, each half has a user to be fitted to."""
    small_log = dataclasses.replace(log.rows(log.user < users), users=log.users.iloc[:users])
    figures = checks.rate_of_ground("visits", small_log, "30min", "cpu")
    assert 0.2 < figures["rate_ratio"] < 5


def test_the_ratio_of_a_truth_is_that_of_its_sums(log):
    """Tenths of unequal size count by their sessions; what does not exist is NaN of a model as of a truth."""
    rate = np.arange(1.0, 16.0) ** 2
    count = np.arange(15.0, 0.0, -1.0) ** 3
    tenths = np.array_split(np.arange(15), 10)
    deciles = tuple((rate[tenth].mean(), count[tenth].mean()) for tenth in tenths)
    sizes = SimpleNamespace(left_out_sessions=15, left_out_deciles=deciles, left_out_ratio_first=1.0)
    sizes.left_out_ratio_later = sizes.left_out_spearman = np.nan
    figures = checks.rate_of_truth(SimpleNamespace(report=SimpleNamespace(sizes=sizes)))
    assert figures["rate_ratio"] == pytest.approx(rate.sum() / count.sum())
    assert np.isnan(figures["rate_rank_correlation"])
    once = np.sort(np.unique(log.user, return_index=True)[1])  # sessions of one event, and no later ones
    of_model = checks.rate_of_ground("visits", log.rows(once), "30min", "cpu")
    assert np.isnan([of_model["rate_rank_correlation"], of_model["rate_ratio_later"]]).all()
    rows = [("", truth, 0, metric, value) for truth in ("a", "b") for metric, value in figures.items()]
    (curve,) = checks.rate_curves(value_table(rows)).items()
    assert curve[0] == "λ* of a and b"
    good, bad = rate_sentences(value_table(rows))
    assert "nan" not in "".join(good + bad)


def test_truths_with_the_same_rates_are_named_together():
    """One curve for λ* that two truths share, one for that of a third, one for the model's λ."""
    rows = [("", truth, 0, "rate_ratio", value) for truth, value in (("a", 1.0), ("b", 1.0), ("c", 2.0))]
    table = value_table([("hp", "", 0, "rate_ratio", 1.0), *rows, ("", "a", 0, "genre_tv", 0.1)])
    curves = checks.rate_curves(table)
    ratios = {name: figures["rate_ratio"] for name, figures in curves.items()}
    assert ratios == {"λ of hp": 1.0, "λ* of a and b": 1.0, "λ* of c": 2.0}


def test_where_nothing_may_be_shown_there_are_no_shares():
    """A row whose admissible items have no share at all stays 0."""
    nothing = evidence_of.shares_over(np.array([[0.5, 0.0, 0.5]]), np.array([[False, True, False]]))
    assert nothing.tolist() == [[0.0, 0.0, 0.0]]


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    """The command on a part of the embedded log."""
    out = tmp_path_factory.mktemp("validate") / "run"
    words = ["validate", "--min-item-events", "120", "--models", "popularity,als,random", "--without", "als"]
    words += ["--draws", "2", "--truths", "factors", "--resamples", "100", "--out", str(out)]
    with drawn():
        assert main(words) == 0
    return load_validation(out)


def test_tables_hold_what_the_contract_says(validation):
    """Columns, metrics, real rows without a truth, the oracle under each truth, config and page."""
    table = validation.table
    assert tuple(table.columns) == COLUMNS == ("model", "truth", "draw", "metric", "value")
    real = table[(table["truth"] == "") & table["model"].isin(("popularity", "random"))]
    assert {"precision", "ndcg", "log_likelihood"} <= set(real["metric"])
    utility = table[table["metric"] == "utility"]
    assert set(utility["truth"]) == {"factors"}
    assert set(utility["model"]) == {"popularity", "random", "oracle"}
    assert set(table["draw"]) == {0, 1}
    assert tuple(validation.agreement.columns) == ("truth", "metric", "value")
    named = {"kendall", "kendall_low", "kendall_high", "spearman", "settled_pairs", "settled_share"}
    assert named | {"chosen", PAST, *FALSE} <= set(validation.agreement["metric"])
    assert validation.described["fitness"]["factors"]["truth"] == "factors"
    named = {"session_size_ks", "popularity_ks", "genre_tv", "acceptance_f1_9", "rate_predicted_10"}
    assert named | {"rate_ratio"} <= set(table["metric"])
    assert validation.described["validate"]["without"] == ["als"]
    assert {"command", "truths", "versions", "digests"} <= set(validation.described)
    report = load_run(validation.folder).report()
    verdicts = next(table for table in report.tables if table.title.startswith("Verdicts"))
    agreed = next(table for table in report.tables if table.title.startswith("Does a truth"))
    verdict = validation.described["fitness"]["factors"]
    assert verdicts.rows[0][:4] == (
        "factors",
        verdict["verdict"],
        f"{verdict['settled']} of {verdict['pairs']}",
        str(verdict["concordant"]),
    )
    assert "verdict" not in agreed.columns  # it is of other recommenders
    assert "fitted to the whole log" in agreed.title
    distance = table.loc[table["metric"] == "session_size_ks", "value"].mean()
    is_told = any(text.startswith("Session sizes are not those of the log") for text in report.cautions)
    assert is_told == (distance >= 0.1)
    page = (validation.folder / "README.md").read_text(encoding="utf-8")
    assert "## What may be concluded" in page
    assert "pictures/agreement.png" in page
    assert (validation.folder / "pictures" / "calibration.png").is_file()


@pytest.fixture
def written(log, tmp_path):
    """The made-up log as a file."""
    return write_events(tmp_path / "log.csv", log.user, log.item, log.time.astype(int))


OWN = MODEL.replace("Mine", "Bad").replace("self.n_items = log.n_items", "raise ValueError('boom')")
OWN += "\n\nclass Silent(Bad):\n    def fit(self, log):\n        return None\n"


def test_a_model_that_fails_is_told_by_its_line_and_leaves_no_run(written, tmp_path, capsys):
    """An exception of a user's file is an error of ours with file and line; the same folder can be used again."""
    model_file = tmp_path / "mine.py"
    out = tmp_path / "run"
    model_file.write_text(OWN)
    words = ["validate", "--data", str(written), "--draws", "1", "--truths", "factors", "--resamples", "100"]
    words += ["--out", str(out)]
    for name, said in (("Bad", "mine.py:10: ValueError: boom"), ("Silent", "fit returned None. Expected")):
        assert said in said_by(capsys, [*words, "--models", f"popularity,{model_file}:{name}"], 2).err
        assert not [path for path in out.iterdir() if path.suffix]
    assert main([*words, "--models", "popularity,random"]) == 0
    assert load_validation(out).table["model"].isin(["popularity"]).any()


def test_means_and_pairs_follow_from_the_table(validation):
    """Means over users of the draws are those of the intervals; a pair's difference is that of its models."""
    means = validation.table.groupby(["model", "truth", "metric"])["value"].mean()
    for row in validation.intervals.to_dict("records"):
        if row["metric"] in {"precision", "utility"}:
            assert row["mean"] == pytest.approx(means[row["model"], row["truth"], row["metric"]])
            assert row["low"] <= row["mean"] <= row["high"]
    (pair,) = validation.pairs.to_dict("records")
    assert (pair["model"], pair["other"], pair["settled"]) == ("popularity", "random", True)
    real = means["popularity", "", "precision"] - means["random", "", "precision"]
    assert pair["difference"] == pytest.approx(real)


def test_the_same_seeds_give_the_same_tables_and_reports(validation, tmp_path, capsys):
    """From Python with the config of the folder: equal digests; the folder opens as what it is, and reports again."""
    again = validate(validation.config, out=tmp_path / "again")
    assert digest(load_run(again.folder)) == digest(load_run(validation.folder))
    said = said_by(capsys, f"report {validation.folder}").out
    assert "What may be concluded" in said
    assert "factors" in said
    refused(RunFolderError, "already holds a run", validate, validation.config, out=validation.folder)


@cases(
    "changes message",
    ({"models": ("popularity", "populerity")}, "model 'populerity' is unknown. Did you mean 'popularity'"),
    ({"models": ("popularity", "random"), "without": ("random",)}, "without: only"),
    ({"without": ("own",)}, "without: found 'own'"),
    ({"models": ("random", "random")}, "models: "),
    ({"models": ("random", "nowhere.py")}, "model 'nowhere.py': no such file"),
    ({"serving": "nowhere.py"}, "model 'nowhere.py': no such file"),
)
def test_config_names_what_does_not_fit(changes, message):
    """Unknown, missing and repeated models are refused in one sentence."""
    refused(ConfigError, message, ValidateConfig, **changes)


def test_default_models_know_repetition_where_the_log_has_it(log):
    """The models that know it join the default ones on such a log only; chosen models stay as they are."""
    again = dataclasses.replace(log, repeatable=True)
    models = ValidateConfig().models
    assert kind._models_for(log, models) == models
    assert kind._models_for(again, models) == (*models, "recent", "own", "bag-habits")
    assert kind._models_for(again, ("bag", "random")) == ("bag", "random")


def test_a_serving_model_is_compared_with_bestsellers():
    """Its mark model and bestsellers are added to the models, unless they are there or left out."""
    assert with_serving(["ease", "random"], "gru-hp") == ["ease", "random", "gru", "popularity"]
    assert with_serving(["gru", "popularity"], "gru-hp") == ["gru", "popularity"]
    assert with_serving(["ease"], "hp") == ["ease", "popularity"]
    assert with_serving(["ease"], "mine.py:Mine", ["popularity"]) == ["ease", "mine.py:Mine"]
    assert with_serving(None, "ease-visits") == list(ValidateConfig().models)


@cases(
    "words message",
    (["--taken-at", "4"], "--taken-at: this option needs a file of known answers. Add --observed FILE"),
    (["--observed-columns", "user=who"], "--observed-columns: this option needs a file of known answers"),
    (["--serving", "gru-hq"], "model 'gru-hq' is unknown. Did you mean 'gru-hp'"),
    (["--models", "bag"], "--models: ['bag']. It must have at least 2 entries"),
    (["--models", "popularity,nowhere.py:Mine"], "no file 'nowhere.py'"),
    (["--models", "popularity,random", "--device", "gpu"], "device: found 'gpu'"),
    (["--models", "popularity,OWN"], "is a file. Add a name in it: OWN:Bad or OWN:Silent"),
    (["--serving", "OWN"], "is a file. Add a name in it"),
    (["--observed", "nowhere.csv"], "nowhere.csv: no such file"),
)
def test_options_that_do_not_fit_are_told_at_once(words, message, tmp_path, monkeypatch, capsys):
    """One sentence each, before anything is fitted or written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kind, "chosen_truth", None)
    model_file = tmp_path / "mine.py"
    model_file.write_text(OWN)
    said = said_by(capsys, ["validate", *(word.replace("OWN", str(model_file)) for word in words)], 2)
    assert message.replace("OWN", str(model_file)) in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_the_command_adds_what_a_serving_model_is_compared_with(written, tmp_path, capsys):
    """With --serving, the page says whether its mark model beats bestsellers, whatever --models names."""
    words = ["validate", "--data", str(written), "--draws", "1", "--truths", "factors", "--resamples", "100"]
    words += ["--models", "ease,random", "--serving", "ease-visits", "--out", str(tmp_path / "run")]
    assert "the mark model of the platform ease-visits" in said_by(capsys, words).out
    assert load_validation(tmp_path / "run").config.models == ("ease", "random", "popularity")


class Prefers:
    """A model that knows the law to a degree: a mixture of the law and its mean over users."""

    def __init__(self, shares, degree):
        self.mixed = degree * shares[:3] + (1 - degree) * shares.mean(0)

    def fit(self, log):
        """Nothing is learned, but which state is whose."""
        self.log = log
        return self

    update = fit

    def score(self, states):
        """(n, M) the mixture; a state's taste is that of most of its items."""
        histories = np.split(states.items, states.offsets[1:-1])
        taste = [np.bincount(row % 3, minlength=3).argmax() for row in histories]
        return torch.from_numpy(self.mixed[taste].astype(np.float32))


def test_of_a_large_cut_some_users_are_judged(log):
    """Evenly spaced users, the same in every draw, with the states and the future that they have among all."""
    for draw in (0, 1):
        cut = evidence_of.make_cut(log, draw, gap="30min", after=0.3)
        half = len(cut) * log.n_items // 2
        half_cut = evidence_of.make_cut(log, draw, gap="30min", after=0.3, most_cells=half)
        assert half_cut.later.user.tolist() == cut.later.user[::2].tolist()
        assert half_cut.states.lengths.tolist() == cut.states.lengths[::2].tolist()
        assert len(half_cut.later.past) == len(cut.later.past)
        among = cut.taken_row % 2 == 0
        assert half_cut.taken_item.tolist() == cut.taken_item[among].tolist()
        assert half_cut.taken_row.tolist() == (cut.taken_row[among] // 2).tolist()
        assert half_cut.first_session.tolist() == cut.first_session[among].tolist()


def test_session_sizes_that_the_log_does_not_have_are_told():
    """A log of single ratings: 80% of Poisson sessions have 0 to 2 events, and all logged ones have 1."""
    sizes = {"": (1, 1), "bag": (0, 2), "own": (1, 1)}
    rows = [
        (truth, "", f"session_size_{name}", value)
        for truth, values in sizes.items()
        for name, value in zip(("q10", "q90"), values, strict=True)
    ]
    rows += [("bag", "", "session_size_ks", 0.32), ("own", "", "session_size_ks", 0.02)]
    table = pd.DataFrame(rows, columns=["truth", "model", "metric", "value"])
    (text,) = validate_report._session_sizes(table)
    assert "under `bag` they are Poisson, and 80% of them are 0 to 2 events; of the log's sessions" in text
    assert "80% have 1 to 1" in text
    assert "(Kolmogorov-Smirnov distance 0.32)" in text
