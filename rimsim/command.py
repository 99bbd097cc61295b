"""Entry point of the command ``rimsim``."""

from __future__ import annotations

import sys


def main() -> int:
    """Exit status of the command; 130 if interrupted while loading."""
    try:
        from rimsim.scenarios.cli.main import main as run  # noqa: PLC0415  loading may be interrupted
    except KeyboardInterrupt:
        sys.stderr.write("rimsim: interrupted\n")
        return 130
    return run()
