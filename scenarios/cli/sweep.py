"""The grid of ``rimsim sweep`` as it stands on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.config import ScenarioConfig, override
from rimsim.errors import ConfigError
from rimsim.scenarios.cli.parsing import read_value
from rimsim.scenarios.store.points import BETA

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["parsed_grid"]


def parsed_grid(pairs: Sequence[str], betas: str | None) -> dict[str, list[object]]:
    """The grid that options say.

    Args:
        pairs: ``FIELD=VALUE,VALUE,…`` as given to ``--grid``.
        betas: ``VALUE,VALUE,…`` as given to ``--beta``.

    Raises:
        ConfigError: If one has no field, no value, or a field that another has, or if a β is none.
    """
    grid: dict[str, list[object]] = {}
    for text in [*pairs, *([] if betas is None else [f"{BETA}={betas}"])]:
        field, equals, values = text.partition("=")
        field = field.strip()
        parts = [part for part in values.split(",") if part.strip()]
        if not equals or not field or not parts or field in grid:
            option = "--beta or --grid" if field == BETA else "--grid"
            raise ConfigError(
                f"{option}: {text!r}; allowed: FIELD=VALUE,VALUE,… once a field, such as exposure.cost=1,2,4"
            )
        grid[field] = [read_value(part, f"--grid: {field}") for part in parts]
    if betas is not None:
        for beta in grid[BETA]:
            override(ScenarioConfig(), {BETA: beta}, origin="--beta")
    return grid
