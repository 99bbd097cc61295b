"""Worlds: which markets share one, and the log that a platform without rounds learns from."""

import dataclasses

import numpy as np
from kit.markets import small_scenario

from rimsim import config as records
from rimsim.market import Market
from rimsim.market.arrivals.clones import Clones
from rimsim.market.training_log import training_log
from rimsim.testing import random_log


def test_a_platform_without_rounds_learns_from_its_warm_up_log_alone():
    """With inverse propensities too: no event of it has one, so all count alike."""
    log = random_log(n_users=30, n_items=20)
    window = records.LogWindow(warmup="all")
    platform = records.PlatformConfig(model="popularity-hp", learning="ips", log_window=window)
    learnt = training_log(platform, log, [], 0, 0)
    assert learnt.weight is None
    np.testing.assert_array_equal(np.sort(learnt.item), np.sort(log.item))
    nothing = dataclasses.replace(platform, log_window=records.LogWindow(warmup="none"))
    assert len(training_log(nothing, log, [], 0, 0)) == 0


class Early(Clones):
    """The market opens when half of the log is over."""

    def opening(self, log):
        """As clones open, after the first half."""
        return super().opening(log.rows(slice(0, len(log) // 2)))


def test_a_world_is_shared_unless_the_market_has_plugs_of_its_own():
    """Two markets of one scenario stand on one world; one with arrivals of its own opens as these say."""
    config = small_scenario()
    usual = Market(config).world
    early_world = Market(config, arrivals=Early(config)).world
    assert Market(config).world is usual
    assert early_world.opening < usual.opening
    assert len(early_world.past) == len(usual.log) // 2
