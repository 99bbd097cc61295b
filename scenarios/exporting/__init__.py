"""Logs of runs in the formats of other packages."""
