"""What arrivals and consumers must do, and things of one's own by file and options: slips are told with their line."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from kit import MODEL, ROOT, cases, documented, refused, said_by, same_arrays
from kit.markets import play_out, small_run, small_scenario, stopped_after_a_round

from rimsim import rng
from rimsim.agents import make_agent, play_round
from rimsim.config import DataConfig, PlatformConfig, ScenarioConfig, override, to_plain
from rimsim.config.reading import find_scenario, read_scenario
from rimsim.data import load
from rimsim.entry_points import places
from rimsim.errors import ArmsError, ArrivalsError, ConfigError, MarketError, ModelError, RimsimError, nearest
from rimsim.intensity.registry import make, mark_and_ground
from rimsim.market import Market, build_world
from rimsim.market.arrivals import BUILT_IN as ARRIVALS
from rimsim.market.arrivals import make_arrivals, opening_after
from rimsim.market.arrivals.clones import Clones
from rimsim.market.consumers import Intensity, Organic
from rimsim.market.world import check_plugs, warm_model, world_of
from rimsim.matching import top_k
from rimsim.measures import Measure
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.scenarios.study.compare import resume
from rimsim.testing import ArrivalTests, ConsumerTests, random_log


class TestArrivals(ArrivalTests):
    """Every built-in arrival process keeps what it promises, also where users come back as they are satisfied."""

    @pytest.fixture(autouse=True, params=["clones", "broadcast", "replay", "hawkes"])
    def _kind(self, request):
        self.kind = request.param

    def make(self):
        """The process of the case."""
        options = {"arrivals.options.kappa": 0.3} if self.kind == "hawkes" else {}
        return make_arrivals(override(self.scenario(), {"arrivals.kind": self.kind} | options))


class _Same(Intensity):
    """Draws by arrival and item alone, whatever the seed."""

    def respond(self, visits, slates):
        fair = super().respond(visits, slates)
        chance = rng.uniform(5, rng.Purpose.CHOICE, visits.schedule.id[visits.row][:, None], slates)
        return dataclasses.replace(fair, consumed=(chance < fair.probability) & (slates >= 0))


class _Again(Intensity):
    """Wants again what it consumed."""

    def true_intensity(self, visits):
        return torch.ones(len(visits), visits.world.log.n_items)


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


CONSUMER = """
import numpy as np
import torch
from rimsim.market.consumers import NOTHING, drawn

class Mine:
    needs_truth = False

    def respond(self, visits, slates):
        chance = np.full(slates.shape, 0.2)
        return drawn(visits, slates, chance, chance)

    def organic(self, visits):
        return NOTHING

    def true_intensity(self, visits):
        return torch.ones(len(visits), visits.world.log.n_items)
