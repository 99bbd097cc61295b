"""Every shipped model keeps the contract."""

import copy
from typing import ClassVar

import pytest
import torch
from kit import cases

from rimsim import intensity
from rimsim.intensity.contract import FromHidden
from rimsim.intensity.registry import make
from rimsim.testing import IntensityModelTests


class _Shares(FromHidden):
    """p(y) in proportion to how often the item was consumed."""

    def fit(self, log):
        self.counts = torch.bincount(torch.from_numpy(log.item[log.targets]), minlength=log.n_items) + 0.1
        return self

    def update(self, log):
        return self.fit(log) if log.targets.any() else self

    def encode(self, states):
        return (torch.from_numpy(states.lengths),)

    def step(self, hidden, items, times):
        return (hidden[0] + 1,)

    def score_hidden(self, hidden, now):
        return (self.counts / self.counts.sum()).float().repeat(len(now), 1)


class _Eager(_Shares):
    """The same, times more the more was consumed before."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now) * (1.0 + hidden[0][:, None].float())


class _Doubled(_Eager):
    """One that says twice the sum."""

    def intensity(self, states):
        return 2 * self.score(states).sum(1)


@cases("made is_mark", (_Eager, True), (_Doubled, None))
def test_rows_of_another_sum_are_caught(made, is_mark):
    """Rows that do not sum to 1 are found in what is said to be a mark, and in a product that says another λ(x)."""
    mine = type("Mine", (IntensityModelTests,), {"make": lambda self: made(), "is_mark": is_mark})
    with pytest.raises(AssertionError):
        mine().test_rows_sum_to_the_ground_intensity()


WIDE = {"width": 8, "learning_rate": 0.02}
LONG = {**WIDE, "context": 12, "burn": 4, "epochs": 3, "update_steps_back": 8, "update_learning_rate": 0.01}
MADE = {
    "of one's own": _Eager,  # a whole λ(x,y), which says nothing of its λ(x)
    "mark of one's own": lambda: intensity.RIM(
        mark=_Shares(), ground=intensity.HawkesPoisson()
    ),  # which cannot be saved
    "popularity": intensity.Popularity,
    "returning": intensity.Returning,
    "bag": lambda: intensity.Bag(intensity.BagConfig(width=8, steps=40)),
    "ease": intensity.EASE,
    "factors": lambda: intensity.Factors(intensity.FactorsConfig(rank=4, steps=40, further_steps=20)),
    "auto": lambda: make("auto", mark=intensity.AutoConfig(candidates=("popularity", "ease", "returning"))),
    "auto-hp": lambda: make("auto-hp", mark=intensity.AutoConfig(candidates=("popularity", "ease"))),
    # The context holds every history, so that stepping and re-reading agree.
    "gru": lambda: intensity.GRU(
        intensity.GRUConfig(**WIDE, context=50, epochs=3, update_learning_rate=0.02)
    ),
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
    "graph": lambda: intensity.GraphConvolution(intensity.GraphConvolutionConfig(**WIDE, epochs=3)),
}


class TestModel(IntensityModelTests):
    """Each shipped model, hybrids, and models of one's own."""

    once: ClassVar[dict[str, intensity.IntensityModel]] = {}

    @pytest.fixture(autouse=True, params=MADE)
    def _called(self, request):
        self.called = request.param
        self.update_is_refit = self.called in {"popularity", "returning", "als", "bpr"}
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
