"""Tests for your own intensity models.

Subclass :class:`IntensityModelTests`, define ``make`` and run pytest::

    from rimsim.testing import IntensityModelTests

    class TestMine(IntensityModelTests):
        def make(self) -> IntensityModel:
            return Mine()
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from rimsim.arrays import Array, Ints
from rimsim.data.log import EventLog
from rimsim.intensity import IntensityModel, RecurrentModel, UserStates
from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.persistence import is_stored
from rimsim.intensity.registry import load, shipped
from rimsim.rng import Purpose, generator
from rimsim.testing.measures import random_items

_DAY = 86400.0


def random_log(n_users: int = 60, n_items: int = 40, seed: int = 0, mean_events: float = 20.0) -> EventLog:
    """Random log with two tastes and bursts of activity."""
    # A tenth of the users have one event. Half of the users prefer items with even numbers, the others odd numbers.
    source = generator(seed, Purpose.MEASURE, n_users, n_items)
    popularity = 1.0 / (1.0 + np.arange(n_items))
    events: list[tuple[Array, Array, Array]] = []
    for user in range(n_users):
        count = 1 if user % 10 == 0 else 1 + int(source.poisson(mean_events))
        taste = popularity * np.where(np.arange(n_items) % 2 == user % 2, 5.0, 1.0)
        chosen = source.choice(n_items, size=min(count, n_items), replace=False, p=taste / taste.sum())
        pause = np.where(source.random(len(chosen)) < 0.2, source.exponential(10 * _DAY, len(chosen)), 30.0)
        time = 1e9 + source.random() * 100 * _DAY + np.cumsum(pause)
        events.append((np.full(len(chosen), user), chosen, time))
    event_user, item, time = (np.concatenate(column) for column in zip(*events, strict=True))
    order = np.lexsort((item, event_user, time))
    event_user = event_user[order].astype(np.int64)
    item = item[order].astype(np.int64)
    value = np.ones(len(event_user), np.float32)
    users = pd.DataFrame({"id": np.arange(n_users)})
    return EventLog(
        user=event_user,
        item=item,
        time=time[order],
        value=value,
        users=users,
        items=random_items(n_items),
    )


class IntensityModelTests:
    """Conditions of any intensity model; subclass this and define ``make``."""

    tolerance: ClassVar[float] = 1e-5
    """Largest difference of scores between a state that was updated event by event and a state that was encoded at
    once, as a share of the largest score."""
    update_is_refit: ClassVar[bool] = False
    """True if ``update`` is exact, so that it equals a fit on the new log."""
    is_mark: ClassVar[bool | None] = None
    """True if rows of scores are distributions p(y|x), which sum to 1. None: True for a mark model of rimsim alone."""

    @abstractmethod
    def make(self) -> IntensityModel:
        """Small model that is not fitted."""

    def log(self) -> EventLog:
        """Log to which models are fitted."""
        return random_log()

    def fitted(self) -> IntensityModel:
        """Model that is fitted to the log."""
        return self.make().fit(self.log())

    def states(self, log: EventLog) -> UserStates:
        """States of all users after the log, then before it."""
        users = np.arange(log.n_users)
        now = np.repeat([log.time[-1] + 60.0, log.time[0]], log.n_users)
        return UserStates.of(log, np.concatenate([users, users]), now)

    def test_follows_the_protocol(self) -> None:
        """``fit`` and ``update`` return the model, and ``score`` exists."""
        log = self.log()
        model = self.make()
        assert isinstance(model, IntensityModel)
        assert model.fit(log) is model
        assert model.update(log) is model

    def test_scores_are_intensities(self) -> None:
        """Scores are finite, non-negative float32 of the shape (n, M)."""
        log = self.log()
        model = self.fitted()
        states = self.states(self.log())
        scores = model.score(states)
        assert scores.shape == (len(states), log.n_items)
        assert scores.dtype == torch.float32
        assert bool(torch.isfinite(scores).all())
        assert float(scores.min()) >= 0
        assert float(scores.sum(1).min()) > 0
        assert model.score(states.take([])).shape == (0, log.n_items)

    def test_rows_sum_to_the_ground_intensity(self) -> None:
        """Scores of a state sum to 1 or its λ(x)."""
        model: Any = self.fitted()
        states = self.states(self.log())
        total = model.score(states).sum(1).cpu()
        assert bool((torch.isfinite(total) & (total > 0)).all())
        marks = tuple(kind for kind in shipped().values() if not issubclass(kind, Ground))
        if isinstance(model, marks) if self.is_mark is None else self.is_mark:
            expected = torch.ones(len(states))
        elif hasattr(model, "intensity"):
            expected = model.intensity(states).cpu()
        else:
            return
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-6)

    def test_the_batch_does_not_matter(self) -> None:
        """Scores are identical in batches of any size."""
        model = self.fitted()
        states = self.states(self.log())
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            scores = model.score(states)
            order = generator(1, Purpose.MEASURE).permutation(len(states))
            assert torch.equal(model.score(states.take(order)), scores[torch.from_numpy(order)])
            for row in order[:7]:
                assert torch.equal(model.score(states.take([row]))[0], scores[row])
            assert torch.equal(model.score(states.take(order[:33])), scores[torch.from_numpy(order[:33])])
        finally:
            torch.set_num_threads(threads)

    def test_nothing_after_the_clock_is_seen(self) -> None:
        """Events at or after a state's instant leave scores unchanged."""
        log = self.log()
        model = self.fitted()
        instant = float(np.median(log.time))
        early = log.before(instant)
        users = np.arange(log.n_users)
        seen = model.score(UserStates.of(log, users, instant))
        assert torch.equal(seen, model.score(UserStates.of(early, users, instant)))

    def test_a_new_log_moves_the_model(self) -> None:
        """``update`` raises the probabilities of items in new events."""
        log = self.log()
        model = self.fitted()
        states = self.states(self.log())
        before = model.score(states)
        silent = dataclasses.replace(log, target=np.zeros(len(log), bool))
        assert torch.equal(model.update(silent).score(states), before)
        if isinstance(model, Ground):
            return
        unusual = log.item >= log.n_items // 2
        after = model.update(log.rows(unusual)).score(states)
        chosen = np.unique(log.item[unusual])
        share_before = float((before[:, chosen].sum(1) / before.sum(1)).mean())
        share_after = float((after[:, chosen].sum(1) / after.sum(1)).mean())
        assert share_after > share_before

    def test_only_target_events_are_fitted_to(self) -> None:
        """Models are not fitted to events outside ``target``."""
        log = self.log()
        states = self.states(self.log())
        half = dataclasses.replace(log, target=log.item % 2 == 0)
        assert not torch.equal(self.make().fit(half).score(states), self.fitted().score(states))

    def test_update_equals_refit_where_it_should(self) -> None:
        """An exact update equals a fit to the new log."""
        if not self.update_is_refit:
            return
        log = self.log()
        states = self.states(self.log())
        later = log.rows(log.time > np.median(log.time))
        assert torch.equal(self.fitted().update(later).score(states), self.make().fit(later).score(states))

    def test_fits_are_reproducible(self) -> None:
        """Repeated fits are identical, and keep the seed of torch."""
        log = self.log()
        later = log.rows(log.time > np.median(log.time))
        states = self.states(log)
        torch.manual_seed(1)
        first = self.fitted().update(later).score(states)
        next_number = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(torch.rand(1), next_number)
        assert torch.equal(self.fitted().update(later).score(states), first)

    def test_hidden_states_equal_states(self) -> None:
        """Scores from hidden states equal scores from states."""
        log = self.log()
        model = self.fitted()
        if not isinstance(model, RecurrentModel):
            return
        states = self.states(log)
        hidden = model.encode(states)
        assert torch.equal(model.score_hidden(hidden, states.now), model.score(states))
        grown = hidden
        longer = states
        for step in range(3):
            items = _new_items(longer, log.n_items, step)
            times = states.now + step * 100.0
            grown = model.step(grown, torch.from_numpy(items), torch.from_numpy(times))
            longer = _appended(longer, items, times)
        now = longer.now + 50.0
        expected = model.score(dataclasses.replace(longer, now=now))
        scores = model.score_hidden(grown, now)
        assert float((scores - expected).abs().max()) <= self.tolerance * float(expected.max())

    def test_a_saved_model_is_the_same_model(self, tmp_path: Path) -> None:
        """A model is unchanged after saving and loading without pickle."""
        model: Any = self.fitted()
        if not is_stored(model):
            return
        log = self.log()
        states = self.states(self.log())
        model.save(tmp_path / "model")
        loaded = load(tmp_path / "model")
        assert torch.equal(loaded.score(states), model.score(states))
        assert torch.equal(loaded.update(log).score(states), model.update(log).score(states))
        suffixes = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
        assert suffixes <= {".json", ".safetensors"}

    def test_scores_are_on_the_models_device(self) -> None:
        """Scores are on the model's device."""
        model: Any = self.fitted()
        scores = model.score(self.states(self.log()))
        device = getattr(model, "device", scores.device)
        assert scores.device.type == torch.device(device).type


def _new_items(states: UserStates, n_items: int, step: int) -> Ints:
    """(n,) unconsumed item of each state, if there is any."""
    new_items = np.empty(len(states), np.int64)
    for row in range(len(states)):
        consumed = states.items[states.offsets[row] : states.offsets[row + 1]]
        unconsumed = np.setdiff1d(np.arange(n_items), consumed)
        choice = unconsumed if len(unconsumed) else np.arange(n_items)
        new_items[row] = choice[(row * 7 + step) % len(choice)]  # rows and steps get different items
    return new_items


def _appended(states: UserStates, items: Array, times: Array) -> UserStates:
    """States one second later, each with one more event."""
    ends = states.offsets[1:]
    longer = np.insert(states.items, ends, items)
    later = np.insert(states.times, ends, times)
    offsets = states.offsets + np.arange(len(states) + 1)
    return UserStates(offsets=offsets, items=longer, times=later, now=times + 1.0)
