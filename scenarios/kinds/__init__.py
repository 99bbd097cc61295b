"""Kinds of runs, each in a module or folder of its own that knows no other kind."""
