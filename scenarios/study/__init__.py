"""Comparisons and sweeps: planned, run, gone on with after a stop, gathered."""
