"""Where the event files of a run lie."""

from __future__ import annotations

from pathlib import Path

from rimsim.errors import ConfigError

_BANDS, _ABOUT = "bands", "about"


def event_folder(run: Path, agent: str, seed: int) -> Path:
    """The folder of the event files of an agent at a seed."""
    return run / "events" / _folder_name(agent) / f"seed-{seed}"


def summary_folder(run: Path, agent: str) -> Path:
    """The folder of the event files of an agent's bands over seeds."""
    return run / "events" / _BANDS / _folder_name(agent)


def about_folder(run: Path) -> Path:
    """The folder of the event file with a run's command, settings and pictures."""
    return run / "events" / _ABOUT


def _folder_name(agent: str) -> str:
    forbidden = set('/\\:*?"<>|')
    taken = {".", "..", _BANDS, _ABOUT}
    if not agent or agent in taken or not agent.isprintable() or set(agent) & forbidden:
        allowed = f"letters, digits, - and _, but not {_BANDS!r} or {_ABOUT!r}"
        raise ConfigError(f"agent {agent!r} cannot name a folder; allowed: {allowed}")
    return agent