"""


@cases(
    "wrong message",
    ("np.full(slates.shape, 0.2)", None),
    ("np.full(len(slate), 0.2)", "mine.py:10: NameError"),
    ("np.full((len(slates), 1, 5), 0.2)", "Mine.respond: found consumed bool .*Expected bool, float"),
)
def test_a_slip_in_a_consumer_is_told(write, tmp_path, wrong, message):
    """A consumer that raises or answers in another shape ends the run with a sentence; a right one sells a fifth."""
    write(CONSUMER.replace("np.full(slates.shape, 0.2)", wrong))
    config = override(small_scenario(rounds=1), {"consumer.kind": "mine.py:Mine"})
    if message is not None:
        refused(RimsimError, message, small_run, tmp_path / "run", ["relevance"], config)
        return
    sold = small_run(tmp_path / "run", ["relevance"], config).ledger["consumed"]
    assert abs(sold.mean() - 0.2) < 4 * (0.16 / len(sold)) ** 0.5


class Growing(Clones):
    """As many arrivals as rounds are kept, and then some: they depend on what went before."""

    def round(self, number, so_far):
        """So many clones."""
        scenario = override(self._scenario, {"arrivals.per_round": 40 + 10 * len(so_far.past)})
        return Clones(scenario).round(number, so_far)


def test_arrivals_that_depend_on_rounds_before_are_the_same_after_a_resume():
    """A market goes on with the arrivals that it had, also where older rounds are forgotten."""
    config = small_scenario(rounds=6)
    worlds = {"world": build_world(config), "arrivals": Growing(config)}

    (uninterrupted, first, second) = (Market(config, **worlds) for _ in range(3))
    agent = make_agent("relevance")
    play_out(uninterrupted, agent)
    for _ in range(4):
        play_round(first, agent)
    second.load_state(first.state)
    play_out(second, agent)
    assert [len(closed.ledger.schedule) for closed in uninterrupted.closed] == [40, 50, 60, 70, 70, 70]
    for expected_round, resumed_round in zip(uninterrupted.closed[4:], second.closed, strict=True):
        same_arrays(expected_round.ledger, resumed_round.ledger, "item", "consumed")


@dataclasses.dataclass(frozen=True)
class Swayed:
    """A few more come where something was taken in the round before; it says of outcomes what it is told to.

    With a fault it draws from NumPy's own generator, once there is a past, or pasts end a year after visits.
    """

    scenario: ScenarioConfig
    fault: str = ""
    known_beforehand = keeps_users = False

    def opening(self, log):
        """When the log ends."""
        return opening_after(log, self.scenario)

    def round(self, number, so_far):
        """Clones, as many as the round before says."""
        sold = so_far.past and len(so_far.past[-1].histories.all_events()[0])
        changed = override(self.scenario, {"arrivals.per_round": 30 if sold else 20})
        made = Clones(changed).round(number, so_far)
        if self.fault == "late":
            return dataclasses.replace(made, shift=made.shift + 365 * 86_400.0)
        if self.fault != "restless" or not so_far.past:
            return made
        late = np.sort(np.random.default_rng().integers(made.tick[-1], made.stop, len(made)))
        return dataclasses.replace(made, tick=late)


class SwayedUnsaid(Swayed):
    """It denies that it hangs on outcomes."""

    hangs_on_outcomes = False


@cases(
    "contract plug test error",
    (ConsumerTests, _Same, "test_another_seed_draws_otherwise", AssertionError),
    (ConsumerTests, _Again, "test_true_intensities_are_intensities", AssertionError),
    (ArrivalTests, SwayedUnsaid, "test_outcomes_move_it_only_if_it_says_so", AssertionError),
    (ArrivalTests, partial(Swayed, fault="restless"), "test_all_chance_comes_from_the_seed", AssertionError),
    (ArrivalTests, partial(Swayed, fault="restless"), "test_a_market_plays_it", AssertionError),
    (ArrivalTests, partial(Swayed, fault="late"), "test_schedules_can_be_played", MarketError),
    (ArrivalTests, Swayed, "test_outcomes_move_it_only_if_it_says_so", None),
    (ArrivalTests, Swayed, "test_all_chance_comes_from_the_seed", None),
)
def test_the_tests_for_plugs_find_what_is_broken(contract, plug, test, error):
    """Seeds without effect, intensities of what was consumed, and arrivals that keep no promise fail a test each."""
    mine = type("Mine", (contract,), {"make": lambda self: plug(self.scenario())})
    with pytest.raises(error) if error else contextlib.nullcontext():
        getattr(mine(), test)()


def test_arms_share_what_is_required_only_if_arrivals_say_so():
    """Of arrivals of one's own that say nothing of outcomes, each arm is taken to have its own."""
    config = small_scenario()
    world = build_world(config)
    for arrivals, is_shared in (
        (Swayed(config), False),
        (SwayedUnsaid(config), True),
        (Clones(config), True),
    ):
        assert Market(config, world=world, arrivals=arrivals).same_for_all_arms is is_shared
    for name, built_in in ARRIVALS.items():
        process = make_arrivals(override(config, {"arrivals.kind": name}))
        assert isinstance(process, built_in)
        assert process.hangs_on_outcomes is False  # with kappa 0, as by default


