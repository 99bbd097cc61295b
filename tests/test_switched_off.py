"""What is switched off leaves every table of a comparison as it is, to the byte; what is on does not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from small_markets import small_run, small_scenario

from rimsim.config import ArrivalsConfig, override

AGENTS = ("relevance", "rim-feedback")
DEAF = """
import numpy as np

from rimsim.market.arrivals import Hawkes, HawkesOptions


class Deaf(Hawkes):
    '''The process of the log's sessions, to which nobody tells what was shown or taken.'''

    def __init__(self, scenario):
        super().__init__(HawkesOptions(), scenario)

    def satisfaction(self, so_far):
        return np.full(so_far.world.past.n_users, 0.5)
"""
SWITCHES = {
    "providers": ("providers.options.threshold", -math.inf, 1.0),
    "users": ("arrivals.options.kappa", 0.0, 0.8),
    "satiation": ("consumer.dynamics.satiation", 0.0, 1.0),
    "drift": ("consumer.dynamics.drift", 0.0, 1.0),
    "conformity": ("consumer.dynamics.conformity", 0.0, 0.5),
}
"""What is switched → setting, off, on."""
VIABILITY = {"start": 1.0, "decay": 0.5, "entry": 2.0}
BESIDE = {
    "providers": {"providers.kind": "viability"}
    | {f"providers.options.{key}": value for key, value in VIABILITY.items()},
    "users": {"arrivals.options.neutral": 0.1, "arrivals.options.memory": 0.3},
    "satiation": {"consumer.dynamics.satiation_half_life": "1d"},
}
"""Settings that have a say only where the switch beside them is on."""


def returning(**settings):
    """Two rounds in which users persist, and nothing that moves is on."""
    market = small_scenario(rounds=2, arrivals=ArrivalsConfig(kind="hawkes", per_round=120))
    return override(market, settings)


def tables(config, folder):
    """Path → bytes of each table of a comparison."""
    run = small_run(folder, AGENTS, config, reveal=["truth"])
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Tables of the market in which nothing is on."""
    found = tables(returning(), tmp_path_factory.mktemp("plain") / "run")
    names = {name.partition("/")[0].partition(".")[0] for name in found}
    assert {"rounds", "ledger", "truth", "arrivals", "required"} <= names
    return found


def differing(one, other):
    """Tables that are not the same bytes in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.mark.parametrize("name", SWITCHES)
def test_a_strength_that_is_on_changes_measures(name, plain, tmp_path):
    """With a threshold, κ or a strength above nothing the table of rounds is not that without."""
    setting, _, on = SWITCHES[name]
    with_it = tables(returning(**BESIDE.get(name, {}), **{setting: on}), tmp_path / "run")
    assert "rounds.parquet" in differing(plain, with_it)


def test_strengths_of_nothing_change_no_byte(plain, tmp_path):
    """At threshold −∞, κ = 0 and strengths of 0, whatever stands beside them, all tables are those without."""
    beside = {key: value for some in BESIDE.values() for key, value in some.items()}
    off = {setting: value for setting, value, _ in SWITCHES.values()}
    assert differing(plain, tables(returning(**beside, **off), tmp_path / "run")) == []


def test_without_kappa_a_process_that_is_told_nothing_brings_the_same_tables(plain, tmp_path):
    """At κ = 0 all tables are those of arrivals of one's own that never hear of satisfaction."""
    place = tmp_path / "deaf.py"
    place.write_text(DEAF)
    deaf = returning(**{"arrivals.kind": f"{place}:Deaf"})
    assert differing(plain, tables(deaf, tmp_path / "run")) == []


def test_a_cascade_that_never_stops_is_the_plain_response(tmp_path):
    """Where all positions are looked at and nobody stops, what a cascade takes is what the plain response takes.

    True chances are computed by another formula: equal but for the last bits, and so are measures of them.
    """
    plain = {"consumer.position_decay": 1.0}
    markets = {"plain": plain, "cascade": plain | {"consumer.kind": "cascade", "consumer.options.stop": 0.0}}
    one, other = (tables(returning(**some), tmp_path / name) for name, some in markets.items())
    assert {name.partition("/")[0] for name in differing(one, other)} <= {"rounds.parquet", "truth"}
    chances = [pd.read_parquet(tmp_path / name / "truth")["probability"] for name in markets]
    np.testing.assert_allclose(*chances, rtol=1e-12)
