"""Commands on run folders that exist: resuming, repeating with --from, and demos and validations that end early."""

import re
from contextlib import nullcontext

from kit import cases, refused, said_by
from kit.commands import FEW

from rimsim.errors import RunFolderError
from rimsim.scenarios import load_run
from rimsim.scenarios.cli import demo, tools
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds import backtest as backtesting
from rimsim.scenarios.kinds import validate as validating
from rimsim.scenarios.runs.store import repeat_command
from rimsim.scenarios.study.compare import resume


def test_a_run_of_another_kind_is_refused_with_the_command_that_repeats_it(folders, capsys):
    """Neither --from nor --resume takes a sweep for a comparison; without a folder there is no run to go on with."""
    sweep_folder = folders / "many"
    said = "holds a sweep. Expected a comparison, .* To repeat .*: "
    refused(RunFolderError, said, load_run, sweep_folder, "comparison")
    for option in (["--from"], ["--resume", "--out"]):
        assert (
            f"{sweep_folder}: holds a sweep"
            in said_by(capsys, ["compare", *option, str(sweep_folder)], 2).err
        )
    said = said_by(capsys, ["sweep", "--resume", "--out", str(folders / "one")], 2)
    assert "holds a comparison. Expected a sweep" in said.err
    said = said_by(capsys, ["compare", "--resume", "--out", str(folders / "none")], 2)
    assert "no such folder, so there is nothing to resume" in said.err


@cases("entry name", ("experiment", "experiment"), ("validate", "validation"), ("backtest", "back-test"))
def test_what_is_begun_anew_is_not_resumed(entry, name, tmp_path, capsys):
    """The folder of an experiment, a validation or a back-test is refused with the command that repeats it."""
    command = f"rimsim {entry} --seeds 1"
    (tmp_path / "config.yaml").write_text(f"{entry}: {{}}\ncommand: {command}\n", encoding="utf-8")
    said = f"holds an? {name}. Expected a comparison, .* To repeat .*: {command}$"
    refused(RunFolderError, said, resume, tmp_path)
    for job in ("compare --resume --out", "sweep --resume --out", "compare --from"):
        said = said_by(capsys, f"{job} {tmp_path}", 2)
        assert f"To repeat the run in this folder: {command}\n" in said.err


def test_the_repeating_command_leaves_the_folder_out(folders):
    """What is repeated goes to a folder of its own."""
    run = load_run(folders / "many")
    run.config["command"] = "rimsim sweep --beta 0,1 --out here --resume --seeds 2 --out=there"
    assert repeat_command(run) == "rimsim sweep --beta 0,1 --seeds 2"
    run.config.pop("command")
    assert repeat_command(run) == "rimsim sweep"


def test_a_command_may_be_repeated_with_resume_and_from(folders, tmp_path, capsys):
    """The same options are welcome beside the folder that holds them, in whole or in part."""
    comparison = str(folders / "one")
    resumed = ["--resume", "--out", str(folders / "one")]
    for line in (
        ["compare", "--resume", comparison],
        ["compare", "closed-loop", *FEW, "--agents", "random,relevance", *resumed],
        ["compare", "--seeds", "0,", "--rounds", "2", *resumed],
        ["sweep", *FEW, "--beta", "0.2,0.4", "--resume", "--out", str(folders / "many")],
    ):
        assert main(line) == 0
    again = ["--out", str(tmp_path / "again"), "--workers", "1"]
    assert (
        f"equal to {comparison}"
        in said_by(capsys, ["compare", "--rounds", "2", "--from", comparison, *again]).out
    )


@cases(
    "options said",
    ("--rounds 3", "rounds 3 instead of 2. Give the same options, or none"),
    ("--seeds 2", "seeds [0, 1] instead of [0]"),
    ("--agents random", "agents ['random'] instead of ['random', 'relevance']"),
    ("--frozen none", "frozen [] instead of ['relevance']"),
    ("--set exposure.beta=0.3", "exposure.beta 0.3 instead of 0.5"),
    ("--no-ledger", "ledger False instead of True"),
    ("no-retrain", "name 'no-retrain' instead of 'closed-loop'"),
)
def test_other_options_beside_a_run_folder_are_refused_with_the_difference(folders, options, said, capsys):
    """What differs is named, with both values, for --resume and --from alike."""
    for before in (["--resume", "--out"], ["--from"]):
        errors = said_by(capsys, ["compare", *options.split(), *before, str(folders / "one")], 2).err
        assert "some options differ from those that the run began with: " in errors
        assert said in errors


