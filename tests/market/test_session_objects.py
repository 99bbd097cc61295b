"""Objects, classes and tables of a Python session as plugs and data."""

import pandas as pd
from kit import cases, refused, same_arrays
from kit.markets import small_scenario

from rimsim.config import ConsumerConfig, DataConfig
from rimsim.data import load
from rimsim.errors import ArmsError, ConfigError
from rimsim.market import build_world
from rimsim.matching import top_k
from rimsim.measures import Measure
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.study.checks import LogArguments, resolved


class _Fresh:
    """Relevance by another name, made in this session."""

    order_free = True
    barrier_every = None

    def __init__(self, name="fresh", *, broken=False):
        self.name = name
        self.broken = broken
        self.rounds = 0

    def begin_round(self, view):
        self.k = view.k
        self.rounds = self.rounds + 1
        assert self.rounds == view.round + 1  # else another arm played with this object

    def act(self, arrivals):
        if self.broken:
            raise ValueError("boom")
        return top_k(arrivals.intensity, arrivals.admissible, self.k)


def test_objects_and_classes_of_a_session_play_with_one_worker(tmp_path):
    """A copy in each arm, so that seeds do not share state; a single name is a list of one; a measure is an object."""
    mine = _Fresh("mine")
    options = {"rounds": 1, "certify": False, "frozen": []}
    touched = Measure("touched", "items", "#{y: E_y > 0}", lambda facts: float((facts.exposure > 0).sum()))
    agents = ["relevance", _Fresh, mine, _Fresh("mine2")]
    run = compare(small_scenario(), agents, seeds=2, measures=[touched], out=tmp_path / "run", **options)
    assert run.agents == ["relevance", "fresh", "mine", "mine2"]
    assert mine.rounds == 0
    utility = run.rounds.query("metric == 'utility'").pivot(index="seed", columns="agent", values="value")
    assert (utility["mine"] == utility["fresh"]).all()
    assert "touched" in set(run.rounds["metric"])
    assert "\nrelevance " in run.summary()
    assert "<td>relevance</td>" in run._repr_html_()
    single = compare(small_scenario(), "relevance", seeds=1, workers=1, out=tmp_path / "one", **options)
    assert single.agents == ["relevance"]


@cases(
    "agents options message",
    ([_Fresh()], {"workers": 2}, "workers: 'session:fresh' is an object of this session.*Set workers=1"),
    ([_Fresh()], {"backend": "ray"}, "an object of this session"),
    (["__main__:Mine"], {"workers": 2}, "'__main__:Mine' is an object of this session"),
    ([3], {}, "agent 'session:int' has no begin_round, act"),
    (["session:gone"], {}, "this process has no such object"),
    (["relevance"], {"measures": [3]}, "measure 'session:int'.*a Measure"),
)
def test_what_a_session_cannot_give_is_told_before_a_run(agents, options, message, tmp_path):
    """More workers than one, another machine, another kind of object and a session that has ended."""
    out = tmp_path / "run"
    refused(ConfigError, message, compare, small_scenario(), agents, seeds=1, rounds=1, out=out, **options)
    assert not out.exists()


def test_an_object_that_raises_fails_in_its_own_arm(tmp_path):
    """The message names the agent; the page of a run without a round is a sentence."""
    options = {"seeds": 1, "rounds": 1, "certify": False, "frozen": []}
    out = tmp_path / "run"
    agents = [_Fresh("mine", broken=True)]
    message = refused(ArmsError, "boom", compare, small_scenario(), agents, out=out, **options)
    assert "mine" in message
    assert load_run(out)._repr_html_().startswith("<p>")


def test_a_table_or_a_log_is_data(tmp_path):
    """Both give the tables of the same log by its path, and equal data the same copy."""
    log = load(min_item_events=120)
    columns = {"user": log.users["id"].to_numpy()[log.user], "item": log.items["id"].to_numpy()[log.item]}
    events = pd.DataFrame(columns | {"time": log.time})
    config = small_scenario(rounds=1, data=DataConfig(), consumer=ConsumerConfig(truth="popularity"))
    configs = [resolved(config, log=LogArguments(source)) for source in (events, events.copy(), log)]
    assert configs[0] == configs[1]
    assert configs[2].data.source.startswith(f"EventLog of {len(log):,} events (")
    worlds = [build_world(config) for config in (configs[0], configs[2])]
    for world in worlds:
        same_arrays(world.log, log, "user", "item", "time")
    assert list(worlds[1].log.items["title"]) == list(log.items["title"])
