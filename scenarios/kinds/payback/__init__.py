"""Payback maps: gains of guarantees by learner, size and world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rimsim.config import ScenarioConfig, at_seed, override, to_plain
from rimsim.errors import ConfigError, require_known
from rimsim.market import build_world
from rimsim.market.opening import warm_model
from rimsim.market.world import check_plugs, expected_arrivals, own_places
from rimsim.scenarios.kinds.payback.arms import AGENT, CEILING, MapArm, play_arm
from rimsim.scenarios.kinds.payback.gains import gains_of
from rimsim.scenarios.kinds.payback.learners import LEARNERS, reference_of
from rimsim.scenarios.kinds.payback.report import map_shares, payback_report
from rimsim.scenarios.kinds.results import RunResult
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.run import Run, load_run
from rimsim.scenarios.runs import memory
from rimsim.scenarios.runs.execution import Execution, Stage, executor
from rimsim.scenarios.runs.files import disk_errors, write_table
from rimsim.scenarios.runs.job import Job
from rimsim.scenarios.runs.locks import folder_for, locked, require_free
from rimsim.scenarios.runs.parts import begin_parts, finish_parts, has_all_parts, missing_parts
from rimsim.scenarios.runs.records import load_facts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.scenarios.study.repetition import digests, require_unchanged
from rimsim.scenarios.study.runner import resumable
from rimsim.system import cache_folder, cores
from rimsim.user_code import own_code

WORLD: Mapping[str, object] = {
    "consumer.truth": "factors",
    "consumer.hidden.rho": 0.0,
}
"""Fields of the scenario that a map replaces, unless ``settings`` names them: the log hides all of an item's worth."""
_VARIED = {
    "exposure.beta": "beta",
    "platform.learning": "learners",
    "consumer.hidden.seed": "worlds",
    "arrivals.per_round": "arrivals",
}
"""Fields that a map sets → its option."""
_HIDING = ("intensity", "logit", "cascade")
"""Kinds of consumers that can have hidden quality."""


class Payback(RunResult):
    """Payback map on disk; its ``table`` is the table ``payback``."""


@dataclass(frozen=True)
class PaybackOptions(LogArguments):
    """Learners, guarantees, worlds and log of a map."""

    rounds: int = 40
    """Number of rounds; outcomes are means over the second half."""
    worlds: int = 12
    """Number of worlds: draws of hidden quality, each with its own market seed."""
    arrivals: int = 1000
    """Number of arrivals per round."""
    beta: Sequence[float] = (0.0, 0.05, 0.1, 0.5)
    """Guaranteed shares of the uniform exposure. No guarantee (0) is always played."""
    learners: Sequence[str] = tuple(LEARNERS)
    """Some of :data:`rimsim.scenarios.kinds.payback.learners.LEARNERS`."""
    settings: Mapping[str, object] | None = None
    """Other fields to replace, by dotted name."""

    def guarantees(self) -> tuple[float, ...]:
        """Guaranteed shares in ascending order, first none."""
        shares = tuple(sorted({0.0, *map(float, self.beta)}))
        if len(shares) < 2:
            raise ConfigError(
                "beta: there is no guarantee to compare with none. Give a share above 0, such as 0.1"
            )
        return shares

    def chosen_learners(self) -> tuple[str, ...]:
        """Learners without repetition."""
        require_known("learners: {} is unknown", self.learners, LEARNERS)
        if not self.learners:
            raise ConfigError(f"learners: the list is empty. Name some of {', '.join(LEARNERS)}")
        return tuple(dict.fromkeys(self.learners))

    def base(self, scenario: str | Path | ScenarioConfig) -> ScenarioConfig:
        """Scenario of all arms, before learner and guarantee are set.

        Raises:
            ConfigError: If the scenario has guarantees of its own, or nothing to learn or hide.
        """
        for field, option in _VARIED.items():
            if named := next((name for name in self.settings or () if _overlaps(name, field)), None):
                raise ConfigError(f"{named}: a payback map sets {field} itself. Use {option} instead")
        if self.rounds < 2:
            raise ConfigError(
                f"rounds is {self.rounds}. Expected at least 2, because a map shows late rounds"
            )
        if self.worlds < 2:
            raise ConfigError(
                f"worlds is {self.worlds}. Expected at least 2, because gains are tested over worlds"
            )
        map_fields = {"arrivals.per_round": self.arrivals, "consumer.hidden.seed": "seed"}
        fields = {**WORLD, **map_fields, **(self.settings or {})}
        base = override(resolved(scenario, self.rounds, self, fields), {"exposure.beta": 0.0})
        exposure = base.exposure
        for name in ("each", "groups", "campaigns"):
            if getattr(exposure, name):
                raise ConfigError(
                    f"exposure.{name}: the scenario {base.name!r} has guarantees that do not depend on β, but a map "
                    "compares with no guarantee. Name another scenario"
                )
        if not base.platform.retrain:
            raise ConfigError(
                f"platform.retrain: the platform of {base.name!r} never retrains, so its learners do not differ. "
                "Set it to true"
            )
        if base.consumer.kind not in _HIDING:
            raise ConfigError(
                f"consumer.kind: {base.consumer.kind!r} has no hidden quality, which distinguishes the worlds. "
                f"Name a scenario with {', '.join(_HIDING)}"
            )
        return base


