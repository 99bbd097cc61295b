"""Plugs of installed packages, by their entry points.

A package offers a plug in one of the groups ``rimsim.agents``, ``rimsim.models``, ``rimsim.arrivals``,
``rimsim.consumers``, ``rimsim.providers``, ``rimsim.processes``, ``rimsim.measures`` and ``rimsim.logs``. The name of
an entry point can be used instead of ``module:Name``. Built-in names have precedence over names of entry points.
"""

from __future__ import annotations

from functools import cache

from rimsim.errors import ConfigError

KINDS = ("agents", "models", "arrivals", "consumers", "providers", "processes", "measures", "logs")


@cache
def places(kind: str) -> dict[str, str]:
    """Location (such as ``package.module:Class``) of installed plugs, by name.

    Raises:
        ConfigError: If two packages offer different plugs with the same name.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415  # it takes 30 ms, and most names are built in

    location_of: dict[str, str] = {}
    for point in entry_points(group=f"rimsim.{kind}"):
        if location_of.setdefault(point.name, point.value) != point.value:
            two_locations = f"{location_of[point.name]} and {point.value}"
            raise ConfigError(
                f"rimsim.{kind}: two packages define {point.name!r}: {two_locations}. Uninstall one of them"
            )
    return location_of


def place_of(text: str) -> str | None:
    """Location of a plug of any kind; None if unknown."""
    name = text.partition("(")[0]
    if ":" in name:
        return text
    return next((places(kind)[name] for kind in KINDS if name in places(kind)), None)
