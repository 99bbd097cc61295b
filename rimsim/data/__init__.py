"""Logs of users, items and times: reading, checking and writing."""

from rimsim.data.catalogue import Entry, catalogue, data_folder, download
from rimsim.data.describe import LogDescription, check, describe
from rimsim.data.load import EMBEDDED, load, load_log
from rimsim.data.log import (
    BadRow,
    EventLog,
    LaterSessions,
    ReadReport,
    Sessions,
    later_sessions,
    require_usable,
    shortcomings,
)
from rimsim.data.log import LogNeeds as Needs
from rimsim.data.observed import ObservedTable, load_observed
from rimsim.data.readers.columns import Columns
from rimsim.data.write import write

__all__ = [
    "EMBEDDED",
    "BadRow",
    "Columns",
    "Entry",
    "EventLog",
    "LaterSessions",
    "LogDescription",
    "Needs",
    "ObservedTable",
    "ReadReport",
    "Sessions",
    "catalogue",
    "check",
    "data_folder",
    "describe",
    "download",
    "later_sessions",
    "load",
    "load_log",
    "load_observed",
    "require_usable",
    "shortcomings",
    "write",
]
