"""What a validation is: a frozen record, and how plain values become one."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.config import ConsumerConfig, DataConfig, PlatformConfig
from rimsim.config.fields import STRICT, require_distinct
from rimsim.errors import ConfigError, nearest
from rimsim.intensity.registry import mark_and_ground, parts
from rimsim.market.consumers.truths import TRUTHS
from rimsim.plugs import without_name

RANDOM = "random"
"""In place of a model's name: every item is as likely as any other."""
MODELS = ("bag", "ease", "factors", "returning", "popularity", "als", "gru", RANDOM)
"""Models that are compared where none is named, beside the platform's; ``als`` only where its package is installed."""
BESTSELLERS = "popularity"
"""The model that recommends what most users took."""
AUTO = "auto"
"""In place of a truth's name: the one that the log's later sessions choose."""


def _default_models() -> tuple[str, ...]:
    serving, _ = mark_and_ground(PlatformConfig().model)
    there = (name for name in MODELS if name != "als" or importlib.util.find_spec("implicit"))
    return tuple(dict.fromkeys((*there, serving)))


def with_serving(models: Sequence[str] | None, serving: str, without: Sequence[str] = ()) -> list[str]:
    """Models, and those that say whether a platform's model beats bestsellers: its mark model and bestsellers.

    Args:
        models: What was asked for; None: the default.
        serving: The platform's model.
        without: Models that are left out whatever is asked.

    Raises:
        ConfigError: If the platform's model is unknown, or a file without a name in it.
    """
    _require_name(serving)
    if ":" not in serving:
        parts(serving)
    asked = list(_default_models() if models is None else models)
    needed = (name for name in (mark_and_ground(serving)[0], BESTSELLERS) if name not in {*asked, *without})
    return [*asked, *dict.fromkeys(needed)]


def _require_name(model: str) -> None:
    if model.endswith(".py"):
        raise without_name(model, "model")


@dataclass(frozen=True, config=STRICT)
class AnswersConfig:
    """Answers that are known without selection, and what counts as a yes."""

    table: str | None = Field(
        default=None, description="Path of the table; see rimsim.data.load_observed. null: none."
    )
    columns: str | None = Field(default=None, description="Which column is which; null: usual names.")
    value: str | None = Field(default=None, description="Column of values; null: the layout's.")
    taken_at: float = Field(default=1.0, gt=0, description="Values from here on are a yes.")
    k: int = Field(default=5, ge=1, description="Items that are chosen among those a user was asked about.")


@dataclass(frozen=True, config=STRICT)
class ValidateConfig:
    """Real and simulated worth of recommenders on the later sessions of a log."""

    data: DataConfig = Field(default=DataConfig(min_item_events=30), description="Which log.")
    models: tuple[str, ...] = Field(
        default_factory=_default_models,
        min_length=2,
        description="Names that rimsim.intensity.registry.make knows, places such as `mine.py:Model`, or random.",
    )
    without: tuple[str, ...] = Field(default=(), description="Models that are left out of these.")
    truths: tuple[str, ...] = Field(
        default=(AUTO, *TRUTHS),
        min_length=1,
        description="Truths that are fitted to the whole log and judged; auto: which one its later sessions choose.",
    )
    draws: int = Field(default=5, ge=1, description="How often every user's later session is drawn anew.")
    after: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="A session is drawn among those after this share of a user's events.",
    )
    slate: int = Field(default=10, ge=1, description="Items that are recommended to a user.")
    position_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=ConsumerConfig().position_decay, description="γ: examination at position r is γ^(r−1)."
    )
    rank: int = Field(default=ConsumerConfig().rank, ge=1, description="Factors of a truth's preferences.")
    serving: str = Field(
        default=PlatformConfig().model,
        description="The model that a platform would serve: its mark model is compared with bestsellers, where both "
        "are among the models, and its λ(x) with the events of held-out sessions.",
    )
    observed: AnswersConfig = Field(
        default=AnswersConfig(), description="Answers without selection that truths and models are judged on."
    )
    resamples: int = Field(default=1000, ge=100, description="Bootstrap samples of users.")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")

    def __post_init__(self) -> None:
        require_distinct(self, ("models", "without", "truths"))
        for model in (*self.models, self.serving):
            _require_name(model)
            if model != RANDOM and ":" not in model:
                parts(model)
        for truth in self.truths:
            if truth not in {AUTO, *TRUTHS}:
                raise ConfigError(f"truths: found {truth!r}.{nearest(truth, [AUTO, *TRUTHS])}")
        for model in self.without:
            if model not in self.models:
                raise ConfigError(f"without: found {model!r}.{nearest(model, self.models)}")
        if len(self.chosen) < 2:
            raise ConfigError(
                f"without: leaves {list(self.chosen)} of the models; allowed: at least two left"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The models that are compared: ``models`` but for those of ``without``."""
        return tuple(name for name in self.models if name not in self.without)
