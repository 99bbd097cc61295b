"""Models by name: ``gru``, ``gru-hp``, ``auto``, …, and registered ones."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from rimsim.config.fields import duration_seconds
from rimsim.data.log import EventLog
from rimsim.entry_points import places
from rimsim.errors import ConfigError, RimsimError, one_line, refuse
from rimsim.intensity.contract import IntensityModel, resolved
from rimsim.intensity.fresh import Fresh
from rimsim.intensity.ground.decayed import EMA, UserPopularity
from rimsim.intensity.ground.hawkes import Hawkes, HawkesPoisson
from rimsim.intensity.ground.visits import Visits
from rimsim.intensity.habits.mixture import BagHabits, EASEHabits, FactorsHabits
from rimsim.intensity.habits.own_history import OwnHistory
from rimsim.intensity.habits.recent_popularity import RecentPopularity
from rimsim.intensity.impressions import Calibrated
from rimsim.intensity.model_names import BUILT_IN, GROUNDS, MARKS, unknown_model
from rimsim.intensity.persistence import config_from
from rimsim.intensity.persistence import load as load_imported
from rimsim.intensity.popularity import Popularity, Returning
from rimsim.intensity.product import RIM
from rimsim.intensity.selection.auto import CANDIDATES, RankedModel, SelectedModel, ranked
from rimsim.intensity.sequence.gru import GRU, GRUConfig
from rimsim.intensity.sequence.transformer import Transformer, TransformerConfig
from rimsim.intensity.sets.bag import Bag
from rimsim.intensity.sets.ease import EASE
from rimsim.intensity.sets.factors import Factors
from rimsim.intensity.sets.matrix_factorization import MatrixFactorization
from rimsim.plugs import named_options, require_options
from rimsim.user_code import imported, without_name


class Auto(SelectedModel):
    """Mark model that chooses among registered mark models."""

    kind: ClassVar[str] = "auto"
    # ``is_stored`` looks for this attribute in the class itself, so the attribute of the base class is repeated.
    stored_parts = SelectedModel.stored_parts

    def _make(self, name: str, **options: Any) -> IntensityModel:
        return make(name, **options)

    def _is_mark(self, name: str) -> bool:
        return mark_and_ground(name, must_exist=True)[1] is None


@dataclass(frozen=True)
class _Entry:
    """Shipped model."""

    model: type[Any]
    """Class of the model."""
    fixed: tuple[tuple[str, object], ...] = ()
    """Fields of the config that follow from the name of the model."""
    thorough: object | None = None
    """Config for a single fit, which may take longer than a fit in each round."""

    @property
    def config(self) -> type[Any]:
        """Class of the config record of this model."""
        return type(self.model().config)


_AHEAD = 10
"""Number of next events that p is fitted to. It is above 1, because most neighbouring events in MovieLens have the same
time."""
_SAMPLED = 0.5
"""Share of positions in the loss. Half of the positions are nearly as informative as all, because neighbours share
labels."""

_SHIPPED: dict[str, _Entry] = {
    "popularity": _Entry(Popularity),
    "returning": _Entry(Returning),
    "fresh": _Entry(Fresh),
    "bag": _Entry(Bag),
    "ease": _Entry(EASE),
    "factors": _Entry(Factors),
    "own": _Entry(OwnHistory),
    "recent": _Entry(RecentPopularity),
    "bag-habits": _Entry(BagHabits),
    "ease-habits": _Entry(EASEHabits),
    "factors-habits": _Entry(FactorsHabits),
    "auto": _Entry(Auto),
    "gru": _Entry(GRU, thorough=GRUConfig(width=128, learning_rate=0.01, ahead=_AHEAD, sampled=_SAMPLED)),
    "als": _Entry(MatrixFactorization, fixed=(("algorithm", "als"),)),
    "bpr": _Entry(MatrixFactorization, fixed=(("algorithm", "bpr"),)),
    "transformer": _Entry(
        Transformer, thorough=TransformerConfig(epochs=16, dropout=0.2, ahead=_AHEAD, sampled=_SAMPLED)
    ),
    "hawkes": _Entry(Hawkes),
    "hp": _Entry(HawkesPoisson),
    "pop": _Entry(UserPopularity),
    "ema": _Entry(EMA),
    "visits": _Entry(Visits),
}
COMPOSITES: Final = (RIM, Calibrated)
"""Models that hold other models. They have no name of their own, but are saved and read like the named ones."""
_OWN: dict[str, Callable[..., IntensityModel]] = {}
"""Name of a registered model → its factory."""


def names() -> tuple[str, ...]:
    """Names that :func:`make` knows, in order."""
    return tuple(sorted({*BUILT_IN, *_OWN, *places("models")}))


def config_record(name: str) -> type[Any] | None:
    """Config record of a shipped model or ground intensity."""
    return _SHIPPED[name].config if name in _SHIPPED else None


def shipped() -> dict[str, type[Any]]:
    """Classes of shipped mark models and ground intensities, by name."""
    return {name: entry.model for name, entry in _SHIPPED.items()}


def load(folder: str | Path, device: str | None = None) -> Any:
    """Read a fitted model of any kind.

    ``device`` replaces the saved device. Import the class of your own model first, so that its kind is known.

    Raises:
        ModelError: If the folder has no model of a known kind, or the model is damaged.
    """
    return load_imported(folder, device)  # the imports of this module made all shipped kinds known


def register(name: str, factory: Callable[..., IntensityModel]) -> None:
    """Register your own model's ``factory(seed, device)`` under a name."""
    if name in BUILT_IN:
        problem = f"found the name {name!r}, which a shipped model has"
        refuse(ConfigError, "register", problem, "any other name")
    _OWN[name] = factory


