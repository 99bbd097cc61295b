"""The command ``rimsim``."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence

import click

from rimsim import __version__
from rimsim.errors import ArmsError, RimsimError, reason
from rimsim.scenarios.cli.completion import answer_shell, completion
from rimsim.scenarios.cli.demo import demo
from rimsim.scenarios.cli.help import SectionedGroup
from rimsim.scenarios.cli.leaderboard import leaderboard
from rimsim.scenarios.cli.runs import MAKERS
from rimsim.scenarios.cli.study import study
from rimsim.scenarios.cli.tools import LISTS, broken_between_words, data, diff, print_complete, report
from rimsim.scenarios.runs.process import stopping_on_request

_ALIKE = 0.75
"""Similarity, from 0 to 1, from which on an unknown option is probably a misspelt option of the command."""


@click.group(cls=SectionedGroup, context_settings={"max_content_width": 110})
@click.version_option(__version__, message="rimsim %(version)s")
def _rimsim() -> None:
    """Simulate a recommendation market with guaranteed exposure."""


for _command in (*MAKERS, leaderboard, study, demo, report, diff, data, *LISTS, completion):
    _rimsim.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of a command line; 2 after an error.

    Raises:
        SystemExit: With status 2, if the command line cannot be read; one line says why.
    """
    status = answer_shell(_rimsim)
    return _run(list(sys.argv[1:] if arguments is None else arguments)) if status is None else status


def _run(words: list[str]) -> int:
    """Exit status of the command that the words name."""
    try:
        with stopping_on_request(), _rimsim.make_context("rimsim", [*words], obj=words) as context:
            _rimsim.invoke(context)
    except click.exceptions.Exit as end:  # --help and --version end this way
        return end.exit_code
    except click.UsageError as slip:
        click.echo(broken_between_words(_harmless(_answer(slip)), sys.stderr), err=True)
        raise SystemExit(2) from None
    except ArmsError as error:
        print_complete(error.folder)
        return _refused(str(error))
    except RimsimError as error:
        return _refused(str(error))
    except BrokenPipeError:  # the program that reads our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # the disk may be full, for example
        place = f"{error.filename}: " if error.filename else ""
        return _refused(f"{place}{reason(error)}; what was finished is kept")
    except KeyboardInterrupt as stop:
        _refused(f"interrupted; {stop}" if str(stop) else "interrupted")
        return 130
    return 0


def _refused(text: str) -> int:
    """Print an error, and return its exit status."""
    click.echo(broken_between_words(f"rimsim: {_harmless(text)}", sys.stderr), err=True)
    return 2


def _harmless(text: str) -> str:
    """Text whose control characters are written as escapes."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text
    )


def _answer(slip: click.UsageError) -> str:
    """Message about a mistake, or help on an incomplete command.

    Click calls a command line that cannot be read a usage error; here it is called a slip.
    """
    message = slip.format_message()
    if isinstance(slip, click.exceptions.NoArgsIsHelpError):
        return message
    command = slip.ctx.command_path if slip.ctx is not None else "rimsim"
    if isinstance(slip, click.BadParameter) and slip.param is not None and slip.message:
        return f"{command}: {slip.param.opts[0]}: {slip.message}"
    if (setting := _setting_meant(slip)) is not None:
        return f"{command}: {slip.message} Write {setting}"
    if similar_options := getattr(slip, "possibilities", None):
        message = f"{slip.message} Did you mean {similar_options[0]!r}?"
    full_stop = "" if message[-1] in ".?" else "."
    return f"{command}: {message}{full_stop} {command} --help lists what there is"


def _setting_meant(slip: click.UsageError) -> str | None:
    """``--set`` for an option that a command of scenarios lacks."""
    if not isinstance(slip, click.NoSuchOption) or slip.ctx is None:
        return None
    if slip.ctx.command.name not in {"compare", "sweep", "experiment", "payback", "claims"}:
        return None
    if difflib.get_close_matches(slip.option_name, slip.possibilities or (), cutoff=_ALIKE):
        return None
    return _as_setting(slip.option_name, slip.ctx.find_root().obj)


def _as_setting(option: str, words: Sequence[str]) -> str | None:
    """``--set FIELD=VALUE`` for an option that a command lacks."""
    from rimsim.config import ScenarioConfig
    from rimsim.config.reading import dotted_names

    name = option.removeprefix("--").replace("-", "_")
    fields = [field for field in dotted_names(ScenarioConfig) if field.rpartition(".")[2] == name]
    if not fields:
        return None
    # Of several fields with this name, the one nearest to the top of a scenario is meant.
    field = min(fields, key=lambda field: field.count("."))
    return f"--set {field}={_value_of(option, words) or 'VALUE'}"


def _value_of(option: str, words: Sequence[str]) -> str:
    """Value of an option in a command line, or nothing.

    The value stands in the same word, after an equals sign, or is the next word.
    """
    for word, next_word in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else next_word
    return ""


if __name__ == "__main__":
    sys.exit(main())
