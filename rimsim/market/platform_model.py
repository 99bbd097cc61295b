"""Name of the platform's model, chosen by the log."""

from __future__ import annotations

from typing import Final

from rimsim.config import PlatformConfig
from rimsim.config.fields import DEFAULT_MODEL
from rimsim.data.log import EventLog
from rimsim.intensity.model_names import unknown_model
from rimsim.intensity.registry import mark_and_ground, names

_DEFAULTS: Final = {False: "bag-visits", True: "bag-habits-visits"}
"""True if users of the log may take items again → default model."""
_HABITS: Final = "-habits"
"""End of the name of a mark that knows which items a user takes again."""
_WITH_HABITS: Final = ("bag", "ease", "factors")
"""Marks that exist with habits, too."""
_WITHOUT_REPEATS: Final = (
    *_WITH_HABITS,
    "popularity",
    "returning",
    "fresh",
    "recent",
    "als",
    "bpr",
    "auto",
)
"""Marks whose p(y|x) has no part for items that the user took before. A sequence model can learn repeats by itself."""


def model_for(name: str, *, repeatable: bool) -> str:
    """Name of a model; the default depends on repeats.

    Args:
        name: Value of ``platform.model``, possibly with options, such as ``default(steps=100)``.
        repeatable: True if users of the log may take items again.
    """
    base, bracket, options = name.partition("(")
    return f"{_DEFAULTS[repeatable]}{bracket}{options}" if base == DEFAULT_MODEL else name


def require_known_model(platform: PlatformConfig) -> None:
    """Refuse an unknown name of the platform's model.

    Raises:
        ConfigError: If the name is unknown; the message has the nearest name, which may be the default.
    """
    name = platform.model.partition("(")[0]
    is_place = ":" in name or name.endswith(".py")
    if not is_place and name not in (DEFAULT_MODEL, *names()):
        raise unknown_model(name, (DEFAULT_MODEL,), field="platform.model")


def platform_model(platform: PlatformConfig, log: EventLog) -> str:
    """Name of the model of a platform on a log."""
    return model_for(platform.model, repeatable=log.repeatable)


def repeats_note(platform: PlatformConfig, log: EventLog) -> str | None:
    """Note on a named model that ignores a log's repeats."""
    if not log.repeatable or platform.model.partition("(")[0] == DEFAULT_MODEL:
        return None
    mark_text, ground = mark_and_ground(platform.model)
    mark, _, options = mark_text.partition("(")
    # The user's own candidates of auto can have habits.
    if mark not in _WITHOUT_REPEATS or "candidates" in options:
        return None
    remedy = DEFAULT_MODEL
    if mark in _WITH_HABITS:
        remedy = f"{mark}{_HABITS}" + (f"-{ground}" if ground else "")
    return (
        f"platform.model is {platform.model!r}, which does not learn which items users take again. In this log, users "
        f"may take items again (data.repeats). Set platform.model to '{remedy}'"
    )
