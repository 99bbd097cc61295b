"""What the command line says: of arms that failed, of folders of another kind, of slips in a command."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_markets import drawn, small_scenario

from rimsim.config import find_scenario
from rimsim.errors import ArmsError, ConfigError, DataError, RunFolderError
from rimsim.market import build_world
from rimsim.scenarios import backtest, compare, load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.backtest.split import BacktestConfig
from rimsim.scenarios.runs.status import shown_rounds, status_of
from rimsim.scenarios.study.compare import resume

RAISES = f"{Path(__file__).with_name('faulty_agents.py')}:Raises"
_FEW = (
    "--rounds 2 --seeds 1 --workers 1 --no-certificate --set platform.model=popularity-hp "
    "--set arrivals.per_round=60 --set slate=5 --set data.min_item_events=120"
)
FEW = _FEW.split()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a comparison (one), a sweep (many) and a back-test (past)."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["compare", *FEW, "--agents", "random,relevance", "--out", str(folder / "one")]) == 0
    assert (
        main(["sweep", *FEW, "--agents", "random", "--beta", "0.2,0.4", "--out", str(folder / "many")]) == 0
    )
    backtest(
        BacktestConfig(data={"min_item_events": 120}, models=["popularity"], seeds=[0], beta=[], cap=[]),
        out=folder / "past",
        command="rimsim backtest --models popularity",
    )
    return folder


def test_the_tables_of_arms_that_went_well_are_printed_beside_those_that_failed(tmp_path, capsys):
    """The other arms' table, then a line a failed arm and a status that is not 0; the report says how many failed."""
    out = str(tmp_path / "run")
    assert main(["compare", *FEW, "--agents", f"random,{RAISES}", "--frozen", "none", "--out", out]) == 2
    said = capsys.readouterr()
    assert "closed-loop: round 1, 1 seed" in said.out
    assert "\nrandom " in said.out
    assert "\n  raises " not in said.out
    assert "rimsim: 1 of 2 arms failed:\n  raises, seed 0: agent 'raises' raised ValueError" in said.err
    assert main(["report", out]) == 0
    assert f"1 of 2 arms failed: {out}/ holds failures/raises-0.txt" in capsys.readouterr().out


def test_a_sweep_prints_the_points_of_arms_that_went_well(tmp_path, capsys):
    """Arms that failed are told with their point; the table of the others is printed, also by the report."""
    out = str(tmp_path / "run")
    line = ["sweep", *FEW, "--agents", f"random,{RAISES}", "--beta", "0.2,0.4", "--out", out]
    assert main(line) == 2
    said = capsys.readouterr()
    assert "random beta=0.4" in said.out
    assert "2 of 4 arms failed:\n  raises, beta=0.2, seed 0: agent 'raises'" in said.err
    assert not (tmp_path / "run" / "sweep.parquet").exists()
    assert main(["report", out]) == 0
    said = capsys.readouterr().out
    assert "random beta=0.2" in said
    assert "points/beta=0.4/failures/raises-0.txt" in said


def test_means_over_late_rounds_are_never_of_an_arm_that_stopped_early(tmp_path):
    """Tables and pictures of a run with failures are made of complete arms; with none, of the rounds that all have."""
    config = small_scenario(rounds=2)
    with pytest.raises(ArmsError), drawn():
        compare(config, ("random", RAISES), seeds=1, out=tmp_path / "some", workers=1, frozen=[])
    assert set(shown_rounds(load_run(tmp_path / "some"))["agent"]) == {"random"}
    with pytest.raises(ArmsError, match="1 of 1 arms failed"):
        compare(config, (RAISES,), seeds=1, out=tmp_path / "none", workers=1, frozen=[])
    run = load_run(tmp_path / "none")
    assert set(shown_rounds(run)["round"]) == {0}
    assert not status_of(run).complete


