"""Shared options; ``rimsim report``, ``diff``, ``data`` and lists."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

import rimsim
from rimsim import scenarios
from rimsim.config.documents import read_yaml, written_yaml
from rimsim.entry_points import KINDS, places
from rimsim.errors import ConfigError, RunFolderError, nearest, reason
from rimsim.scenarios.cli.completion import OF_FIELD, RUN, agents, models, one_of
from rimsim.scenarios.cli.completion import scenarios as scenario_names
from rimsim.scenarios.cli.help import METAVARS, write_examples, write_options

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config.guarantees import GroupShare
    from rimsim.scenarios import Run

Function = TypeVar("Function", bound="Callable[..., Any]")


class Command(click.Command):
    """Command that refuses an option given twice."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rest of a command line, after its options were read."""
        if not ctx.resilient_parsing:
            # The parser lists a parameter once for each time that it is given.
            _, _, order = self.make_parser(ctx).parse_args([*args])
            options = [param for param in order if isinstance(param, click.Option) and not param.multiple]
            for param in options:
                if options.count(param) > 1:
                    raise click.UsageError(f"{param.opts[0]} is given twice. Give it once", ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, many of them in sections."""
        write_options(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # Click requires this argument
        """Write the examples of the command."""
        write_examples(self.name, formatter)


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a whole number of at least 1. Write a number such as 3")
    return int(text)


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number. Write a number such as 0.5") from None


def path(text: str) -> Path:
    """Path of an option; empty text is refused."""
    if not text.strip():
        raise click.BadParameter(f"{text!r} is not a path. Name a file or a folder")
    return Path(text)


def names(text: str) -> list[str]:
    """Words separated by commas; ``none`` is an empty list."""
    return [] if text == "none" else listed(text)


def listed(text: str) -> list[str]:
    """Words separated by commas that are outside brackets."""
    words = [""]
    open_brackets = 0
    for letter in text:
        open_brackets += (letter == "(") - (letter == ")")
        if letter == "," and open_brackets == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


class Names(click.ParamType[list[str]]):
    """Words of a given set, separated by commas."""

    name = "names"

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = tuple(allowed)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Words of an option."""
        words = [] if value == "none" else [word.strip() for word in str(value).split(",") if word.strip()]
        for word in words:
            if word not in self.allowed:
                self.fail(f"{word!r} is unknown.{nearest(word, self.allowed)}", param, ctx)
        return words


def numbers(_: click.Context, parameter: click.Parameter, text: str | None) -> list[float] | None:
    """Numbers separated by commas; ``none`` is an empty list."""
    try:
        return None if text is None else [float(part) for part in names(text)]
    except ValueError:
        raise ConfigError(
            f"{parameter.opts[0]}: {text!r} is not a list of numbers. Write numbers separated by commas, "
            "or the word none"
        ) from None


def seeds(text: str) -> list[int]:
    """Number of seeds, counted from 0, or a list."""
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    chosen = values
    if "," not in text:  # a single number is the number of seeds
        chosen = list(range(sum(values)))
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"--seeds: {text!r} is not a choice of seeds. Give a number of seeds, such as 5, or a list of "
            "different seeds, such as 0,3,7"
        )
    return chosen


def setting(text: str) -> tuple[str, object]:
    """Field and value of ``--set FIELD=VALUE``."""
    field, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set: {text!r} has no equals sign. Write FIELD=VALUE, such as exposure.beta=0.3")
    return field.strip(), read_value(value, f"--set: {text!r}")


def read_value(text: str, origin: str) -> object:
    """Value as YAML reads it."""
    import yaml

    try:
        value: object = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{origin}: {text!r} cannot be read: {getattr(error, 'problem', error)}. Write a number, true, "
            "false, null or text. Put quotes around a text with brackets or colons"
        ) from None
    return value


_WORDS_OF_SHARE = re.compile(r"(?::(?:groups|most=[^:=]*))+$")
"""Words after a share in ``--guarantee``."""


