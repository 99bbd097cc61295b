"""Arrivals and consumers as plugs: the contract of each, files of the documentation, and options."""

import os
import sys

import pytest
from kit import cases, documented, refused
from kit.markets import TRUTH, small_scenario

from rimsim.config import override, to_plain
from rimsim.errors import ConfigError
from rimsim.market import build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.market.world import check_plugs
from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.digests import digest
from rimsim.testing import ArrivalTests


class TestArrivals(ArrivalTests):
    """Every built-in arrival process keeps what it promises, also where users come back as they are satisfied."""

    @pytest.fixture(autouse=True, params=["clones", "broadcast", "replay", "hawkes"])
    def _kind(self, request):
        self.kind = request.param

    def make(self):
        """The process of the case."""
        options = {"arrivals.options.kappa": 0.3} if self.kind == "hawkes" else {}
        return make_arrivals(override(self.scenario(), {"arrivals.kind": self.kind} | options))


@pytest.fixture
def written(write, tmp_path):
    """The files of the documentation, where a user has gone to run them."""
    for name in ("my_agent", "my_arrivals", "my_consumer", "my_model", "test_my_agent", "test_mine"):
        write(documented(f"{name}.py", "your-own", "your-own-market"), f"{name}.py")
    for name in ("my_measure.py", "test_my_measure.py"):
        write(documented(name, "measures"), name)
    return tmp_path


def compared(out, *settings, workers=1, agents="relevance,rim-feedback", options=()):
    """A small closed loop on the command line; its run."""
    usual = ("data.min_item_events=120", "slate=5", "arrivals.per_round=100", "platform.model=popularity-hp")
    usual += (f"consumer.truth={TRUTH}",)
    line = f"compare closed-loop --rounds 2 --seeds 1 --workers {workers} --agents {agents} --out {out}"
    fields = {setting.partition("=")[0]: setting for setting in (*usual, *settings)}
    words = [part for setting in fields.values() for part in ("--set", setting)]
    assert main([*line.split(), *words, "--no-certificate", *options]) == 0
    return load_run(out)


def test_the_documented_arrivals_come_in_the_evening(written):
    """They are as many as the option says, around its hour; with all else of one's own too, the same on workers."""
    options = "arrivals.options.per_day=20", "arrivals.options.peak=6"
    settings = "arrivals.kind=my_arrivals.py:Evenings", "consumer.kind=my_consumer.py:Bored", *options
    agents_and_options = {"agents": "rim-feedback,my_agent.py:FreshFirst"}
    agents_and_options["options"] = ["--measures", "my_measure.py:freshness", "--frozen", "none"]
    settings = (*settings, "platform.model=my_model.py:Bestsellers")
    run = compared(written / "run", *settings, **agents_and_options)
    arrivals = run.arrivals
    assert set(arrivals.groupby(["agent", "round"]).size()) == {140}
    opening = build_world(run.scenario).opening
    hour = (arrivals["time"] - opening) / 3600 % 24
    assert hour.between(6 - 1.5 * 2**0.5 - 1e-6, 6 + 1.5 * 2**0.5 + 1e-6).all()
    files = {"my_agent.py", "my_arrivals.py", "my_consumer.py", "my_measure.py", "my_model.py"}
    assert files <= set(run.config["digests"])
    assert "freshness" in set(run.rounds["metric"])
    assert run.config["scenario"]["arrivals"]["options"] == {"per_day": 20, "peak": 6}
    assert digest(compared(written / "workers", *settings, workers=2, **agents_and_options)) == digest(run)