GAP = """
from rimsim.market.arrivals.clones import Clones
import dataclasses

class Gap(Clones):
    def round(self, number, so_far):
        made = super().round(number, so_far)
        none = {name: getattr(made, name)[:0] for name in ("tick", "id", "slot", "session")}
        return dataclasses.replace(made, **none) if number == 1 else made
"""


def test_rounds_that_cannot_be_played_name_their_process(write):
    """So are kept users who get other slots, and a past after the opening is told with both times."""
    write(GAP)
    market = Market(override(small_scenario(), {"arrivals.kind": "mine.py:Gap"}))
    message = "^arrivals.kind 'mine.py:Gap': arrivals of round 1: there is no arrival. Expected"
    refused(ArrivalsError, message, play_round, market, make_agent("relevance"))
    config = small_scenario()
    clones = Clones(config)
    clones.keeps_users = True
    market = Market(config, world=build_world(config), arrivals=clones)
    message = "arrivals of round 1: user differs from the previous round"
    refused(MarketError, message, play_out, market, make_agent("relevance"))
    log = random_log()
    config = small_scenario()
    early = Swayed(config)
    opening = dataclasses.replace(early.opening(log), time=float(log.time[0]))
    object.__setattr__(early, "opening", lambda _: opening)
    message = rf"last event at {log.time[-1]:.0f} s. .* the opening at {log.time[0]:.0f} s"
    refused(MarketError, message, world_of, log, config, early, Intensity(config))


class Snacking(Intensity):
    """Beside what is shown, every visitor takes one item by himself an hour later."""

    item = 0
    late = 3_600_000_000

    def organic(self, visits):
        """One item an hour later."""
        tick = visits.schedule.tick[visits.row] + self.late
        return Organic(visits.row, tick, np.full(len(visits), self.item))


def _snacking(config, **fields):
    consumer = Snacking(config)
    for name, value in fields.items():
        setattr(consumer, name, value)
    return Market(config, world=build_world(config), consumer=consumer)


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_organic_events_and_slates_go_together(batch_size):
    """What a visitor takes by himself is known an hour later, beside what is sold, whatever the batches."""
    changes = {"arrivals.round_length": "6h", "consumer.attraction": 5.0}
    market = _snacking(override(small_scenario(rounds=1), changes))
    opened = market.open
    play_out(market, make_agent("relevance"), batch_size)
    slots, ticks, items = opened.histories.all_events()
    assert (items == 0).sum() >= market.n_arrivals
    for slot in np.unique(slots):
        assert (np.diff(ticks[slots == slot]) >= 0).all()
    assert len(items) == market.n_arrivals + market.closed[0].ledger.consumed.sum()


@cases("item late", (10**6, 0), (-1, 0), (0, -1))
def test_organic_events_that_cannot_be_are_refused(item, late):
    """An item outside the catalogue, or an event before its visit, is an error, and nothing is entered."""
    market = _snacking(small_scenario(rounds=1), item=item, late=late)
    arrivals = market.next_arrivals(3)
    nothing = np.full((len(arrivals), market.config.slate), -1)
    refused(MarketError, "Snacking.organic: .*items from 0 to", market.serve, arrivals, nothing)
    assert not market.exposure.any()
    assert market.served == 0


def _compare(out, agents=("random",), model="popularity-hp", rounds=1, **options):
    config = small_scenario(rounds=rounds, platform=PlatformConfig(model=model))
    return small_run(out, agents, config, **options)


@cases(
    "text slip message",
    ("= log.n_items", "= log.items_n", r"^mine.py:10: AttributeError: .*items_n"),
    ("torch.ones(len(states)", "torch.ones(len(state)", r"mine.py:16: NameError: .*'state'"),
    ("torch.ones(len(states), self.n_items)", "3", r"'int' object has no attribute.*, with mine.py:Mine"),
    ("        return self\n", "", r"fit returned None. Expected the fitted model"),
)
def test_a_slip_in_a_model_is_told_with_its_line(write, tmp_path, text, slip, message):
    """A model of one's own that raises when it is fitted or asked is an error of ours that names the line."""
    write(MODEL.replace(text, slip))
    refused((ModelError, ArmsError), message, _compare, tmp_path / "run", model="mine.py:Mine")


