"""Models of habits: their contract, known answers, and the base model where no habit is found."""

import dataclasses

import numpy as np
import pytest
import torch
from kit.habits import LAW, habitual_log, trending_log
from kit.logs import log_of

from rimsim.intensity import RIM, BagConfig, UserStates
from rimsim.intensity.contract import ModelCapabilities
from rimsim.intensity.habits.law import HabitFit, HabitLaw, OwnLaw, usual_popularity
from rimsim.intensity.habits.local_rate import RateLaw
from rimsim.intensity.habits.mixture import BagHabits, BagHabitsConfig, EASEHabits, FactorsHabits
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.habits.own_counts import DAY, OwnDecay
from rimsim.intensity.habits.own_history import OwnConfig, OwnHistory
from rimsim.intensity.habits.recent_popularity import RecentConfig, RecentPopularity
from rimsim.intensity.product import settled
from rimsim.intensity.registry import load, make, parts
from rimsim.intensity.sets.bag import Bag
from rimsim.testing import IntensityModelTests, random_log

SMALL = {"width": 6, "steps": 20, "weight_decay": 1e-3, "cold_items": False}
FULL_LAW = HabitLaw(
    rate=RateLaw(exponent=0.7, usual=0.4, base=0.9, half_life=20 * DAY, smoothing=0.2),
    repeats=LAW,
    decay=OwnDecay(half_life=30 * DAY),
    own_items=OwnLaw(counts=0.7, base=0.3, lift=0.5),
    users=100,
)


class TestOwn(IntensityModelTests):
    """Decayed own counts keep the contract of models."""

    def make(self):
        """Options are the defaults."""
        return OwnHistory()


class TestRecent(IntensityModelTests):
    """Recent popularity keeps the contract of models."""

    def make(self):
        """Options are the defaults."""
        return RecentPopularity()


class TestHabitsWithoutRepeats(IntensityModelTests):
    """A mixture without own counts keeps the contract of models."""

    def make(self):
        """The law is fitted."""
        return BagHabits(BagHabitsConfig(**SMALL))


class TestHabitsWithRepeats(IntensityModelTests):
    """A mixture with all parts keeps the contract of models."""

    def make(self):
        """The law is known, and has all parts."""
        return BagHabits(BagHabitsConfig(**SMALL, law=FULL_LAW))

    def log(self):
        """A log with repeats."""
        return habitual_log(users=60)