def test_a_report_before_the_first_round_says_what_is_not_finished(folders, tmp_path, capsys):
    """A folder that has a config and no table yet: no traceback, and how to go on."""
    text = (folders / "one" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text)
    assert main(["report", str(tmp_path)]) == 0
    assert "3 of 3 arms are not finished: rimsim compare --resume --out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("many", "holds a sweep; allowed: a comparison, .* repeated by: "),
        (
            "past",
            "holds a back-test; allowed: a comparison, .* repeated by: rimsim backtest --models popularity$",
        ),
    ],
)
def test_a_run_of_another_kind_is_refused_with_the_command_that_repeats_it(folders, name, message, capsys):
    """Neither --from nor --resume takes a sweep or a back-test for a comparison."""
    with pytest.raises(RunFolderError, match=message):
        load_run(folders / name, "comparison")
    for option in (["--from"], ["--resume", "--out"]):
        capsys.readouterr()
        assert main(["compare", *option, str(folders / name)]) == 2
        assert f"{folders / name}: holds a " in capsys.readouterr().err
    with pytest.raises(RunFolderError, match="holds a back-test"):
        resume(folders / "past")
    assert main(["sweep", "--resume", "--out", str(folders / "one")]) == 2
    assert "holds a comparison; allowed: a sweep" in capsys.readouterr().err


def test_a_run_that_was_never_begun_is_not_resumed(tmp_path, capsys):
    """The message says that the command without --resume begins one."""
    assert main(["compare", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "no such folder; the command without --resume begins a run there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "name"),
    [("experiment", "an experiment"), ("validate", "a validation"), ("backtest", "a back-test")],
)
def test_what_is_begun_anew_is_not_resumed(entry, name, tmp_path, capsys):
    """The folder of an experiment, a validation or a back-test is refused with the command that repeats it."""
    command = f"rimsim {entry} --seeds 1"
    (tmp_path / "config.yaml").write_text(f"{entry}: {{}}\ncommand: {command}\n", encoding="utf-8")
    held = f"holds {name}; allowed: a comparison, .* repeated by: {command}$"
    with pytest.raises(RunFolderError, match=held):
        resume(tmp_path)
    for job in ("compare", "sweep"):
        assert main([job, "--resume", "--out", str(tmp_path)]) == 2
        assert f"repeated by: {command}\n" in capsys.readouterr().err


def test_the_repeating_command_leaves_the_folder_out(folders):
    """What is repeated goes to a folder of its own."""
    from rimsim.scenarios.runs.store import repeat_command

    run = load_run(folders / "many")
    run.config["command"] = "rimsim sweep --beta 0,1 --out here --resume --seeds 2 --out=there"
    assert repeat_command(run) == "rimsim sweep --beta 0,1 --seeds 2"
    run.config.pop("command")
    assert repeat_command(run) == "rimsim sweep"


def test_a_sweep_is_reported_as_digest_and_as_markdown(folders, tmp_path, capsys):
    """Equal sweeps have equal digests, others have not; --markdown writes the answer and the table."""
    scenario = load_run(folders / "many").scenario
    options = {"seeds": 1, "workers": 1, "certify": False}
    sweep(
        scenario, {"exposure.beta": [0.2, 0.4]}, ("random",), out=tmp_path / "again", batch_size=7, **options
    )
    sweep(scenario, {"exposure.beta": [0.2, 0.5]}, ("random",), out=tmp_path / "other", **options)
    said = []
    for folder in (folders / "many", tmp_path / "again", tmp_path / "other"):
        capsys.readouterr()
        assert main(["report", str(folder), "--digest"]) == 0
        said.append(capsys.readouterr().out.strip())
    assert said[0] == said[1] != said[2]
    assert len(said[0]) == 64
    assert main(["report", str(folders / "many"), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("`random`: beta from 0.2 to 0.4 changes ")
    assert lines[2].startswith("**closed-loop: means over the late rounds")
    assert lines[-1].startswith("| `random beta=0.4` | ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compare --sedes 3", "rimsim compare: No such option '--sedes'. Did you mean '--seeds'?"),
        ("report here --digets", "rimsim report: No such option '--digets'. Did you mean '--digest'?"),
        (
            "data check here --coloumns=a",
            "rimsim data check: No such option '--coloumns'. Did you mean '--columns'?",
        ),
        ("comprae", "rimsim: No such command 'comprae'. Did you mean 'compare'?"),
        ("data chek", "rimsim data: No such command 'chek'. Did you mean 'check'?"),
        (
            "backtest --recipe quik",
            "rimsim backtest: --recipe: 'quik' is not one of 'thorough', 'quick'.",
        ),
        ("backtest --tol small", "rimsim backtest: --tol: 'small'; allowed: a number"),
        (
            "report one two",
            "rimsim report: Got unexpected extra argument (two). rimsim report --help",
        ),
        ("report one --digest --markdown", "rimsim report: --markdown: not allowed with argument --digest"),
        (
            "data check",
            "rimsim data check: Missing argument 'PATH'. rimsim data check --help",
        ),
        ("compare --out", "rimsim: Option '--out' requires an argument. rimsim --help"),
        ("compare --out=", "rimsim compare: --out: ''; allowed: a path"),
        ("backtest --out=", "rimsim backtest: --out: ''; allowed: a path"),
        ("demo --out=", "rimsim demo: --out: ''; allowed: a path"),
        ("compare --rounds 0", "rimsim compare: --rounds: '0'; allowed: a whole number from 1 up"),
        ("compare --rounds few", "rimsim compare: --rounds: 'few'; allowed: a whole number from 1 up"),
        ("compare --workers 0", "rimsim compare: --workers: '0'; allowed: a whole number from 1 up"),
        ("sweep --workers -2", "rimsim sweep: --workers: '-2'; allowed: a whole number from 1 up"),
        ("sweep --batch-size 1.5", "rimsim sweep: --batch-size: '1.5'; allowed: a whole number from 1 up"),
    ],
)
def test_a_slip_is_answered_in_one_line_with_the_nearest_name(line, said, capsys):
    """Status 2 and one line that begins with the command and names the option; no page of usage."""
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compare --seeds 0", "--seeds: '0'; allowed: how many seeds, at least 1"),
        ("sweep --seeds 1,1", "--seeds: '1,1'; allowed: "),
        ("backtest --seeds few", "--seeds: 'few'; allowed: "),
        ("backtest --users 1", "--users: 1; allowed: greater than or equal to 2"),
        ("sweep --beta 0,2", "--beta: field 'exposure.beta' is 2; allowed: less than or equal to 1"),
        ("sweep --beta 0 --grid exposure.beta=1", "--beta or --grid: 'exposure.beta=0'; allowed: "),
        ("sweep --grid exposure.cost=[", "--grid: exposure.cost: '[' cannot be read: "),
        ("compare --set slate=[", "--set: 'slate=[': '[' cannot be read: "),
        ("compare --set slate=0", "--set: field 'slate' is 0; allowed: greater than or equal to 1"),
        ("compare --set beta=0.3", "--set: unknown field 'beta'. Did you mean 'exposure.beta'?"),
        (
            "compare --set exposur.beta=0.3",
            "--set: unknown field 'exposur.beta'. Did you mean 'exposure.beta'?",
        ),
        ("compare --agents ,", "agents: none given; allowed: at least one"),
        ("compare nowhere.yaml", "nowhere.yaml: no such file."),
        ("compare none/mine.yaml", "none/mine.yaml: no such file. There is no folder 'none'."),
    ],
)
def test_what_does_not_fit_is_told_with_the_option_that_was_used(line, said, tmp_path, monkeypatch, capsys):
    """One line in our own words: no name of a type, no number of an error."""
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"rimsim: {said}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_told_in_words(tmp_path, capsys):
    """A run folder below a file, a scenario that is a folder or no text: the reason, and no number of an error."""
    (tmp_path / "file").touch()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff")
    out = tmp_path / "file" / "run"
    assert main(["compare", *FEW, "--agents", "random", "--out", str(out)]) == 2
    assert f"rimsim: {out}: cannot be made: a part of the path is no folder; " in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "folder.yaml")]) == 2
    assert "folder.yaml: cannot be read as a scenario: it is a folder\n" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "bytes.yaml")]) == 2
    assert "byte 6 is no UTF-8; allowed: UTF-8 text" in capsys.readouterr().err


