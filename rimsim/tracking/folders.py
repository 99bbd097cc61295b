"""Folders of a run's event files."""

from __future__ import annotations

from pathlib import Path

from rimsim.errors import ConfigError

_BANDS_FOLDER = "bands"
_ABOUT_FOLDER = "about"


def event_folder(run: Path, agent: str, seed: int) -> Path:
    """Folder of event files of an agent and seed."""
    return run / "events" / _folder_name(agent) / f"seed-{seed}"


def summary_folder(run: Path, agent: str) -> Path:
    """Folder of an agent's bands (intervals over seeds)."""
    return run / "events" / _BANDS_FOLDER / _folder_name(agent)


def about_folder(run: Path) -> Path:
    """Folder of a run's command, settings and pictures."""
    return run / "events" / _ABOUT_FOLDER


def _folder_name(agent: str) -> str:
    """Agent name, checked to be a possible folder name."""
    forbidden = set('/\\:*?"<>|')
    reserved = {".", "..", _BANDS_FOLDER, _ABOUT_FOLDER}
    if not agent or agent in reserved or not agent.isprintable() or set(agent) & forbidden:
        allowed = f"letters, digits, - and _, but not {_BANDS_FOLDER!r} or {_ABOUT_FOLDER!r}"
        raise ConfigError(f"agent {agent!r}: its name cannot be the name of a folder. Expected {allowed}")
    return agent
