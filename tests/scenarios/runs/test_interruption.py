"""Runs that are killed, interrupted, left without disk or asked nonsense, and what a resumed one makes of them."""

import functools
import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import suppress

import pandas as pd
import pytest
import yaml
from kit import FAULTY, cases, ended, forked, refused, until, write_events
from kit.markets import drawn, in_file, small_run, small_scenario, stopped_after_a_round
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim.config import ArrivalsConfig, ConsumerConfig, DataConfig
from rimsim.errors import AgentError, ArmsError, DiskError, RunFolderError
from rimsim.market import build_world
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.run import load_run
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.runs.locks import locked, writing
from rimsim.scenarios.runs.process import stop_if_asked, stopping_on_request
from rimsim.scenarios.runs.records import versions
from rimsim.scenarios.runs.status import shown_rounds
from rimsim.scenarios.study.compare import resume
from rimsim.testing import random_log

resource = pytest.importorskip("resource")
AGENTS = ("rim-feedback", "relevance")
PARTS = 2
POINTS = 3
ARRIVALS = 40
ROUNDS = 2

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to kill a process that is warm")


QUICK = ConsumerConfig(truth="factors", rank=1)
"""A truth that is fitted in a second."""
SAVED = "finished rounds are saved in {}. To continue:\n  "
CONFIG = small_scenario(rounds=ROUNDS, arrivals=ArrivalsConfig(per_round=ARRIVALS, max_visits=3))


def _run(folder, batch_size=None, workers=1):
    return small_run(folder, AGENTS, CONFIG, batch_size=batch_size, workers=workers)


def _log(folder):
    """A log of some hundred events in a file."""
    log = random_log(40, 30)
    return write_events(folder / "log.csv", log.user, log.item, log.time)


def _in_child(action):
    return ended(forked(action))


def _killed_at(point, calls, folder):
    """Kill a run at one of its calls; where that was."""
    place = f"call {point} of {calls}"
    assert _in_child(lambda: _calls_of(lambda: _run(folder), point)) == -signal.SIGKILL, place
    return place


def _holder(context):
    """A forked process that holds a context until it is killed."""

    def hold_it():
        with context:
            os.write(writer, b"!")
            signal.pause()

    reader, writer = os.pipe()
    holder = forked(hold_it)
    os.read(reader, 1)
    return holder


