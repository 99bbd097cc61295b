"""Kinds of runs; no kind knows another."""
