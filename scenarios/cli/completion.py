"""Completion of words in bash, zsh and fish."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""Function of context, parameter and incomplete word that lists completions, with Click's signature."""
Words: TypeAlias = Callable[[], Iterable[str]]
"""Function that lists words. It imports its modules when called, because a shell waits for the answer."""

PROGRAM = "rimsim"
_VARIABLE = "_RIMSIM_COMPLETE"
"""Environment variable with which the script of a shell asks for words."""
_RUNS = Path("runs")
"""Folder that runs are written to without ``--out``."""


def answer_shell(command: click.Command) -> int | None:
    """Exit status after a shell's request; None without a request."""
    instruction = os.environ.get(_VARIABLE)
    return shell_complete(command, {}, PROGRAM, _VARIABLE, instruction) if instruction else None


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script by which a shell completes words.

    For bash, add the line eval "$(rimsim completion bash)" to ~/.bashrc. For zsh, add eval "$(rimsim completion zsh)"
    to ~/.zshrc. For fish, write the script to ~/.config/fish/completions/rimsim.fish.
    """
    script_of = get_completion_class(shell)
    assert script_of is not None  # noqa: S101  # Click has a script for each of the three shells
    click.echo(script_of(click.Group(), {}, PROGRAM, _VARIABLE).source())


def agents() -> list[str]:
    """Names of built-in and installed agents."""
    from rimsim.agents.registry import BUILT_IN
    from rimsim.entry_points import places

    return sorted({*BUILT_IN, *places("agents")})


def models() -> list[str]:
    """Names of shipped and installed models."""
    from rimsim.entry_points import places
    from rimsim.intensity.model_names import BUILT_IN

    return sorted({*BUILT_IN, *places("models")})


def scenarios() -> list[str]:
    """Names of built-in scenarios."""
    from rimsim.config import scenario_names

    return list(scenario_names())


def run_folders() -> list[str]:
    """Run folders of up to two levels below ``runs``."""
    from rimsim.scenarios.runs.store import CONFIG

    configs = [*_RUNS.glob(f"*/{CONFIG}"), *_RUNS.glob(f"*/*/{CONFIG}")]
    return sorted(str(path.parent) for path in configs)


def one_of(words: Words, paths: str | None = None) -> Completer:
    """Completer of a single word.

    Args:
        words: The possible words.
        paths: ``file`` or ``dir`` if the shell completes a path where no word fits; None: no path.
    """

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        items = [CompletionItem(word) for word in words() if word.startswith(incomplete)]
        if not items and paths:
            # The type of this item asks the shell to complete a path itself.
            return [CompletionItem(incomplete, type=paths)]
        return items

    return complete


def several_of(words: Words) -> Completer:
    """Completer of words separated by commas; the last is completed."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        earlier_words, comma, last_word = incomplete.rpartition(",")
        chosen = earlier_words.split(",")
        return [
            CompletionItem(f"{earlier_words}{comma}{word}")
            for word in words()
            if word.startswith(last_word) and word not in chosen
        ]

    return complete


RUN = one_of(run_folders, "dir")
SCENARIO = one_of(scenarios, "file")
OF_FIELD: Mapping[str, Completer] = {
    "agents": several_of(agents),
    "frozen": several_of(agents),
    "target": one_of(agents, "file"),
    "models": several_of(models),
    "truths": several_of(models),
    "without": several_of(models),
    "serving": one_of(models),
    "scenario": SCENARIO,
    "source": RUN,
    "data": one_of(list, "file"),
    "data.source": one_of(list, "file"),
    "observed.table": one_of(list, "file"),
    "out": RUN,
}
"""Field of an option in ``options.yaml`` → function that completes its values."""
