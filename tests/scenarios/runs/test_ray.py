"""Arms on Ray: the same bytes as on local processes, whatever dies on the way, and no file system in common."""

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from kit import FAULTY, cases, refused, until
from kit.markets import in_file, small_run, small_scenario

from rimsim.config import ArrivalsConfig, ConsumerConfig, DataConfig, override
from rimsim.errors import AgentError, ConfigError
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.runs import ray as remote
from rimsim.scenarios.runs.arms import Arm, StudyOptions
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.runs.records import versions
from rimsim.scenarios.study.compare import resume
from rimsim.scenarios.study.plan import planned
from rimsim.scenarios.study.play import prepare, run_arm
from rimsim.scenarios.study.runner import begin, gather

AGENTS = ("random", "relevance")


@pytest.fixture(scope="module")
def local_run(tmp_path_factory):
    """A run in this process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    asked = {"workers": 1, "certify": False}
    return compare(small_scenario(rounds=2), AGENTS, seeds=2, out=folder, **asked)


def _begun(folder, config, agents=("random",), **options):
    """The plan of a run that has begun in a folder."""
    (plan,) = planned(folder, config, {}, StudyOptions(agents, seeds=1, **options)).plans
    begin(plan, "test")
    return plan


def _logged(arm):
    """Digest of the log that an arm's run began with."""
    return str(load_run(arm.folder).config["digests"]["log"])


def _sent(away, arm):
    """What a task sends of an arm that is played elsewhere."""
    play = partial(run_arm, batch_size=50)
    return remote._work(play, away, remote.left_of(arm), {}, versions(), _logged(arm))


