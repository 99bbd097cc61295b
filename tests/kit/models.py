"""Models that tests bring along, made of no more than what the contract asks for."""

# ruff: noqa: D102  # the contract says what each method does
import torch

from rimsim.intensity.contract import FromHidden


class Shares(FromHidden):
    """A model whose p(y) is in proportion to the item's consumptions."""

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
