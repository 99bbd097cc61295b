"""``outage``: a fallback answers while the model cannot be asked."""

from types import SimpleNamespace

import numpy as np
import pytest
from kit import refused
from kit.environments import make_env
from kit.markets import (
    happenings,
    ledgers,
    played,
    resumed,
    same_in_batches,
    same_ledgers,
    same_tables_and_happenings,
    settings_of,
    small_replay,
    small_scenario,
)

from rimsim.agents import make_agent, play_round, rollout
from rimsim.config import ArrivalsConfig, ExposureConfig
from rimsim.errors import ConfigError
from rimsim.market import Market
from rimsim.market.fallbacks import UnscoredVisits, fallback_slates

DAY = 86_400.0
TWO_DAYS = "outage(after='2d', lasts='2d', every=None)"


def with_outage(text, make=small_scenario, **changes):
    """Small market of two rounds with one process."""
    return make(**({"rounds": 2, "processes": (text,)} | changes))


@pytest.mark.parametrize("fallback", ["popularity", "random"])
def test_slates_in_an_outage_are_those_of_the_fallback(fallback):
    """In an outage from the third to the fourth day all agents show the same slates, before and after their own."""
    text = f"outage(after='2d', lasts='2d', every=None, fallback='{fallback}')"
    plain = ledgers(played(small_scenario(rounds=1), "rim-feedback"))
    market = played(with_outage(text, rounds=1), "rim-feedback")
    table = ledgers(market)
    opening = market.world.opening
    begin, end = (happening.time for happening in happenings(market))
    assert (begin, end) == (opening + 2 * DAY, opening + 4 * DAY)
    is_before = table.time < begin
    is_down = (table.time >= begin) & (table.time < end)
    assert table[is_before].equals(plain[is_before])
    assert table.price[is_down].isna().all()
    assert table.price[~is_down].notna().all()
    first_slate = table.item[is_down].to_numpy()[:5]
    if fallback == "popularity":
        counts = np.bincount(market.world.past.item, minlength=market.n_items)
        assert (np.diff(counts[table.item[is_down].to_numpy().reshape(-1, 5)], axis=1) <= 0).all()
    always = f"outage(after='1s', lasts='30d', every=None, fallback='{fallback}')"
    first, second = (
        ledgers(played(with_outage(always, rounds=1), agent)) for agent in ("relevance", "rim-feedback")
    )
    assert first.item.equals(second.item)
    visits = table[is_down][["arrival", "position"]].iloc[:5]  # a state without effects of the agent's slates
    assert first.merge(visits).item.tolist() == first_slate.tolist()


def test_the_last_slate_comes_again():
    """With the fallback `last`, a visitor who saw a slate in this round gets its items again, but those it took."""
    config = with_outage(
        "outage(after='2d', lasts='5d', every=None, fallback='last')",
        rounds=1,
        arrivals=ArrivalsConfig(per_round=120, max_visits=3, draw="users"),
    )
    market = played(config)
    ledger = market.closed[0].ledger
    is_down = ledger.schedule.tick / 1e6 >= market.world.opening + 2 * DAY
    earlier_of = {}
    n_again = 0
    for row, slot in enumerate(ledger.schedule.slot.tolist()):
        if is_down[row] and slot in earlier_of:
            earlier = earlier_of[slot]
            left = ledger.item[earlier][~ledger.consumed[earlier]]
            assert ledger.item[row][: len(left)].tolist() == left.tolist()
            n_again += 1
        earlier_of[slot] = row
    assert n_again > 5


def test_the_first_slate_of_a_round_comes_again():
    """The fallback `last` also repeats the slate of the first visit of the round."""
    ledger = SimpleNamespace(
        schedule=SimpleNamespace(earlier_visit=np.array([-1, 0])), item=np.array([[3, 1], [-1, -1]])
    )
    visits = UnscoredVisits(np.array([1]), np.ones((1, 5), bool), np.arange(5), ledger, seed=0)
    assert fallback_slates("last", visits, 3).tolist() == [[3, 1, 4]]


@pytest.mark.parametrize("make", [small_scenario, small_replay])
def test_no_result_depends_on_the_batch(make):
    """Batches of 1, 7 and all have the same tables and the same outages."""
    config = with_outage(
        "outage(every='12h', lasts='3h', waits='exponential', fallback='last')", make, rounds=1
    )
    assert len(happenings(same_in_batches(config, "rim-feedback"))) > 4


def test_the_environment_has_the_same_tables():
    """An episode of the environment equals the engine, with outages in it."""
    config = with_outage("outage(lasts='6h')")
    for agent in ("rim-feedback", "relevance"):
        env = make_env(scenario="closed-loop", settings=settings_of(config))
        rollout(env, make_agent(agent), seed=0)
        same_ledgers(env.unwrapped.market, played(config, agent))


