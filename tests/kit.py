"""Small helpers that tests of every room share."""

from __future__ import annotations

from pathlib import Path

import pytest


def refused(error, message, call, *given, **options):
    """Check that a call ends in an error whose text matches; returns the text."""
    with pytest.raises(error, match=message) as caught:
        call(*given, **options)
    return str(caught.value)


def write_rows(path: Path, *rows: str, header: str = "user,item,time,value") -> Path:
    """Write a header and rows to a text file; returns its path."""
    path.write_text("".join(f"{row}\n" for row in ((header, *rows) if header else rows)))
    return path