def _calls_of(action, signal_at=None, number=signal.SIGKILL):
    """Count Python calls made by an action; at one of them, send this process a signal."""
    count = 0

    def step(frame, event, argument):
        nonlocal count
        if event == "call":
            count += 1
            if count == signal_at:
                os.kill(os.getpid(), number)

    sys.setprofile(step)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run that nobody interrupts."""
    return _run(tmp_path_factory.mktemp("whole") / "run")


def _drafts(folder):
    return sorted(folder.rglob(".draft*"))


def _check(folder, uninterrupted, place, batch_size=None):
    """Finished rounds can be read; a resumed run has the content of an uninterrupted one, and no doubled steps."""
    if not (folder / "config.yaml").exists():  # killed before there was a run: it can be begun anew
        resumed = _run(folder, batch_size)
    else:
        if list(folder.glob("rounds/*.parquet")) or (folder / "rounds.parquet").exists():
            assert not load_run(folder).rounds.empty, place
        resumed = resume(folder, batch_size=batch_size, workers=1)
    assert digest(resumed) == digest(uninterrupted), place
    assert not _drafts(folder), place
    for agent in AGENTS:
        events = EventAccumulator(str(folder / "events" / agent / "seed-0"))
        events.Reload()
        for tag, steps in (("", [0, 1]), ("zz_by_arrivals/", [ARRIVALS, 2 * ARRIVALS])):
            assert [event.step for event in events.Scalars(f"{tag}exposure/coverage")] == steps, place


@pytest.fixture(scope="module")
def calls(tmp_path_factory, uninterrupted):
    """How many calls a run makes, when what it imports is there."""
    return _calls_of(lambda: _run(tmp_path_factory.mktemp("counted") / "run"))


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_killed_at_any_point_resumes_to_the_same_content(tmp_path, uninterrupted, calls, part):
    """SIGKILL at a random call of each of six equal stretches, resumed with other batches: the same digest."""
    draw = random.Random(part)
    for number, batch_size in enumerate((None, 1, 1000)):
        stretch = number * PARTS + part
        folder = tmp_path / str(number)
        point = 1 + int((stretch + draw.random()) / (PARTS * POINTS) * (calls - 1))
        _check(folder, uninterrupted, _killed_at(point, calls, folder), batch_size)


@pytest.mark.thorough
def test_a_run_killed_while_it_draws_resumes_to_the_same_content(tmp_path, uninterrupted):
    """SIGKILL while tables are joined and a picture is drawn: what is there can be read, and resuming ends the run."""
    with drawn():
        # What a picture imports must not be counted, since forked processes have it already.
        _run(tmp_path / "warm")
        calls = _calls_of(lambda: _run(tmp_path / "counted"))
        for number, share in enumerate((0.5, 0.9)):
            folder = tmp_path / str(number)
            _check(folder, uninterrupted, _killed_at(int(share * calls), calls, folder))
            assert {path.stem for path in (folder / "pictures").glob("*.png")} == {"rounds"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_resumes(tmp_path, uninterrupted, number, capfd):
    """SIGINT and SIGTERM at seeded points end the command with status 130, no draft and no lock; resuming goes on."""
    draw = random.Random(int(number))
    line = _line(tmp_path, ",".join(AGENTS))
    calls = _calls_of(lambda: main([*line, str(tmp_path / "counted")]))
    last = calls * 49 // 50  # what the first run leaves in memory saves the others some calls
    for at in range(2):
        folder = tmp_path / str(at)
        point = draw.randrange(calls // 4, last)
        command = functools.partial(main, [*line, str(folder)])
        status = _in_child(lambda run=command, p=point: os._exit(_status(run, p, number)))
        place = f"call {point} of {calls}"
        assert status == 130, place
        errors = capfd.readouterr().err
        unfinished = (folder / "config.yaml").exists() and (folder / "state").exists()
        goes_on = f"; {SAVED.format(folder)}rimsim compare --resume --out {folder}"
        # Before anything and while results are printed there is nothing to go on with, or all is there already.
        allowed = {f"rimsim: interrupted{goes_on}\n"} | (set() if unfinished else {"rimsim: interrupted\n"})
        assert errors in allowed, place
        assert not _drafts(folder), place
        _check(folder, uninterrupted, place, batch_size=7)


def _line(folder, agents):
    """A command that compares agents in the small scenario, but for its run folder."""
    line = f"compare {in_file(CONFIG, folder)} --agents {agents} --frozen none --no-certificate"
    return [*line.split(), "--seeds", "1", "--workers", "1", "--out"]


def _status(action, point, number):
    """What an action returns that is sent a signal at one of its calls."""
    results = []
    _calls_of(lambda: results.append(action()), point, number)
    return results[0]


def test_an_interrupt_that_python_drops_is_found_again(monkeypatch):
    """An interrupt that falls into a finaliser is swallowed there, and raised at each safe point, the end included."""
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)

    def finalised():
        try:
            yield
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), stopping_on_request():  # noqa: PT012  # raised as the block ends
        started = finalised()
        next(started)
        del started
        assert len(dropped) == 1
        with pytest.raises(KeyboardInterrupt):
            stop_if_asked()
    stop_if_asked()  # and is over with the work


def test_an_interrupt_that_became_an_error_is_an_interrupt(tmp_path, capfd):
    """Where a library, or an agent, makes an error of an interrupt, the run is interrupted, and no arm has failed."""
    agent = f"{FAULTY}:Interrupted"
    out = tmp_path / "run"
    assert main([*_line(tmp_path, agent), str(out)]) == 130
    assert capfd.readouterr().err.startswith(f"rimsim: interrupted; {SAVED.format(out)}")
    assert load_run(out).rounds["round"].max() == 0
    assert not (out / "failures").exists()


def test_any_error_after_an_interrupt_is_the_interrupt():
    """What fails after a signal came has failed because of it."""
    with pytest.raises(KeyboardInterrupt), stopping_on_request(), suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopping_on_request():  # noqa: PT012  # one after the other
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        raise SystemError


@pytest.mark.parametrize("room", [0, 500, 5_000, 9_000])
def test_a_full_disk_ends_in_one_sentence_and_a_run_that_can_be_resumed(tmp_path, uninterrupted, room, capfd):
    """One sentence, for each arm where they run; no traceback, no half file; with room, the run ends the same."""
    folder = tmp_path / "run"

    def run_out_of_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            _run(folder)
        except Exception as error:  # noqa: BLE001  # its kind is looked at below
            os.write(writer, f"{type(error).__name__}\n{error}".encode())

    reader, writer = os.pipe()
    assert _in_child(run_out_of_room) == 0
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        kind, *lines = pipe.read().splitlines()
    if kind == ArmsError.__name__:
        first, *lines, tracebacks, last = lines
        assert "arms failed:" in first
        assert tracebacks == f"tracebacks: {folder / 'failures'}/"
        assert last.startswith("disk: ")
        assert "Make room or name another folder" in last
    else:
        assert (kind, len(lines)) == (DiskError.__name__, 1)
    said = rf"{folder}\S*: the run cannot write to this path \(.*too large\). Finished rounds are saved"
    assert all(re.search(said, line) for line in lines)
    assert capfd.readouterr().err == ""
    assert not _drafts(folder)
    _check(folder, uninterrupted, f"{room} bytes")


def test_a_full_disk_under_the_cache_is_told_too(tmp_path, monkeypatch):
    """Where fits cannot be kept, the error is one of ours and names the place."""
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").touch()
    build_world.cache_clear()
    config = small_scenario(data=DataConfig(source=str(_log(tmp_path))), consumer=QUICK)
    said = "cache.*: the run cannot write to this path .* set RIMSIM_CACHE to a folder that you may write"
    refused(RunFolderError, said, small_run, tmp_path / "run", AGENTS, config)


@pytest.mark.thorough
def test_two_workers_killed_with_their_parent_resume_to_the_same_content(tmp_path, uninterrupted):
    """SIGKILL of a run on two processes after its first round: resumed at once by another, the same digest."""
    folder = tmp_path / "run"
    parent = forked(lambda: _run(folder, workers=2))
    until(lambda: list(folder.glob("rounds/[!.]*.parquet")))
    assert ended(parent, killed=True) == -signal.SIGKILL
    assert load_run(folder).rounds["round"].nunique() >= 1
    assert not (folder / "rounds.parquet").exists()
    assert digest(resume(folder, batch_size=7, workers=1)) == digest(uninterrupted)
    assert not _drafts(folder)


def test_a_resumed_run_waits_for_workers_of_a_killed_one(tmp_path):
    """A folder is not held before a worker that still writes to it has ended; one that stays is named after a while."""
    worker = _holder(writing(tmp_path / "points" / "0001", "relevance-0"))
    ended = []

    def end():
        ended.append(time.monotonic())
        os.kill(worker, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rimsim.scenarios.runs.locks._PATIENCE", 0.1)
        said = r"worker .* still writes to this folder \(.lock-relevance-0\)"
        with pytest.raises(RunFolderError, match=said), locked(tmp_path):
            pass
    threading.Timer(0.3, end).start()
    with locked(tmp_path):
        assert ended
    os.waitpid(worker, 0)


def test_a_run_on_another_day_has_the_same_content(tmp_path, uninterrupted, monkeypatch):
    """Two days on, with a folder named by the clock, event files carry the other day, and the digest is the same."""
    later = 2 * 86_400
    here = time.time
    for name, unit in (("time", 1), ("time_ns", 10**9)):
        clock = getattr(time, name)
        monkeypatch.setattr(time, name, lambda clock=clock, unit=unit: clock() + later * unit)
    strftime = time.strftime
    localtime = time.localtime
    monkeypatch.setattr(time, "strftime", lambda form: strftime(form, localtime(time.time())))
    monkeypatch.chdir(tmp_path)
    run = _run(None)
    assert strftime("%Y%m%d", localtime(here() + later)) in run.folder.name
    events = EventAccumulator(str(run.folder / "events" / "relevance" / "seed-0"))
    events.Reload()
    assert events.Scalars("exposure/coverage")[0].wall_time > here() + later / 2
    assert digest(run) == digest(uninterrupted)


def test_bounds_of_a_resumed_run_are_those_of_the_whole(tmp_path, monkeypatch):
    """A bound starts from the last round's prices, when resumed too; a table that is being written is not read."""
    asked = {"agents": ("relevance",), "config": small_scenario(rounds=2)}
    stopped = tmp_path / "stopped"
    with stopped_after_a_round(monkeypatch):
        refused(ArmsError, "enough", small_run, stopped, **asked, certify=True)
    (stopped / "rounds" / ".draft-0.parquet").write_bytes(b"PAR1")
    run = load_run(stopped)
    assert set(run.rounds["round"]) == set(shown_rounds(run)["round"]) == {0}
    resumed = resume(stopped, workers=1)
    assert not _drafts(stopped)
    assert "bound" in set(resumed.rounds["metric"])
    assert digest(resumed) == digest(small_run(tmp_path / "whole", **asked, certify=True))


