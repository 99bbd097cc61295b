"""Logs of users, items and times: reading any of them, and saying what is wrong with a bad one."""

from rimsim.data.load import load
from rimsim.data.log import EventLog, Sessions

__all__ = ["EventLog", "Sessions", "load"]
