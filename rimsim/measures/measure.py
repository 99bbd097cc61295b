"""Measures, and the record of a round that they need."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.errors import ConfigError, MeasureError, one_line, refuse
from rimsim.measures.exposure import exposure_counts, mean_weight, weighted_exposure
from rimsim.measures.loop import AdoptionTimes
from rimsim.renamed import renamed_attribute

if TYPE_CHECKING:
    import pandas as pd

Better: TypeAlias = Literal["higher", "lower", "neither"]
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LINE = re.compile(r"\S.*")


@dataclass(frozen=True)
class Measure:
    """Measure whose values are in tables, TensorBoard and pictures.

    Example:
        >>> from rimsim.measures import Measure
        >>> empty = Measure("empty", "share", "#{positions: -1} / (n·k)", of=lambda facts: (facts.slates < 0).mean())
        >>> empty.tag
        'own/empty'
    """

    name: str
    unit: str
    """Unit; ``share`` = a part of 1, written in per cent; ``index`` = from 0 to 1, but no part."""
    formula: str
    """One line."""
    of: Callable[[RoundFacts], float | None]
    """The value in a round; None where the round has none, which leaves a gap."""
    title: str = ""
    """For the axis of a picture; empty: made of the name."""
    group: str = "own"
    """First half of the TensorBoard tag ``group/name``."""
    better: Better = "neither"
    """Direction that is good, if there is one."""
    band: int = 0
    """Place among the bands over seeds on TensorBoard's page; 0: none. A user's own measures always have a band."""
    retrained: bool = False
    """True if TensorBoard shows the parts of its change by retraining, as for a user's own measures."""

    def __post_init__(self) -> None:
        for field, allowed in (("name", _WORD), ("group", _WORD), ("unit", _LINE), ("formula", _LINE)):
            text = getattr(self, field)
            if not isinstance(text, str) or not allowed.fullmatch(text):
                words = (
                    "letters, digits and _, beginning with a letter" if allowed is _WORD else "a line of text"
                )
                self._refuse(f"{field} is {text!r}", words)
        if self.better not in get_args(Better):
            self._refuse(f"better is {self.better!r}", ", ".join(get_args(Better)))
        if not callable(self.of):
            self._refuse(f"of is a {type(self.of).__name__}", "a function of a round's record")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())

    def _refuse(self, found: str, allowed: str) -> None:
        refuse(ConfigError, f"measure {self.name!r}", found, allowed)

    @property
    def tag(self) -> str:
        """TensorBoard tag, ``group/name``."""
        return f"{self.group}/{self.name}"

    def value(self, facts: RoundFacts) -> float | None:
        """Value in a round; None if not finite."""
        try:
            result = self.of(facts)
        except Exception as error:  # whatever a user's function does
            raise MeasureError(
                f"measure {self.name!r} raised {type(error).__name__} in round {facts.round}: "
                f"{one_line(error)}"
            ) from error
        if result is None:
            return None
        if not isinstance(result, Real):
            raise MeasureError(
                f"measure {self.name!r} returned a {type(result).__name__}. Expected a number, or None "
                "for a round without a value"
            )
        number = float(result)
        return number if math.isfinite(number) else None


