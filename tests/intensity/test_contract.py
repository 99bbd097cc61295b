"""The contract of an intensity model: what shipped models keep, what they say of themselves, and their names."""

import copy
import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from kit import cases, refused
from kit.models import Shares

from rimsim import intensity
from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import UserStates
from rimsim.intensity.contract import ModelCapabilities, owns_scores, rescale_of
from rimsim.intensity.product import updated
from rimsim.intensity.registry import config_of, make, mark_and_ground, names, parts, register
from rimsim.testing import IntensityModelTests, random_log

SMALL = intensity.GRUConfig(width=8, context=12, burn=4, epochs=3, learning_rate=0.02)


class _Bare:
    """No more than the protocol: p is uniform, and λ(x) is the number of updates."""

    def __init__(self):
        self.updates = 0

    def fit(self, log):
        self.n_items = log.n_items
        return self

    def update(self, log):
        self.updates += 1
        return self

    def score(self, states):
        return torch.full((len(states), self.n_items), self.updates / self.n_items)


def test_a_retrained_copy_leaves_its_original_alone():
    """A retrained product is p(y|x) of the new log times the old λ(x), unless asked for; any model is updated."""
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    later = log.rows(log.item >= log.n_items // 2)
    model = intensity.RIM(mark=intensity.Popularity(), ground=intensity.UserPopularity()).fit(log)
    before = model.score(states)
    rate = model.intensity(states)
    mark_alone = updated(model, later, ground=False)
    mark_and_ground = updated(model, later, ground=True)
    assert torch.equal(model.score(states), before)
    popular = intensity.Popularity().fit(later).score(states)
    assert torch.equal(mark_alone.score(states), popular * rate[:, None])
    assert rescale_of(mark_alone) == rescale_of(model) == 1.0
    assert rescale_of(mark_and_ground) == mark_and_ground.ground.rescale != 1.0
    bare = _Bare().fit(log)
    assert float(updated(bare, later, ground=False).score(states).sum(1)[0]) == pytest.approx(1.0)
    assert (bare.updates, rescale_of(bare)) == (0, 1.0)


class _Own(intensity.GRU):
    """It scores in its own way."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now)


@cases(
    "model depends gives",
    (intensity.Popularity(), False, None),
    (intensity.RIM(mark=intensity.Popularity(), ground=intensity.UserPopularity()), False, None),
    (intensity.RIM(mark=intensity.GRU(SMALL), ground=intensity.UserPopularity()), True, None),
    (intensity.GRU(SMALL), True, True),
    (_Own(SMALL), True, False),
    (intensity.RIM(mark=_Own(SMALL), ground=intensity.UserPopularity()), True, True),
    (_Bare(), True, False),
)
def test_a_model_says_whether_p_depends_on_the_state_and_who_owns_its_scores(model, depends, gives):
    """A model that says nothing is taken to depend on it; the promise that scores are the caller's is not inherited."""
    capabilities = ModelCapabilities.of(model)
    assert capabilities.depends_on_state == depends
    assert gives is None or owns_scores(model) == gives


def test_every_name_can_be_made():
    """Every shipped name gives a model, an error before its fit; hybrids are products of a mark and a ground."""
    shipped = [name for name in names() if parts(name) is not None]  # another test may register its own
    assert {"transformer-hp", "gru", "hp", "popularity"} <= set(shipped)
    log = random_log()
    states = UserStates.of(log, [0], log.time[-1])
    for name in shipped:
        model = make(name)
        product = name.rpartition("-")[2] in {"hp", "pop", "ema", "hawkes", "visits"}
        assert isinstance(model, intensity.RIM) == product
        refused(ModelError, "not fitted yet", model.score, states)
    for name in ("gru", "mine.py:Mine", "gru-hq"):
        assert mark_and_ground(name) == (name, None)
    assert mark_and_ground("gru-hp") == ("gru", "hp")
    assert mark_and_ground("hp") == ("popularity", "hp")


def test_an_unknown_name_or_field_is_told_the_nearest():
    """Names and fields that do not exist are told the nearest; a model of one's own joins by another name."""
    refused(ConfigError, "Did you mean 'gru-hp'", make, "gru-hpp")
    refused(ConfigError, "Did you mean 'bag-habits'", make, "bag-habitz")
    refused(ConfigError, "Did you mean 'width'", config_of, "gru", {"widht": 3})
    refused(ConfigError, "field 'width' is 0. It must be greater than", config_of, "gru", {"width": 0})
    refused(ConfigError, "Expected GRUConfig", make, "gru", mark=intensity.PopularityConfig())
    assert config_of("gru", {"width": 3}).width == 3
    calls = []
    register("my-own", lambda seed, device: calls.append((seed, device)) or intensity.Popularity())
    assert isinstance(make("my-own", seed=4, device="cpu"), intensity.Popularity)
    assert calls == [(4, "cpu")]
    refused(ConfigError, "shipped", register, "gru-hp", make)


class _Eager(Shares):
    """The same, times more the more was consumed before."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now) * (1.0 + hidden[0][:, None].float())


class _Doubled(_Eager):
    """One that says twice the sum."""

    def intensity(self, states):
        return 2 * self.score(states).sum(1)


@cases("kind is_mark", (_Eager, True), (_Doubled, None))
def test_rows_of_another_sum_are_caught(kind, is_mark):
    """Rows that do not sum to 1 are found in what is said to be a mark, and in a product that says another λ(x)."""
    mine = type("Mine", (IntensityModelTests,), {"make": lambda self: kind(), "is_mark": is_mark})
    with pytest.raises(AssertionError):
        mine().test_rows_sum_to_the_ground_intensity()


WIDE = {"width": 8, "learning_rate": 0.02}
READ_WHOLE = intensity.GRUConfig(**WIDE, context=50, epochs=3, update_learning_rate=0.02)
LONG = {**WIDE, "context": 12, "burn": 4, "epochs": 3, "update_steps_back": 8, "update_learning_rate": 0.01}
MADE = {
    "of one's own": _Eager,  # a whole λ(x,y), which says nothing of its λ(x)
    # No folder can hold this one.
    "mark of one's own": lambda: intensity.RIM(mark=Shares(), ground=intensity.HawkesPoisson()),
    "popularity": intensity.Popularity,
    "returning": intensity.Returning,
    "fresh": intensity.Fresh,
    "bag": lambda: intensity.Bag(intensity.BagConfig(width=8, steps=40)),
    "ease": intensity.EASE,
    "factors": lambda: intensity.Factors(intensity.FactorsConfig(rank=4, steps=40, further_steps=20)),
    "auto": lambda: make("auto", mark=intensity.AutoConfig(candidates=("popularity", "ease", "returning"))),
    "auto-hp": lambda: make("auto-hp", mark=intensity.AutoConfig(candidates=("popularity", "ease"))),
    # The context holds every history, so that stepping and re-reading agree.
    "gru": lambda: make("gru", mark=READ_WHOLE),
    "gru for sessions": lambda: intensity.GRU(dataclasses.replace(READ_WHOLE, target="next-session")),
    "hp": intensity.HawkesPoisson,
    "visits": intensity.Visits,
    "user popularity": intensity.UserPopularity,
    "ema": intensity.EMA,
    "gru-hp": lambda: make("gru-hp", mark=intensity.GRUConfig(**WIDE, context=50, epochs=2)),
    # Stepping re-reads the window, so that it agrees beyond the context too.
    "transformer": lambda: intensity.Transformer(intensity.TransformerConfig(**LONG)),
    "hawkes": intensity.Hawkes,
    "als": lambda: make("als", mark=intensity.MatrixFactorizationConfig(factors=6)),
    "bpr": lambda: make("bpr", mark=intensity.MatrixFactorizationConfig(factors=6)),
}


class TestModel(IntensityModelTests):
    """Each shipped model, hybrids, and models of one's own."""

    once: ClassVar[dict[str, intensity.IntensityModel]] = {}

    @pytest.fixture(autouse=True, params=MADE)
    def _called(self, request):
        self.called = request.param
        self.update_is_refit = self.called in {"popularity", "returning", "fresh", "als", "bpr"}
        if self.called in {"als", "bpr"}:
            pytest.importorskip("implicit")

    def make(self) -> intensity.IntensityModel:
        """The model of the name."""
        return MADE[self.called]()

    def fitted(self) -> intensity.IntensityModel:
        """A copy of the model that was fitted once."""
        if self.called not in self.once:
            self.once[self.called] = super().fitted()
        return copy.deepcopy(self.once[self.called])

    def test_fits_are_reproducible(self) -> None:
        """Two fits, not two copies, have the same bits."""
        self.fitted = super().fitted
        super().test_fits_are_reproducible()
