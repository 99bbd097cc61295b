"""Shared options; ``rimsim report``, ``diff``, ``data`` and lists."""

from __future__ import annotations

import datetime as dt
import functools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import rimsim
from rimsim import scenarios
from rimsim.errors import ConfigError, RunFolderError
from rimsim.scenarios.runs.schema import parsed_yaml

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios import Run

Command = TypeVar("Command", bound="Callable[..., Any]")


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a whole number from 1 up. Write one such as 3")
    return int(text)


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number. Write one such as 0.5") from None


def path(text: str) -> Path:
    """A path; empty text would be the current folder."""
    if not text.strip():
        raise click.BadParameter(f"{text!r} is not a path. Name a file or a folder")
    return Path(text)


def names(text: str) -> list[str]:
    """Words between commas outside brackets; ``none``: an empty list."""
    parts, depth = [""], 0
    for letter in "" if text == "none" else text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def numbers(_: click.Context, where: click.Parameter, text: str | None) -> list[float] | None:
    """Numbers between commas; ``none`` is an empty list."""
    try:
        return None if text is None else [float(part) for part in names(text)]
    except ValueError:
        raise ConfigError(
            f"{where.opts[0]}: {text!r} is not a list of numbers. Write numbers with commas between them, or none"
        ) from None


def seeds(text: str) -> list[int]:
    """Seeds: a number of them from 0, or a list."""
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    chosen = values if "," in text else list(range(sum(values)))
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"--seeds: {text!r}. Give a number of seeds (at least 1) or a list such as 0,3,7, each once"
        )
    return chosen


def setting(text: str) -> tuple[str, object]:
    """Field and value of ``--set FIELD=VALUE``."""
    field, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set: {text!r} has no =. Write FIELD=VALUE, such as exposure.beta=0.3")
    return field.strip(), read_value(value, f"--set: {text!r}")


def read_value(text: str, where: str) -> object:
    """Value as YAML reads it; a date stays text."""
    import yaml

    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where}: {text!r} cannot be read: {getattr(error, 'problem', error)}. Write a number, true, false, "
            "null or text; a text with brackets or colons needs quotes"
        ) from None
    return text.strip() if isinstance(value, dt.date) else value


_KINDS: Mapping[str, Mapping[str, Any]] = {
    "text": {},
    "required": {"required": True},
    "integer": {"type": int},
    "count": {"type": count},
    "number": {"type": number},
    "numbers": {"callback": numbers},
    "path": {"type": path},
    "names": {"type": names},
    "seeds": {"type": seeds},
    "settings": {"type": setting, "multiple": True},
    "words": {"multiple": True},
    "switch": {"is_flag": True},
    "yes": {"flag_value": True, "default": None},  # where it is not given, it says nothing, not even no
    "no": {"flag_value": False, "default": None},
}
"""Type in ``options.yaml`` → arguments of :func:`click.option`; other types list choices, parted by bars."""


_DECLARED = parsed_yaml(Path(__file__).with_name("options.yaml").read_text(encoding="utf-8"))


def _options(group: str) -> Iterator[Callable[[Command], Command]]:
    for name, entry in _DECLARED[group].items():
        if entry is None:
            yield from _options(name)
            continue
        field, kind, text = entry
        given = _KINDS.get(kind) or ({"type": click.Choice(kind.split("|"))} if "|" in kind else {})
        yield click.option(name, field.replace(".", "__"), help=text, **given)


def options(group: str) -> Callable[[Command], Command]:
    """Options of a group, in the order of its help."""
    return lambda command: functools.reduce(lambda to, add: add(to), [*_options(group)][::-1], command)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted field → value of the given options."""
    return {name.replace("__", "."): value for name, value in values.items() if value is not None}


def nested(values: Mapping[str, Any], least: int) -> dict[str, Any]:
    """Nested fields of given options."""
    plain: dict[str, Any] = {}
    for name, value in given(values).items():
        part, _, last = name.rpartition(".")
        (plain.setdefault(part, {}) if part else plain)[last] = value
    if "data" in plain:  # the embedded log is only cut; items of it need ``least`` events
        plain["data"].setdefault("min_item_events", 1 if "source" in plain["data"] else least)
    return plain


def require_names(scenario: str | None, settings: dict[str, object], agents: Sequence[str]) -> None:
    """Refuse a wrong name or field before torch is imported."""
    from rimsim.agents.registry import BUILT_IN
    from rimsim.config import find_scenario, override
    from rimsim.plugs import require_place

    override(find_scenario(scenario or "closed-loop"), settings)
    for agent in agents:
        require_place(agent.partition("(")[0], "agent", BUILT_IN)


def option_of_field() -> dict[str, str]:
    """Dotted field → option of the running command."""
    command = click.get_current_context().command
    return {str(option.name).replace("__", "."): option.opts[0] for option in command.params}


def command_line() -> str:
    """The running command line, to be recorded and repeated."""
    return shlex.join(["rimsim", *click.get_current_context().find_root().obj])


def terminal() -> Console:
    """The terminal; a file or pipe is 140 columns wide."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=140)