@dataclass(frozen=True, eq=False)
class RoundFacts:
    """Round of one agent at one seed, for measures.

    There are n arrivals with k positions each, over a catalogue of M items. Arrays are read-only, because the market
    uses them too.
    """

    round: int
    """Number of the round, from 0."""
    seed: int
    """Seed of the arm; all agents at a seed see the same arrivals and random numbers."""
    slates: NDArray[np.integer]
    """(n, k) items shown, in order of position; −1 where a position stayed empty. Rows are arrivals by time."""
    consumed: Bools
    """(n, k) consumed items."""
    probability: Floats
    """(n, k) true probability of consumption; 0 where a position is empty."""
    true_intensity: Floats
    """(n, k) true λ*(x)·p*(y|x) of what was shown; 0 where a position is empty."""
    intensity: Float32s
    """(n, k) the platform's λ(x,y) at the decision; NaN where a position is empty."""
    price: Float32s
    """(n, k) item price v at the decision; NaN for an agent without prices."""
    propensity: Float32s
    """(n, k) inclusion probability at the decision; NaN for a deterministic agent."""
    user: Ints
    """(n,) visitor of each arrival."""
    time: Floats
    """(n,) time of each arrival, seconds on the market's clock."""
    history: Ints
    """(n,) events in each visitor's state; 0 on a first visit."""
    ground_intensity: Float32s
    """(n,) the platform's λ(x)."""
    relevant: Floats
    """(n,) items that the arrival would have consumed of a catalogue shown whole."""
    counts_items: bool
    """True if ``relevant`` counts items (a replay); otherwise it is an expectation, λ*(x)."""
    required: Floats
    """(M,) required exposures b, in the unit of the guarantee."""
    position_weights: Floats
    """(k,) what an exposure at each position counts in that unit: γ^(r−1) where it is examined, 1 where it is shown."""
    least: Floats
    """(J,) exposures that each other requirement (group, campaign, cap) asks for at least, in that unit; 0: none."""
    most: Floats
    """(J,) exposures that it allows at most, in that unit; ∞: any number."""
    counted: Floats
    """(J,) exposures that counted for it, in that unit."""
    first_exposure: Ints
    """(M,) exposures in round 0 of the same arm."""
    log_counts: Ints
    """(M,) events of each item in the log that the platform trains on at the round's end."""
    popularity: Ints
    """(M,) events of each item in the log at the market's opening: a ruler that the loop does not bend."""
    release: Floats
    """(M,) release of each item, seconds on the market's clock; −∞ = it has always been there."""
    genre_weights: Floats
    """(M, G) share of each genre in each item, from :func:`rimsim.measures.genre_weights`."""
    provider: Ints
    """(M,) provider of each item, from 0 to G − 1; items themselves where nobody leaves."""
    there: Bools
    """(G,) providers that were in the market."""
    came: Bools
    """(G,) providers that have come by now, also those that left since."""
    sold: Ints
    """(M,) consumptions of each item in this round and those before it."""
    items: pd.DataFrame
    """The item table of the log, M rows: ``id``, ``title``, ``genres``, ``year``, ``release``."""
    cost: float
    """c, the cost of one exposure of shortfall, in units of intensity."""
    decay: float
    """γ, the chance that the next position is examined; 1 in a replay, which sees all positions."""
    attraction: float = 1.0
    """a, the factor of consumers on the intensity of an item that is examined."""
    item_price: Floats | None = None
    """(M,) item prices v at the round's end; None for an agent without prices."""
    adoption: AdoptionTimes | None = None
    """Times to the first consumption, up to this round's end, of the items released so far; None without any."""
    value_model: float | None = None
    """Σ w_r·model score − c·(what is missing, and what is above caps); None without certificates, as the next two."""
    bound: float | None = None
    """D(w), the least bound that is known of V of slates that keep all caps."""
    gap: float | None = None
    """``(D − V) / |D|``; None where a cap is exceeded."""
    estimated_decay: float | None = None
    """γ of examination as the platform estimates it at the round's end; None where it is given or unknown."""
    decay_error: float | None = None
    """Half the 95% interval of that estimate."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                guarded = value.view()
                guarded.flags.writeable = False
                object.__setattr__(self, field.name, guarded)

    @property
    def n_items(self) -> int:
        """Size of the catalogue, M."""
        return len(self.required)

    gamma = renamed_attribute("gamma", "decay")

    @property
    def on_offer(self) -> Bools:
        """Mask of items, released or not, whose provider is present."""
        return np.asarray(self.there[self.provider], np.bool_)

    @property
    def examination(self) -> Floats:
        """Factors a·γ^(r−1) by which positions multiply an intensity."""
        positions = self.slates.shape[1]
        if self.counts_items:  # a replay, which sees all positions
            return np.ones(positions)
        return np.asarray(self.attraction * self.decay ** np.arange(positions), np.float64)

    @cached_property
    def exposure(self) -> Ints:
        """Exposures E of each item."""
        return exposure_counts(self.slates, self.n_items)

    @property
    def required_positions(self) -> Floats:
        """Required exposures of each item, at average positions."""
        return np.asarray(self.required / mean_weight(self.position_weights), np.float64)

    @cached_property
    def delivered(self) -> Floats:
        """Exposures of each item, in the unit of the guarantee."""
        return weighted_exposure(self.slates, self.position_weights, self.n_items)

    @cached_property
    def consumption(self) -> Ints:
        """Consumptions of each item."""
        return np.bincount(self.slates[self.consumed], minlength=self.n_items)
