"""What there is by name: a command for each kind of thing, which prints a line for each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module

import click


def _first_lines(classes: Mapping[str, object]) -> dict[str, str]:
    return {name: (made.__doc__ or "").strip().partition("\n")[0] for name, made in classes.items()}


def _built_in(room: str) -> dict[str, str]:
    return _first_lines(import_module(room).BUILT_IN)


def _scenarios() -> dict[str, str]:
    from rimsim.config import find_scenario, scenario_names

    return {name: find_scenario(name).description for name in scenario_names()}


def _models() -> dict[str, str]:
    from rimsim.intensity.registry import shipped

    return _first_lines(shipped()) | {"MARK-GROUND": "Product of p(y|x) and λ(x), such as gru-hp."}


def _measures() -> dict[str, str]:
    from rimsim.measures import MEASURES

    return {name: measure.formula for name, measure in MEASURES.items()}


def _print(lines: Callable[[], dict[str, str]]) -> None:
    for name, line in lines().items():
        click.echo(f"{name:22} {line}")


_KINDS: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
    "scenarios": ("scenarios", _scenarios),
    "agents": ("agents (--agents)", partial(_built_in, "rimsim.agents")),
    "models": ("models (platform.model, backtest --models)", _models),
    "arrivals": ("arrival processes (arrivals.kind)", partial(_built_in, "rimsim.market.arrivals")),
    "consumers": ("consumers (consumer.kind)", partial(_built_in, "rimsim.market.consumers")),
    "providers": ("providers (providers.kind)", partial(_built_in, "rimsim.market.providers")),
    "measures": ("measures, with their formulas", _measures),
}
LISTS = tuple(
    click.Command(name, callback=partial(_print, lines), help=f"List the built-in {words}.")
    for name, (words, lines) in _KINDS.items()
)