def parts(name: str) -> tuple[str, str | None] | None:
    """Mark model and ground intensity, each with its options.

    The ground intensity is None if the name stands for a mark model alone. The result is None for your own model. In
    ``gru-hp(width=64)``, options that the mark model lacks belong to the ground intensity.
    """
    base_name, options = named_options(name, "model")
    if base_name.endswith(".py"):
        raise without_name(base_name, "model")
    if ":" in base_name or base_name in _OWN:
        return None
    if base_name not in BUILT_IN:
        if base_name not in names():
            raise unknown_model(base_name, tuple(_OWN))
        return None
    if base_name in GROUNDS:
        return "popularity", _with_options(base_name, options)
    # The name of a mark model, such as bag-habits, can contain a hyphen itself.
    mark, _, ground = (base_name, "", "") if base_name in MARKS else base_name.rpartition("-")
    if not options or not ground:
        return _with_options(mark, options), ground or None
    ground_fields = {field.name for field in dataclasses.fields(_entry(ground).config)}
    ground_fields -= {field.name for field in dataclasses.fields(_entry(mark).config)}
    ground_options = {option: value for option, value in options.items() if option in ground_fields}
    mark_options = {option: value for option, value in options.items() if option not in ground_fields}
    return _with_options(mark, mark_options), _with_options(ground, ground_options)


def _with_options(part: str, options: Mapping[str, object]) -> str:
    """Checked text of a model's name and options."""
    if not options:
        return part
    config_of(part, options)
    for name in options:
        if name in dict(_entry(part).fixed):
            raise ConfigError(
                f"model {part!r}: the model's name already sets the option {name}. Leave the option out"
            )
    return f"{part}({', '.join(f'{option}={value!r}' for option, value in options.items())})"


def mark_and_ground(name: str, *, must_exist: bool = False) -> tuple[str, str | None]:
    """Names of a model's mark model and ground intensity.

    The ground intensity is None for your own model or a mark model alone. ``must_exist`` forbids unknown names.
    """
    model_parts = parts(name) if must_exist or name.partition("(")[0] in names() else None
    return model_parts or (name, None)


def _entry(part: str) -> _Entry:
    """Entry of a shipped model; its name may have options."""
    base_name = part.partition("(")[0]
    if base_name not in _SHIPPED:
        raise unknown_model(base_name)
    return _SHIPPED[base_name]


def config_of(part: str, values: Mapping[str, object]) -> Any:
    """Config record of a named model, such as ``hp``."""
    return config_from(_entry(part).config, values, f"model {part}")


def thorough(part: str) -> object | None:
    """Config of a model for long horizons.

    p(y|x) is fitted to the next ten events instead of the next event. This fit suits a long horizon, in which λ(x,y) is
    the expected number of interactions. This fit predicts the very next event less well.
    """
    base_name = part.partition("(")[0]
    return _SHIPPED[base_name].thorough if base_name in _SHIPPED else None


