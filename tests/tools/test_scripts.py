"""What the scripts in benchmarks/ share, and signs of what the README claims: ``make findings``, some CPU hours."""

import re
import shlex
from importlib import import_module

import pandas as pd
import pytest
import yaml
from kit import ROOT, cases, refused

import rimsim
from rimsim.config import find_scenario, override
from rimsim.intensity.registry import mark_and_ground
from rimsim.market.platform_model import model_for
from rimsim.scenarios.cli.main import _rimsim as COMMANDS  # noqa: N812
from rimsim.scenarios.report.record import TextTable

LOG = ROOT / "benchmarks" / "log"


@cases(
    "files lines",
    ([], [["sweep", "two-sided", "--out"]]),
    (["config.yaml"], [["sweep", "--resume", "--out"]]),
    (["config.yaml", "sweep.parquet"], []),
    (["config.yaml", "rounds.parquet"], []),
    ids=["empty", "begun", "complete sweep", "complete comparison"],
)
def test_a_kept_run_is_played_gone_on_with_or_read(script, monkeypatch, tmp_path, files, lines):
    """An empty folder gets the command, one with a part of a run goes on, and a complete one is only read."""
    said = []
    kept_runs = script("kept_runs")
    monkeypatch.setattr(kept_runs, "command_line", lambda line: said.append(line) or 0)
    monkeypatch.setattr(kept_runs, "load_run", lambda folder: folder)
    for name in files:
        (tmp_path / name).touch()
    assert kept_runs.finished(tmp_path, ["sweep", "two-sided"]) == tmp_path
    assert said == [[*line, str(tmp_path)] for line in lines]


def test_every_quoted_page_of_the_log_is_measured_again_by_one_command(script):
    """The pages behind figures, claims and pictures have commands, which name scripts and options that there are."""
    commands = script("run").COMMANDS
    figures = script("figures")
    places = [place for quote in figures.quotes() for place in quote.places]
    places += [claim.row for claim in figures.claims() if claim.row]
    tables = [place for picture in script("pictures").PICTURES.values() for place in picture.tables]
    places += [place for place in tables if not place.endswith(".csv")]
    quoted = {re.split("[#;]", place)[0] for place in places}
    assert len(quoted) > 8
    assert quoted - set(commands) == set()
    assert [page for page in commands if page != "pictures" and not (LOG / f"{page}.md").is_file()] == []
    lines = [shlex.split(command) for of_page in commands.values() for command in of_page]
    assert [words for words in lines if words[0] == "python" and not (ROOT / words[1]).is_file()] == []
    for words in lines:
        if words[0] == "rimsim":
            COMMANDS.commands[words[1]].make_context(words[1], words[2:])


def test_a_benchmark_runs_once_per_commit(script, tmp_path):
    """The output is kept where the command ends well; a command that fails leaves none."""
    measure = script("run").measure
    output = tmp_path / "page-1.txt"
    code = tmp_path / "code.py"
    code.write_text("print('a table')\n")
    assert measure(f"python {code}", output)
    assert output.read_text() == "a table\n"
    code.write_text("raise SystemExit(3)\n")
    assert not measure(f"python {code}", tmp_path / "page-2.txt")
    assert not (tmp_path / "page-2.txt").exists()


def test_every_market_of_the_comparison_of_versions_can_be_set(script):
    """Scenarios, fields and models of the jobs are those of this version."""
    jobs = script("same_tables")
    named = [(name, *market) for name, market in jobs.SCENARIOS.items()]
    for scenario, *_, settings in [*named, *jobs.VARIANTS.values()]:
        changes = {
            name: yaml.safe_load(text) for name, text in (setting.split("=", 1) for setting in settings)
        }
        config = override(find_scenario(scenario), changes, origin=scenario)
        assert mark_and_ground(model_for(config.platform.model, repeatable=False), must_exist=True)