def test_a_run_is_not_resumed_with_another_version_log_agent_or_config(tmp_path, monkeypatch):
    """What a run has done belongs to what it began with: the error names the package, the file or the field."""
    log = _log(tmp_path)
    agent = tmp_path / "mine.py"
    halted = tmp_path / "run"
    agent.write_text(FAULTY.read_text())
    config = small_scenario(rounds=2, data=DataConfig(source=str(log)), consumer=QUICK)
    refused(AgentError, "no idea", small_run, halted, (f"{agent}:Raises",), config, certify=True)
    with monkeypatch.context() as patch:
        here = versions() | {"torch": "0.1"}
        patch.setattr("rimsim.scenarios.study.repetition.versions", lambda: here)
        refused(RunFolderError, "made with other versions: torch .* there, 0.1 here", resume, halted)
    for path in (log, agent):
        text = path.read_text()
        path.write_text("\n".join(text.splitlines()[:-1]))
        build_world.cache_clear()
        refused(RunFolderError, f"changed since the run began: .*{path.stem}", resume, halted)
        path.write_text(text)
    path = halted / "config.yaml"
    described = yaml.safe_load(path.read_text())
    described["scenario"]["exposure"]["beta"] = 0.25
    path.write_text(yaml.safe_dump(described))
    refused(RunFolderError, r"edited: scenario\.exposure\.beta was 0\.5, is 0\.25", resume, halted)


