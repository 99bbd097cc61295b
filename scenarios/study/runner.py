"""Runs of planned studies: begin, play, join."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd

from rimsim.arrays import Floats
from rimsim.config import ScenarioConfig, to_plain
from rimsim.config.fields import duration_seconds
from rimsim.data import EventLog
from rimsim.errors import ArmsError, DiskError, RimsimError, one_line
from rimsim.market import build_world
from rimsim.market.fitness import READER, fitness
from rimsim.market.fitted import truth_bootstrap
from rimsim.market.platform_model import platform_model
from rimsim.market.world import check_promises, expected_arrivals, own_places
from rimsim.measures import MEASURES, records
from rimsim.scenarios.report.charts import draw_first
from rimsim.scenarios.report.comparison import comparison_answer, overview_plots
from rimsim.scenarios.report.loop import parts_by_seed
from rimsim.scenarios.report.sweep import sweep_matrix, sweep_table
from rimsim.scenarios.run import Run, load_run
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.arms import Arm, is_done
from rimsim.scenarios.runs.checkpoint import open_round
from rimsim.scenarios.runs.execution import Execution, Executor, Stage, executor, run_stages
from rimsim.scenarios.runs.files import read_table, write_table, write_text, write_yaml
from rimsim.scenarios.runs.locks import locked, require_free
from rimsim.scenarios.runs.points import POINTS
from rimsim.scenarios.runs.process import errors_of_interrupts
from rimsim.scenarios.runs.records import catalogue_table, load_facts, user_table, versions
from rimsim.scenarios.runs.status import is_finished
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.runs.workers import LostWorkerError
from rimsim.scenarios.study.controls import waits
from rimsim.scenarios.study.notes import notes_of, print_notes
from rimsim.scenarios.study.plan import Study, StudyPlan
from rimsim.scenarios.study.play import prepare, run_arm
from rimsim.scenarios.study.repetition import digests
from rimsim.system import give_back
from rimsim.tracking import RETRAINED, write_about, write_summary
from rimsim.user_code import own_code


def run(study: Study, command: str, execution: Execution) -> Run:
    """Carry out a comparison or sweep that has been checked."""
    # A folder with a config may belong to a run that is in progress: then ``locked`` refuses it below, with the right
    # message. Any other folder must be free, which is checked before the slow checks.
    if not (study.folder / store.CONFIG).exists():
        require_free(study.folder)
    for plan in study.plans:
        with own_code(own_places(plan.point.config)):
            check_promises(plan.point.config, plan.arms[0].seed)
    print_notes(
        [plan.point.config for plan in study.plans], execution.console, study.plans[0].options.agents or ()
    )
    with executor(execution) as run_jobs, locked(study.folder), resumable(study.folder):
        require_free(study.folder)
        for plan in study.plans:
            folder = plan.point.folder
            if study.grid and (folder / store.CONFIG).is_file() and not (folder / "rounds").exists():
                shutil.rmtree(folder)  # a sweep was interrupted while it began its points
            begin(plan, command)
        if study.grid:
            described = _described(study.plans[0], command, study.base) | {"sweep": dict(study.grid)}
            write_yaml(study.folder / store.CONFIG, described)
        return finish(study, execution, run_jobs)


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Context manager in which interruptions name the command that resumes."""
    try:
        with errors_of_interrupts():
            yield
    except KeyboardInterrupt:
        if not (folder / store.CONFIG).is_file():
            raise
        command = store.resume_command(RunFolder.open(folder))
        raise KeyboardInterrupt(f"finished rounds are saved in {folder}. To continue:\n  {command}") from None


def unfinished(study: Study) -> list[StudyPlan]:
    """Plans of points whose tables are not joined yet."""
    return [plan for plan in study.plans if not is_finished(RunFolder(plan.point.folder))]


