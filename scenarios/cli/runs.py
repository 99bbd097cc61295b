"""Commands that make, resume, repeat and export runs.

Options have the names of parameters of :func:`rimsim.scenarios.compare` and :func:`rimsim.scenarios.sweep`. An option
that is not given has the default of its parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rimsim import scenarios
from rimsim.errors import ConfigError, RunFolderError
from rimsim.scenarios.cli import tools
from rimsim.scenarios.cli.completion import RUN, SCENARIO, agents, one_of

if TYPE_CHECKING:
    from rimsim.config.guarantees import GroupShare
    from rimsim.scenarios import Run


_BETA = "exposure.beta"
_EXECUTION = ("batch_size", "workers", "backend", "address")


@click.command(cls=tools.PlugCommand)
@click.argument("scenario", required=False, shell_complete=SCENARIO)
@tools.options("compare")
def compare(*, resume: bool, dry_run: bool, trust: bool, source: Path | None, **values: Any) -> None:
    """Compare agents in a simulated market.

    SCENARIO is a name (rimsim scenarios) or a YAML file (default: closed-loop).
    """
    if source is not None:
        # A wrong folder is refused before the slow import of torch.
        scenarios.load_run(source, "comparison")
    arguments = _arguments(values, resume=resume, needs_trust=dry_run and not trust)
    if arguments["guarantee"]:
        from rimsim.config.guarantees import require_single

        require_single(arguments["guarantee"], "--guarantee")
    if dry_run:
        _print_plan(arguments, resume=resume or source is not None)
    elif resume:
        tools.print_run(_resumed(arguments, "comparison", source))
    elif source is not None:
        _repeat(arguments, source)
    else:
        made = scenarios.compare(**arguments, command=tools.command_line(), console=tools.terminal())
        tools.print_run(made, is_announced=True)


@click.command(cls=tools.PlugCommand)
@click.argument("scenario", required=False, shell_complete=SCENARIO)
@tools.options("sweep")
def sweep(
    *, resume: bool, dry_run: bool, trust: bool, beta: str | None, grid: tuple[str, ...], **values: Any
) -> None:
    """Compare agents over a grid of settings.

    SCENARIO is a name (rimsim scenarios) or a YAML file (default: closed-loop).
    """
    parsed = _parsed_grid(grid, beta)
    swept = {name: f"--grid {name}" for name in parsed} | ({} if beta is None else {_BETA: "--beta"})
    tools.require_once(values, swept)
    arguments = _arguments(values, resume=resume, needs_trust=dry_run and not trust)
    if parsed:
        arguments["grid"] = parsed
    if dry_run:
        from rimsim.scenarios.study.compare import default_grid

        arguments.setdefault("grid", default_grid(arguments["guarantee"]))
        _print_plan({"control": None, **arguments}, resume=resume)
    elif resume:
        tools.print_run(_resumed(arguments, "sweep"))
    else:
        made = scenarios.sweep(**arguments, command=tools.command_line(), console=tools.terminal())
        tools.print_run(made, is_announced=True)


def _print_plan(arguments: Mapping[str, Any], *, resume: bool) -> None:
    """Check a study and print its plan."""
    if resume:
        raise ConfigError(
            "--dry-run cannot be used for a run that has begun. Leave out --dry-run, or leave out "
            "--resume and --from"
        )
    from rimsim.scenarios.runs.arms import StudyOptions
    from rimsim.scenarios.runs.execution import Execution
    from rimsim.scenarios.runs.locks import folder_for, require_free
    from rimsim.scenarios.study import checks
    from rimsim.scenarios.study.notes import print_notes
    from rimsim.scenarios.study.plan import planned, study_lines

    grid = checks.grid_with(arguments.get("grid", {}), arguments["guarantee"])
    options = StudyOptions(**{name: arguments[name] for name in StudyOptions.names() if name in arguments})
    execution = Execution(**{name: arguments[name] for name in _EXECUTION if name in arguments})
    log = checks.LogArguments(arguments.get("data"))
    base = checks.resolved(
        arguments.get("scenario", "closed-loop"),
        arguments.get("rounds"),
        log,
        arguments["settings"],
        arguments["guarantee"],
    )
    folder = folder_for(arguments.get("out"), f"{base.name}-sweep" if grid else base.name)
    require_free(folder)
    study = planned(folder, base, grid, options, execution)
    print_notes(
        [part.point.config for part in study.plans], tools.terminal(), study.plans[0].options.agents or ()
    )
    for name, text in study_lines(study, execution):
        click.echo(f"{name:10} {text}")


def _arguments(values: Mapping[str, Any], *, resume: bool, needs_trust: bool) -> dict[str, Any]:
    """Arguments of ``compare`` or ``sweep``, from the given options.

    Options with dotted names are fields of a scenario, so they become settings. With ``needs_trust``, code that only
    the scenario names is refused.
    """
    tools.require_once(values)
    arguments = tools.given(values)
    fields = {name: arguments.pop(name) for name in list(arguments) if "." in name}
    arguments |= {
        "settings": dict(arguments["settings"]) | fields,
        "guarantee": _guarantees(arguments["guarantee"]),
    }
    if not resume:  # otherwise a folder may stand for the scenario
        scenario = arguments.get("scenario", "closed-loop")
        _require_scenario(scenario, arguments.get("agents", ()))
        # A dry run is how a stranger's scenario is looked at, so nothing of it is imported without consent.
        if needs_trust:
            _require_trust(scenario, arguments["settings"])
    return arguments


def _require_scenario(name: str, agents: Sequence[str]) -> None:
    """Refuse a scenario with the name of an agent."""
    from rimsim.agents.registry import ENTRIES
    from rimsim.config import scenario_names

    if name in ENTRIES and name not in scenario_names():
        raise ConfigError(
            f"scenario {name!r} is unknown, but an agent has this name. Leave out the space in the list of "
            f"agents: --agents {','.join([*agents, name])}"
        )


def _require_trust(scenario: str, settings: Mapping[str, object]) -> None:
    """Refuse code that only the scenario names."""
    from rimsim.config import find_scenario, override
    from rimsim.user_code import require_trust

    config = override(find_scenario(scenario), dict(settings))
    require_trust(scenario, config.plugs, [str(value) for value in settings.values()])


def _guarantees(pairs: Sequence[tuple[str, GroupShare]]) -> dict[str, GroupShare]:
    """Share of each ``--guarantee COLUMN=SHARE``, by column."""
    shares: dict[str, GroupShare] = {}
    for column, share in pairs:
        if column in shares:
            raise ConfigError(f"--guarantee: the column {column!r} occurs twice. Give each column once")
        shares[column] = share
    return shares


def _parsed_grid(pairs: Sequence[str], betas: str | None) -> dict[str, list[object]]:
    """Grid from each ``--grid FIELD=VALUE,VALUE,…`` and from ``--beta VALUE,VALUE,…``."""
    from rimsim.config import ScenarioConfig, override

    grid: dict[str, list[object]] = {}
    for text in [*pairs, *([] if betas is None else [f"{_BETA}={betas}"])]:
        name, equals, values = text.partition("=")
        name = name.strip()
        value_texts = tools.listed(values)
        is_beta = name == _BETA and betas is not None
        if name in grid:
            both_options = f"--beta and --grid {name}" if is_beta else f"--grid {name} and --grid {name}"
            raise ConfigError(f"{both_options} set the same field. Give all of its values in one of them")
        if not equals or not name or not value_texts:
            option = "--beta" if is_beta else "--grid"
            raise ConfigError(
                f"{option}: {text!r} is not a field with values. Write FIELD=VALUE,VALUE,… once per field, "
                "such as exposure.cost=1,2,4"
            )
        grid[name] = [tools.read_value(value_text, f"--grid: {name}") for value_text in value_texts]
    if betas is not None:
        for beta in grid[_BETA]:  # this refuses a value that the field does not allow, and names the option
            override(ScenarioConfig(), {_BETA: beta}, origin="--beta")
    return grid


def _resumed(arguments: dict[str, Any], kind: str, source: Path | None = None) -> Run:
    """Resume the run whose folder the command line names."""
    if "out" not in arguments and "scenario" in arguments and Path(arguments["scenario"]).is_dir():
        arguments["out"] = arguments.pop("scenario")
    if "out" not in arguments or source is not None:
        raise ConfigError("--resume needs the folder of the run. Add --out RUN, and leave out --from")
    if not Path(arguments["out"]).is_dir():
        raise RunFolderError(
            f"{arguments['out']}: no such folder, so there is nothing to resume. Leave out --resume to begin "
            "a run in this folder"
        )
    _require_same(scenarios.load_run(arguments["out"], kind), arguments)
    return scenarios.resume(arguments["out"], **_execution(arguments))


def _repeat(arguments: dict[str, Any], source: Path) -> None:
    """Repeat the run of a folder, and compare the tables."""
    from rimsim.scenarios.runs.arms import StudyOptions
    from rimsim.scenarios.runs.digests import different_tables, digest
    from rimsim.scenarios.study.repetition import changes

    first_run = scenarios.load_run(source, "comparison")
    _require_same(first_run, arguments)
    input_changes = changes(first_run)
    for change in input_changes:
        click.echo(f"note: {first_run.folder}: {change}")
    options = StudyOptions.of(first_run.config) | {"measures": list(first_run.own_measures)}
    second_run = scenarios.compare(
        first_run.scenario,
        out=arguments.get("out"),
        command=tools.command_line(),
        **options,
        **_execution(arguments),
    )
    tools.print_run(second_run, is_announced=True)
    if digest(first_run) != digest(second_run):
        table_names = ", ".join(different_tables(first_run, second_run))
        raise RunFolderError(
            f"{second_run.folder} differs from {first_run.folder} in {table_names} "
            f"(digests {digest(second_run)} and {digest(first_run)}). Changed: "
            f"{'; '.join(input_changes) or 'nothing in log, files, versions and config'}"
        )
    click.echo(f"equal to {source}: {digest(first_run)}")


def _execution(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Execution options that were given, and the console."""
    given_options = {name: arguments[name] for name in _EXECUTION if name in arguments}
    return given_options | {"console": tools.terminal()}


