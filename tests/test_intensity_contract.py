"""Every shipped model keeps the contract."""

from __future__ import annotations

import pytest
import torch

from rimsim.intensity import (
    EASE,
    EMA,
    GRU,
    RIM,
    AutoConfig,
    Bag,
    BagConfig,
    Factors,
    FactorsConfig,
    GraphConvolution,
    GraphConvolutionConfig,
    GRUConfig,
    Hawkes,
    HawkesPoisson,
    IntensityModel,
    MatrixFactorizationConfig,
    Popularity,
    Returning,
    Transformer,
    TransformerConfig,
    UserPopularity,
    Visits,
)
from rimsim.intensity.contract import FromHidden
from rimsim.intensity.registry import make
from rimsim.testing import IntensityModelTests


class TestOfOnesOwn(IntensityModelTests):
    """A whole λ(x,y) of one's own, which says nothing of its λ(x)."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return _Eager()


class TestMarkOfOnesOwn(IntensityModelTests):
    """A mark of one's own joined with a ground intensity, which cannot be saved."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return RIM(mark=_Shares(), ground=HawkesPoisson())


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


@pytest.mark.parametrize(("made", "is_mark"), [(_Eager, True), (_Doubled, None)])
def test_rows_of_another_sum_are_caught(made, is_mark):
    """Rows that do not sum to 1 are found in what is said to be a mark, and in a product that says another λ(x)."""

    class Mine(IntensityModelTests):
        def make(self):
            return made()

    Mine.is_mark = is_mark
    with pytest.raises(AssertionError):
        Mine().test_rows_sum_to_the_ground_intensity()


class TestPopularity(IntensityModelTests):
    """Popularity."""

    update_is_refit = True

    def make(self) -> IntensityModel:
        """The model under test."""
        return Popularity()


class TestReturning(IntensityModelTests):
    """Popularity in later sessions."""

    update_is_refit = True

    def make(self) -> IntensityModel:
        """The model under test."""
        return Returning()


class TestBag(IntensityModelTests):
    """The bag."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return Bag(BagConfig(width=8, steps=40))


class TestEASE(IntensityModelTests):
    """EASE."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return EASE()


class TestFactors(IntensityModelTests):
    """Softmax factors."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return Factors(FactorsConfig(rank=4, steps=40, further_steps=20))


class TestAuto(IntensityModelTests):
    """A model that is chosen when it is fitted."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return make("auto", mark=AutoConfig(candidates=("popularity", "ease", "returning")))


class TestAutoHawkesPoisson(IntensityModelTests):
    """A hybrid whose mark is chosen when it is fitted."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return make("auto-hp", mark=AutoConfig(candidates=("popularity", "ease")))


class TestGRU(IntensityModelTests):
    """GRU; its context holds every history, so that stepping and re-reading agree."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return GRU(GRUConfig(width=8, context=50, epochs=3, learning_rate=0.02, update_learning_rate=0.02))


class TestHawkesPoisson(IntensityModelTests):
    """Hawkes-Poisson."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return HawkesPoisson()


class TestVisits(IntensityModelTests):
    """Visits."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return Visits()


class TestUserPopularity(IntensityModelTests):
    """User popularity."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return UserPopularity()


class TestEMA(IntensityModelTests):
    """Exponential moving average."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return EMA()


class TestGRUHawkesPoisson(IntensityModelTests):
    """A hybrid."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return make("gru-hp", mark=GRUConfig(width=8, context=50, epochs=2, learning_rate=0.02))


class TestTransformer(IntensityModelTests):
    """Transformer; stepping re-reads its window, so that it agrees beyond the context too."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return Transformer(
            TransformerConfig(
                width=8,
                context=12,
                burn=4,
                epochs=3,
                learning_rate=0.02,
                update_steps_back=8,
                update_learning_rate=0.01,
            )
        )


class TestHawkes(IntensityModelTests):
    """Hawkes."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return Hawkes()


class TestALS(IntensityModelTests):
    """Matrix factorization by ALS."""

    update_is_refit = True

    def make(self) -> IntensityModel:
        """The model under test."""
        pytest.importorskip("implicit")
        return make("als", mark=MatrixFactorizationConfig(factors=6))


class TestBPR(IntensityModelTests):
    """Matrix factorization by BPR."""

    update_is_refit = True

    def make(self) -> IntensityModel:
        """The model under test."""
        pytest.importorskip("implicit")
        return make("bpr", mark=MatrixFactorizationConfig(factors=6))


class TestGraphConvolution(IntensityModelTests):
    """Graph convolution."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return GraphConvolution(GraphConvolutionConfig(width=8, epochs=3, learning_rate=0.02))
