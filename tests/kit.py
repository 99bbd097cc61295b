"""Small helpers that tests of every room share."""

from __future__ import annotations

import zipfile

import numpy as np
import pandas as pd
import pytest


def refused(error, message, call, *given, **options):
    """Check that a call ends in an error whose text matches; returns the text."""
    with pytest.raises(error, match=message) as caught:
        call(*given, **options)
    return str(caught.value)


def same_log(log, other):
    """Check that two logs are the same to the last bit, tables included."""
    for name in ("user", "item", "time", "value"):
        mine, theirs = getattr(log, name), getattr(other, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    pd.testing.assert_frame_equal(log.users, other.users)
    pd.testing.assert_frame_equal(log.items, other.items)


def same_arrays(one, other, *names):
    """Check that arrays of two objects are the same to the last bit."""
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def zipped(path, *members, folder=""):
    """Write names and contents of members into a zip; returns its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(f"{folder}{name}" if folder else name, content)
    return path
