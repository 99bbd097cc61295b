"""What commands print of runs: finished arms and arms that failed, sweeps, reports without a first round or a log."""

import numpy as np
import pandas as pd
from kit import refused, said_by, write_events
from kit.commands import FEW, RAISES
from kit.markets import drawn, small_run

from rimsim.errors import ArmsError, ConfigError
from rimsim.market import build_world
from rimsim.scenarios import load_run, sweep
from rimsim.scenarios.runs.status import shown_rounds, status_of


def test_the_tables_of_arms_that_went_well_are_printed_beside_those_that_failed(tmp_path, capsys):
    """The other arms' table, then a line a failed arm and a status that is not 0; the report says how many failed."""
    out = str(tmp_path / "run")
    line = ["compare", *FEW, "--agents", f"random,{RAISES}", "--frozen", "none", "--out", out]
    said = said_by(capsys, line, 2)
    assert "closed-loop: round 1, 1 seed" in said.out
    assert "the log is" not in said.out  # of how the embedded log is read, nobody needs to be told
    assert "\nrandom " in said.out
    assert "\n  raises " not in said.out
    assert "rimsim: 1 of 2 arms failed:\n  raises, seed 0: agent 'raises' raised ValueError" in said.err
    assert f"1 of 2 arms failed: {out}/ holds failures/raises-0.txt" in said_by(capsys, ["report", out]).out
    run = load_run(out)
    assert set(shown_rounds(run)["agent"]) == {"random"}
    assert run.config["log"]["rows"] == 100_004


def test_a_sweep_prints_the_points_of_arms_that_went_well(tmp_path, capsys):
    """Arms that failed are told with their point; the table of the others is printed, also by the report."""
    out = tmp_path / "run"
    line = ["sweep", *FEW, "--agents", f"random,{RAISES}", "--beta", "0.2,0.4", "--out", str(out)]
    said = said_by(capsys, line, 2)
    assert "random beta=0.4" in said.out
    assert "2 of 4 arms failed:\n  raises, beta=0.2, seed 0: agent 'raises'" in said.err
    assert not (out / "sweep.parquet").exists()
    said = said_by(capsys, ["report", str(out)]).out
    assert "random beta=0.2" in said
    assert "points/beta=0.4/failures/raises-0.txt" in said


def test_means_over_late_rounds_are_never_of_an_arm_that_stopped_early(tmp_path):
    """Where no arm is complete, tables and pictures are made of the rounds that all have."""
    with drawn("rounds"):
        refused(ArmsError, "1 of 1 arms failed", small_run, tmp_path / "none", (RAISES,), rounds=2)
    run = load_run(tmp_path / "none")
    assert set(shown_rounds(run)["round"]) == {0}
    assert not status_of(run).complete


def test_rounds_that_some_arms_lack_are_not_shown_before_an_arm_is_complete(folders, tmp_path):
    """Of arms with three, two and one rounds, the first round is all that every arm has."""
    (tmp_path / "rounds").mkdir()
    (tmp_path / "config.yaml").write_text((folders / "one" / "config.yaml").read_text())
    run = load_run(tmp_path)
    columns = {"metric": "utility", "value": 0.5}
    for n_rounds, agent in zip((3, 2, 1), run.agents, strict=True):
        table = pd.DataFrame({"agent": agent, "seed": 0, "round": range(n_rounds), **columns})
        table.to_parquet(tmp_path / "rounds" / f"{agent}-0.parquet")
    assert run.rounds["round"].max() == 2
    shown = shown_rounds(run)
    assert set(shown["agent"]) == set(run.agents)
    assert set(shown["round"]) == {0}


def test_a_report_before_the_first_round_says_what_is_not_finished(folders, tmp_path, capsys):
    """A folder that has a config and no table yet: no traceback, and how to go on."""
    text = (folders / "one" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text)
    output = said_by(capsys, ["report", str(tmp_path)]).out
    assert "3 of 3 arms are not finished: rimsim compare --resume --out" in output


def test_a_sweep_is_reported_as_digest_and_as_markdown(folders, tmp_path, capsys):
    """Equal sweeps have equal digests, others have not; --markdown writes the answer and the table."""
    scenario = load_run(folders / "many").scenario
    options = {"seeds": 1, "workers": 1, "certify": False}
    again = tmp_path / "again"
    other_grid = tmp_path / "other"
    sweep(scenario, {"exposure.beta": [0.2, 0.4]}, ("random",), out=again, batch_size=7, **options)
    sweep(scenario, {"exposure.beta": [0.2, 0.5]}, ("random",), out=other_grid, **options)
    places = (folders / "many", again, other_grid)
    said = [said_by(capsys, ["report", str(folder), "--digest"]).out.strip() for folder in places]
    assert said[0] == said[1] != said[2]
    assert len(said[0]) == 64
    lines = said_by(capsys, ["report", str(folders / "many"), "--markdown"]).out.splitlines()
    assert lines[0].startswith("`random`: beta from 0.2 to 0.4 may change ")
    assert any(text.startswith("**closed-loop: means over the late rounds") for text in lines)
    assert lines[-1].startswith("| `random beta=0.4` | ")


def test_a_report_needs_no_log(tmp_path, monkeypatch, capsys):
    """A run on a log with gaps of years, by a relative path, is reported from elsewhere, and after the log has gone."""
    log = tmp_path / "log.csv"
    here = tmp_path / "elsewhere"
    at = np.arange(900)
    write_events(log, 7 * at % 40, 11 * at % 31, 900_000_000 + 9000 * at + at // 300 * 5 * 365 * 86_400)
    monkeypatch.chdir(tmp_path)
    line = (
        "compare --data log.csv --agents random --out run --rounds 1 --seeds 3,5 --workers 1 --no-certificate"
    )
    line += (
        " --set platform.model=popularity-hp --set arrivals.per_round=60 --min-item-events 1 --set slate=3"
    )
    line += " --set consumer.truth=factors --set consumer.rank=1"
    assert "tensorboard --logdir" in said_by(capsys, line).out
    log.unlink()
    here.mkdir()
    monkeypatch.chdir(here)
    build_world.cache_clear()
    assert "random" in said_by(capsys, ["report", "../run"]).out
    assert load_run("../run").catalogue["events"].sum() > 0
    assert load_run("../run").seeds == [3, 5]


def test_a_plot_without_a_name_lists_the_names_and_dir_has_no_doubles(folders):
    """The message has every picture of the report, and each table is in dir once."""
    run = load_run(folders / "one")
    refused(ConfigError, "plot: the name of a picture is missing. Use one of .*rounds", run.plot)
    assert len(dir(run)) == len(set(dir(run)))
    assert {"rounds", "ledger", "plot"} <= set(dir(run))
