"""Printed text and the text of a page: figures are compared by what they mean, words to the letter."""

import re
import subprocess
import sys

import pytest
from kit import DOCS, ROOT, cases

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")


@pytest.fixture(scope="module")
def answer():
    """First output that the tutorial expects: sentences and a table."""
    return re.findall(r"```text\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL)[0]


@cases(
    "page printed is_alike",
    # A mean lies in the interval of the page; both intervals overlap.
    ("77.6% (72.7 to 82.5)", "77.8% (73.5 to 82.2)", True),
    ("77.6% (72.7 to 82.5)", "72.8% (69.0 to 76.6)", True),
    ("77.6% (72.7 to 82.5)", "86.1% (81.2 to 91.0)", False),
    ("77.6% (72.7 to 82.5)", "70.0% (65.1 to 74.9)", False),
    ("0.641 ±0.007", "0.645 ±0.007", True),
    ("0.641 ±0.007", "0.662 ±0.007", False),
    ("15.1 (14.0–16.3)", "14.8 (12.5–17.6)", True),
    # A half-width is at most twice or half of the half-width of the page.
    ("2.5% (0.59 to 4.4)", "2.6% (0.19 to 5.1)", True),
    ("2.5% (0.59 to 4.4)", "2.5% (−2.5 to 7.5)", False),
    ("0.025 ±0.019", "0.026 ±0.024", True),
    ("0.025 ±0.019", "0.026 ±0.045", False),
    ("0.025 ±0.019", "0.026 ±0.007", False),
    # The interval behind a number of points belongs to it.
    ("17 points (n; 95% interval 10 to 24)", "18 points (n; 95% interval 12 to 24)", True),
    ("17 points (n; 95% interval 10 to 24)", "27 points (n; 95% interval 20 to 34)", False),
    # A figure without an interval differs by a tenth at most.
    ("relevance 28.2%.", "relevance 27.8%.", True),
    ("relevance 28.2%.", "relevance 24.9%.", False),
    ("is 0.48", "is 0.52", True),
    ("is 0.48", "is 0.54", False),
    # Counts, signs, stars, marks and units are equal.
    ("it orders 17 of 17 pairs", "it orders 16 of 17 pairs", False),
    ("mean of rounds 2–3", "mean of rounds 2–4", False),
    ("−0.035 ±0.009", "0.035 ±0.009", False),
    ("−0.035 ±0.009*", "−0.034 ±0.010*", True),
    ("−0.035 ±0.009*", "−0.034 ±0.010", False),
    ("1.000=", "1.000", False),
    ("0.48%", "0.48", False),
    ("0.48", "0.48 ±0.01", False),
    # Words are equal, and line breaks are not.
    ("the truth is fit", "the truth\nis fit", True),
    ("the truth is fit", "the truth is unfit", False),
    ("first …\nlast", "noise first noise last", True),
)
def test_figures_differ_within_their_intervals_and_words_not_at_all(script, page, printed, is_alike):
    """A figure of the page accepts figures of other processors, and refuses figures of another meaning."""
    assert (script("printed_figures").differences(page, printed) == []) is is_alike


@cases(
    "old new",
    ("is fit for this log", "is unfit for this log"),
    ("rim-feedback leaves", "relevance leaves"),
    ("0.547 ±0.041", "0.647 ±0.041"),
    ("848 items", "849 items"),
    ids=["word", "name", "mean", "count"],
)
def test_a_page_with_one_wrong_word_or_figure_is_refused(script, answer, old, new):
    """One difference is found, and its line shows the expected and the printed words."""
    differences = script("printed_figures").differences
    assert differences(answer, answer) == []
    assert answer.count(old) >= 1
    (difference,) = differences(answer, answer.replace(old, new, 1))
    assert "\n" not in str(difference)
    assert old.split()[0] in difference.expected
    assert new.split()[0] in difference.printed


def test_a_page_with_two_rows_in_the_other_order_is_refused(script, answer):
    """The order of rows is the rank of agents."""
    rows = answer.splitlines(keepends=True)
    first = next(place for place, row in enumerate(rows) if row.startswith("relevance   "))
    swapped = [*rows[:first], rows[first + 1], rows[first], *rows[first + 2 :]]
    (difference,) = script("printed_figures").differences("".join(rows), "".join(swapped))
    assert "rim-feedback" in difference.printed


_PAGE = """
```sh
git clone nowhere
```

```sh
printf 'played  1%%\\r\\033[32mplayed 99%%\\033[0m\\r'; wc -w {file}; \\
echo "is 0.48 ±0.5, half of all"
```

```text
{words} {file}
is {share} ±0.5, half … all
```

```python
# one.py
import torch
```
"""


@cases("words share n_faults", (4, 0.48, 0), (4, 0.51, 0), (4, 1.7, 1), (9, 0.48, 1))
def test_a_tutorial_is_followed_to_the_letter(script, tmp_path, words, share, n_faults):
    """Commands run, except for the installation; a difference is one line with command, expected and printed text."""
    (tmp_path / "text.md").write_text("four words in all\n")
    faults = script("follow_tutorial").follow(
        _PAGE.format(file="text.md", words=words, share=share), tmp_path
    )
    assert len(faults) == n_faults
    for fault in faults:
        assert "\n" not in fault
        assert fault.startswith("printf 'played")
        assert f"expected «{words} text.md" in fault
        assert "printed «4 text.md" in fault
    assert (tmp_path / "one.py").read_text() == "# one.py\nimport torch\n"


@cases(
    "page last",
    ("```sh\necho so far\n```\n```text\nso near\n```\n", "echo so far: expected «so near», printed «so far»"),
    ("```sh\necho so far; false\n```\n", "echo so far; false: expected status 0, got 1"),
    ids=["another word", "status"],
)
def test_the_last_line_names_command_expected_and_printed_text(tmp_path, page, last):
    """A tutorial that cannot be followed ends with status 1 and with this line."""
    (tmp_path / "page.md").write_text(page)
    program = (
        "import pathlib, follow_tutorial as follow\n"
        f"follow.PAGE = pathlib.Path({str(tmp_path / 'page.md')!r})\nfollow.main()"
    )
    command = [sys.executable, "-c", program]
    process = subprocess.run(command, cwd=ROOT / "tools", capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1] == f"page.md: {last}"
