"""The page docs/data.md: its blocks run in order and give what it says."""

import re

from kit import ROOT

from rimsim.data import load

TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_in_order(tmp_path, monkeypatch, capsys):
    """Every block runs after those before it, and gives what the page states; each public name is in the page."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/data.md", "exec"), names)  # noqa: S102 (our own page)
    assert names["bare"].users["id"].tolist() == ["07", "7"]
    assert "bad.csv, line 3: time (column 'time') is 'soon'" in capsys.readouterr().out
    assert len(load("liked")) == len(names["liked"])
    assert (tmp_path / "log.png").stat().st_size > 10_000
    public = "load check describe download catalogue write require_usable Needs EventLog"
    assert [name for name in public.split() if name not in TEXT] == []
