"""Logs of users, items and times: reading any of them, and saying what is wrong with a bad one."""

from rimsim.data.catalogue import Entry, catalogue
from rimsim.data.describe import LogDescription, check, describe
from rimsim.data.download import data_folder, download
from rimsim.data.later import LaterSessions, later_sessions
from rimsim.data.load import EMBEDDED, load, load_log
from rimsim.data.load_answers import load_observed
from rimsim.data.log import EventLog, Sessions
from rimsim.data.observed import ObservedTable
from rimsim.data.readers.columns import Columns
from rimsim.data.report import BadRow, ReadReport
from rimsim.data.usable import Needs, require_usable, shortcomings
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