def test_the_documented_consumer_is_bored(written):
    """With an option that bores at once, the second visit of a user sells less than under the truth alone."""
    shared = "consumer.attraction=5.0", "arrivals.draw=users"
    boredom = "consumer.kind=my_consumer.py:Bored", "consumer.options.after=1", "consumer.options.left=0.0"
    bored = compared(written / "bored", *shared, *boredom)
    truth = compared(written / "truth", *shared)

    def sold(run, first):
        ledger = run.ledger[(run.ledger["agent"] == "relevance") & (run.ledger["round"] == 0)]
        return ledger["consumed"][(ledger["arrival"] % (1 << 16) == 0) == first].mean()

    assert sold(bored, first=True) == sold(truth, first=True)
    assert sold(bored, first=False) < 0.7 * sold(truth, first=False)


@pytest.mark.thorough
def test_what_is_written_as_documented_passes_its_tests(written, monkeypatch, capsys):
    """The tests of the documentation, over all files of it, pass."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    files = [str(written / name) for name in ("test_my_agent.py", "test_mine.py", "test_my_measure.py")]
    plain = ["-q", "-c", os.devnull, "--rootdir", str(written), "-p", "no:cacheprovider", "-p", "no:xdist"]
    assert pytest.main([*plain, *files]) == 0, capsys.readouterr().out
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "test_m")):
            del sys.modules[name]


OWN = """
from dataclasses import dataclass

from rimsim.market.arrivals import clones_at, opening_after

class Clones:
    known_beforehand = keeps_users = False

    def __init__(self, options: "Options"):
        self.options = options

    def opening(self, log):
        ...

    def round(self, number, so_far):
        ...

@dataclass(frozen=True)
class Options:
    hour: int = 3

class Half:
    def opening(self, log):
        ...

class Broken:
    def __init__(self):
        raise ValueError("no luck")

class Unasked:
    def __init__(self, seed, device):
        ...

    fit = update = __init__
"""


@cases(
    "changes message",
    ({"arrivals.kind": "clone"}, "arrivals.kind 'clone' is unknown. Did you mean 'clones'"),
    ({"consumer.kind": "intensty"}, "consumer.kind 'intensty' is unknown. Did you mean 'intensity'"),
    ({"arrivals.kind": "own.py"}, "own.py.* is a file. Add a name in it"),
    ({"arrivals.kind": "own.py:Clone"}, "own.py has no 'Clone'.*Did you mean 'Clones'"),
    ({"arrivals.kind": "own.py:Half"}, "has no round, known_beforehand, keeps_users. Write the methods"),
    ({"arrivals.kind": "own.py:Broken"}, "cannot be made with the options none: ValueError: no luck"),
    ({"arrivals.kind": "own.py:Clones", "arrivals.options.hours": 3}, "'hours'.*Did you mean 'hour'"),
    ({"arrivals.kind": "own.py:Clones", "arrivals.options.hour": "x"}, "option 'hour' is 'x'.*integer"),
    ({"arrivals.options.peak": 3}, "'clones' has no option 'peak'"),
    ({"platform.model": "own.py"}, "own.py.* is a file. Add a name in it"),
    ({"platform.model": "own.py:Clone"}, "has no 'Clone'. Did you mean 'Clones'. Use one of .*Clones"),
    ({"platform.model": "onw.py:Half"}, "no file 'onw.py'. Did you mean 'own.py'."),
    ({"platform.model": "own.py:Broken"}, "cannot be made: TypeError"),
    ({"platform.model": "own.py:Unasked"}, "has no score. Write the methods fit, update and score"),
    ({"arrivals.kind": "replay", "releases.share": 0.2}, "releases.share is for clones"),
)
def test_slips_in_kinds_and_options_are_told(write, changes, message):
    """A name, file, method or option that is not there is one sentence with the nearest, before anything runs."""
    write(OWN, "own.py")
    refused(ConfigError, message, check_plugs, override(small_scenario(), changes))


def test_options_are_a_frozen_record():
    """Options are plain in YAML, hashable in a config, and reach the constructor."""
    config = override(small_scenario(), {"arrivals.options": {"peak": [1, 2]}})
    assert to_plain(config)["arrivals"]["options"] == {"peak": [1, 2]}
    assert hash(config) == hash(override(config, {}))
