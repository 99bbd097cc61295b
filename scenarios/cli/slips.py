"""Checks of a command line before torch is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rimsim.agents.registry import BUILT_IN, ENTRIES
from rimsim.config import find_scenario, override, scenario_names
from rimsim.config.fields import DEFAULT_MODEL
from rimsim.declarations import module_tree, require_declared, require_declared_options
from rimsim.entry_points import places
from rimsim.errors import ConfigError
from rimsim.intensity.model_names import BUILT_IN as MODELS
from rimsim.intensity.model_names import is_model, unknown_model
from rimsim.plugs import named_options, require_place
from rimsim.user_code import require_trust as require_trusted_code
from rimsim.user_code import without_name


def require_study(
    scenario: str | None, settings: dict[str, object], agents: Sequence[str], measures: Sequence[str] = ()
) -> None:
    """Refuse wrong names and fields of a study."""
    if scenario is not None and scenario in BUILT_IN and scenario not in scenario_names():
        words = ",".join([*agents, scenario])
        raise ConfigError(
            f"scenario {scenario!r} is unknown, but an agent has this name. Leave out the space in the list of "
            f"agents: --agents {words}"
        )
    config = override(find_scenario(scenario or "closed-loop"), settings)
    require_agents(agents)
    require_models([config.platform.model], "platform.model", [DEFAULT_MODEL])
    for field, kind in (
        ("arrivals.kind", config.arrivals.kind),
        ("consumer.kind", config.consumer.kind),
        ("providers.kind", config.providers.kind),
    ):
        if ":" in kind:  # a part of the user's own, as in `file.py:Name`
            require_declared(kind, field)
    for text in config.processes:
        name, options = named_options(text, "processes")
        if ":" in name:
            require_declared(name, "processes", options)
    for place in measures:
        if ".py:" in place:
            require_declared(place, "measure")
    if measures:
        from rimsim.measures import own_measures

        own_measures(measures)


def require_trust(scenario: str | None, settings: dict[str, object]) -> None:
    """Refuse code that only the scenario names."""
    name = scenario or "closed-loop"
    config = override(find_scenario(name), settings)
    require_trusted_code(name, config.plugs, [str(value) for value in settings.values()])


def require_group_columns(
    scenario: str | None, settings: dict[str, object], data: str | None, columns: Sequence[str]
) -> None:
    """Refuse groups of columns that the log does not have.

    ``columns`` are the columns that ``--guarantee`` and ``--groups`` name; ``data`` is the log, if it is not the
    scenario's.
    """
    changes = settings if data is None else settings | {"data.source": data}
    config = override(find_scenario(scenario or "closed-loop"), changes)
    group_columns = [*columns, *(group.column for group in config.exposure.groups)]
    if group_columns:
        from rimsim.data.readers.headers import require_header

        require_header(config.data, group_columns)


def require_agents(texts: Iterable[str]) -> None:
    """Refuse an agent's wrong name, file or option."""
    for text in texts:
        name, options = named_options(text, "agent")
        place = require_place(name, "agent", BUILT_IN)
        if place in ENTRIES:
            tree = module_tree(f"rimsim.agents.{ENTRIES[place].module}")
            if tree is not None:
                require_declared_options(tree, ENTRIES[place].cls, options, f"agent {name!r}")
        else:
            require_declared(place, "agent", options)


def require_models(texts: Iterable[str], field: str = "model", accepted: Sequence[str] = ()) -> None:
    """Refuse a model's wrong name or file, except ``accepted``."""
    for text in texts:
        name, _ = named_options(text, "model")
        if name.endswith(".py"):
            raise without_name(name, "model")
        place = name if name in MODELS else places("models").get(name, name)
        if ":" in place:
            require_declared(place, "model")
        elif name not in accepted and not is_model(name):
            raise unknown_model(name, tuple(accepted), field=field)


def as_setting(option: str, words: Sequence[str]) -> str | None:
    """``--set FIELD=VALUE`` for an option that a command lacks."""
    from rimsim.config import ScenarioConfig
    from rimsim.config.reading import dotted_names

    name = option.removeprefix("--").replace("-", "_")
    fields = [field for field in dotted_names(ScenarioConfig) if field.rpartition(".")[2] == name]
    if not fields:
        return None
    # Of several fields with this name, the one nearest to the top of a scenario is meant.
    field = min(fields, key=lambda field: field.count("."))
    return f"--set {field}={_value_of(option, words) or 'VALUE'}"


def _value_of(option: str, words: Sequence[str]) -> str:
    """Value of an option in a command line, or nothing.

    The value stands in the same word, after an equals sign, or is the next word.
    """
    for word, next_word in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else next_word
    return ""
