"""Follow docs/tutorial.md literally: ``python tools/follow_tutorial.py``.

Commands run in an empty folder, in a terminal of 80 columns, and files are saved as the page shows them. Each expected
output must occur in the output of the command before it. Figures are compared as printed_figures.py says.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from printed_figures import ESCAPE, differences

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INSTALL = "git clone"
_LINES = 20
"""Number of last lines that are shown of a command that failed."""


def run(commands: str, folder: Path) -> str:
    """Output of shell commands in a terminal of 80 columns.

    Raises:
        subprocess.CalledProcessError: If a command fails.
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    shell = ["bash", "-euo", "pipefail", "-c", commands]
    # A newcomer has no fits of earlier versions.
    environment = os.environ | {"RIMSIM_CACHE": str(folder / ".cache")}
    process = subprocess.Popen(
        shell, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    printed = b""
    while True:
        try:
            output = os.read(screen, 65_536)
        except OSError:  # Linux answers so once the last program has closed the terminal
            break
        if not output:
            break
        printed += output
    os.close(screen)
    text = printed.decode(errors="replace")
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, commands, text)
    return text


def follow(page: str, folder: Path) -> list[str]:
    """Differences between a page and the output of its commands, one line each."""
    faults = []
    commands = ""
    printed = ""
    for language, text in _BLOCK.findall(page):
        if language == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            (folder / name).write_text(text, encoding="utf-8")
        elif language == "sh" and _INSTALL not in text:
            commands = text
            printed = run(commands, folder)
        elif language == "text":
            faults += [f"{_line(commands)}: {difference}" for difference in differences(text, printed)]
    return faults


def _line(commands: str) -> str:
    """Shell commands on one line."""
    return " ".join(commands.replace("\\\n", " ").split())


def _last_lines(output: str) -> list[str]:
    """Last lines of a terminal's output; of a line that was overwritten, the last state."""
    states = (ESCAPE.sub("", line.rstrip("\r")).rpartition("\r")[2] for line in output.split("\n"))
    return [line for line in states if line.strip()][-_LINES:]


def main() -> None:
    """Follow the page; status 1 where an output differs."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            faults = follow(PAGE.read_text(encoding="utf-8"), Path(folder))
        except subprocess.CalledProcessError as error:
            print("\n".join(_last_lines(error.output)))
            faults = [f"{_line(error.cmd)}: expected status 0, got {error.returncode}"]
    faults = [f"{PAGE.name}: {fault}" for fault in faults]
    print("\n".join(faults) or f"{PAGE.name}: every command and output is as the page says")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
