"""Runs: jobs that make them, their folders, tables and status."""