def test_a_failed_arm_is_told_in_a_line_of_its_own_with_the_line_of_the_slip(write, tmp_path):
    """Each failed arm has a line, which ends in the place within the user's file; then comes where tracebacks are."""
    write(
        "from rimsim.agents import Random\n\n\nclass One(Random):\n    name = 'one'\n\n"
        "    def act(self, arrivals):\n        return arrivals.relevence\n\n\n"
        "class Two(One):\n    name = 'two'\n"
    )
    with pytest.raises(ArmsError) as caught:
        _compare(tmp_path / "run", ("random", "mine.py:One", "mine.py:Two"))
    first, first_arm, second_arm, last = str(caught.value).splitlines()
    assert first == "2 of 3 arms failed:"
    assert first_arm.startswith("  one, seed 0: agent 'one' raised AttributeError in round 0, at arrival ")
    assert second_arm.startswith("  two, seed 0: ")
    assert first_arm.endswith("(mine.py:8)")
    assert last == f"tracebacks: {tmp_path / 'run'}/failures/"
    assert caught.value.folder == str(tmp_path / "run")
    assert len(list((tmp_path / "run" / "failures").iterdir())) == 2


def test_a_model_made_from_a_seed_is_fitted_again_where_the_cache_cannot_give_it_back(write, tmp_path):
    """A subclass of a built-in model with a constructor of its own plays twice, and alike."""
    write(
        "from rimsim.intensity import Popularity\n\n\nclass Mine(Popularity):\n"
        "    def __init__(self, seed, device):\n        super().__init__()\n"
    )
    digests = []
    for name in ("first", "second"):
        warm_model.cache_clear()
        digests.append(digest(_compare(tmp_path / name, model="mine.py:Mine")))
    assert digests[0] == digests[1]


MARK = """\
import torch
from rimsim.intensity import HawkesPoisson, RIM


class Parity:
    # p(y|x) is even, but for odd items, which are thrice as likely once fitted twice
    fits = 0

    def fit(self, log):
        odd = torch.arange(log.n_items) % 2
        self.weight, self.fits = 1.0 + 2.0 * odd * self.fits, self.fits + 1
        return self

    update = fit

    def encode(self, states):
        return (torch.zeros(len(states)),)

    def step(self, hidden, items, times):
        return hidden

    def score_hidden(self, hidden, now):
        return (self.weight / self.weight.sum()).repeat(len(now), 1)

    def score(self, states):
        return self.score_hidden(self.encode(states), states.now)


def product(seed, device):
    return RIM(mark=Parity(), ground=HawkesPoisson())
"""

STORED_MARK = """\
from rimsim.intensity import HawkesPoisson, Popularity, RIM


class Flattened(Popularity):
    def score_hidden(self, hidden, now):
        flat = super().score_hidden(hidden, now).sqrt()
        return flat / flat.sum(1, keepdim=True)


def product(seed, device):
    return RIM(mark=Flattened(), ground=HawkesPoisson())
"""


@pytest.mark.parametrize("text", [MARK, STORED_MARK], ids=["begin again", "resumed"])
def test_a_run_with_a_mark_of_ones_own_resumes_to_the_same_content(write, tmp_path, monkeypatch, text):
    """An interrupted arm goes on with a mark that can be read back, and begins anew with one that cannot.

    Joined with a ground intensity, both play in a product, which retraining changes.
    """
    write(text)
    options = {"model": "mine.py:product", "rounds": 2, "frozen": ["relevance"]}
    uninterrupted = _compare(tmp_path / "whole", ["relevance"], **options)
    rows = uninterrupted.ledger.sort_values(["arrival", "position"]).groupby(["agent", "round"])["item"]
    shown = rows.agg(list)
    assert shown["relevance", 0] == shown["relevance-frozen", 0]
    assert shown["relevance", 1] != shown["relevance-frozen", 1]
    with stopped_after_a_round(monkeypatch):
        refused(ArmsError, "enough", _compare, tmp_path / "part", ["relevance"], **options)
    assert bool(list((tmp_path / "part").rglob("round-0001"))) is (text is STORED_MARK)
    assert digest(resume(tmp_path / "part", workers=1)) == digest(uninterrupted)