def finish(study: Study, execution: Execution, run_jobs: Executor) -> Run:
    """Run the unfinished arms of all points; join their tables."""
    remaining = unfinished(study)
    arms = [arm for plan in remaining for arm in plan.arms]
    failures = _run_arms(arms, run_jobs, execution)
    notes = [
        gather(plan, [(arm, error) for arm, error in failures if arm.folder == plan.point.folder])
        for plan in remaining
    ]
    if failures:
        notes_text = "".join(f"\n  {note}" for note in notes if note is not None)
        run_folders = study.folder / POINTS / "*" if study.grid else study.folder
        lines = [
            f"{_failures_text(failures, len(arms))}{notes_text}",
            f"tracebacks: {run_folders / store.FAILURES}/",
        ]
        # A full disk has a remedy, and on it there may be no tracebacks.
        lines += [f"disk: {one_line(error)}" for _, error in failures if isinstance(error, DiskError)][:1]
        raise ArmsError("\n".join(lines), str(study.folder))
    finished_run = load_run(study.folder)
    if study.grid:
        shutil.rmtree(study.folder / store.STATES, ignore_errors=True)
        table = sweep_table(finished_run)
        write_table(study.folder / "sweep.parquet", table)
        matrix = sweep_matrix(table, finished_run.scenario.exposure.unit)
        if not matrix.empty:
            write_table(study.folder / "matrix.parquet", matrix)
        finished_run.draw()
    return finished_run


def begin(plan: StudyPlan, command: str) -> None:
    """Write the config of a plan into its folder."""
    folder = plan.point.folder
    config = plan.point.config
    require_free(folder)
    world = build_world(config)
    described = _described(plan, command, config) | {
        "platform_model": platform_model(config.platform, world.log),
        "truth": None if world.truth is None else asdict(world.truth.report),
        "fitness": None if world.truth is None else _fitness_entry(world.log, config, world.truth.item_bias),
        "log": load_facts(world.log),
        "notes": notes_of(config, plan.options.agents or ()),
        "digests": digests(config, (*(plan.options.agents or ()), *plan.measures)),
    }
    write_table(folder / store.CATALOGUE, catalogue_table(world.log.items, world.past.item))
    write_table(folder / store.USERS, user_table(world.log.users))
    for name in (store.BEGUN, store.CONFIG):
        write_yaml(folder / name, described)


def _fitness_entry(log: EventLog, config: ScenarioConfig, item_bias: Floats) -> dict[str, object]:
    """Entry of a config on the fitness of its truth."""
    consumer = config.consumer
    verdict = fitness(
        log,
        gap=duration_seconds(config.data.session_gap),
        kind=consumer.truth,
        rank=consumer.rank,
        bootstrap=truth_bootstrap(consumer),
        item_bias=item_bias,
    )
    entry: dict[str, object] = READER.dump_python(verdict, mode="json")
    return entry


def _described(plan: StudyPlan, command: str, config: ScenarioConfig) -> dict[str, object]:
    """Entries of a config, without entries about the log."""
    return {
        "command": command,
        "arms": list(plan.names),
        **plan.options.entries(),
        "measures": records(plan.measures),
        "scenario": to_plain(config),
        "versions": versions(),
    }


def _run_arms(arms: Sequence[Arm], run: Executor, execution: Execution) -> list[tuple[Arm, RimsimError]]:
    """Failed arms with their errors, after all arms ran."""
    if not arms:
        return []
    remaining = [arm for arm in arms if not is_done(arm.folder, arm.part)]
    # Arms of a scenario and seed share their models, so the models are fitted once, for any of these arms.
    fits = list({(arm.config, arm.seed): arm for arm in remaining}.values())
    arrivals = {config: expected_arrivals(config) for config in dict.fromkeys(arm.config for arm in arms)}
    job = partial(run_arm, batch_size=execution.batch_size)
    stages = [Stage("fitting the platform's model", prepare, fits, len(fits))]
    for stage_arms in _stages(arms):
        # A complete arm reports no progress, but it is not left out, because controls may wait for it.
        total = sum(arrivals[arm.config] for arm in stage_arms if not is_done(arm.folder, arm.part))
        stages.append(Stage("arrivals served", job, stage_arms, total, vital=False))
    return [(arm, _with_round(arm, error)) for arm, error in run_stages(stages, run, execution.console)]


