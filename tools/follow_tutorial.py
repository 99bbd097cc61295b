"""Follow docs/tutorial.md literally: ``python tools/follow_tutorial.py``.

Commands run in an empty folder, in a terminal of 80 columns, and files are saved as the page shows them. Each expected
output must occur in what the command before it printed. As processors differ in last bits, numbers may differ by a
tenth, or by 0.05, and half-widths of intervals by a half: with three seeds, a last bit moves them most. Intervals are
compared by their middles and half-widths.
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

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NUMBER = re.compile(r"[-−+±(*]*\d[\d,]*\.?\d*%?\)?[*,;:.)]*")
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)(?: to |–(?=\d+\.))(\d+(?:\.\d+)?)")
_INSTALL = "git clone"
_RELATIVE = 0.1
_OF_WIDTHS = 0.5
_ABSOLUTE = 0.05


def words_of(text: str) -> list[str]:
    """Words of a text without rules, which are as long as a table is wide."""
    words = " ".join(word for word in _ESCAPE.sub("", text).split() if set(word) != {"─"})
    return _INTERVAL.sub(_by_its_middle, words).split()


def _by_its_middle(interval: re.Match[str]) -> str:
    low, high = map(float, interval.groups())
    return f"{(low + high) / 2:.2f} ±{(high - low) / 2:.2f}"


def alike(expected: str, printed: str) -> bool:
    """Whether two words are equal, or numbers that differ little."""
    if expected == printed:
        return True
    if not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(printed)):
        return False
    expected_number, printed_number = (
        float(re.sub(r"[^\d.]", "", word.rstrip(".,;:)*%"))) for word in (expected, printed)
    )
    return abs(expected_number - printed_number) <= max(
        _ABSOLUTE, (_OF_WIDTHS if "±" in expected else _RELATIVE) * abs(expected_number)
    )


def missing(expected: str, printed: str) -> list[str]:
    """Parts of an expected output, between ``…`` and empty lines, that were not printed."""
    printed_words = words_of(printed)
    parts = [part for part in re.split(r"…|\n\s*\n", expected) if part.split()]
    return [part for part in parts if not _occurs(words_of(part), printed_words)]


def _occurs(part: list[str], printed: list[str]) -> bool:
    starts = range(len(printed) - len(part) + 1)
    return any(all(map(alike, part, printed[start : start + len(part)])) for start in starts)


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
    """Expected outputs of a page that did not come, each with its command."""
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
            faults += [f"{commands}expected:\n{part}\nprinted:\n{printed}" for part in missing(text, printed)]
    return faults


def main() -> None:
    """Follow the page; status 1 where an output differs."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            faults = follow(PAGE.read_text(encoding="utf-8"), Path(folder))
        except subprocess.CalledProcessError as error:
            faults = [f"{error.cmd}status {error.returncode}:\n{error.output}"]
    print("\n\n".join(faults) or f"{PAGE.name}: every command and output is as the page says")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
