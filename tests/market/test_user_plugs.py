"""Arrivals and consumers from a user's file that depend on rounds, take more by themselves, or break a rule."""

import contextlib
import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from kit import cases, refused, same_arrays
from kit.markets import play_out, small_run, small_scenario

from rimsim import rng
from rimsim.agents import make_agent, play_round
from rimsim.config import ScenarioConfig, override
from rimsim.errors import ArrivalsError, MarketError, RimsimError
from rimsim.market import Market, build_world
from rimsim.market.arrivals import BUILT_IN as ARRIVALS
from rimsim.market.arrivals import make_arrivals, opening_after
from rimsim.market.arrivals.clones import Clones
from rimsim.market.consumers import Intensity, Organic
from rimsim.market.world import world_of
from rimsim.testing import ArrivalTests, ConsumerTests, random_log


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
        schedule = Clones(changed).round(number, so_far)
        if self.fault == "late":
            return dataclasses.replace(schedule, shift=schedule.shift + 365 * 86_400.0)
        if self.fault != "restless" or not so_far.past:
            return schedule
        late = np.sort(np.random.default_rng().integers(schedule.tick[-1], schedule.stop, len(schedule)))
        return dataclasses.replace(schedule, tick=late)


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