def test_paths_may_be_texts_or_paths_and_nothing_else(tmp_path):
    """A folder that is a number is refused by name; a log and a scenario may be given as paths."""
    with pytest.raises(ConfigError, match="out: 5 is no path; allowed: a path"):
        compare("closed-loop", ("random",), out=5)
    with pytest.raises(ConfigError, match="rounds: field 'rounds' is 0; allowed: greater than or equal to 1"):
        compare("closed-loop", ("random",), 0)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        compare("closed-loop", ("random",), data=tmp_path / "nowhere.csv")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        compare(tmp_path / "nowhere.yaml", ("random",))


def test_a_scenario_without_a_name_has_that_of_its_file(tmp_path):
    """A file's stem is the name, which run folders begin with; a name that is given stays."""
    (tmp_path / "mine.yaml").write_text("rounds: 2")
    assert find_scenario(str(tmp_path / "mine.yaml")).name == "mine"
    (tmp_path / "mine.yaml").write_text("name: ours")
    assert find_scenario(str(tmp_path / "mine.yaml")).name == "ours"


def test_a_command_may_be_repeated_with_resume_and_from(folders, tmp_path, capsys):
    """The same options are welcome beside the folder that holds them, in whole or in part."""
    one = str(folders / "one")
    assert main(["compare", "--resume", one]) == 0
    assert (
        main(["compare", "closed-loop", *FEW, "--agents", "random,relevance", "--resume", "--out", one]) == 0
    )
    assert main(["compare", "--seeds", "0,", "--rounds", "2", "--resume", "--out", one]) == 0
    assert main(["sweep", *FEW, "--beta", "0.2,0.4", "--resume", "--out", str(folders / "many")]) == 0
    capsys.readouterr()
    again = ["--out", str(tmp_path / "again"), "--workers", "1"]
    assert main(["compare", "--rounds", "2", "--from", one, *again]) == 0
    assert f"equal to {one}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rounds", "3"], "rounds 3, where it has 2; allowed: the same, or none"),
        (["--seeds", "2"], "seeds [0, 1], where it has [0]"),
        (["--agents", "random"], "agents ['random'], where it has ['random', 'relevance']"),
        (["--frozen", "none"], "frozen [], where it has ['relevance']"),
        (["--set", "exposure.beta=0.3"], "exposure.beta 0.3, where it has 0.5"),
        (["--no-ledger"], "ledger False, where it has True"),
        (["no-retrain"], "name 'no-retrain', where it has 'closed-loop'"),
    ],
)
@pytest.mark.parametrize("before", [["--resume", "--out"], ["--from"]])
def test_other_options_beside_a_run_folder_are_refused_with_the_difference(
    folders, before, options, said, capsys
):
    """What differs is named, with both values, for --resume and --from alike."""
    assert main(["compare", *options, *before, str(folders / "one")]) == 2
    told = capsys.readouterr().err
    assert "found other options than it began with: " in told
    assert said in told