def test_a_model_of_an_edited_file_is_not_taken_from_the_cache(write):
    """A stored model of one's own is fitted again once its file has changed, also within one process."""
    config = small_scenario(platform=PlatformConfig(model="mine.py:product"))
    scores = []
    for text in (STORED_MARK, STORED_MARK.replace(".sqrt()", ".square()")):
        write(text)
        warm_model.cache_clear()
        market = Market(config)
        scores.append(market.next_arrivals(4).relevance)
    assert not torch.equal(*scores)


NO_NUMBERS = (
    MODEL.replace("        pass", "        self.fits = 0")
    .replace("        return self", "        self.fits += 1\n        return self")
    .replace("torch.ones(len", "torch.full((1, 1), torch.nan if self.fits > 1 else 1.0).expand(len")
)
"""A model that gives none once it is fitted twice."""


def test_a_model_that_stops_giving_numbers_is_named_and_frozen_arms_are_kept(write, tmp_path):
    """NaN after the first refit fails the arm with agent, seed, round and arrival; its frozen arm is complete."""
    write(NO_NUMBERS)
    message = r"1 of 2 arms failed:\n  relevance, seed 3: agent 'relevance' in round 0: .*arrival \d+. Expected finite"
    asked = {"seeds": [3], "frozen": ["relevance"]}
    out = tmp_path / "run"
    refused(ArmsError, message, _compare, out, ["relevance"], "mine.py:Mine", 2, **asked)
    n_rounds = load_run(out).rounds.groupby("agent")["round"].nunique()
    assert n_rounds.to_dict()["relevance-frozen"] == 2


def test_what_a_users_code_says_in_several_lines_is_told_in_one(write, tmp_path):
    """The text of an exception that has line breaks is folded, wherever a user's code raised it."""
    write(MODEL.replace("self.n_items = log.n_items", "raise ValueError('one\\ntwo')"))
    message = r"^mine.py:10: ValueError: one two$"
    refused(ModelError, message, _compare, tmp_path / "run", model="mine.py:Mine")
    write("raise ValueError('one\\ntwo')")
    refused(ConfigError, r"cannot import 'mine.py': ValueError: one two$", make_agent, "mine.py:Mine")


def test_a_file_that_imports_the_one_beside_it_is_told_how(write):
    """The folder of a file is not searched, and the message says how it is; of another module it says nothing."""
    write("K = 1", "shared.py")
    write("from shared import K")
    message = r"No module named 'shared'; shared.py lies .*put PYTHONPATH=\. before"
    refused(ConfigError, message, make_agent, "mine.py:Mine")
    write("import shaded")
    refused(ConfigError, r"No module named 'shaded'$", make_agent, "mine.py:Mine")


@cases(
    "agent message",
    ("mine.py", "agent 'mine.py' is a file. Add a name in it: mine.py:Mine$"),
    ("mien.py", "no such file. Did you mean 'mine.py'"),
    ("mine.py:Fresh", "has no 'Fresh'. Use one of Mine.$"),
    ("nowhere/mine.py:Mine", "There is no folder 'nowhere'"),
)
def test_a_misspelt_place_of_an_agent_is_told_with_what_there_is(write, agent, message):
    """A file without a class, a misspelt file and a misspelt class name what there is, without what is imported."""
    write(MODEL)
    refused(ConfigError, message, make_agent, agent)


