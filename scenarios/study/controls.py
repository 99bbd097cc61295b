"""The controls of an arm: what each kind retrains on, and what it has to wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rimsim.config import Seeds
from rimsim.errors import ConfigError, RunFolderError, nearest
from rimsim.market import build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.market.controls import AsLogged, Shadowed, require_controllable
from rimsim.market.providers import make_providers
from rimsim.scenarios.runs.status import CONTROLS, is_done
from rimsim.scenarios.runs.store import read_table
from rimsim.scenarios.study.shadow import shadow_of

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.controls import Control
    from rimsim.scenarios.runs.local import Report
    from rimsim.scenarios.runs.status import Arm


def _shadowed(arm: Arm, sizes: Sequence[int], report: Report) -> Control:
    return Shadowed(shadow_of(arm.config, arm.seed, arm.shared or arm.folder, report), sizes)


def _organic(arm: Arm, sizes: Sequence[int], report: Report) -> Control:
    report(0)
    return AsLogged(arm.config, build_world(arm.config), Seeds.all(arm.seed), sizes)


_RETRAINED: dict[str, Callable[[Arm, Sequence[int], Report], Control]] = {
    "organic": _organic,
    "random": _shadowed,
}
"""Kinds of controls that retrain, on as many events as the arm of the same agent and seed."""


def checked_controls(config: ScenarioConfig | None, kinds: Sequence[str]) -> tuple[str, ...]:
    """Kinds of controls that are known, and go with a scenario where one is given.

    Raises:
        ConfigError: If there is no such kind, or it does not go with the scenario.
    """
    for kind in kinds:
        if kind not in CONTROLS:
            raise ConfigError(f"control: {kind!r}.{nearest(kind, CONTROLS)}")
        if list(kinds).count(kind) > 1:
            raise ConfigError(f"control: {kind!r} twice; allowed: distinct kinds")
        if config is None:
            continue
        if kind in _RETRAINED and not config.platform.retrain:
            raise ConfigError(
                f"control {kind!r} with platform.retrain false, where nothing is retrained; allowed: retrain true"
            )
        if kind in _RETRAINED:
            require_controllable(config, make_arrivals(config), make_providers(config), f"control {kind!r}")
    return tuple(kinds)


def waits(arm: Arm) -> bool:
    """Whether an arm can begin only when that of its agent itself is over."""
    return arm.control in _RETRAINED


def control_of(arm: Arm, report: Report) -> Control | None:
    """What an arm's platform learns from in place of its own rounds; None: from those, or not at all.

    Args:
        arm: The arm.
        report: Called now and then with 0 while something is played.

    Raises:
        RunFolderError: If the arm of the agent itself is not complete.
    """
    if arm.control not in _RETRAINED:
        return None
    own = replace(arm, name=arm.subject, control=None)
    if not is_done(own.folder, own.part):
        raise RunFolderError(
            f"{arm.folder}: {arm.name} retrains on as many events as {arm.subject} had, whose arm of seed {arm.seed} "
            "is not complete; allowed: after it"
        )
    sizes = [
        int(read_table(own.round_file("learnt", number))["events"].item())
        for number in range(arm.config.rounds)
    ]
    return _RETRAINED[arm.control](arm, sizes, report)
