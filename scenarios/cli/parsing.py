"""How words of a command line are read: one short line for each slip, with the nearest name."""

from __future__ import annotations

import argparse
import datetime as dt
import difflib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Commands",
    "Parser",
    "add_log_options",
    "log_options",
    "number",
    "parsed_seeds",
    "positive",
    "read_value",
]


class Parser(argparse.ArgumentParser):
    """A parser of one command that answers a slip in a line, without a page of usage."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        more = f"; {self._more}" if "are required" in message else ""
        sys.stderr.write(f"{self.prog}: {message.removeprefix('argument ')}{more}\n")
        raise SystemExit(2)

    def parse_known_args(  # type: ignore[override]  # argparse types it by overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse here what is unknown, with this command's own names; argparse would list those of all commands."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return found, []

    def _unknown(self, words: Sequence[str]) -> str:
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        if not options:
            return f"found {words[0]!r}, which stands for nothing here; {self._more}"
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        close = difflib.get_close_matches(options[0], known, n=1, cutoff=0.5)
        guess = f" Did you mean {close[0]}?" if close else ""
        return f"unknown option {options[0]}.{guess} {self._more}"

    @property
    def _more(self) -> str:
        return f"{self.prog} --help lists what there is"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Answer a wrong choice with the nearest."""
        if action.choices is None or value in action.choices:
            return
        hint = nearest(str(value), [str(choice) for choice in action.choices])
        if isinstance(action, Commands):
            raise argparse.ArgumentError(None, f"unknown command {value!r}.{hint}")
        raise argparse.ArgumentError(action, f"{value!r}.{hint}")


Commands = argparse._SubParsersAction  # noqa: SLF001  # argparse has no public name for what add_subparsers returns


def positive(text: str) -> int:
    """A whole number from 1 up."""
    try:
        found = int(text)
    except ValueError:
        found = 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from 1 up")
    return found


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number") from None


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what of a log is read."""
    parser.add_argument("--columns", help="columns of the log: user=uid,item=sku,time=at")
    parser.add_argument(
        "--skip-bad-rows", action="store_true", default=None, help="leave bad rows of the log out, counted"
    )
    parser.add_argument(
        "--min-item-events", type=positive, help="leave rarer items out (a back-test of the embedded log: 10)"
    )
    parser.add_argument("--min-user-events", type=positive, help="leave users with fewer events out")
    parser.add_argument("--min-value", type=number, help="leave events with a lower value (stars) out")
    parser.add_argument("--start", help="leave earlier events out: an ISO date or time, or seconds")
    parser.add_argument("--stop", help="leave this time and later events out")


def log_options(options: argparse.Namespace) -> dict[str, Any]:
    """Field → value of those options of :func:`add_log_options` that were given."""
    names = ("columns", "skip_bad_rows", "min_item_events", "min_user_events", "min_value", "start", "stop")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def parsed_seeds(text: str) -> list[int]:
    """The seeds that ``--seeds`` says: so many from 0, or those that are listed.

    Raises:
        ConfigError: If it says neither.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    several = numbers if "," in text else list(range(sum(numbers)))
    if not several or min(several) < 0 or len(set(several)) < len(several):
        raise ConfigError(
            f"--seeds: {text!r}; allowed: how many seeds, at least 1, or which (0,3,7), each once"
        )
    return several


def read_value(text: str, where: str) -> object:
    """A value as YAML reads it; a date stays the text that it is.

    Args:
        text: What stands on the command line.
        where: The option, for the error.

    Raises:
        ConfigError: If it is no YAML.
    """
    import yaml  # noqa: PLC0415  # the command line starts without it

    try:
        found: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where}: {text!r} cannot be read: {getattr(error, 'problem', error)}; allowed: a number, true, false, "
            "null, or text, in quotes where it holds brackets or colons"
        ) from None
    return text.strip() if isinstance(found, dt.date) else found
