"""What a back-test is: a frozen record, and how plain values become one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from rimsim.config import DataConfig
from rimsim.config.fields import STRICT, duration_seconds, require_distinct
from rimsim.intensity.registry import parts

_LARGEST_SEED = 2**31


def _duration(text: str) -> str:
    duration_seconds(text)
    return text


@dataclass(frozen=True, config=STRICT)
class SplitConfig:
    """How a log is cut into what models learn from and what they are asked to foresee."""

    kind: Literal["user-relative", "calendar"] = Field(
        default="user-relative",
        description="user-relative: half of the users give up what follows a span after their first event. "
        "calendar: everybody gives up what follows an instant.",
    )
    recent: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="user-relative: share of each user's events, the last ones, kept.",
    )
    horizon: Annotated[str, AfterValidator(_duration)] | None = Field(
        default=None,
        description="What has to be foreseen: a duration. null: user-relative: the median time from a user's first "
        "kept event to the last; calendar: a twentieth of the log.",
    )
    users: int | None = Field(
        default=None,
        ge=2,
        description="calendar: at most so many users are tested, drawn by seed; null: all.",
    )

    @property
    def overlap(self) -> float:
        """The tested part of a split over the part that is learnt from, as :func:`rimsim.measures.mean_interval` asks.

        user-relative: each seed tests another random half of the users by what the other half did. In a split by the
        calendar all seeds have the same one, and their interval is about fits alone: 0.
        """
        return 1.0 if self.kind == "user-relative" else 0.0


@dataclass(frozen=True, config=STRICT)
class BacktestConfig:
    """The paper's experiment on a log: item recommendation, user recommendation, online matching."""

    data: DataConfig = Field(default=DataConfig(min_item_events=10), description="Which log.")
    split: SplitConfig = Field(default=SplitConfig(), description="How it is cut.")
    models: tuple[str, ...] = Field(
        default=("transformer-hp", "transformer", "gru-hp", "gru", "hp", "popularity"),
        min_length=1,
        description="Names that rimsim.intensity.registry.make knows.",
    )
    recipe: Literal["thorough", "quick"] = Field(
        default="thorough",
        description="How sequence models are fitted: thorough, for a fit that has to last; quick, as the closed loop "
        "fits them.",
    )
    beta: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.0, 0.3, 0.7, 1.0),
        description="Floors of online matching, as shares of the uniform exposure.",
    )
    cap: tuple[Annotated[float, Field(ge=1)], ...] = Field(
        default=(3.0, 10.0, 200.0),
        description="Caps of online matching: c exposures an item, while a user gets so many times k positions.",
    )
    prices: Literal["cross-fitted", "seen"] = Field(
        default="cross-fitted",
        description="Prices are fitted on past states that are scored by models that have not seen what those states "
        "did next, or by the model that serves, which has (the public implementation's way).",
    )
    item_share: float = Field(default=0.01, gt=0, le=1, description="k as a share of the items, rounded up.")
    user_share: float = Field(default=0.01, gt=0, le=1, description="c as a share of the users, rounded up.")
    seeds: tuple[Annotated[int, Field(ge=0, lt=_LARGEST_SEED)], ...] = Field(
        default=(0, 1, 2), min_length=1, description="Each draws its own split and fits its own models."
    )
    tol: float = Field(
        default=1e-4, gt=0, description="Certified relative gap at which the price solver stops."
    )
    dither: float = Field(
        default=0.01,
        ge=0,
        description="Values λ − v of an item that differ by less than so much of a position's mean value are ties, "
        "broken by seed: at the prices, many items are nearly tied for the same users.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")

    def __post_init__(self) -> None:
        require_distinct(self, ("models", "beta", "cap", "seeds"))
        for model in self.models:
            parts(model)
