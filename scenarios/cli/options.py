"""Values of options: text from the command line in, typed values out, one line for what does not fit."""

from __future__ import annotations

import datetime as dt
import functools
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from rimsim.errors import ConfigError

if TYPE_CHECKING:
    Kind: TypeAlias = Callable[[str], Any] | click.ParamType[Any]


Command = TypeVar("Command", bound="Callable[..., Any]")


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r}; allowed: a whole number from 1 up")
    return int(text)


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}; allowed: a number") from None


def path(text: str) -> Path:
    """A path; an empty text, such as a variable of the shell that is not set, would be the current folder."""
    if not text.strip():
        raise click.BadParameter(f"{text!r}; allowed: a path")
    return Path(text)


def names(text: str) -> list[str]:
    """What stands between commas, those within brackets apart; ``none`` stands for nothing."""
    parts, depth = [""], 0
    for letter in "" if text == "none" else text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def seeds(text: str) -> list[int]:
    """The seeds that ``--seeds`` says: so many from 0, or those that are listed.

    Raises:
        ConfigError: If it says neither.
    """
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    chosen = values if "," in text else list(range(sum(values)))
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"--seeds: {text!r}; allowed: how many seeds, at least 1, or which (0,3,7), each once"
        )
    return chosen


def setting(text: str) -> tuple[str, object]:
    """Field and value of ``--set FIELD=VALUE``.

    Raises:
        ConfigError: If there is no ``=``, or the value is no YAML.
    """
    field, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set: {text!r}; allowed: FIELD=VALUE, such as exposure.beta=0.3")
    return field.strip(), read_value(value, f"--set: {text!r}")


def read_value(text: str, where: str) -> object:
    """A value as YAML reads it; a date stays the text that it is.

    Args:
        text: What stands on the command line.
        where: The option, for the error.

    Raises:
        ConfigError: If it is no YAML.
    """
    import yaml

    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where}: {text!r} cannot be read: {getattr(error, 'problem', error)}; allowed: a number, true, false, "
            "null, or text, in quotes where it holds brackets or colons"
        ) from None
    return text.strip() if isinstance(value, dt.date) else value


def field(option: str, name: str, text: str, kind: Kind = str) -> Callable[[Command], Command]:
    """An option with a value, by its name, that of the field or parameter it stands for, its help and its type."""
    return click.option(option, name.replace(".", "__"), help=text, type=kind)


def flag(option: str, name: str, text: str, *, value: bool = True) -> Callable[[Command], Command]:
    """An option without a value, as :func:`field`; where it is not given, it says nothing, not even no."""
    return click.option(option, name.replace(".", "__"), help=text, flag_value=value, default=None)


READING = (
    field("--columns", "data.columns", "Columns of the log: user=uid,item=sku,time=at."),
    field("--separator", "data.separator", "Between fields of a text log (default: found)."),
    field("--encoding", "data.encoding", "Of a text log, such as latin-1 (default: UTF-8)."),
    flag("--skip-bad-rows", "data.skip_bad_rows", "Leave bad rows of the log out, counted."),
)
"""How a log is read."""
LOG_OPTIONS = (
    *READING,
    field(
        "--min-item-events",
        "data.min_item_events",
        "Leave rarer items out (default: 1; without --data backtest: 10, validate: 30).",
        count,
    ),
    field(
        "--min-user-events", "data.min_user_events", "Leave users with fewer events out (default: 1).", count
    ),
    field("--min-value", "data.min_value", "Leave events with a lower value (stars) out.", number),
    field("--start", "data.start", "Leave earlier events out: an ISO date or time, or seconds."),
    field("--stop", "data.stop", "Leave this time and later events out."),
)
"""How a log is read, and which part of it."""


def options(*declared: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Add options to a command that it shares with others, in the order of its help."""
    return lambda command: functools.reduce(lambda to, add: add(to), reversed(declared), command)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted field → value of those options that were given; ``__`` in an option's name stands for the dot."""
    return {name.replace("__", "."): value for name, value in values.items() if value is not None}


def nested(values: Mapping[str, Any], least: int) -> dict[str, Any]:
    """Those options that were given as nested mappings of field names to values.

    Args:
        values: Options, as for :func:`given`.
        least: Events that an item of the embedded log needs where the log is only cut; of another log it is 1.
    """
    plain: dict[str, Any] = {}
    for name, value in given(values).items():
        part, _, last = name.rpartition(".")
        (plain.setdefault(part, {}) if part else plain)[last] = value
    if "data" in plain:
        plain["data"].setdefault("min_item_events", 1 if "source" in plain["data"] else least)
    return plain


def option_of_field() -> dict[str, str]:
    """Dotted field → option of the running command that stands for it."""
    command = click.get_current_context().command
    return {str(option.name).replace("__", "."): option.opts[0] for option in command.params}


def command_line() -> str:
    """The command line that runs, to be recorded and repeated."""
    return shlex.join(["rimsim", *click.get_current_context().find_root().obj])