def _made(
    part: str, requested: object | None, seed: int | None, device: str | None, gap: str | None = None
) -> Any:
    """Unfitted model of a name, with a completed config.

    The config is ``requested`` or the default. The options in the name replace its fields, and then the seed, the
    device and the gap replace fields that no option of the name sets.
    """
    entry = _entry(part)
    config_class = entry.config
    if requested is not None and not isinstance(requested, config_class):
        refuse(ConfigError, f"model {part}", f"config is a {type(requested).__name__}", config_class.__name__)
    config: Any = config_class() if requested is None else requested
    field_names = {field.name for field in dataclasses.fields(config)}
    options = named_options(part, "model")[1]
    if options:
        present_values = {name: getattr(config, name) for name in field_names}
        config = config_from(config_class, present_values | options, f"model {part}")
    free_fields = field_names - options.keys()  # the user's own options have priority
    changes: dict[str, object] = dict(entry.fixed)
    if seed is not None and "seed" in free_fields:
        changes["seed"] = seed
    if device is not None and "device" in free_fields:
        changes["device"] = device
    if gap is not None:
        # The field changes only if the gap has another length, because a cache key is a digest of the field's text.
        seconds = duration_seconds(gap)
        if "session_gap" in free_fields and duration_seconds(config.session_gap) != seconds:
            changes["session_gap"] = gap
        elif "gap" in free_fields and config.gap != seconds:
            changes["gap"] = seconds
    return entry.model(dataclasses.replace(config, **changes) if changes else config)


def make(
    name: str,
    *,
    mark: object | None = None,
    ground: object | None = None,
    seed: int | None = None,
    device: str | None = None,
    gap: str | None = None,
) -> IntensityModel:
    """Unfitted model with a given name.

    Args:
        name: A mark model such as ``gru`` (then λ = 1), a ground intensity such as ``hp`` (times item popularity), or
            both with a hyphen (``gru-hp``). Your own model has its registered or installed name, or a file such as
            ``mine.py:factory``. Options may follow in brackets: ``gru-hp(width=64)``.
        mark: Config record of the mark model, such as ``GRUConfig(width=128)``. ``ground`` is the config record of the
            ground intensity.
        seed: Replaces the seed of the config. ``device`` and ``gap`` (such as ``30min``) also replace fields of the
            config.
    """
    model_parts = parts(name)
    if model_parts is None:
        if mark is not None or ground is not None:
            raise ConfigError(
                f"model {name!r}: mark or ground is given, but only models of rimsim take these configs. "
                "Leave them out"
            )
        return _own(name, seed, device)
    mark_part, ground_part = model_parts
    if not ground_part and ground is not None:
        allowed = f"a ground config only for a hybrid such as {name}-hp"
        refuse(ConfigError, f"model {name!r}", "found a ground config", allowed)
    model: Any = _made(mark_part, mark, seed, device, gap)
    return RIM(mark=model, ground=_made(ground_part, ground, seed, device, gap)) if ground_part else model


def _own(name: str, seed: int | None, device: str | None) -> IntensityModel:
    """Model of a registered, installed or user's own factory."""
    own_name, options = named_options(name, "model")
    factory = _OWN.get(own_name) or imported(places("models").get(own_name, own_name), "model")
    if options:
        require_options(options, list(inspect.signature(factory).parameters)[2:], f"model {own_name!r}")
    try:
        model = factory(seed or 0, str(resolved(device or "auto")), **options)
    except RimsimError:
        raise
    except Exception as error:  # a factory of the user can raise any exception
        raise ConfigError(
            f"model {own_name!r} cannot be made: {type(error).__name__}: {one_line(error)}. Expected a class "
            "or function that takes seed and device"
        ) from error
    missing_methods = [
        part for part in ("fit", "update", "score") if not callable(getattr(model, part, None))
    ]
    if missing_methods:
        adapter = _adapter_of(model)
        remedy = (
            f"Wrap this {type(model).__name__} in rimsim.intensity.adapters.{adapter}"
            if adapter
            else "Write the methods fit, update and score of rimsim.intensity.IntensityModel"
        )
        raise ConfigError(f"model {own_name!r} has no {', '.join(missing_methods)}. {remedy}")
    return cast("IntensityModel", model)


def _adapter_of(recommender: object) -> str | None:
    """Name of the adapter for another package's recommender."""
    packages = {kind.__module__.partition(".")[0] for kind in type(recommender).__mro__}
    for package, adapter in (("implicit", "ImplicitModel"), ("lenskit", "LensKitModel")):
        if package in packages:
            return adapter
    if not hasattr(recommender, "fit"):
        return None
    if hasattr(recommender, "predict_proba"):
        return "ClassifierModel"
    return (
        "MatrixScorerModel" if hasattr(recommender, "predict") or hasattr(recommender, "transform") else None
    )


def judged(
    log: EventLog,
    names: Sequence[str] = CANDIDATES,
    *,
    gap: str = "30min",
    seed: int = 0,
    device: str | None = None,
) -> tuple[RankedModel, ...]:
    """Models of given names, ranked by :func:`ranked`.

    Arguments are those of :func:`ranked`. ``device`` and ``seed`` replace fields of the configs.
    """
    models = [make(name, seed=seed, device=device, gap=gap) for name in names]
    return ranked(log, names, models, gap, seed)