def test_a_repetition_that_differs_names_what_has_changed(tmp_path, capsys):
    """After an edit of an agent's file, --from says so before it runs, and with the tables that differ after."""
    mine = tmp_path / "mine.py"
    text = "from rimsim.agents import Random, Relevance\n\n\nclass Mine(Random):\n    name = 'mine'\n"
    mine.write_text(text)
    out = str(tmp_path / "run")
    assert main(["compare", *FEW, "--agents", f"{mine}:Mine", "--frozen", "none", "--out", out]) == 0
    mine.write_text(text.replace("(Random)", "(Relevance)"))
    capsys.readouterr()
    assert main(["compare", "--from", out, "--out", str(tmp_path / "again"), "--workers", "1"]) == 2
    said = capsys.readouterr()
    assert f"note: {out}: changed since the run began: {mine}" in said.out
    assert f"again differs from {out} in rounds, arrivals, learnt, ledger, reliability (digests " in said.err
    assert said.err.rstrip().endswith(f"changed since the run began: {mine}")
    mine.unlink()
    assert main(["compare", "--from", out, "--out", str(tmp_path / "third")]) == 2
    assert "mine.py" in capsys.readouterr().err


def test_a_report_needs_no_log(tmp_path, monkeypatch, capsys):
    """A run whose log was given by a relative path is reported from elsewhere, and after the log has gone."""
    log, here = tmp_path / "log.csv", tmp_path / "elsewhere"
    rows = [f"{(7 * n) % 40},{(11 * n) % 31},{1_500_000_000 + 9000 * n}" for n in range(900)]
    log.write_text("\n".join(["user,item,timestamp", *rows]))
    monkeypatch.chdir(tmp_path)
    line = "compare --data log.csv --rounds 1 --seeds 1 --workers 1 --agents random --out run --set slate=3 "
    line += "--set platform.model=popularity-hp --set arrivals.per_round=60 --set data.min_item_events=1"
    assert main(line.split()) == 0
    log.unlink()
    here.mkdir()
    monkeypatch.chdir(here)
    build_world.cache_clear()
    capsys.readouterr()
    assert main(["report", "../run"]) == 0
    assert "random" in capsys.readouterr().out
    assert load_run("../run").catalogue["events"].sum() > 0
