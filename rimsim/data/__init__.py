"""Logs of users, items and times: reading any of them, and saying what is wrong with a bad one."""

from rimsim.data.columns import Columns
from rimsim.data.load import load
from rimsim.data.log import EventLog, Sessions
from rimsim.data.report import BadRow, ReadReport
from rimsim.data.write import write

__all__ = ["BadRow", "Columns", "EventLog", "ReadReport", "Sessions", "load", "write"]