def _require_same(run: Run, arguments: Mapping[str, Any]) -> None:
    """Refuse options that differ from those of a run folder."""
    from rimsim.scenarios.runs.arms import StudyOptions
    from rimsim.scenarios.study.checks import LogArguments, resolved
    from rimsim.scenarios.study.repetition import require_same

    log = LogArguments(arguments.get("data"))
    scenario = resolved(
        arguments.get("scenario", run.scenario),
        arguments.get("rounds"),
        log,
        arguments["settings"],
        arguments["guarantee"],
    )
    entries = {name: arguments.get(name) for name in StudyOptions.names()}
    require_same(run, scenario, entries | {"sweep": arguments.get("grid")})


@click.command(cls=tools.PlugCommand)
@tools.options("backtest")
def backtest(out: Path | None, **values: Any) -> None:
    """Compare intensity models by their predictions of later events."""
    from rimsim.config.reading import record_from

    kind = scenarios.BacktestConfig
    plain = tools.nested(values, kind().data.min_item_events)
    config = record_from(plain, kind, origin="backtest", options=tools.option_of_field())
    tools.print_run(
        scenarios.backtest(config, out=out, command=tools.command_line(), report=tools.print_line).run
    )


@click.command(cls=tools.PlugCommand)
@tools.options("validate")
def validate(out: Path | None, **values: Any) -> None:
    """Validate a simulation by held-out sessions."""
    from rimsim.config.reading import record_from
    from rimsim.scenarios.kinds.validate import with_serving

    option_of_field = tools.option_of_field()
    kind = scenarios.ValidateConfig
    for name in ("observed.columns", "observed.taken_at"):
        if values[name.replace(".", "__")] is not None and values["observed__table"] is None:
            raise ConfigError(
                f"{option_of_field[name]}: this option needs a file of known answers. Add --observed FILE"
            )
    plain = tools.nested(values, kind().data.min_item_events)
    if "serving" in plain:
        plain["models"] = with_serving(plain.get("models"), plain["serving"], plain.get("without", ()))
    config = record_from(plain, kind, origin="validate", options=option_of_field)
    made = scenarios.validate(
        config,
        out=out,
        command=tools.command_line(),
        report=tools.print_line,
        console=tools.terminal(),
    )
    tools.print_run(made.run)