def guarantee(text: str) -> tuple[str, GroupShare]:
    """Column and share of ``--guarantee COLUMN=SHARE``; a sweep takes several shares."""
    from rimsim.config.guarantees import group_share

    named = _WORDS_OF_SHARE.sub("", text)
    words = text.removeprefix(named)
    column, _, share = named.rpartition("=")
    first, _, others = named.partition(",")
    if "=" in first and "=" in others:
        raise ConfigError(
            f"--guarantee: {text!r} has several columns. Repeat the option for each of them: --guarantee {first} "
            f"--guarantee {others}"
        )
    if column.strip() in ("item", "items"):
        raise ConfigError(
            f"--guarantee: {text!r} names no column of groups. For a guarantee of each item, write "
            f"--set exposure.beta={share}"
        )
    try:
        argument: dict[str, object] = {"beta": [float(beta) for beta in listed(share)]}
        for word in words.split(":")[1:]:
            name, _, value = word.partition("=")
            argument |= {"most": float(value)} if name == "most" else {"of": name}
        return column.strip(), group_share(column.strip(), argument)
    except (ValueError, ConfigError):
        raise ConfigError(
            f"--guarantee: {text!r} is not a column with a share. Write COLUMN=SHARE with a share above 0, at most 1, "
            "such as seller=0.5, COLUMN=SHARE:groups for a part of an equal share of each group, or COLUMN=0:most=2 "
            "for a cap of two shares"
        ) from None


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
    "guarantees": {"type": guarantee, "multiple": True},
    "words": {"multiple": True},
    "switch": {"is_flag": True},
    # Without the option, the value is None, so that the scenario's value stays.
    "yes": {"flag_value": True, "default": None},
    "no": {"flag_value": False, "default": None},
}
"""Type in ``options.yaml`` → arguments of :func:`click.option`. Any other type is a list of choices, separated by
bars."""

_SWITCHES = {"switch", "yes", "no"}
"""Types without a value."""

_DECLARED = read_yaml(Path(__file__).with_name("options.yaml").read_text(encoding="utf-8"))


def _options(group: str) -> Iterator[Callable[[Function], Function]]:
    """Decorators for the options of a group, in order."""
    for name, entry in _DECLARED[group].items():
        if entry is None:  # the name is that of another group, whose options belong to this group too
            yield from _options(name)
            continue
        field, kind, text = entry
        type_options = _KINDS.get(kind) or _choices(kind)
        completer = OF_FIELD.get(field)
        takes_text = kind not in _SWITCHES and "|" not in kind
        yield click.option(
            name,
            field.replace(".", "__"),
            help=text,
            metavar=METAVARS.get(name) if takes_text else None,
            shell_complete=completer,
            **type_options,
        )


def _choices(kind: str) -> Mapping[str, Any]:
    """Arguments of :func:`click.option` for ``a|b`` or ``names of a|b``.

    The kind ``a|b`` takes one of the words, ``names of a|b`` several of them. A kind without a bar takes any text.
    """
    words = kind.removeprefix("names of ").split("|")
    if kind.startswith("names of "):
        return {"type": Names(words)}
    return {"type": click.Choice(words)} if len(words) > 1 else {}


def options(group: str) -> Callable[[Function], Function]:
    """Decorator that gives a command the options of a group."""

    def with_options(command: Function) -> Function:
        # Click lists the options of outer decorators first, so the last option is added first.
        for add_option in reversed([*_options(group)]):
            command = add_option(command)
        return command

    return with_options


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted field → value of the given options."""
    return {name.replace("__", "."): value for name, value in values.items() if value is not None}


_FIELDS = {"data": "data.source"}
"""Name of an option's field → full name of the field in a scenario, where the two differ."""