def print_run(run: Run) -> None:
    """Print the report of a run.

    Raises:
        RunFolderError: If no arm of a sweep is complete.
    """
    from rimsim.scenarios.report.console import show

    show(run.report(), terminal())


def print_complete(folder: str) -> None:
    """Print the tables of complete arms, where others failed."""
    from rimsim.scenarios.runs.status import status_of

    run = scenarios.load_run(folder)
    if run.kind == "sweep" or status_of(run).complete:
        with suppress(RunFolderError):  # no arm of the sweep is complete
            print_run(run)


@click.command()
@click.argument("run", type=path)
@options("report")
def report(run: Path, **flags: bool) -> None:
    """Print a report and draw its pictures again."""
    asked = [f"--{name}" for name, chosen in flags.items() if chosen]
    if len(asked) > 1:
        raise click.UsageError(
            f"{asked[1]} does not go with {asked[0]}. Give one of the two", click.get_current_context()
        )
    loaded = scenarios.load_run(run)  # before seaborn is imported, so that a wrong folder is answered at once
    from rimsim.scenarios.report.charts import draw
    from rimsim.scenarios.report.console import report_markdown, show
    from rimsim.scenarios.report.html import write_page
    from rimsim.scenarios.runs.status import digest

    if flags["digest"]:
        click.echo(digest(loaded))
        return
    found = loaded.report()
    if flags["html"]:
        click.echo(write_page(found, loaded))
    elif flags["markdown"]:
        click.echo(report_markdown(found), nl=False)
    else:
        draw(found.plots, loaded.folder / "pictures")
        show(found, terminal())


@click.command()
@click.argument("one", type=path, metavar="RUN")
@click.argument("other", type=path, metavar="OTHER")
@options("diff")
def diff(one: Path, other: Path, *, markdown: bool) -> None:
    """Print what differs between two runs, with intervals.

    Results are OTHER minus RUN over the arms and seeds that both have.
    """
    from rimsim.scenarios.report.comparison import difference_report
    from rimsim.scenarios.report.console import report_markdown, show

    found = difference_report(scenarios.load_run(one), scenarios.load_run(other))
    if markdown:
        click.echo(report_markdown(found), nl=False)
    else:
        show(found, terminal())


@click.group()
def data() -> None:
    """List, check or download logs."""


@data.command("list")
def list_() -> None:
    """List the logs that can be had by name."""
    for entry in rimsim.data.catalogue():
        click.echo(entry.text())


@data.command()
@click.argument("log", metavar="PATH")
@options("check")
def check(log: str, picture: Path | None, **selection: Any) -> None:
    """Describe a log and its possible uses.

    PATH is a name, a folder, a zip, a CSV, TSV or Parquet file. The status is 2 where nothing can be done with the log.
    """
    fields = {name.removeprefix("data."): value for name, value in given(selection).items()}
    described = rimsim.data.check(log, **fields)
    click.echo(described.text())
    if picture is not None:
        described.picture(picture)
        click.echo(f"picture     {picture}")
    rimsim.data.require_usable(described.log)


@data.command()
@click.argument("name")
@options("download")
def download(name: str, folder: Path | None) -> None:
    """Fetch NAME of rimsim data list, with its checksum."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=terminal()) as bar:
        task = bar.add_task(name, total=None, visible=False)  # it appears with the first bytes

        def show(have: int, whole: int) -> None:
            bar.update(task, completed=have, total=whole, visible=True)

        file = rimsim.data.download(name, folder, progress=show)
    click.echo(f"saved to {file}")


_NAMED = {
    "scenarios": "scenarios",
    "agents": "agents (--agents)",
    "models": "models (platform.model, backtest --models)",
    "arrivals": "arrival processes (arrivals.kind)",
    "consumers": "consumers (consumer.kind)",
    "providers": "providers (providers.kind)",
    "measures": "measures, with their formulas",
}


def _print_names(kind: str) -> None:
    """Print a line for each built-in name of a kind."""
    if kind == "scenarios":
        from rimsim.config import find_scenario, scenario_names

        lines = {name: find_scenario(name).description for name in scenario_names()}
    elif kind == "measures":
        from rimsim.measures import MEASURES

        lines = {name: measure.formula for name, measure in MEASURES.items()}
    else:
        from rimsim.intensity.registry import shipped

        room = "rimsim.agents" if kind == "agents" else f"rimsim.market.{kind}"
        made = shipped() if kind == "models" else import_module(room).BUILT_IN
        lines = {name: (one.__doc__ or "").strip().partition("\n")[0] for name, one in made.items()}
        if kind == "models":
            lines["MARK-GROUND"] = "Product of p(y|x) and λ(x), such as gru-hp."
    for name, line in lines.items():
        click.echo(f"{name:22} {line}")


LISTS = tuple(
    click.Command(name, callback=functools.partial(_print_names, name), help=f"List the built-in {words}.")
    for name, words in _NAMED.items()
)
"""Commands that print a line for each name of a kind."""