def test_a_table_of_the_log_is_replaced_between_its_marks(script, tmp_path):
    """Only what stands between the marks of that name changes; a page without them is refused."""
    page = tmp_path / "page.md"
    replace = script("log_pages").replace_table
    text = "a\n<!-- beside -->\nold\n<!-- /beside -->\n<!-- other -->\nkept\n<!-- /other -->\n"
    page.write_text(text, encoding="utf-8")
    replace(page, "beside", "| new |\n")
    assert page.read_text(encoding="utf-8") == text.replace("old", "| new |")
    refused(SystemExit, "has no marks", replace, page, "neither", "")


def test_figures_of_speed_are_as_new_as_the_version():
    """The page of speeds is made again for every version."""
    page = (LOG / "speed.md").read_text(encoding="utf-8")
    heads = re.findall(r"^\*Commit .*$", page, re.MULTILINE)
    assert len(heads) >= 2
    assert all(f"rimsim {rimsim.__version__}:" in line for line in heads)


CLAIMS = {
    "retraining: coverage": (-1, 16),
    "guarantee: undelivered": (-1, 18),
    "guarantee: utility": (-1, 14),
}
"""Claim → its sign, and in how many of the 18 cells it has it at least."""


def test_means_stand_before_the_differences_of_their_point(script):
    """A row without means has empty cells; other differences are left out."""
    means = TextTable("Means", ("beta", "utility"), (("0.5", "0.45"), ("0.1", "0.48")))
    cells = (("0.1", "1", "2"), ("0.5", "3", "4"), ("significant", "5", "6"))
    joined = script("findings").joined(means, TextTable("Rounds", ("beta", "a", "b"), cells), ["b"])
    assert joined.columns == ("beta", "utility", "b")
    assert joined.rows == (("0.1", "0.48", "2"), ("0.5", "0.45", "4"), ("significant", "", "6"))


@pytest.fixture(scope="module")
def claims():
    """The table of claims of benchmarks/log/findings.md, from ``runs/findings`` where it is complete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        findings = import_module("findings")
        return pd.concat(
            findings.claims(findings.run_of(name, ROOT / "runs" / "findings")) for name in findings.CELLS
        )


@pytest.mark.findings
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_its_sign(claims, claim):
    """The difference has the claimed sign in as many cells as the pages say, on the mean over seeds."""
    sign, cells = CLAIMS[claim]
    differences = claims[claims["contrast"] == claim]
    assert len(differences) == 18
    assert (differences["mean"] * sign > 0).sum() >= cells


def test_a_sample_of_prose_holds_sentences_only(script, tmp_path):
    """Headings, tables and code are left out; a link is its text; each text of a module has one kind."""
    sample = script("prose_sample")
    page = tmp_path / "a.md"
    code = tmp_path / "a.py"
    page.write_text(
        "# A heading of four words\n\nOne [good link](x.md) is here. Two sentences, cf. this one!\n"
        "* It stands in a list.\n\n"
        "| a | table | of | words |\n\n```sh\nthis is code, not prose\n```\n"
    )
    assert list(sample.of_page(page)) == [
        "One good link is here.",
        "Two sentences, cf. this one!",
        "It stands in a list.",
    ]
    code.write_text(
        '"""Module of one message."""\n\n'
        "import json  # noqa: PLC0415  # slow to import at once\n\n"
        "# A comment that goes on\n# in a second line.\n"
        'WIDTH = 4\n"""Width of a column, in characters."""\n'
        'title = f"{share} of the items are never shown", "x"\n'
        'raise ValueError(f"{name} is not a known name")\n'
    )
    prose = sample.ModuleProse.of(code)
    assert prose.docstrings == ["Module of one message."]
    assert prose.messages == ["{name} is not a known name"]
    assert prose.fields == ["Width of a column, in characters."]
    assert prose.comments == ["slow to import at once", "A comment that goes on in a second line."]
    assert prose.texts == ["{share} of the items are never shown"]