def test_a_resumed_market_goes_on_alike(tmp_path):
    """A market that is saved within an outage draws the same later outages as an uninterrupted market."""
    config = with_outage("outage(after='6d', lasts='2d', every='3d', waits='exponential')", rounds=3)
    expected = played(config, "rim-feedback")
    changes = [(happening.change, happening.round) for happening in happenings(expected)]
    assert ("start_model", 1) in changes
    for after in (1, 2):
        market = resumed(config, "rim-feedback", tmp_path / str(after), after)
        same_tables_and_happenings(market, expected)


def test_exponential_times_have_their_means():
    """Lengths and waits have the means of the options within 4 standard errors, and all agents the same outages."""
    config = with_outage(
        "outage(every='3h', lasts='1h', waits='exponential')", arrivals=ArrivalsConfig(per_round=30), rounds=4
    )
    market = played(config)
    times = np.array([happening.time for happening in happenings(market)])
    assert len(times) > 300
    begins = times[::2]
    ends = times[1::2]
    lengths = ends - begins[: len(ends)]
    waits = begins[1:] - ends[: len(begins) - 1]
    for values, mean in ((waits, 2 * 3600), (lengths, 3600)):
        assert abs(values.mean() - mean) < 4 * mean / len(values) ** 0.5
        assert values.std() == pytest.approx(mean, rel=0.3)
    assert [happening.time for happening in happenings(played(config, "random"))] == times.tolist()


def test_a_fixed_time_passes_from_one_beginning_to_the_next():
    """With `every=1d` outages of six hours begin once a day, at the same time of each day."""
    market = played(with_outage("outage(after='12h', lasts='6h', every='1d')", rounds=1))
    changes = [(happening.change, happening.time - market.world.opening) for happening in happenings(market)]
    hours = {"stop_model": 12, "start_model": 18}
    assert changes == [
        (change, day * DAY + hour * 3600) for day in range(7) for change, hour in hours.items()
    ]


class Learner:
    """Agent that keeps the rows that it answers, and the rows from which it learns."""

    name = "learner"
    order_free = False
    barrier_every = None

    def __init__(self):
        self.agent = make_agent("relevance")
        self.answered = []
        self.learnt = []

    def begin_round(self, view):
        """Begin the round of the agent that is asked."""
        self.agent.begin_round(view)

    def act(self, arrivals):
        """Slates of the agent that is asked."""
        self.answered += arrivals.row.tolist()
        return self.agent.act(arrivals)

    def learn(self, feedback):
        """Keep the rows of the feedback."""
        self.learnt += feedback.arrivals.row.tolist()


def test_an_agent_learns_from_all_its_slates_if_its_round_ends_in_an_outage():
    """A fallback answers the last visits of the round, but at its end the agent learns from its own slates."""
    market = Market(with_outage("outage(after='6d', lasts='2d', every=None)"))
    n_visits = len(market.schedule)
    agent = Learner()
    play_round(market, agent)
    assert 0 < len(agent.answered) < n_visits
    assert agent.learnt == agent.answered


def missing(market):
    """Exposures of the first round that its guarantee lacks, and those that it requires."""
    closed = market.closed[0]
    shown = np.bincount(closed.ledger.item[closed.ledger.item >= 0], minlength=market.n_items)
    return np.maximum(closed.required - shown, 0).sum(), closed.required.sum()


def test_a_guarantee_makes_good_for_an_outage_within_the_round():
    """`rim-feedback` delivers all floors after an outage of two days in mid-round, and not after one at its end."""
    changes = {
        "rounds": 1,
        "arrivals": ArrivalsConfig(per_round=300, max_visits=3),
        "exposure": ExposureConfig(beta=0.5, unit="shown"),
    }
    late = "outage(after='5d', lasts='2d', every=None)"
    assert missing(played(small_scenario(**changes), "rim-feedback")) == (0, 750)
    market = played(with_outage(TWO_DAYS, **changes), "rim-feedback")
    table = ledgers(market)
    begin, end = (happening.time for happening in happenings(market))
    required = market.closed[0].required
    is_down = (table.time >= begin) & (table.time < end)
    shown = np.bincount(table.item[is_down], minlength=market.n_items)
    share = is_down.mean()
    lost = np.maximum(required * share - shown, 0).sum()
    assert lost > 0.5 * share * required.sum()  # the fallback serves few of the items with floors
    assert missing(market) == (0, 750)
    assert missing(played(with_outage(late, **changes), "rim-feedback"))[0] > 75
    assert missing(played(with_outage(TWO_DAYS, **changes), "rim-dual"))[0] > 75  # prices that stay fixed


def test_impossible_times_are_refused():
    """An outage without a beginning, and one that outlasts the time to the next, are refused in one line."""
    cases = {
        "outage(every=None)": "outage.after and outage.every are null",
        "outage(every='1h', lasts='2h')": "outage.every is 1h, but an outage lasts 2h",
        "outage(lasts=2)": "'2' has no unit",
        "outage(fallback='best')": "Use one of last, popularity, random",
    }
    for text, message in cases.items():
        refused(ConfigError, message, Market, with_outage(text))
