"""The platform's model: made by name or place, and fitted to a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rimsim import rng
from rimsim.errors import ConfigError, ModelError, RimsimError, one_line
from rimsim.intensity.cache import fitted
from rimsim.intensity.contract import ModelCapabilities
from rimsim.intensity.product import settled
from rimsim.intensity.registry import make, shipped
from rimsim.plugs import imported, without_name
from rimsim.system import single_thread

if TYPE_CHECKING:
    from rimsim.config import PlatformConfig, ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import IntensityModel


def initial_model(
    config: ScenarioConfig, log: EventLog, seed: int, like: IntensityModel | None = None
) -> IntensityModel:
    """The platform's model fitted to a log, from the cache where it was fitted before.

    Args:
        config: The scenario.
        log: What to fit it to, such as ``world.past``.
        seed: Model seed.
        like: The model fitted to a larger log, whose choices hold for this one too; None: the fit chooses.

    Raises:
        ConfigError: If no model has the name, or a file of the user's own cannot be used.
    """
    single_thread()
    platform = config.platform
    model = unfitted(platform, rng.derived_seed(seed, rng.Purpose.MODEL) % 2**31, config.data.session_gap)
    known = fitted(model if like is None else settled(model, like), log)
    if not hasattr(known, "score"):
        raise ModelError(f"{platform.model}: fit returned {known!r}; allowed: the fitted model, such as self")
    return known


def unfitted(platform: PlatformConfig, seed: int, gap: str | None = None) -> IntensityModel:
    """The platform's model before it is fitted.

    Args:
        platform: The platform.
        seed: Model seed.
        gap: A silence longer than this ends a session of the log that it is for; None: what models have as default. A
            model of one's own is not told.

    Raises:
        ConfigError: If no model has the name, a file of the user's own cannot be used, or what it makes is no model.
    """
    if platform.model.endswith(".py"):
        raise without_name(platform.model, "model")
    if ":" not in platform.model:
        return make(platform.model, seed=seed, device=platform.device, gap=gap)
    factory = imported(platform.model, "model")
    try:
        model = factory(seed, platform.device)
    except RimsimError:
        raise
    except Exception as error:  # whatever a user's factory does
        raise ConfigError(
            f"model {platform.model!r} cannot be made: {type(error).__name__}: {one_line(error)}; allowed: what can be "
            "called with seed and device"
        ) from error
    lacks = [part for part in ("fit", "update", "score") if not callable(getattr(model, part, None))]
    if lacks:
        raise ConfigError(
            f"model {platform.model!r} has no {', '.join(lacks)}; allowed: a model with fit, update and score, see "
            "rimsim.intensity.IntensityModel"
        )
    return cast("IntensityModel", model)


def require_weights(platform: PlatformConfig, model: IntensityModel) -> None:
    """Refuse a model that would let all consumptions count alike where they are to be weighted.

    Raises:
        ConfigError: If the platform learns by inverse propensities and the model takes no weights.
    """
    if platform.learning == "ips" and not ModelCapabilities.of(model).takes_weights:
        able = ", ".join(
            sorted(name for name, kind in shipped().items() if ModelCapabilities.of(kind).takes_weights)
        )
        raise ConfigError(
            f"platform.learning 'ips' with platform.model {platform.model!r} ({type(model).__name__}), which takes no "
            f"weights; allowed: mark models that do ({able}), or learning 'consumed' or 'impressions'"
        )