@click.command(cls=tools.PlugCommand)
@click.argument("a", shell_complete=one_of(agents))
@click.argument("b", shell_complete=one_of(agents))
@tools.options("experiment")
def experiment(a: str, b: str, *, settings: tuple[tuple[str, object], ...], **values: Any) -> None:
    """Compare an A/B test with two complete markets.

    Both arms share visitors, items, a log and the guarantees. Tables go to experiment.parquet and arrivals.parquet.
    """
    tools.require_once(values | {"settings": settings})
    arguments = tools.given(values)
    fields = {name: arguments.pop(name) for name in list(arguments) if "." in name}
    arguments |= {
        "settings": dict(settings) | fields,
        "command": tools.command_line(),
        "console": tools.terminal(),
    }
    tools.print_run(scenarios.experiment(a, b, **arguments).run)


@click.command(cls=tools.PlugCommand)
@click.argument("scenario", required=False, shell_complete=SCENARIO)
@tools.options("payback")
def payback(*, resume: bool, settings: tuple[tuple[str, object], ...], **values: Any) -> None:
    """Map when a guarantee pays, by learner and guarantee.

    SCENARIO is a name (rimsim scenarios) or a YAML file (default: closed-loop). The log of each simulated world hides
    what its items are worth, unless --set says otherwise. Tables go to payback.parquet and gains.parquet, the picture
    to pictures/payback.png.
    """
    tools.require_once(values | {"settings": settings})
    asked = tools.given(values)
    if resume:
        tools.print_run(_resumed_map(asked | dict(settings)))
        return
    fields = {name: asked.pop(name) for name in list(asked) if "." in name}
    asked |= {"settings": dict(settings) | fields}
    made = scenarios.payback(**asked, command=tools.command_line(), console=tools.terminal())
    tools.print_run(made.run)


