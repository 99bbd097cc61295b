"""Plugs that ``pyproject.toml`` names: one of each kind."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from rimsim import rng
from rimsim.agents import top_k
from rimsim.config import ScenarioConfig
from rimsim.data import data_folder
from rimsim.market.arrivals import clones_at, opening_after
from rimsim.market.consumers import Intensity
from rimsim.measures import Measure


@dataclass
class LeastShown:
    """Ranks by relevance, with a bonus for items that were shown less."""

    bonus: float = 1.0
    """Bonus of an item that was never shown, as a multiple of c."""
    name = "least-shown"
    order_free = False
    barrier_every = None

    def begin_round(self, view):
        self.k = view.k
        self.cost = self.bonus * view.cost
        self.shown = torch.zeros(len(view.required))

    def act(self, arrivals):
        slates = []
        for score, ok in zip(arrivals.intensity.cpu(), arrivals.admissible.cpu(), strict=True):
            slates.append(top_k((score + self.cost / (1 + self.shown))[None], ok[None], self.k)[0])
            self.shown[slates[-1][slates[-1] >= 0]] += 1
        return slates


class Bestsellers:
    """λ(x,y) in proportion to how often the item was consumed."""

    def __init__(self, seed, device, smooth: float = 0.1):  # noqa: ARG002  # it draws nothing
        self.smooth = smooth

    def fit(self, log):
        self.counts = torch.bincount(torch.from_numpy(log.item[log.targets]), minlength=log.n_items)
        return self

    def update(self, log):
        return self.fit(log) if log.targets.any() else self

    def score(self, states):
        share = (self.counts + self.smooth) / (self.counts + self.smooth).sum()
        return share.float().expand(len(states), -1)


@dataclass(frozen=True)
class Lunch:
    """Users of the log who come at noon, a new clone each."""

    scenario: ScenarioConfig
    per_day: int = 50
    known_beforehand = False
    keeps_users = False
    hangs_on_outcomes = False

    def opening(self, log):
        return opening_after(log, self.scenario)

    def round(self, number, so_far):
        row = np.arange(7 * self.per_day)
        draw = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 100, number + 1, row)
        users = np.unique(so_far.world.past_sessions.user)
        start = so_far.world.opening + number * 7 * 86_400
        time = start + (row // self.per_day * 24 + 12) * 3600.0 + row % self.per_day
        return clones_at(
            so_far, number, time, users[(draw * len(users)).astype(int)], start, start + 7 * 86_400
        )


class Hurried(Intensity):
    """Consumes as the truth does, but never below the first positions."""

    def __init__(self, scenario: ScenarioConfig, looks: int = 3):
        super().__init__(scenario)
        self.looks = looks

    def respond(self, visits, slates):
        answer = super().respond(visits, slates)
        seen = np.arange(slates.shape[1]) < self.looks
        return replace(answer, consumed=answer.consumed & seen, probability=answer.probability * seen)


def _top_share(facts):
    return float(np.sort(facts.exposure)[-10:].sum() / max(facts.exposure.sum(), 1))


top_share = Measure(
    "top_share", "share", "exposures of the ten most shown items / ΣE", _top_share, better="lower"
)


def toy_log():
    """Path of a small made-up log, written on first use."""
    path = data_folder() / "toy-log.csv"
    if not path.is_file():
        draw = np.random.default_rng(0)
        user = draw.integers(0, 200, 4000)
        item = (40 * draw.random(4000) ** 2).astype(int)
        time = np.sort(draw.integers(1_500_000_000, 1_520_000_000, 4000))
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (f"u{u},i{i},{t}\n" for u, i, t in zip(user, item, time, strict=True))
        path.write_text("user,item,time\n" + "".join(rows), encoding="utf-8")
    return path