def require_once(values: Mapping[str, Any], swept: Mapping[str, str] | None = None) -> None:
    """Refuse a field that two options set.

    ``swept`` maps each field of a grid to its option.

    Raises:
        ConfigError: The message has both options.
    """
    option_names = option_of_field()
    settings = values.get("settings", ())
    # Pairs of a field and the option that sets it.
    sources = [
        (_FIELDS.get(name, name), option_names[name]) for name in given(values) if name in option_names
    ]
    sources += [(field, f"--set {field}={_as_typed(value)}") for field, value in settings]
    sources += [*(swept or {}).items()]
    for position, (field, option) in enumerate(sources):
        for earlier_field, earlier_option in sources[:position]:
            if (
                field == earlier_field
                or field.startswith(f"{earlier_field}.")
                or earlier_field.startswith(f"{field}.")
            ):
                raise ConfigError(
                    f"{earlier_option} and {option} set the same field, {max(field, earlier_field, key=len)}. "
                    "Give only one of them"
                )


def _as_typed(value: object) -> str:
    """Value as a user writes it, such as ``true``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def nested(values: Mapping[str, Any], embedded_minimum: int) -> dict[str, Any]:
    """Nested fields of given options and of ``--set``."""
    require_once(values)
    plain: dict[str, Any] = {}
    options = given(values)
    settings = options.pop("settings", ())
    for name, value in [*options.items(), *settings]:
        record, _, field = name.rpartition(".")
        fields = plain.setdefault(record, {}) if record else plain
        fields[field] = value
    if "data" in plain:  # items of the embedded log always need ``embedded_minimum`` events
        plain["data"].setdefault("min_item_events", 1 if "source" in plain["data"] else embedded_minimum)
    return plain


def option_of_field() -> dict[str, str]:
    """Dotted field → option of the running command."""
    command = click.get_current_context().command
    return {str(option.name).replace("__", "."): option.opts[0] for option in command.params}


def command_line() -> str:
    """The running command line, to be recorded and repeated."""
    return shlex.join(["rimsim", *click.get_current_context().find_root().obj])


def terminal() -> Console:
    """Console of the terminal; a pipe has 140 columns."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=140)


def broken_between_words(text: str, stream: TextIO) -> str:
    """Text with lines that fit a terminal, broken between words.

    Indented lines stay whole, because they are paths, or commands to copy. Texts for other streams stay as they are.
    """
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = []
    for line in text.splitlines():
        if not line.startswith("  "):
            line = "\n".join(textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False))  # noqa: PLW2901
        lines.append(line)
    return "\n".join(lines)


def print_line(text: str) -> None:
    """Print a line of progress."""
    click.echo(broken_between_words(text, sys.stdout))


def print_run(run: Run, *, is_announced: bool = False) -> None:
    """Print the report of a run.

    Args:
        is_announced: True if warnings and notes were printed before the run, so that the report does not repeat them.

    Raises:
        RunFolderError: If no arm of a sweep is complete.
    """
    from rimsim.scenarios.report.console import show
    from rimsim.scenarios.report.sentences import notes_of
    from rimsim.scenarios.runs.points import runs_of

    points = [point for _, point in runs_of(run)] if run.kind == "sweep" else [run]
    show(run.report(), terminal(), notes_of(points) if is_announced else ())


def print_complete(folder: str) -> None:
    """Print the tables of complete arms after other arms failed."""
    from rimsim.scenarios.runs.status import status_of

    run = scenarios.load_run(folder)
    if run.kind != "comparison" or status_of(run).complete:
        with suppress(RunFolderError):  # there is nothing to print until arms are complete
            print_run(run)


