"""Output on a terminal: lines broken between words, reports that begin with the answer, bars of progress."""

import io
import re

from kit import refused, said_by
from kit.commands import FEW
from kit.markets import drawn, small_scenario
from rich.console import Console

from rimsim.errors import ArmsError
from rimsim.scenarios import compare
from rimsim.scenarios.cli import tools
from rimsim.scenarios.report.console import show
from rimsim.scenarios.report.record import Report, Section, TextTable
from rimsim.scenarios.runs.progress import bar_console, bars
from rimsim.scenarios.study.compare import resume

MORE = "rimsim report run --html"


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """As of a terminal."""
        return True


def test_a_terminal_gets_lines_that_are_broken_between_words(monkeypatch):
    """A long message has no line beyond the width, a command to copy stays whole, and a pipe gets the text as it is."""
    monkeypatch.setenv("COLUMNS", "40")
    command = "  rimsim compare --resume --out a/folder/with/a/long/name"
    text = f"{'no-such-word ' * 9}end\n{command}"
    *lines, last = tools.broken_between_words(text, Screen()).splitlines()
    assert last == command
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).split() == text.partition("\n")[0].split()
    assert tools.broken_between_words(text, io.StringIO()) == text


def test_a_report_begins_with_the_answer():
    """On a terminal and in a file the answer comes first; names of pictures are not cut, and commands stay whole."""
    pictures = ", ".join(f"picture-{number}.png" for number in range(20))
    command = f"tensorboard --logdir {'long/' * 20}events"
    report = Report(
        question="A question?",
        answer=("The answer.",),
        places=lambda: [("pictures", pictures), ("events", command)],
    )
    texts = []
    for terminal in (True, False):
        file = io.StringIO()
        show(report, Console(file=file, width=80, force_terminal=terminal, color_system=None))
        texts.append(file.getvalue())
    lines = texts[0].strip().splitlines()
    assert lines[0] == "The answer."
    assert max(len(line) for line in lines if command not in line) <= 80
    assert [word.strip(",") for line in lines for word in line.split() if ".png" in word] == pictures.split(
        ", "
    )
    assert f"events     {command}" in lines
    assert texts[1].strip().startswith("The answer.")
    assert f"pictures   {pictures}\n" in texts[1]


def test_a_long_table_of_groups_is_printed_as_its_ends():
    """Four rows at each end are printed, and a line names the command that shows the others; short tables are whole."""
    texts = []
    for n_rows in (30, 9):
        rows = tuple((f"seller-{number}", f"{number}") for number in range(n_rows))
        table = TextTable("Sellers", ("seller", "exposures"), rows, ends_only=True)
        report = Report(
            "Who gains?", sections=(Section("", tables=(table,)),), places=lambda: [("more", MORE)]
        )
        file = io.StringIO()
        show(report, Console(file=file, width=80))
        texts.append(file.getvalue())
    printed = re.findall(r"seller-(\d+)", texts[0])
    assert printed == ["0", "1", "2", "3", "26", "27", "28", "29"]
    assert f"… 22 more rows: {MORE}\n" in texts[0]
    assert len(re.findall(r"seller-\d+", texts[1])) == 9
    assert "…" not in texts[1]


def test_warnings_before_a_run_are_not_repeated_after_it(tmp_path, capsys):
    """A command that plays a run prints each note once; a report of the run has them again."""
    line = ["compare", *FEW, "--agents", "relevance", "--frozen", "none", "--guarantee", "title=0.3"]
    line += ["--out", str(tmp_path / "run")]
    printed = said_by(capsys, line).out
    notes = [text for text in printed.splitlines() if text.startswith(("note:", "warning:"))]
    assert any("relevance ignores" in text for text in notes)
    assert len(notes) == len(set(notes))
    assert notes[0] in said_by(capsys, ["report", str(tmp_path / "run")]).out


def test_bars_leave_room_for_an_echoed_interrupt():
    """No line of the bars reaches the last four columns of a terminal."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    progress = bars(console)
    progress.add_task("fitting the platform's model", total=2, completed=1)
    progress.add_task("arrivals served", total=72_000, completed=36_000)
    console.print(progress.get_renderable())
    assert [len(line) for line in console.file.getvalue().splitlines()] == [76, 76]


def test_bars_are_shown_in_terminals_and_on_request():
    """Without a console, the standard output decides; a given console shows bars unless it is told not to."""
    console = Console(file=io.StringIO())
    assert bar_console(None, show=None) is None  # the output of tests is no terminal
    assert bar_console(None, show=True) is not None
    assert bar_console(console, show=None) is console
    assert bar_console(console, show=False) is None


FIRST_TIME = """
from pathlib import Path
from rimsim.agents import Random

class Late(Random):
    name = "late"

    def begin_round(self, view):
        super().begin_round(view)
        if view.round == 1 and not Path(__file__).with_suffix(".go").exists():
            raise ValueError("not yet")
"""


def test_the_bar_of_a_resumed_run_ends_at_its_total(tmp_path):
    """Arms that were complete are no part of the total, so that the bar is full at the end."""
    agent = tmp_path / "late.py"
    agent.write_text(FIRST_TIME)
    config = small_scenario(rounds=2)
    options = {"seeds": 1, "workers": 1, "certify": False, "frozen": ()}
    with drawn("rounds"):
        refused(
            ArmsError,
            "not yet",
            compare,
            config,
            ("random", f"{agent}:Late"),
            out=tmp_path / "run",
            **options,
        )
        agent.with_suffix(".go").touch()
        console = Console(file=io.StringIO(), width=100)
        resume(tmp_path / "run", workers=1, console=console)
    counts = re.findall(r"arrivals served .* (\d+)/(\d+)", console.file.getvalue())
    assert counts[-1] == (
        "240",
        "240",
    )  # two rounds of 120: that of the first, of which its round 0 is read back
