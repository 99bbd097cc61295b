"""Consumers whose answers are a table: probabilities to the digit, unknown pairs, and the oracle."""

import dataclasses
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from kit import refused, write_events
from rich.console import Console

from rimsim import rng
from rimsim.agents import make_agent, play_round
from rimsim.config import ConsumerConfig, Seeds, override
from rimsim.errors import ConfigError, DataError
from rimsim.intensity.contract import BLOCK
from rimsim.market import Market, Needs
from rimsim.market.consumers import make_consumer
from rimsim.scenarios.study.notes import print_notes
from rimsim.scenarios.study.repetition import digests
from rimsim.testing import ConsumerTests
from rimsim.testing.intensity import random_log
from rimsim.testing.market import small_market
from rimsim.testing.market import small_scenario as tiny_scenario

USERS = 200
ITEMS = 40


def law() -> np.ndarray:
    """(users, items) probabilities with two tastes and uneven items, as made-up as can be."""
    user = np.arange(USERS)[:, None]
    item = np.arange(ITEMS)[None, :]
    return np.where(user % 2 == item % 2, 0.9, 0.3) / (1 + item / 10)


def write_table(path, values, is_known=None):
    """Write a table of values (users, items), of which some pairs are known; its path."""
    user, item = np.nonzero(np.ones(values.shape) if is_known is None else is_known)
    pd.DataFrame({"user": user, "item": item, "value": values[user, item]}).to_parquet(path)
    return str(path)


def observed(table, gamma=1.0, **options):
    """A small scenario whose consumers answer from a table."""
    consumer = ConsumerConfig(kind="observed", options={"table": table} | options, position_decay=gamma)
    return dataclasses.replace(tiny_scenario(), consumer=consumer)


def opened(config, log=None):
    """A market of the scenario over a log, and all visits of its first round."""
    market = small_market(random_log(n_users=USERS) if log is None else log, config)
    return market, market.open.visits(np.arange(market.n_arrivals))


@pytest.fixture
def table(tmp_path):
    """The law itself, as a table of probabilities."""
    return write_table(tmp_path / "law.parquet", law())


class TestObserved(ConsumerTests):
    """Consumers with known answers keep what a consumer promises."""

    @pytest.fixture(autouse=True)
    def written(self, tmp_path):
        """A table of probabilities of two thirds of all pairs."""
        is_known = rng.uniform(3, rng.Purpose.MEASURE, np.arange(USERS)[:, None], np.arange(ITEMS)) < 2 / 3
        self.table = write_table(tmp_path / "law.parquet", law(), is_known)

    def make(self):
        """The built-in one."""
        return make_consumer(observed(self.table, gamma=0.85, value="probability"))


def test_probabilities_of_a_law_come_out_to_the_digit(table):
    """Each shown item has the law's times its position's examination; intensities are 0 for what was consumed."""
    for gamma in (1.0, 0.85):
        market, visits = opened(observed(table, gamma, value="probability"))
        rows = np.arange(market.n_arrivals)[:, None]
        slates = np.argsort(rng.uniform(1, rng.Purpose.MEASURE, rows, np.arange(ITEMS)), 1)[:, :4]
        response = market.consumer.respond(visits, slates)
        expected = law()[visits.log_user[:, None], slates] * gamma ** np.arange(4)
        np.testing.assert_array_equal(response.probability, expected)
        np.testing.assert_array_equal(response.consumed, visits.uniform(slates) < expected)
        expected = law()[visits.log_user].astype(np.float32)
        expected[visits.consumed()] = 0
        np.testing.assert_array_equal(market.consumer.true_intensity(visits).numpy(), expected)


def test_answers_above_a_threshold_are_taken_as_often_as_the_table_says(tmp_path):
    """With all positions examined the share of consumptions over every pair is the table's own, without any error."""
    value = law()
    path = write_table(tmp_path / "values.parquet", value)
    market, visits = opened(observed(path, taken_at=0.3))
    all_slates = [np.tile(np.arange(first, first + 4), (len(visits), 1)) for first in range(0, ITEMS, 4)]
    taken = np.hstack([market.consumer.respond(visits, slates).consumed for slates in all_slates])
    np.testing.assert_array_equal(taken, value[visits.log_user] >= 0.3)


def test_what_is_not_observed_is_not_taken_and_is_counted(tmp_path):
    """Unknown pairs have probability 0, the consumer says which they are, and the report has their share."""
    is_known = (np.arange(USERS)[:, None] + np.arange(ITEMS)) % 2 == 0
    is_known[50:] = False
    path = write_table(tmp_path / "some.parquet", np.ones((USERS, ITEMS)), is_known)
    log = random_log(n_users=USERS)
    market, visits = opened(observed(path), log)
    slates = np.tile([0, 1, 2, -1], (len(visits), 1))
    expected = is_known[visits.log_user[:, None], slates] & (slates >= 0)
    np.testing.assert_array_equal(market.consumer.observed(visits, slates), expected)
    np.testing.assert_array_equal(market.consumer.respond(visits, slates).consumed, expected)
    report = market.consumer.report(log)
    assert (report.users, report.items, report.answered, report.taken) == (50, 40, 0.125, 1.0)
    assert not report.shown_at_random
    met = np.zeros((USERS, ITEMS), bool)
    met[log.user, log.item] = True
    assert report.left == 1 - (is_known & met).sum() / is_known.sum()
    assert "answers 12.5% of all pairs" in market.consumer.note(log)


