"""The command ``rimsim``."""
