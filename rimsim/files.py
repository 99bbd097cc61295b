"""Files and folders that appear as a whole or not at all: a draft beside their place is written, then renamed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

_DRAFT = ".draft-"


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Context manager that yields a draft to write to, which becomes ``path`` when the block ends.

    A file that is there is replaced. If the block raises, ``path`` is as it was and the draft is removed.

    Args:
        path: The file; folders above it are made.

    Raises:
        OSError: If the draft cannot be moved into place.
    """
    draft = _draft_of(path)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path, *, existing: Literal["replace", "keep", "refuse"] = "replace") -> Iterator[Path]:
    """Context manager that yields an empty draft folder, which becomes ``path`` when the block ends.

    If the block raises, ``path`` is as it was and the draft is removed.

    Args:
        path: The folder; folders above it are made.
        existing: What happens to a folder that is at ``path`` by then: ``"replace"`` removes it, ``"keep"``
            removes the draft instead (of several processes that write the same, the first one wins),
            ``"refuse"`` raises.

    Raises:
        OSError: If the draft cannot be moved into place.
    """
    draft = _draft_of(path)
    draft.mkdir()
    try:
        yield draft
        if existing == "replace":
            shutil.rmtree(path, ignore_errors=True)
        try:
            draft.replace(path)
        except OSError:
            if existing != "keep" or not path.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def draft_content(folder: Path, last: str) -> Iterator[Path]:
    """Context manager that yields an empty draft folder, whose content goes into ``folder`` when the block ends.

    What is in ``folder`` under the same names is replaced, the rest stays. If the block raises, ``folder`` is as it was
    and the draft is removed.

    Args:
        folder: A folder that is there.
        last: The name that is moved after all others: where it is, the content is whole.

    Raises:
        OSError: If something cannot be moved into place.
    """
    draft = _draft_of(folder / "content")
    draft.mkdir()
    try:
        yield draft
        for entry in sorted(draft.iterdir(), key=lambda path: (path.name == last, path.name)):
            place = folder / entry.name
            if place.is_dir():
                shutil.rmtree(place)
            entry.replace(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that a killed process left in a folder and below it.

    Args:
        folder: A folder that no living process writes to.
    """
    for draft in folder.glob(f"**/{_DRAFT}*"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _draft_of(path: Path) -> Path:
    """A free name beside ``path`` with the same ending, by which some writers choose the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{_DRAFT}{secrets.token_hex(8)}{path.suffix}")