def test_names_are_cut_to_the_likest():
    """At most ten are told, those most like what was found; no name is said in words."""
    message = nearest("exposre", [*(f"zz{number}" for number in range(20)), "exposure"])
    assert "Did you mean 'exposure'?" in message
    assert message.count(",") == 9
    assert message.endswith("and 11 more.")
    assert nearest("x", []) == " There are none."


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The template of a package of plugs, built and installed into a folder of its own."""
    source = tmp_path_factory.mktemp("package") / "source"
    shutil.copytree(ROOT / "examples" / "package", source)
    site = source.parent / "site"
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, source]
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)
    return site


@pytest.fixture
def installed(package, monkeypatch):
    """The plugs of the template, as if its package were installed."""
    monkeypatch.syspath_prepend(str(package))
    places.cache_clear()
    yield
    places.cache_clear()
    sys.modules.pop("my_plugs", None)


@pytest.mark.usefixtures("installed")
def test_plugs_of_an_installed_package_are_listed_and_played(tmp_path, monkeypatch, capsys):
    """Lists, help and the lists' details have their names; a run takes them by name, with options."""
    monkeypatch.setenv("RIMSIM_DATA", str(tmp_path / "data"))
    for words, output in (
        ("agents", "least-shown "),
        ("models", "bestsellers "),
        ("arrivals", "lunch "),
        ("consumers", "hurried "),
        ("measures", "top-share "),
        ("data list", "toy "),
        ("compare --help", "least-shown"),
        ("agents least-shown", "bonus=1.0"),
        ("models bestsellers", "smooth=0.1"),
    ):
        assert output in said_by(capsys, words).out
    agents = "least-shown(bonus=2.0),relevance"
    options = ["--measures", "top-share", "--data", "toy"]
    settings = ["arrivals.kind=lunch", "arrivals.options.per_day=10", "consumer.kind=hurried"]
    settings += ["platform.model=bestsellers(smooth=1.0)", "data.min_item_events=5"]
    run = compared(tmp_path / "run", *settings, agents=agents, options=options)
    assert run.agents == ["least-shown(bonus=2.0)", "relevance", "relevance-frozen"]
    assert "top_share" in set(run.rounds["metric"])
    assert set(run.arrivals.groupby(["agent", "round"]).size()) == {70}
    assert run.config["log"]["items"] == 40
    assert not run.ledger.loc[run.ledger["position"] > 3, "consumed"].any()


@pytest.mark.usefixtures("installed")
@cases(
    "line message",
    ("compare --agents leastshown", "agent 'leastshown' is unknown. Did you mean 'least-shown'?"),
    ("compare --agents random --set platform.model=bestseller", "Did you mean 'bestsellers'?"),
    ("compare --agents random --set arrivals.kind=lunhc", "Did you mean 'lunch'?"),
    ("compare --agents random --set consumer.kind=huried", "Did you mean 'hurried'?"),
    ("compare --agents random --measures topshare", "Did you mean 'top-share'?"),
    ("compare --agents random --data toyy", "Did you mean 'toy'?"),
    ("agents leastshown", "leastshown: rimsim does not know this name. Did you mean 'least-shown'?"),
    ("compare --agents least-shown(bonsu=1)", "has no option 'bonsu'. Did you mean 'bonus'?"),
    ("compare --set platform.model=bestsellers(smoth=1)", "has no option 'smoth'. Did you mean 'smooth'?"),
)
def test_a_slip_in_an_installed_name_is_told_with_the_nearest(line, message, tmp_path, monkeypatch, capsys):
    """Names of packages are among those that an error suggests."""
    monkeypatch.chdir(tmp_path)
    assert message in said_by(capsys, line, 2).err