def test_what_is_relevant_stays_so_when_it_was_consumed(tmp_path):
    """It is what the table says yes to of what is not in the logged past, before and after a round was played."""
    taken = law() >= 0.3
    path = write_table(tmp_path / "taken.parquet", taken.astype(float))
    market, visits = opened(observed(path))
    expected = taken[visits.log_user].copy()
    expected[visits.consumed()] = False
    often = market.open.visits(np.tile(np.arange(market.n_arrivals), BLOCK))
    np.testing.assert_array_equal(market.consumer.true_intensity(often), np.tile(expected, (BLOCK, 1)))
    consumed = 0
    while market.round == 0 and market.served < market.n_arrivals - 1:
        arrivals = market.next_arrivals(1)
        consumed += market.serve(arrivals, arrivals.relevance.topk(4).indices).consumed.sum()
    assert consumed
    np.testing.assert_array_equal(market.consumer.relevant(visits), expected.sum(1))


def test_bad_options_are_refused(tmp_path, table):
    """A missing table, an unknown meaning, values that are no probabilities and an attraction have errors of ours."""
    none = dataclasses.replace(tiny_scenario(), consumer=ConsumerConfig(kind="observed"))
    stars = observed(write_table(tmp_path / "stars.parquet", 5 * law()), value="probability")
    attractive = override(observed(table), {"consumer.attraction": 2.0})
    for error, message, config in (
        (ConfigError, "table", none),
        (ConfigError, "no option 'tabel'", observed(table, tabel="x")),  # codespell:ignore tabel
        (ConfigError, "value", observed(table, value="stars")),
        (DataError, "no such file", observed(str(tmp_path / "none.csv"))),
        (DataError, "no such file", observed("t")),
        (ConfigError, "has a value of 4.5. Expected values from 0 to 1", stars),
        (ConfigError, "attraction is 2, .* Set attraction to 1", attractive),
    ):
        refused(error, message, make_consumer, config)


@pytest.fixture
def known_market(tmp_path, table):
    """The config of a market over a log in a file, answered by the law."""
    events = random_log(n_users=60)
    log = write_events(tmp_path / "log.csv", events.user, events.item, events.time)
    return override(observed(table, 0.85, value="probability"), {"data.source": str(log), "rounds": 1})


def test_nobody_does_better_than_the_oracle(known_market):
    """On a table that is known, the oracle's slates have the largest expected consumption there is, exactly."""
    market = Market(known_market, seeds=Seeds.all(0), needs=Needs(truth=True))
    arrivals = market.next_arrivals(20)
    visits = market.open.visits(arrivals.row)
    best = make_agent("oracle")
    best.begin_round(market.round_view())
    slates = np.asarray(best.act(arrivals))
    p = law()[visits.log_user]
    p[visits.consumed()] = 0
    expected = (-np.sort(-p, axis=1)[:, :4] * 0.85 ** np.arange(4)).sum()
    assert market.consumer.respond(visits, slates).probability.sum() == pytest.approx(expected)


def test_a_run_says_what_the_table_knows_and_keeps_its_digest(known_market, table):
    """A note tells the share of pairs that are answered; a table that changes, changes what the run hangs on."""
    console = Console(file=StringIO(), width=500)
    print_notes([known_market], console)
    assert f"note: {table}: the table answers 100.0% of all pairs" in console.file.getvalue()
    before = digests(known_market, [])["consumer"]
    assert digests(known_market, [])["consumer"] == before
    pd.read_parquet(table).assign(value=0.5).to_parquet(table)
    assert digests(known_market, [])["consumer"] != before


def test_nobody_takes_an_item_twice_while_the_platform_does_not_know(table):
    """With a delay the platform may show again what was taken, but it is not taken again and is worth nothing."""
    config = observed(table, value="probability")
    config = dataclasses.replace(config, consumer=dataclasses.replace(config.consumer, delay="30d"), rounds=1)
    market = small_market(random_log(n_users=8), config)
    play_round(market, make_agent("popularity"))
    ledger = market.closed[0].ledger
    slot = np.broadcast_to(ledger.schedule.slot[:, None], ledger.item.shape)[ledger.consumed]
    pairs = np.column_stack([slot, ledger.item[ledger.consumed]])
    assert len(np.unique(pairs, axis=0)) == len(pairs) > 10
    taken: set[tuple[int, int]] = set()
    n_again = 0
    for row, visitor in enumerate(ledger.schedule.slot.tolist()):
        shown = [(visitor, item) for item in ledger.item[row].tolist()]
        is_again = np.array([pair in taken for pair in shown])
        assert not ledger.probability[row, is_again].any()
        assert not ledger.true_intensity[row, is_again].any()
        n_again += int(is_again.sum())
        taken |= {pair for pair, was_taken in zip(shown, ledger.consumed[row], strict=True) if was_taken}
    assert n_again > 10
