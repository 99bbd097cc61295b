"""How words of a command line are read: one short line for each slip, with the nearest name."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from rimsim.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Commands", "Parser", "number", "positive"]


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