@pytest.mark.parametrize("kind", [EASEHabits, FactorsHabits])
def test_every_base_model_takes_habits(kind, tmp_path):
    """Scores are distributions, a saved model is the same model, and hidden states take repeats as states do."""
    log = habitual_log(users=60)
    options = {"law": FULL_LAW} | ({"ridge": 100.0} if kind is EASEHabits else {"steps": 10, "rank": 3})
    model = kind(kind.config_class(**options)).fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 9.0)
    scores = model.score(states)
    torch.testing.assert_close(scores.sum(1), torch.ones(log.n_users))
    model.save(tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").score(states), scores)


def by_hand(model, base, log, states):
    """(n, M) scores of a law, computed row by row in Python."""
    law = model.law
    popularity = usual_popularity(log)
    base_p = base.score(states).cpu().numpy().astype(np.float64)
    expected = np.zeros_like(base_p)
    for row in range(len(states)):
        span = slice(states.offsets[row], states.offsets[row + 1])
        items = states.items[span]
        times = states.times[span]
        now = states.now[row]
        is_past = log.time < now
        weight = 2.0 ** (-(now - log.time[is_past]) / law.rate.half_life)
        count = np.bincount(log.item[is_past], weight, log.n_items)
        added = law.rate.smoothing * log.n_items
        rate = (count + added * popularity) / (count.sum() + added)
        new = base_p[row] ** law.rate.base * rate**law.rate.exponent / popularity**law.rate.usual
        decayed = 2.0 ** (-(now - times) / law.decay.half_life)
        own_part = np.zeros(log.n_items) + np.bincount(items, decayed, log.n_items)
        own_part = own_part**law.own_items.counts * base_p[row] ** law.own_items.base
        own_part *= (rate / popularity) ** law.own_items.lift
        n_distinct = len(set(items.tolist()))
        new[items] = 0.0
        share = max(len(items) - law.repeats.discount * n_distinct, 0) / (len(items) + law.repeats.strength)
        share = share if len(items) else 0.0
        expected[row] = (1 - share) * new / new.sum() + (
            share * own_part / own_part.sum() if len(items) else 0.0
        )
    return expected


def test_the_mixture_equals_its_formula():
    """ρ·own + (1 − ρ)·new, computed event by event, with the base renormalised over unconsumed items."""
    log = habitual_log(users=60)
    model = BagHabits(BagHabitsConfig(**SMALL, law=FULL_LAW)).fit(log)
    now = np.quantile(log.time, np.linspace(0.1, 1.0, log.n_users)) + 1.0
    states = UserStates.of(log, np.arange(log.n_users), now)
    assert (states.lengths == 0).any()
    expected = by_hand(model, model.base, log, states)
    np.testing.assert_allclose(model.score(states).cpu().numpy(), expected, rtol=2e-3, atol=1e-7)


def test_a_repeat_leaves_the_base_model_as_it_is():
    """A hidden state that takes its own item again equals the state of the longer history."""
    log = habitual_log(users=60)
    model = BagHabits(BagHabitsConfig(**SMALL, law=FULL_LAW)).fit(log)
    states = UserStates.of(log, np.arange(40), log.time[-1] + 9.0)
    first = states.items[states.offsets[:-1]]
    hidden = model.step(model.encode(states), torch.from_numpy(first), torch.from_numpy(states.now))
    ends = states.offsets[1:]
    longer = UserStates(
        states.offsets + np.arange(41),
        np.insert(states.items, ends, first),
        np.insert(states.times, ends, states.now),
        states.now + 60.0,
    )
    torch.testing.assert_close(
        model.score_hidden(hidden, longer.now), model.score(longer), rtol=1e-4, atol=1e-8
    )


def test_habits_that_a_log_lacks_leave_exactly_the_base():
    """Without a repeatable log there is no own part; without trends no rate; then scores are the base's bits."""
    source = np.random.default_rng(1)
    item = np.concatenate([source.permutation(30)[:8] for _ in range(200)])
    log = log_of(np.repeat(np.arange(200), 8), item, source.uniform(0, 200 * DAY, 1600), items=30)
    model = BagHabits(BagHabitsConfig(**SMALL)).fit(log)
    assert model.law.users >= 20
    assert model.law.repeats is None
    assert not model.law.needs_rate
    assert "no habits" in model.law.line()
    states = UserStates.of(log, np.arange(200), log.time[-1] + 1)
    assert torch.equal(model.score(states), Bag(BagConfig(**SMALL)).fit(log).score(states))


def test_habits_that_a_log_has_are_found():
    """Repeats and trends of made-up logs raise the likelihood by more than their errors; other parts fall away."""
    log = habitual_log(users=400)
    model = BagHabits(BagHabitsConfig(**SMALL)).fit(log)
    assert model.law.repeats is not None
    assert model.law.gain > 3 * model.law.error
    assert model.law.repeats.predicted == pytest.approx(model.law.repeats.observed, abs=0.03)
    assert "repeats predicted" in model.law.line()
    history_log = dataclasses.replace(log, repeatable=False)
    assert BagHabits(BagHabitsConfig(**SMALL)).fit(history_log).law.repeats is None
    trends = BagHabits(BagHabitsConfig(**SMALL)).fit(trending_log(0.9, 8 * DAY)).law
    assert trends.repeats is None
    assert trends.rate.exponent > 0.3
    copy = settled(make("bag-habits"), model)
    assert copy.config.law == model.law
    assert copy.config.shrinkage == model.base.shrinkage


def test_repeats_that_a_trend_explains_are_no_habit():
    """Where users take items by the local rate alone, their own or others, an own part adds nothing to the rate."""
    log = trending_log(0.9, 8 * DAY, repeatable=True)
    held = NextSessions.of(log, "30min", 0)
    assert held.is_repeat.mean() > 0.2
    law = HabitFit(held, np.zeros((len(held), log.n_items), np.float32), repeatable=True).law()
    assert law.needs_rate
    assert law.gain > 10 * law.error
    assert law.repeats is None


def test_own_counts_are_mixed_with_popularity():
    """The model is (1 − ε) of the decayed own share plus ε of popularity; a new user gets popularity."""
    log = log_of([0, 0, 0, 1], [0, 1, 1, 2], [0.0, 10.0, 20.0, 20.0], items=3)
    model = OwnHistory(OwnConfig(half_life=10.0, unseen=0.2)).fit(log)
    popularity = np.array([1.5, 2.5, 1.5]) / 5.5
    states = UserStates.of(log, [0, 1], [50.0, 5.0])
    own_share = np.array([0.25, 0.5 + 1.0, 0.0]) / 1.75
    expected = [0.8 * own_share + 0.2 * popularity, popularity]
    np.testing.assert_allclose(model.score(states).cpu().numpy(), expected, rtol=1e-5)
    fitted = OwnHistory().fit(habitual_log(users=300))
    assert fitted.half_life in {14 * DAY, 28 * DAY}
    assert 0.2 < fitted.unseen < 0.9
    assert settled(make("own"), fitted).config.half_life == fitted.half_life


def test_recent_popularity_moves_with_the_clock_and_with_updates():
    """Shares are decayed counts of earlier events and return to popularity in silence; an update replaces events."""
    log = log_of([0, 0, 1, 1], [0, 1, 0, 2], [0.0, 10.0, 10.0, 20.0], items=3)
    model = RecentPopularity(RecentConfig(half_life=10.0, smoothing=0.5, memory=3.0)).fit(log)
    usual = np.array([2.5, 1.5, 1.5]) / 5.5
    states = UserStates.of(log, [0, 1, 1], [20.0, 20.5, 1e6])
    counts = np.array([[0.25 + 0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    counts[1] = np.array([0.75, 0.5, 1.0]) * 2.0**-0.05
    expected = (counts + 1.5 * usual) / (counts.sum(1, keepdims=True) + 1.5)
    np.testing.assert_allclose(model.score(states).cpu().numpy(), expected, rtol=1e-5)
    later = log_of([0, 1], [2, 2], [30.0, 40.0], users=2, items=3)
    model.update(later)
    moved = (3.0 * usual + [0.0, 0.0, 2.0]) / 5.0
    counts = np.array([0.0, 0.0, 0.5 + 1.0])
    expected = (counts + 1.5 * moved) / 3.0
    scores = model.score(UserStates.of(later, [0], 40.0 + 1e-9)).cpu().numpy()[0]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert not ModelCapabilities.of(model).depends_on_state
    trend = RecentPopularity().fit(trending_log(0.9, 8 * DAY))
    assert 3 * DAY <= trend.half_life <= 28 * DAY
    assert settled(make("recent"), trend).config.half_life == trend.half_life


def test_names_with_hyphens_are_marks():
    """``bag-habits`` is a mark; ``bag-habits-visits`` multiplies it by a ground intensity; options reach the bag."""
    assert parts("bag-habits") == ("bag-habits", None)
    assert parts("bag-habits-visits") == ("bag-habits", "visits")
    assert make("bag-habits(width=3)").base.config.width == 3
    log = random_log()
    model = make("own-visits").fit(log)
    assert isinstance(model, RIM)
    states = UserStates.of(log, [0, 1], log.time[-1] + 1)
    torch.testing.assert_close(model.score(states).sum(1), model.intensity(states))