@click.command(cls=Command)
@click.argument("run", type=path, shell_complete=RUN)
@options("report")
def report(run: Path, out: Path | None, **flags: bool) -> None:
    """Print a report and draw all its pictures.

    A comparison ends with one picture, its overview. In a folder that cannot be written to, the old pictures stay.
    """
    if out is not None and not flags["html"]:
        raise ConfigError("--out names the file of the HTML page, so it needs --html. Add --html")
    formats = [f"--{name}" for name, is_given in flags.items() if is_given]
    if len(formats) > 1:
        raise click.UsageError(
            f"{formats[1]} cannot be combined with {formats[0]}. Give only one of them",
            click.get_current_context(),
        )
    # A wrong folder is refused before the slow import of Matplotlib.
    opened_run = scenarios.load_run(run)
    from rimsim.scenarios.report.charts import draw
    from rimsim.scenarios.report.console import report_markdown, show
    from rimsim.scenarios.report.html import write_page
    from rimsim.scenarios.runs.digests import digest

    if flags["digest"]:
        click.echo(digest(opened_run))
        return
    findings = opened_run.report()
    if flags["html"]:
        click.echo(write_page(findings, opened_run, out))
    elif flags["markdown"]:
        click.echo(report_markdown(findings), nl=False)
    else:
        pictures = opened_run.folder / "pictures"
        undrawn = ""
        try:
            draw(findings.plots, pictures)
        except OSError as error:  # the tables are printed even if no picture can be written
            undrawn = f"no picture was drawn: {pictures} cannot be written to ({reason(error)})"
        show(findings, terminal())
        if undrawn:
            click.echo(undrawn)


@click.command(cls=Command)
@click.argument("first", type=path, metavar="RUN", shell_complete=RUN)
@click.argument("second", type=path, metavar="OTHER", shell_complete=RUN)
@options("diff")
def diff(first: Path, second: Path, *, markdown: bool) -> None:
    """Print the differences of two runs, with intervals.

    Results are OTHER minus RUN, for arms and seeds that both runs have.
    """
    from rimsim.scenarios.report.comparison import difference_report
    from rimsim.scenarios.report.console import report_markdown, show

    difference = difference_report(scenarios.load_run(first), scenarios.load_run(second))
    if markdown:
        click.echo(report_markdown(difference), nl=False)
    else:
        show(difference, terminal())


@click.group()
def data() -> None:
    """List, check or download logs."""


@data.command("list")
def list_() -> None:
    """List the logs that have a name."""
    for entry in rimsim.data.catalogue():
        click.echo(entry.text())
    for name, place in places("logs").items():
        click.echo(f"{name:16} of an installed package ({place})")


@data.command()
@click.argument("log", metavar="PATH", shell_complete=one_of(list, "file"))
@options("check")
def check(log: str, picture: Path | None, **selection: Any) -> None:
    """Describe a log and its possible uses.

    PATH is a name, a folder, a zip, a CSV, TSV or Parquet file. The exit status is 2 if the log cannot be used.
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
    """Download a log by its NAME in rimsim data list."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=terminal()) as bar:
        task = bar.add_task(name, total=None, visible=False)  # the bar is hidden until the download begins

        def show(n_received: int, n_bytes: int) -> None:
            bar.update(task, completed=n_received, total=n_bytes or None, visible=True)

        file = rimsim.data.download(name, folder, progress=show)
    click.echo(f"saved to {file}")
    entry = next(entry for entry in rimsim.data.catalogue() if entry.name == name)
    click.echo(f"terms: {entry.terms}")
    if not entry.checksum:
        click.echo(
            f"{rimsim.data.digest_of(file)} (no published digest is known, so the file was not checked)"
        )


_NAMED = {
    "scenarios": "scenarios",
    "agents": "agents (--agents)",
    "models": "models (platform.model, backtest --models)",
    "arrivals": "arrival processes (arrivals.kind)",
    "consumers": "consumers (consumer.kind)",
    "providers": "providers (providers.kind)",
    "processes": "processes (processes)",
    "measures": "measures, with their formulas",
}
"""Kind of names, which is also a command → its words in the help of this command."""


def _built_in(kind: str) -> Mapping[str, Any]:
    """Name → built-in class or measure, for a kind of plug."""
    if kind == "measures":
        from rimsim.measures import MEASURES

        return MEASURES
    if kind == "models":
        from rimsim.intensity.registry import shipped

        return shipped()
    module = "rimsim.agents.registry" if kind == "agents" else f"rimsim.market.{kind}"
    built_in: Mapping[str, Any] = import_module(module).BUILT_IN
    return built_in


