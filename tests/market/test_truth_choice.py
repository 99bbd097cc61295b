"""The choice of a truth: its weights, the likelihood of later sessions, and agreement on slates."""

import numpy as np
import pytest
from kit import cases

from rimsim.intensity import softmax
from rimsim.intensity.selection.held_out import HeldOut, Worth
from rimsim.intensity.selection.shrinkage import for_all, for_slates
from rimsim.intensity.sets.factors import UserFactors
from rimsim.market.consumers import truths
from rimsim.market.consumers.session_sizes import fit_sizes
from rimsim.testing import random_log


@pytest.fixture(scope="module")
def log():
    """A small log whose users come back."""
    return random_log(n_users=60, n_items=40)


def test_the_weights_of_a_truth_are_those_for_slates(log):
    """A truth is asked about slates; its regularisation is chosen by the likelihood at its largest."""
    model = truths.truth_model("bag", "30min", 4).fit(log)
    held = HeldOut.of(log, "30min", 0)
    shrinkage = model.shrinkage
    base = [part.astype(np.float32) for part in model._impersonal(held.past)]
    by_strength = dict(model._scored(held, model.grid, log))
    weights = for_slates(held, (by_strength[shrinkage.strength], *base))
    personal = shrinkage.personal / shrinkage.rescaling
    assert [personal, shrinkage.popularity, shrinkage.returning] == pytest.approx(weights.tolist())
    nats = {}
    for strength, scores in by_strength.items():
        personal, popularity, returning = for_all(held, (scores, *base)).tolist()
        nats[strength] = held.worth(personal * scores + popularity * base[0] + returning * base[1]).nats
    assert shrinkage.log_likelihood == pytest.approx(nats[shrinkage.strength])
    assert shrinkage.log_likelihood == pytest.approx(max(nats.values()), abs=0.02)


def test_a_log_of_strangers_gets_a_truth_of_which_nothing_is_claimed(log):
    """Where nobody comes back nothing is held out: figures are NaN, and no user is counted."""
    first = np.unique(log.user, return_index=True)[1]
    truth = truths.fit_truth(log.rows(np.sort(first)), gap=1800.0, rank=2)
    assert (truth.kind, truth.report.users) == ("factors", 0)
    assert np.isnan(truth.report.log_likelihood)
    assert not truth.report.candidates


def test_the_truth_is_chosen_by_the_likelihood_of_later_sessions(log):
    """``auto`` takes the likeliest candidate where the other is behind by more than one error."""
    report = truths.fit_truth(log, gap="30min", rank=4).report
    alone = {kind: truths.fit_truth(log, gap="30min", kind=kind, rank=4).report for kind in truths.CANDIDATES}
    assert {candidate.kind for candidate in report.candidates} == set(truths.CANDIDATES)
    for candidate in report.candidates:
        mine = alone[candidate.kind]
        assert (candidate.log_likelihood, candidate.precision) == (mine.log_likelihood, mine.precision)
    first, second = report.candidates
    assert report.kind == first.kind
    assert report.log_likelihood == first.log_likelihood > report.popularity_log_likelihood
    assert (first.behind, first.behind_error) == (0.0, 0.0)
    assert second.behind == pytest.approx(first.log_likelihood - second.log_likelihood)
    assert second.behind > second.behind_error > 0
    assert alone["bag"].candidates[0].behind == 0.0


def test_candidates_are_compared_by_fits_that_sample_if_fits_to_the_whole_log_do(log, monkeypatch):
    """The size of the whole log, and not that of its past, decides whether a compared candidate is sampled."""
    monkeypatch.setattr(softmax, "MANY_PAIRS", len(log) * log.n_items - 1)
    monkeypatch.setattr(UserFactors, "_train", None)  # what fits without a sample call
    assert truths.fit_truth(log, gap="30min", kind="factors", rank=2).report.candidates


@cases("behind chosen", (0.9, "bag"), (1.1, "factors"))
def test_agreement_decides_among_candidates_that_are_as_likely(log, behind, chosen, monkeypatch):
    """Within one standard error of the likeliest, the candidate that orders slates as later sessions do is taken."""
    held = HeldOut.of(log, "30min", 0)
    fitted = {kind: truths.truth_model(kind, "30min", 4).fit(log) for kind in truths.CANDIDATES}
    sizes, _ = fit_sizes(log, "30min", None)
    monkeypatch.setattr(Worth, "behind", lambda self, best: (0.0, 0.0) if self is best else (behind, 1.0))
    likelier = fitted["factors"]
    worths = []
    worth = HeldOut.worth
    monkeypatch.setattr(HeldOut, "worth", lambda *now: worths.append(worth(*now)) or worths[-1])
    monkeypatch.setattr(Worth, "nats", property(lambda self: float(self is worths[0])))
    monkeypatch.setattr(truths, "_preference_of", lambda model, _: model)
    monkeypatch.setattr(truths, "_agreement", lambda _, model, __: float(model is not likelier))
    ranking = truths._candidates(held, fitted, sizes, "30min", 4)
    assert ranking[0].kind == chosen
    assert [candidate.agreement for candidate in ranking] == ([1.0, 0.0] if chosen == "bag" else [None, None])


def test_agreement_is_that_of_settled_pairs():
    """Slates that users took more of must be worth more; pairs that chance may order do not count."""
    source = np.random.default_rng(0)
    hits = [0.3 + 0.1 * source.random(50), 0.1 + 0.1 * source.random(50), 0.15 + 0.1 * source.random(50)]
    hits.append(hits[0] + source.normal(0, 0.1, 50) - 0.001)
    slates = [(np.tile([2 * n, 2 * n + 1], (50, 1)), Worth(rate, rate, rate)) for n, rate in enumerate(hits)]
    share = np.tile([0.3, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.01], (50, 1))
    # Settled: 0 > 1, 0 > 2, 2 > 1, 3 > 1, 3 > 2, of which the law has the first two.
    assert truths._agreement(slates, share, np.ones(50)) == pytest.approx((2 - 3) / 5)
    assert truths._agreement(slates[::3], share, np.ones(50)) is None
    ends = zip(([0, 7], [7, 0]), slates, strict=False)
    turned = [(np.tile(pair, (50, 1)), worth) for pair, (_, worth) in ends]
    assert truths._agreement(turned, share, np.ones(50)) == 1.0  # what stands first is looked at most


def test_the_error_of_a_difference_is_that_over_users():
    """The gap is a mean over items taken; twice the users have the same gap, and its error by the root of two."""
    source = np.random.default_rng(0)
    taken = source.integers(1, 9, 40).astype(float)
    first, second = (Worth(taken, -taken * source.random(40), taken) for _ in range(2))
    gap, error = second.behind(first)
    differences = first.by_user - second.by_user
    assert gap == pytest.approx(differences.sum() / taken.sum())
    assert error == pytest.approx(np.sqrt(((differences - gap * taken) ** 2).sum()) / taken.sum())
    twice = [Worth(taken, np.tile(each.by_user, 2), np.tile(taken, 2)) for each in (first, second)]
    assert twice[1].behind(twice[0]) == pytest.approx((gap, error / 2**0.5))
    assert first.behind(first) == (0.0, 0.0)