@cases(
    "kind message",
    ("Raises", r"raises, seed 3: agent 'raises' raised ValueError in round 1, at arrival \d+ .*: no idea"),
    ("WrongShape", r"seed 3: .* in round 1: slates have shape \(\d+, 4\).*arrival, the first \d+"),
    ("Repeats", r"seed 3: .* in round 1: slate of arrival \d+ .*position 2 holds repeated item"),
)
def test_an_agent_that_answers_nonsense_is_named_and_the_others_are_kept(tmp_path, kind, message):
    """The error says which agent, seed, round and arrival; all that went well before is kept."""
    agents = ("random", f"{FAULTY}:{kind}")
    config = small_scenario(rounds=2)
    refused(AgentError, message, small_run, tmp_path, agents, config, seeds=[3])
    last_rounds = load_run(tmp_path).rounds.groupby("agent")["round"].nunique()
    assert (last_rounds["random"], last_rounds.drop("random").tolist()) == (2, [1])
    traceback = next((tmp_path / "failures").glob("*.txt")).read_text()
    assert "Traceback" in traceback


@pytest.mark.thorough
def test_a_worker_that_dies_once_goes_on_and_one_that_dies_again_is_named(tmp_path, monkeypatch):
    """An agent that kills its process fails after a second try; one that does so once goes on, to the same content."""
    monkeypatch.setenv("RIMSIM_TEST_MARKS", str(tmp_path))
    config = small_scenario(rounds=2)
    complete = small_run(tmp_path / "whole", ("random",), config)
    agents = (f"{FAULTY}:DiesOnce", f"{FAULTY}:Dies")
    said = r"1 of 2 arms failed:\n  dies, seed 0: agent 'dies' in round 1: .*killed by SIGKILL, 2 times"
    refused(AgentError, said, small_run, tmp_path / "dying", agents, config, workers=2)
    assert (tmp_path / "died").exists()
    unfinished = load_run(tmp_path / "dying")
    rounds = unfinished.rounds.groupby("agent")["round"].nunique().to_dict()
    assert rounds == {"random": 2, "dies": 1}
    for tables in ("rounds", "ledger"):
        random_agents = (getattr(run, tables).query("agent == 'random'") for run in (complete, unfinished))
        expected, table = (rows.sort_values([*rows], ignore_index=True) for rows in random_agents)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