def _print_names(kind: str, name: str | None) -> None:
    """Print a line per name, or details of a name."""
    if kind == "scenarios":
        _print_scenarios(name)
        return
    from rimsim.plugs import ignored_plug
    from rimsim.user_code import imported

    built_in = _built_in(kind)
    installed = places(kind)
    if name is not None:
        _print_one(kind, name, built_in)
        return
    lines = {built_in_name: _line(plug) for built_in_name, plug in built_in.items()}
    if kind == "models":
        lines["MARK-GROUND"] = "Product of p(y|x) and λ(x), such as gru-hp."
    for plug_name in installed.keys() - built_in.keys():
        try:
            line = _line(imported(installed[plug_name], kind))
        except ConfigError as error:
            line = str(error)
        lines[plug_name] = f"{line} ({installed[plug_name]})"
    for listed_name, line in lines.items():
        click.echo(f"{listed_name:22} {line}")
    for plug_name in sorted(installed.keys() & built_in.keys()):
        click.echo(f"note: {ignored_plug(plug_name, kind, built_in)}")


def _print_scenarios(name: str | None) -> None:
    """Print a line per scenario, or a scenario as YAML."""
    from rimsim.config import find_scenario, scenario_names, to_plain

    if name is None:
        for scenario in scenario_names():
            click.echo(f"{scenario:22} {find_scenario(scenario).description}")
    else:
        click.echo(written_yaml(to_plain(find_scenario(name))), nl=False)


def _line(plug: Any) -> str:
    """Formula of a measure, or first line about a class."""
    text = getattr(plug, "formula", None) or (plug.__doc__ or "").strip()
    return _without_markup(text).partition("\n")[0]


def _without_markup(docstring: str) -> str:
    """Docstring without the marks of code and of references."""
    return re.sub(r"(?::\w+:)?(`{1,2})~?([^`]*)\1", r"\2", docstring)


def _print_one(kind: str, name: str, built_in: Mapping[str, Any]) -> None:
    """Print the description, options and defaults of a plug."""
    from rimsim.plugs import option_lines
    from rimsim.user_code import imported

    record = None
    if kind == "models":
        from rimsim.intensity.registry import config_record, mark_and_ground

        record = config_record(name)
        mark, ground = mark_and_ground(name)
        if name not in built_in and ground is not None:
            # A product, such as gru-hp, is described by its two factors.
            _print_one(kind, mark, built_in)
            _print_one(kind, ground, built_in)
            return
    place = places(kind).get(name, name)
    if name not in built_in and ":" not in place:
        raise ConfigError(
            f"{name}: rimsim does not know this name.{nearest(name, {*built_in, *places(kind)})}"
        )
    plug = built_in[name] if name in built_in else imported(place, kind)
    if kind == "measures":
        click.echo(_without_markup(f"{plug.title}: {plug.formula} ({plug.unit})"))
        return
    click.echo(_without_markup(inspect.getdoc(plug) or name))
    options = option_lines(record or plug)
    click.echo("\nOptions:" if options else "\nNo options.")
    for text, meaning in options:
        click.echo(f"  {text:28} {_without_markup(meaning)}".rstrip())


class PlugCommand(Command):
    """Command whose help ends with names of installed packages."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of installed plugs, kind by kind."""
        super().format_epilog(ctx, formatter)
        named = {kind: ", ".join(sorted(places(kind))) for kind in KINDS if places(kind)}
        if named:
            with formatter.section("From installed packages"):
                formatter.write_dl(list(named.items()))


_COMPLETED = {"agents": one_of(agents), "models": one_of(models), "scenarios": one_of(scenario_names)}
"""Kind of names → function that completes them. All other kinds would need a long import."""


def _list(kind: str, words: str) -> click.Command:
    """Command that lists plugs, or shows a plug."""
    completer = _COMPLETED.get(kind)
    return PlugCommand(
        kind,
        params=[click.Argument(["name"], required=False, shell_complete=completer)],
        callback=functools.partial(_print_names, kind),
        help=f"List {words}; with NAME, show its options and defaults.",
        short_help=f"List {words}.",
    )


LISTS = tuple(_list(kind, words) for kind, words in _NAMED.items())
"""Commands that print the names of a kind, one per line."""