@pytest.fixture(scope="module")
def ray():
    """The package, told to keep to itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in remote._SETTINGS.items():  # read when it is imported, by whichever test is first
            patch.setenv(name, value)
        patch.setenv("RAY_worker_niceness", "0")  # else its workers starve beside those of the other tests
        yield pytest.importorskip("ray", reason="Ray is not installed: the extra rimsim[ray]")


def _content(folder):
    """Bytes of all tables of a finished run."""
    return {path.name: path.read_bytes() for path in Path(folder).rglob("*.parquet")}


@cases(
    "message asked",
    (r"Ray cannot be imported .*pip install 'rimsim\[ray\]'", {"backend": "ray"}),
    ("Did you mean 'ray'", {"backend": "rays"}),
    ("address: 'auto' was given for the backend 'local'", {"address": "auto"}),
)
def test_a_backend_that_is_not_there_is_refused(tmp_path, monkeypatch, message, asked):
    """The error names the extra that brings Ray, or the nearest backend; an address may mean nothing."""
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(ConfigError, message, small_run, tmp_path / "run", AGENTS, **asked)
    assert not (tmp_path / "run").exists()


def test_a_task_cut_off_anywhere_goes_on_from_what_came_back(tmp_path):
    """Only what a task sends reaches the run folder; cut off after each of its news, another ends it alike."""
    config = small_scenario()
    folder = tmp_path / "run"
    agents = ("rim-feedback",)
    uninterrupted = small_run(tmp_path / "whole", agents, config, certify=True)
    plan = _begun(folder, config, agents, frozen=[])
    (arm,) = plan.arms
    prepare(arm, lambda _: None)
    away = replace(arm, folder=tmp_path / "nowhere")
    sent = [0]
    rounds = []
    while sent[-1] is not None:
        stream = _sent(away, arm)
        sent = [message for message, _ in zip(stream, range(len(rounds) + 1), strict=False)]
        stream.close()
        for files in (message for message in sent if isinstance(message, dict)):
            remote.enter(folder, files)
        rounds.append(load_run(folder).rounds["round"].nunique() if any(folder.glob("rounds/*")) else 0)
    assert rounds[0] == 0
    assert {1, 2} < set(rounds)
    assert not (tmp_path / "nowhere").exists()
    assert not list(folder.rglob(".draft*"))
    assert gather(plan, []) is None
    assert digest(load_run(folder)) == digest(uninterrupted)
    assert _content(folder) == _content(uninterrupted.folder)


def test_a_machine_with_other_versions_or_another_log_is_refused(tmp_path):
    """Where results could be others, nothing is run: the error names what differs."""
    (arm,) = _begun(tmp_path / "run", small_scenario(), frozen=[]).arms
    away = replace(arm, config=small_scenario(data=DataConfig(source=str(tmp_path / "none.csv"))))
    old = versions() | {"numpy": "0.1"}
    message = r"has numpy .* in place of 0\.1. Install the versions"
    refused(ConfigError, message, remote._require_same, arm, old, _logged(arm))
    other_log = "a different log under the name 'ml-latest-small'"
    refused(ConfigError, other_log, remote._require_same, arm, versions(), "0")
    message = r"cannot read the log: .*none\.csv.*Put the same log"
    refused(ConfigError, message, remote._require_same, away, versions(), _logged(arm))


def _elsewhere(tmp_path, monkeypatch, files, **fields):
    """An arm that names files of one folder, moved into another, which then is the current one."""
    here = tmp_path / "here"
    away = tmp_path / "away"
    for folder in (here, away):
        folder.mkdir()
    monkeypatch.chdir(here)
    for name, text in files.items():
        (here / name).write_text(text)
    usual = {"agent": "relevance", "name": "mine", "seed": 0, "folder": here, "options": StudyOptions()}
    arm = Arm(**(usual | fields))
    sources = remote.sources_of([arm])
    monkeypatch.chdir(away)
    return remote.moved(arm, away, remote.unpacked(sources))


def test_every_file_that_an_arm_names_lies_where_it_runs(tmp_path, monkeypatch):
    """Agent, measures, arrivals, consumer, model and log: each place becomes a copy that is there."""
    names = ("agent", "measure", "arrivals", "consumer", "model")
    files = {f"{name}.py": f"# {name}" for name in names} | {"log.csv": "user,item,timestamp"}
    changes = {"data.source": "log.csv", "arrivals.kind": "arrivals.py:A"}
    changes |= {"consumer.kind": "consumer.py:C", "platform.model": "model.py:M"}
    changes_of_arm = {"config": override(small_scenario(), changes), "agent": "agent.py:Mine(a=1)"}
    changes_of_arm |= {"options": StudyOptions(measures=("measure.py:m",))}
    arrived = _elsewhere(tmp_path, monkeypatch, files, **changes_of_arm)
    config = arrived.config
    kinds = (config.arrivals.kind, config.consumer.kind, config.platform.model)
    places = (arrived.agent, *arrived.options.measures, *kinds)
    texts = [Path(place.partition(".py:")[0] + ".py").read_text() for place in places]
    assert texts == [f"# {name}" for name in names]
    assert [place.partition(".py:")[2] for place in places] == ["Mine(a=1)", "m", "A", "C", "M"]
    assert Path(config.data.source).read_text() == "user,item,timestamp"


def test_a_table_of_known_answers_lies_where_an_arm_runs(tmp_path, monkeypatch):
    """The table from which consumers answer is taken along under its own name, which may tell its layout."""
    consumer = ConsumerConfig(kind="observed", options={"table": "test.ascii", "taken_at": 4.0})
    config = small_scenario(consumer=consumer)
    arrived = _elsewhere(tmp_path, monkeypatch, {"test.ascii": "0 5"}, config=config)
    options = dict(arrived.config.consumer.options)
    assert options["taken_at"] == 4.0
    table = Path(options["table"])
    assert (table.name, table.read_text()) == ("test.ascii", "0 5")


@pytest.mark.parametrize("address_of_none", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_refused(tmp_path, ray, address_of_none):
    """In good time, with what an address can be, and before anything is written."""
    message = f"--address {address_of_none}: .*Give the host:port"
    asked = {"backend": "ray", "address": address_of_none, "workers": None}
    refused(ConfigError, message, small_run, tmp_path / "r", AGENTS, **asked)
    assert not (tmp_path / "r").exists()


@pytest.fixture(scope="module")
def address(ray):
    """A cluster of two nodes with a processor each, on this machine."""
    cluster_utils = importlib.import_module("ray.cluster_utils")
    before = signal.getsignal(signal.SIGTERM)  # a cluster answers it in its own way, also in children of ours
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    signal.signal(signal.SIGTERM, before)
    yield cluster.address
    cluster.shutdown()


def test_a_cluster_that_was_there_stays(address, ray):
    """Only the connection ends; SIGTERM is still handled as before."""
    before = signal.getsignal(signal.SIGTERM)
    for _ in range(2):
        with remote.on_ray(address, None):
            assert ray.is_initialized()
            assert signal.getsignal(signal.SIGTERM) == before
        assert not ray.is_initialized()


@pytest.fixture(scope="module")
def connected(address):
    """A connection that is held, so that tests share workers."""
    with remote.on_ray(address, None):
        yield {"backend": "ray", "address": address}


def test_a_run_on_ray_has_the_same_bytes(tmp_path, local_run, connected, capfd):
    """Tables of a cluster equal those of this process byte for byte, and Ray says nothing."""
    config = small_scenario(rounds=2)
    out = tmp_path / "run"
    run = compare(config, AGENTS, seeds=2, out=out, certify=False, batch_size=7, **connected)
    assert _content(run.folder) == _content(local_run.folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.thorough
def test_agents_models_measures_and_logs_in_files_are_taken_along(tmp_path, connected, monkeypatch):
    """Files named by a path that no other machine has: a sweep on Ray equals one that is not."""
    here = tmp_path / "here"
    monkeypatch.chdir(tmp_path)
    here.mkdir()
    shutil.copy(FAULTY, here / "mine.py")
    model = "from rimsim.intensity import Popularity\n\ndef make(seed, device):\n    return Popularity()\n"
    (here / "model.py").write_text(model)
    measure = "Measure('rows', 'arrivals', 'n', of=lambda facts: len(facts.slates))"
    (here / "measure.py").write_text(f"from rimsim.measures import Measure\n\nrows = {measure}\n")
    rows = [f"{u},{(u * 7 + 3 * n) % 40},{10**9 + 97 * (u + 60 * n)}" for u in range(60) for n in range(12)]
    (here / "log.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    config = small_scenario(rounds=1, data=DataConfig(source="here/log.csv"))
    (Path(os.environ["RIMSIM_CACHE"]) / "died").touch()  # the agent is then as random
    grid = {"platform.model": ["here/model.py:make", "popularity-hp"]}
    asked = {"seeds": 1, "measures": ("here/measure.py:rows",), "certify": False}
    runs = [
        sweep(config, grid, ("here/mine.py:DiesOnce",), out=name, **asked, **kind)
        for name, kind in (("local", {"workers": 1}), ("ray", connected))
    ]
    (Path(os.environ["RIMSIM_CACHE"]) / "died").unlink()
    assert _content(runs[0].folder) == _content(runs[1].folder)
    assert "rows" in set(runs[1].sweep["metric"])


def test_what_goes_wrong_on_ray_is_named_as_elsewhere(tmp_path, local_run, connected, capfd):
    """A worker that dies is replaced, and told when it dies again; who raises is named; the others are kept."""
    agents = ("random", f"{FAULTY}:Dies", f"{FAULTY}:Raises")
    asked = {"seeds": 1, "frozen": [], "certify": False, "out": tmp_path, **connected}
    message = refused(AgentError, "2 of 3 arms failed", compare, small_scenario(rounds=2), agents, **asked)
    # The round from which it would go on: 0 if the worker was dead before its first round had been sent.
    assert re.search(
        "dies, seed 0: agent 'dies' in round [01]: on Ray: The worker died unexpectedly", message
    )
    assert "2 times over" in message
    assert "raises, seed 0: agent 'raises' raised ValueError in round 1, at arrival" in message
    assert capfd.readouterr() == ("", "")
    assert "Traceback" in (tmp_path / "failures" / "raises-0.txt").read_text()
    last_rounds = load_run(tmp_path).rounds.groupby("agent")["round"].nunique()
    assert (last_rounds["random"], last_rounds["raises"]) == (2, 1)
    values, wanted = (
        run.rounds.query("agent == 'random' and seed == 0").sort_values(["round", "metric"])["value"]
        for run in (load_run(tmp_path), local_run)
    )
    assert values.tolist() == wanted.tolist()


SLOW = """
import time
from rimsim.agents import Random

