"""The code of docs/data.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from rimsim.data import load

TEXT = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_in_order(tmp_path, monkeypatch, capsys):
    """Every block runs after those before it, and the results that the page states come out."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/data.md", "exec"), names)  # noqa: S102 (our own page)
    assert names["bare"].users["id"].tolist() == ["07", "7"]
    assert "bad.csv, line 3: time (column 'time') is 'soon'" in capsys.readouterr().out
    assert len(load("liked")) == len(names["liked"])
    assert (tmp_path / "log.png").stat().st_size > 10_000


def test_the_page_names_every_public_function():
    """What the room offers is in its page."""
    names = (
        "load",
        "check",
        "describe",
        "download",
        "catalogue",
        "write",
        "require_usable",
        "Needs",
        "EventLog",
    )
    assert [name for name in names if name not in TEXT] == []
