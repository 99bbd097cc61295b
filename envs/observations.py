"""Records of a current round, for observations, rewards and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import CompiledRecord, compiled
from rimsim.house_style import BLUE, VERMILION, style
from rimsim.market.slates import observed_gain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rimsim.config import Seeds
    from rimsim.market import Slates
    from rimsim.market.round import OpenRound
    from rimsim.market.state import MarketState


GROUND_BOUND = 10_000.0
"""Upper end of the observed λ(x), in events per session. A larger value is clipped, but only in the observation."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Current round and waiting arrival, as agents know them."""

    intensity: Floats
    """(M,) λ(x,y) under the platform's model."""
    admissible: Bools
    """(M,) True for items that may be shown."""
    required: Floats
    """(M,) required exposures of the round, in the unit of the guarantee."""
    exposure: Floats
    """(M,) exposures in the round so far, in the unit of the guarantee."""
    position_weights: Floats
    """(k,) weight of an exposure at each position, in the unit of the guarantee."""
    cost: float
    """c, the cost of a missing exposure, in units of λ(x,y)."""
    served: int
    """Number of arrivals of the round that have been served."""
    arrivals: int
    """N, the expected number of arrivals of the round."""

    @property
    def missing(self) -> Floats:
        """Exposures that each item still lacks."""
        return np.maximum(self.required - self.exposure, 0.0)


@compiled
def observe(relevance: Float32s, ground: Float32s, admissible: Bools, exposure: Float32s,
    shortfall: Float32s, clock: tuple[float, float], numbers: Float32s,
    mask: NDArray[np.int8]) -> None:  # fmt: skip
    """Fill in the numbers and the mask of an observation."""
    # ``numbers`` (3M + 3,) has relevance, exposure and shortfall (M numbers each), λ(x), and the elapsed shares of the
    # round and of the run. Each block of M numbers has its own loop, which the compiler turns into a copy of memory.
    # One loop over all blocks is much slower.
    m = len(exposure)
    for item in range(m):
        numbers[item] = relevance[item]
    for item in range(m):
        numbers[m + item] = exposure[item]
    for item in range(m):
        numbers[2 * m + item] = shortfall[item]
    for item in range(m):
        mask[item] = admissible[item]
    numbers[3 * m] = min(ground[0], np.float32(GROUND_BOUND))
    numbers[3 * m + 1], numbers[3 * m + 2] = clock


def observation_of(numbers: Float32s, admissible: NDArray[np.int8]) -> dict[str, Array]:
    """Observation from its numbers and its mask of items."""
    relevance, exposure, shortfall, ground, clock = _columns(admissible.shape[-1])
    return {
        "relevance": numbers[relevance],
        "ground_intensity": numbers[ground],
        "exposure": numbers[exposure],
        "shortfall": numbers[shortfall],
        "admissible": admissible,
        "clock": numbers[clock],
    }


@lru_cache(maxsize=4)
def _columns(m: int) -> list[tuple[EllipsisType, slice]]:
    """Columns of each part of an observation's numbers."""
    bounds = (0, m, 2 * m, 3 * m, 3 * m + 1, 3 * m + 3)
    return [(..., slice(begin, end)) for begin, end in pairwise(bounds)]


def popularity_groups(counts: Ints, groups: int) -> Floats:
    """Membership of items in popularity groups of equal size.

    The first group has the least popular items. Items of equal ``counts`` are ordered by index.
    """
    m = len(counts)
    group = np.empty(m, np.int64)
    # The item of popularity rank r, from 0, is in group ⌊r·groups/M⌋.
    group[np.argsort(counts, kind="stable")] = np.arange(m) * groups // m
    return np.asarray(np.arange(groups)[:, None] == group, np.float64)


@dataclass(frozen=True, eq=False)
class ObservedRound(CompiledRecord):
    """Round as an environment observes it."""

    exposure: Float32s
    """(M,) exposures in the round so far, in the unit of the guarantee."""
    shortfall: Float32s
    """(M,) missing exposures of items, in the unit of the guarantee."""
    undelivered: Floats
    """(1,) undelivered exposure of all guarantees, in the unit of the guarantee."""
    excess: Floats
    """(1,) exposures above caps, in the unit of the guarantee."""
    row: Ints
    """(1,) row of the waiting arrival in the schedule; −1 if no arrival waits."""
    last_row: Ints
    """(1,) row of the last arrival that a compiled step served; −1 if the market itself served the last slate."""