class Slow(Random):
    name = "random"

    def act(self, arrivals):
        time.sleep(0.1)
        return super().act(arrivals)
"""


def _descendants(process):
    """Process numbers of all that a process has started, and they."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    processes = {process}
    while children := {child for child, parent in parents.items() if parent in processes} - processes:
        processes |= children
    return processes - {process}


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, to look for processes")
def test_an_interrupted_run_ends_its_own_ray_and_resumes(tmp_path, ray):
    """SIGTERM: status 130, one sentence, no process, no temporary folder; the rest can be done without Ray."""
    (tmp_path / "slow.py").write_text(SLOW)
    config = small_scenario(rounds=4, arrivals=ArrivalsConfig(per_round=40))
    in_file(config, tmp_path)
    folder = tmp_path / "run"
    spare = tmp_path / "spare"
    spare.mkdir()
    line = "compare small.yaml --agents slow.py:Slow --seeds 2 --out run --backend ray --workers 2"
    line = f"-m rimsim.scenarios.cli.main {line} --batch-size 5 --frozen none --no-certificate"
    env = os.environ | {"TMPDIR": str(spare), "RAY_TMPDIR": "/tmp"}  # noqa: S108  # Ray's sockets need a short one
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen([sys.executable, *line.split()], cwd=tmp_path, env=env, **streams)
    # A machine may have much else to do.
    until(lambda: list(folder.glob("rounds/*")) or run.poll() is not None, seconds=600)
    started = _descendants(run.pid)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 130
    on = "To continue:\n  rimsim compare --resume --out run\n"
    assert errors == f"rimsim: interrupted; finished rounds are saved in run. {on}"
    assert len(started) > 2
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in started), seconds=120)
    assert not [process for process in started if Path(f"/proc/{process}").exists()]
    assert not list(spare.glob("rimsim-arm-*"))
    assert not (folder / "rounds.parquet").exists()
    begun = load_run(folder).rounds.groupby("seed")["round"].nunique()
    assert begun.between(1, 3).all()
    os.chdir(tmp_path)
    uninterrupted = small_run(tmp_path / "whole", config=config, seeds=2)
    assert digest(resume(folder, workers=1)) == digest(uninterrupted)


def test_a_control_is_given_what_it_waits_for(tmp_path):
    """Played elsewhere, it knows how much the arm of its agent learnt; hindsight prices stay off the run's machine."""
    config = small_scenario(rounds=2)
    folder = tmp_path / "run"
    uninterrupted = compare(
        config, ("relevance",), seeds=1, out=tmp_path / "whole", workers=1, control=("organic",)
    )
    plan = _begun(folder, config, ("relevance",), control=("organic",))
    for arm in plan.arms:
        prepare(arm, lambda _: None)
        away = replace(arm, folder=tmp_path / "nowhere", shared=tmp_path / "elsewhere")
        for message in _sent(away, arm):
            assert message is None or isinstance(message, (int, dict)), message
            if isinstance(message, dict):
                remote.enter(folder, message)
    assert not list(tmp_path.glob("*where"))
    assert not (folder / "state" / "hindsight").exists()
    assert gather(plan, []) is None
    assert digest(load_run(folder)) == digest(uninterrupted)