def _overlaps(name: str, field: str) -> bool:
    """True if one field contains the other."""
    return name == field or name.startswith(f"{field}.") or field.startswith(f"{name}.")


def payback(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    console: Console | None = None,
    **options: Any,
) -> Payback:
    """Map gains of guarantees by learner and size.

    The map answers when a guarantee is a cost, and when it is exploration that a platform lacks. Its worlds have hidden
    quality, which the log does not show.

    Args:
        scenario: Name, path of a YAML file, or a record.
        out: The folder; None: ``runs/payback-<time>``.
        workers: Number of parallel arms; None: one per core. Results do not depend on the number of workers.
        command: The command line, to be recorded.
        console: Console that shows progress bars; None: no bars.
        **options: Fields of :class:`PaybackOptions`.

    Raises:
        ConfigError: If a learner, a guarantee, the scenario or a number is not valid; then nothing is written.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; all other arms are saved.
        RunFolderError: If the folder is in use or holds a run.
    """
    chosen = PaybackOptions(**options)
    learners = chosen.chosen_learners()
    guarantees = chosen.guarantees()
    base = chosen.base(scenario)
    execution = Execution(workers=workers, console=console)
    folder = folder_for(out, "payback")
    require_free(folder)
    with own_code(own_places(base)):
        check_plugs(base)
        log = build_world(base).log
    entry = {
        "learners": {name: to_plain(LEARNERS[name].learning) for name in learners},
        "beta": list(guarantees),
        "reference": reference_of(learners),
    }
    described = {
        "payback": entry,
        "seeds": list(range(chosen.worlds)),
        "agents": [AGENT, CEILING],
        "scenario": to_plain(base),
        "log": load_facts(log),
        "digests": digests(base, [AGENT, CEILING]),
    }
    job = _job(described, base)
    n_bytes = memory.log_bytes(log) + memory.state_bytes(chosen.arrivals, log.n_items)
    n_workers = min(workers or cores(), len(job.parts))
    memory.require_memory(n_bytes + memory.MAIN, n_bytes, n_workers, "arrivals or number of events (data)")
    with locked(folder), resumable(folder):
        require_free(folder)
        begin_parts(job, folder, command or "rimsim.scenarios.payback")
        _play(job, folder, execution)
    return Payback(folder)


def resume_payback(begun: Run, execution: Execution) -> Run:
    """Resume an interrupted map.

    Raises:
        RunFolderError: If the folder is in use, or an input has changed.
        ArmsError: If arms failed.
    """
    if has_all_parts(begun.folder):
        return begun
    require_unchanged(begun)
    with locked(begun.folder), resumable(begun.folder):
        _play(_job(begun.config, begun.scenario), begun.folder, execution)
    return load_run(begun.folder)


def load_payback(path: str | Path) -> Payback:
    """Open the folder of a payback map."""
    return Payback(RunFolder.open(path, "payback").folder)


def _job(described: Mapping[str, Any], base: ScenarioConfig) -> Job[MapArm]:
    """Arms of a map, world by world.

    An interrupted map is already readable, because its first worlds have all arms.
    """
    entry = described["payback"]
    arms: list[MapArm] = []
    for world in described["seeds"]:
        config = at_seed(base, world)
        # The ceiling ranks by the opening model and true item effects, so retraining would change nothing.
        arms.append(MapArm(override(config, {"platform.retrain": False}), CEILING, CEILING, world))
        for learner, settings in entry["learners"].items():
            learning = override(config, {"platform.learning": settings})
            arms += [
                MapArm(override(learning, {"exposure.beta": beta}), AGENT, learner, world)
                for beta in entry["beta"]
            ]
    total = len(arms) * expected_arrivals(base)
    return Job(described, arms, play_arm, _write_results, bar="arrivals served", total=total)


def _play(job: Job[MapArm], folder: Path, execution: Execution) -> None:
    """Play the missing arms, and write the results."""
    worlds = list({arm.world: arm for arm in missing_parts(job, folder)}.values())
    fits = Stage("fitting the platform's model", _fit, worlds, len(worlds))
    with executor(execution) as run_tasks:
        finish_parts(job, folder, run_tasks, [fits] if worlds else [], execution.console)


def _fit(arm: MapArm, report: Callable[[int], None]) -> None:
    """Fit a world's models, before its arms need them."""
    with disk_errors(cache_folder()), own_code(own_places(arm.config)):
        build_world(arm.config)
        warm_model(arm.config, arm.world)
    report(1)


def _write_results(run: RunFolder) -> None:
    """Write the table of gains and the pictures."""
    write_table(
        run.folder / "gains.parquet", gains_of(map_shares(run), str(run.config["payback"]["reference"]))
    )
    draw(payback_report(run).plots, run.folder / "pictures")