class Stock:
    """Exposure and shortfall of a round, updated by every slate."""

    def __init__(self, opened: OpenRound) -> None:
        shortfall = np.maximum(opened.required - opened.exposure, 0)
        table = opened.requirements.table
        self.observed = ObservedRound(
            exposure=opened.exposure.astype(np.float32),
            shortfall=shortfall.astype(np.float32),
            undelivered=np.array([float(shortfall.sum() + table.min_exposure.sum())]),
            excess=np.zeros(1),
            row=np.full(1, -1),
            last_row=np.full(1, -1),
        )
        self._opened = opened
        self._requirements = opened.requirements
        self._delivered = np.zeros(len(table))
        """(J,) exposures so far that count for each row of the requirements."""

    def renew(self) -> None:
        """Take over requirements that a process has changed."""
        opened = self._opened
        if opened.requirements is self._requirements:
            return
        self._requirements = opened.requirements
        shortfall = np.maximum(opened.required - opened.exposure, 0)
        missing = np.maximum(opened.requirements.table.min_exposure - self._delivered, 0)
        self.observed.shortfall[:] = shortfall
        self.observed.undelivered[0] = shortfall.sum() + missing.sum()

    def count(self, row: int, shown: Ints) -> float:
        """Count a shown slate and return its net gain.

        The net gain is the reduction of the shortfall minus the exposure above caps. ``row`` is the row of the arrival.
        """
        opened = self._opened
        observed = self.observed
        useful = observed_gain(
            shown,
            opened.requirements.position_weights,
            opened.exposure,
            opened.required,
            observed.exposure,
            observed.shortfall,
        )
        excess = 0.0
        if len(self._delivered):
            gained, excess = self._count_rows(np.array([row]), shown[None])
            useful += gained
        observed.undelivered[0] = max(observed.undelivered[0] - useful, 0.0)
        observed.excess[0] += excess
        return useful - excess

    def _count_rows(self, row: Ints, shown: Ints) -> tuple[float, float]:
        """Deficit that a slate removes, and excess that it adds."""
        table = self._opened.requirements.table
        before = self._delivered
        after = before + self._opened.requirements.delivered(shown, row)
        deficit_before = np.maximum(table.min_exposure - before, 0.0)
        deficit_after = np.maximum(table.min_exposure - after, 0.0)
        excess_before = np.maximum(before - table.max_exposure, 0.0)
        excess_after = np.maximum(after - table.max_exposure, 0.0)
        self._delivered = after
        return float((deficit_before - deficit_after).sum()), float((excess_after - excess_before).sum())


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Seeds and slates that reproduce an episode exactly."""

    seeds: Seeds
    """Seeds of the market."""
    begun: MarketState
    """State of the market at the beginning of the open round."""
    answers: tuple[Ints | Slates, ...]
    """Answers of the agent to the round's arrivals so far."""
    np_random: np.random.Generator
    """Generator of seeds for resets without a seed."""


def exposure_figure(exposure: Floats, required: Floats, title: str) -> Figure:
    """Figure of exposures and requirements, most shown items first.

    Call it within :func:`rimsim.house_style.style`.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import, and only few users render

    order = np.argsort(-exposure, kind="stable")
    ranks = np.arange(1, len(exposure) + 1)
    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        ranks, exposure[order], step="mid", color=BLUE, alpha=0.7, linewidth=0, label="exposure"
    )
    axes.plot(
        ranks,
        required[order],
        drawstyle="steps-mid",
        color=VERMILION,
        linewidth=1.5,
        label="required by the end of the round",
    )
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_ylim(bottom=0)
    ticks = [0, *(step * 10**power for power in range(8) for step in (1, 2, 5))]
    axes.set_yticks([tick for tick in ticks if tick <= axes.get_ylim()[1]])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0.5, len(exposure) + 0.5)
    axes.set_xlabel("items, most shown first")
    axes.set_ylabel("exposures in this round (√ scale)")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper right")
    return figure


def exposure_picture(exposure: Floats, required: Floats, title: str) -> NDArray[np.uint8]:
    """Picture of exposures and requirements, as an RGB array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # slow to import, and only few users render

    with style():
        canvas = FigureCanvasAgg(exposure_figure(exposure, required, title))
        canvas.draw()  # type: ignore[no-untyped-call]  # Matplotlib has no types here
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # Matplotlib has no types here