def test_a_repetition_that_differs_names_what_has_changed(tmp_path, capsys):
    """After an edit of an agent's file, --from says so before it runs, and with the tables that differ after."""
    mine = tmp_path / "mine.py"
    out = str(tmp_path / "run")
    text = "from rimsim.agents import Random, Relevance\n\n\nclass Mine(Random):\n    name = 'mine'\n"
    mine.write_text(text)
    assert main(["compare", *FEW, "--agents", f"{mine}:Mine", "--frozen", "none", "--out", out]) == 0
    mine.write_text(text.replace("(Random)", "(Relevance)"))
    again = ["compare", "--from", out, "--workers", "1", "--out"]
    said = said_by(capsys, [*again, str(tmp_path / "again")], 2)
    assert f"note: {out}: changed since the run began: {mine}" in said.out
    assert f"again differs from {out} in rounds, arrivals, learnt, ledger, reliability (digests " in said.err
    assert said.err.rstrip().endswith(f"changed since the run began: {mine}")
    mine.unlink()
    assert "mine.py" in said_by(capsys, [*again, str(tmp_path / "third")], 2).err


def test_a_quick_demo_replaces_its_own_folder_only(tmp_path, monkeypatch):
    """A whole demo beside it stays; a folder that holds anything else is refused untouched."""
    for part in ("quick", "closed-loop"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "old").touch()
    made = []
    monkeypatch.setattr(demo.scenarios, "compare", lambda *_, out, **__: made.append(out))
    monkeypatch.setattr(tools, "print_run", lambda run, **_: None)
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 0
    assert made == [tmp_path / "quick"]
    assert not made[0].exists()
    assert (tmp_path / "closed-loop" / "old").exists()
    (tmp_path / "mine").touch()
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "closed-loop" / "old").exists()


def test_a_quick_demo_chooses_neither_truth_nor_platform(tmp_path, monkeypatch):
    """It plays the default market with fewer visitors, and shows the problem next to the remedy, at three seeds."""
    calls = []

    def record(scenario, agents, *_, seeds, settings, **__):
        calls.append((scenario, agents, seeds, set(settings)))

    monkeypatch.setattr(demo.scenarios, "compare", record)
    monkeypatch.setattr(tools, "print_run", lambda run, **_: None)
    assert main(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    assert calls == [("closed-loop", ("relevance", "rim-feedback"), 3, {"arrivals.per_round"})]


def test_an_interrupted_validation_says_that_nothing_is_saved(monkeypatch, tmp_path, capsys):
    """Runs that are written as a whole say so; the status is 130."""
    for module, words in ((validating, "validate"), (backtesting, "backtest")):

        def stopped(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "usable_log", stopped)
        errors = said_by(capsys, [words, "--out", str(tmp_path / "run")], 130).err
        assert (
            "interrupted; nothing is saved, because such a run is written when all of it is finished"
            in errors
        )
    assert not (tmp_path / "run").exists()


def test_an_interrupted_demo_names_the_command_that_resumes_all_of_it(tmp_path, monkeypatch, capsys):
    """The hint is of the demo, not of one of its runs; --resume goes on with what has begun and keeps the folder."""

    def stopped(*_, out, **__):
        out.mkdir(parents=True)
        (out / "config.yaml").touch()
        raise KeyboardInterrupt("of one run")

    resumed = []
    monkeypatch.setattr(demo.scenarios, "compare", stopped)
    monkeypatch.setattr(demo.scenarios, "resume", lambda folder, **_: resumed.append(folder))
    monkeypatch.setattr(tools, "print_run", lambda run, **_: None)
    out = tmp_path / "demo"
    errors = said_by(capsys, ["demo", "--quick", "--out", str(out)], 130).err
    command = f"rimsim demo --quick --resume --out {out}"
    assert errors == f"rimsim: interrupted; finished rounds are saved in {out}. To continue:\n  {command}\n"
    said_by(capsys, command.split()[1:])
    assert resumed == [out / "quick"]
    assert (out / "quick" / "config.yaml").exists()
    none = str(tmp_path / "none")
    assert "nothing to resume" in said_by(capsys, ["demo", "--resume", "--out", none], 2).err


def test_a_whole_demo_prints_each_note_once(tmp_path, monkeypatch, capsys):
    """Both of its parts print their notes before they play or in their reports, new and resumed."""
    real = demo.scenarios.compare
    settings = {"arrivals.per_round": 20, "data.min_item_events": 120, "platform.model": "popularity-hp"}
    settings |= {"consumer.truth": "gru"}
    settings |= {"slate": 5, "exposure.beta": 1.0, "consumer.truth": "factors", "consumer.rank": 1}

    def small(*_, out, console, command, **__):
        agents = ("relevance", "random")
        small = {"rounds": 1, "seeds": 1, "frozen": [], "workers": 1, "certify": False, "settings": settings}
        return real("closed-loop", agents, **small, out=out, console=console, command=command)

    monkeypatch.setattr(demo.scenarios, "compare", small)
    monkeypatch.setattr(demo, "_in_background", lambda *_: nullcontext())
    out = str(tmp_path / "demo")
    for more in ([], ["--resume"]):
        printed = said_by(capsys, ["demo", "--out", out, *more]).out
        for part in printed.partition("2. The replay")[::2]:
            assert part.count("note: ") == len(set(re.findall("note: .*", part))) > 0
