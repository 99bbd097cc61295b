"""Comparisons and sweeps: options, plans, arms, controls, results."""
