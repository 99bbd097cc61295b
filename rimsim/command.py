"""What the command ``rimsim`` calls: as little as possible is loaded before an interruption can be answered."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; returns its exit status, 130 for an interruption while it is loaded."""
    try:
        from rimsim.scenarios.cli.main import main as run  # noqa: PLC0415  loading is what may be interrupted
    except KeyboardInterrupt:
        sys.stderr.write("rimsim: interrupted\n")
        return 130
    return run()