@pytest.mark.usefixtures("installed")
def test_two_packages_that_offer_one_name_are_told(package):
    """Neither is taken silently."""
    second_package = package / "other-1.dist-info"
    second_package.mkdir()
    try:
        (second_package / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
        (second_package / "entry_points.txt").write_text("[rimsim.agents]\nleast-shown = others:Mine\n")
        refused(ConfigError, "define 'least-shown': .* and .*Uninstall one", make_agent, "leastshown")
    finally:
        shutil.rmtree(second_package)


@cases(
    "words output",
    ("agents rim-feedback", "  gain=0.1"),
    ("agents random", "No options."),
    ("models gru-hp", "  width=64"),
    ("models gru-hp", "  windows=4"),
    ("arrivals hawkes", "  kappa=0.0"),
    ("providers viability", "  decay=0.9                    δ: share of satisfaction that remains"),
    ("measures gini", "Gini of exposure: Σ_i"),
)
def test_a_name_shows_its_options_and_defaults(words, output, capsys):
    """The lists' commands take a name and say what it is and takes."""
    assert output in said_by(capsys, words).out


def test_a_scenario_is_shown_as_yaml_to_start_from(tmp_path, capsys):
    """The file that it makes is the scenario."""
    path = tmp_path / "mine.yaml"
    path.write_text(said_by(capsys, "scenarios campaigns").out)
    assert read_scenario(path) == find_scenario("campaigns")


def test_options_of_models_reach_mark_and_ground(write):
    """Each goes to the part that has it and stays when the run sets seed and device; a model of one's own has them."""
    model = make("gru-hp(width=8,windows=2,session_gap='2h')", seed=3, device="cpu", gap="1h")
    assert (model.mark.config.width, model.mark.config.seed, model.mark.config.session_gap) == (8, 3, "2h")
    assert model.ground.config.windows == 2
    assert mark_and_ground("gru-hp(width=8,windows=2)") == ("gru(width=8)", "hp(windows=2)")
    write(MODEL.replace("device):\n        pass", "device, smooth=1):\n        self.smooth = smooth"))
    assert make("mine.py:Mine(smooth=5)").smooth == 5
    for name, message in (
        ("gru(widht=8)", "model gru: unknown field 'widht'. Did you mean 'width'"),
        ("bag(width=0)", "field 'width' is 0"),
        ("bag(8)", "the options cannot be read"),
        ("als(algorithm='bpr')", "name already sets the option algorithm"),
        ("mine.py:Mine(smoth=5)", "has no option 'smoth'. Did you mean 'smooth'"),
    ):
        refused(ConfigError, message, make, name)


def test_a_sweep_over_a_models_option_has_a_point_each(tmp_path):
    """``--grid`` keeps commas within brackets; the options are in the table, and the fits differ."""
    short = "--rounds 1 --seeds 1 --workers 1 --no-certificate --set data.min_item_events=120 --set slate=5"
    grid = "platform.model=popularity(smoothing=0.1),popularity(smoothing=9.0,device='cpu')"
    line = [
        "sweep",
        *short.split(),
        "--set",
        "arrivals.per_round=60",
        "--agents",
        "relevance",
        "--grid",
        grid,
    ]
    assert main([*line, "--out", str(tmp_path / "run")]) == 0
    models = set(load_run(tmp_path / "run").sweep["model"])
    assert models == {"popularity(smoothing=0.1)", "popularity(smoothing=9.0,device='cpu')"}


def test_an_agent_whose_name_cannot_be_set_is_told(write):
    """Options become part of the name, so a property of that name is refused in a sentence."""
    write(
        "from rimsim.agents import Random\n\n\nclass Mine(Random):\n    def __init__(self, a=1):\n        pass\n\n"
        "    @property\n    def name(self):\n        return 'mine'\n"
    )
    refused(ConfigError, "name cannot be changed", make_agent, "mine.py:Mine(a=2)")


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
    config = small_scenario(rounds=1, data=DataConfig())
    configs = [resolved(config, log=LogArguments(source)) for source in (events, events.copy(), log)]
    assert configs[0] == configs[1]
    assert configs[2].data.source.startswith(f"EventLog of {len(log):,} events (")
    worlds = [build_world(config) for config in (configs[0], configs[2])]
    for world in worlds:
        same_arrays(world.log, log, "user", "item", "time")
    assert list(worlds[1].log.items["title"]) == list(log.items["title"])
