"""The page docs/measures.md: its lines give what their comments say."""

from kit import DOCS, refused

from rimsim import measures
from rimsim.errors import ConfigError


def test_documented_lines_run():
    """The Python lines of docs/measures.md give what their comments say."""
    page = (DOCS / "measures.md").read_text(encoding="utf-8")
    lines = page.split("```python\n")[1].split("```")[0].splitlines()
    names = {"measures": measures}
    shown = {}
    for line in lines[1:]:
        code, _, comment = line.partition("  # ")
        if code and "=" in code.split("(")[0]:
            exec(code, names)  # noqa: S102 - the documentation is ours
            shown[repr(names[code.split(" ")[0]])] = comment
        elif code:
            shown[repr(eval(code, names))] = comment  # noqa: S307 - the same
    assert len(shown) == 4
    assert all(value == comment for value, comment in shown.items())
    refused(ConfigError, "Did you mean 'coverage'", measures.find_measure, "covrage")