def _stages(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that can run side by side, stage by stage.

    A sweep runs all points at the first seed before the next seed, so that an interrupted sweep is already readable.
    """
    is_sweep = len({arm.folder for arm in arms}) > 1
    seeds = dict.fromkeys(arm.seed for arm in arms) if is_sweep else [None]  # None: arms of all seeds
    stages = []
    for seed in seeds:
        arms_of_seed = [arm for arm in arms if seed in (arm.seed, None)]
        # Controls that need the arm of their agent come after it.
        stages += [[arm for arm in arms_of_seed if waits(arm) == is_waiting] for is_waiting in (False, True)]
    return [stage for stage in stages if stage]


def _with_round(arm: Arm, error: RimsimError) -> RimsimError:
    """Error that names the round if a worker died."""
    if not isinstance(error, LostWorkerError):
        return error
    return LostWorkerError(f"agent {arm.name!r} in round {open_round(arm)}: {error}")


def gather(plan: StudyPlan, failures: Sequence[tuple[Arm, RimsimError]]) -> str | None:
    """Join complete arms' tables and draw; return a failure's reason.

    If arms failed, the parts of tables are kept, so that the run can be resumed.
    """
    folder = plan.point.folder
    names = plan.names
    give_back()
    if not failures:
        _join(folder, names, keep_parts=False)
        return None
    for arm, error in failures:
        traceback_file = arm.folder / store.FAILURES / f"{arm.part}.txt"
        with suppress(OSError):  # if the disk is full, even the traceback cannot be written
            if not traceback_file.is_file():  # the process of the arm died before it could write the file
                write_text(traceback_file, f"{error}\n")
    if len(failures) < len(plan.arms):
        try:
            _join(folder, names, keep_parts=True)
        except Exception as error:  # noqa: BLE001  # no error here may hide the errors of the arms
            return f"the other arms are complete, but not drawn: {type(error).__name__}: {one_line(error)}"
    return None


def _failures_text(failures: Sequence[tuple[Arm, RimsimError]], arms: int) -> str:
    """Failed arms and their errors, a line per arm."""
    lines = []
    for arm, error in failures:
        arm_text = ", ".join([arm.name, *(f"{field}={value}" for field, value in arm.labels)])
        lines.append((arm_text, arm.seed, one_line(error)))
    text = "".join(f"\n  {arm_text}, seed {seed}: {reason}" for arm_text, seed, reason in sorted(lines))
    return f"{len(failures)} of {arms} arms failed:{text}"


def _join(folder: Path, names: Sequence[str], *, keep_parts: bool) -> None:
    """Join the arms' tables in order; draw the overview."""
    tables = [read_table(path) for path in sorted((folder / "rounds").glob("*.parquet"))]
    rounds = pd.concat(tables, ignore_index=True)
    # Agents have the order of the run, and not that of the names of their files.
    rank = rounds["agent"].map({name: number for number, name in enumerate(names)})
    rounds = rounds.assign(_rank=rank).sort_values(["_rank", "seed", "round", "metric"], kind="stable")
    rounds = rounds.drop(columns="_rank").reset_index(drop=True)
    run = RunFolder(folder)
    retrained = (*RETRAINED, *(name for name in run.measures if name not in MEASURES))
    parts = parts_by_seed(rounds, list(rounds["agent"].unique()), retrained)
    write_summary(folder, rounds, measures=run.measures, parts=parts)
    pictures = draw_first(overview_plots(run), folder / "pictures")
    write_about(folder, _texts(run, rounds), pictures, run.measures)
    if not keep_parts:  # if arms are missing, the parts stay, so that the run can be resumed
        write_table(folder / "rounds.parquet", rounds)
        shutil.rmtree(folder / "rounds")
        shutil.rmtree(folder / store.STATES)


def _texts(run: RunFolder, rounds: pd.DataFrame) -> dict[str, str]:
    """Texts of a run for TensorBoard."""
    present = set(rounds["agent"])
    answer = comparison_answer(run, rounds, [name for name in run.agents if name in present])
    settings = (run.folder / store.CONFIG).read_text(encoding="utf-8")
    return {
        "answer": "\n\n".join(answer),
        "command": f"```\n{store.repeat_command(run)}\n```",
        "settings": f"```\n{settings}```",
    }