def _resumed_map(asked: Mapping[str, Any]) -> Run:
    """Resume the payback map whose folder the command line names."""
    if "out" not in asked:
        raise ConfigError("--resume needs the folder of the run. Add --out RUN")
    if others := sorted(set(asked) - {"out", "workers"}):
        option = tools.option_of_field().get(others[0], others[0])
        raise ConfigError(
            f"{option} cannot be given with --resume, because the run has its options already. Leave it out"
        )
    scenarios.load_run(asked["out"], "payback")  # a wrong folder is answered before torch is imported
    return scenarios.resume(asked["out"], workers=asked.get("workers"), console=tools.terminal())


@click.command(cls=tools.PlugCommand)
@click.argument("run", type=tools.path, shell_complete=RUN)
@tools.options("ope")
def ope(run: Path, target: str, *, trust: bool, **values: Any) -> None:
    """Evaluate an agent on the ledger of another.

    RUN is the folder of a comparison. The command repeats the run, asks the target agent for a slate in each state,
    and then runs the target in a separate market. Tables go to ope.parquet in the folder, the picture to
    pictures/ope.png. RUN may also be a file of logged impressions with propensities; the target is then random.
    """
    of_log = {name: values.pop(name) for name in ("columns", "against")}
    if run.is_file():
        _ope_from_log(run, target, of_log, values)
        return
    if unusable := [name for name, value in of_log.items() if value is not None]:
        raise ConfigError(
            f"--{unusable[0]}: {run} is not a file of impressions. Name a file, or leave the option out"
        )

    # A wrong folder is refused before the slow import of torch.
    scenarios.load_run(run, "comparison")
    from rimsim.scenarios.kinds.evaluate import evaluation_report
    from rimsim.scenarios.report.console import show

    console = tools.terminal()
    show(evaluation_report(scenarios.ope(run, target, **values, trust=trust, console=console)), console)


def _ope_from_log(log: Path, target: str, of_log: Mapping[str, Any], of_run: Mapping[str, Any]) -> None:
    """Print the worth of a policy, from logged impressions."""
    if unusable := [name for name, value in of_run.items() if value is not None]:
        raise ConfigError(f"--{unusable[0]}: {log} is a log and not a run. Leave the option out")
    from rimsim.scenarios.kinds.logged_policies import logged_report
    from rimsim.scenarios.report.console import show

    evaluation = scenarios.ope_from_log(log, target, **of_log, show=tools.print_line)
    show(logged_report(evaluation), tools.terminal())


@click.command(cls=tools.Command)
@click.argument("run", type=tools.path, shell_complete=RUN)
@tools.options("export")
def export(run: Path, to: str, **values: Any) -> None:
    """Write a run's log in another package's format.

    RUN is the folder of a comparison that kept its ledger.
    """
    path, summary = scenarios.export(run, to, **values, console=tools.terminal())
    click.echo(f"{path}: {summary}")


MAKERS = (compare, sweep, payback, ope, experiment, backtest, validate, export)
"""Commands that play markets, fit models or write files."""
