"""Kinds of runs, independent of each other."""
