"""Settings that can be switched off: at a strength of 0 they change no byte, at any other they do."""

import math

import pytest
from kit.markets import small_run, small_scenario

from rimsim import config as records

DEAF = """
import numpy as np

from rimsim.market.arrivals import HawkesArrivals, HawkesOptions


class Deaf(HawkesArrivals):
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
    market = small_scenario(rounds=2, arrivals=records.ArrivalsConfig(kind="hawkes", per_round=120))
    return records.override(market, settings)


def tables(config, folder):
    """Path → bytes of each table of a comparison."""
    run = small_run(folder, ("relevance", "rim-feedback"), config, reveal=["truth"])
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Tables of the market in which nothing is on."""
    contents = tables(returning(), tmp_path_factory.mktemp("plain") / "run")
    names = {name.partition("/")[0].partition(".")[0] for name in contents}
    assert {"rounds", "ledger", "truth", "arrivals", "required"} <= names
    return contents


def differing(first, second):
    """Tables that are not the same bytes in both."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


@pytest.mark.parametrize("name", SWITCHES)
def test_a_strength_that_is_on_changes_measures(name, plain, tmp_path):
    """With a threshold, κ or a strength above nothing the table of rounds is not that without."""
    setting, _, on = SWITCHES[name]
    with_it = tables(returning(**BESIDE.get(name, {}), **{setting: on}), tmp_path / "run")
    assert "rounds.parquet" in differing(plain, with_it)


def test_strengths_of_nothing_change_no_byte(plain, tmp_path):
    """At threshold −∞, κ = 0 and strengths of 0 all tables are those without; so are those of arrivals told nothing."""
    beside = {key: value for changes in BESIDE.values() for key, value in changes.items()}
    off = {setting: value for setting, value, _ in SWITCHES.values()}
    assert differing(plain, tables(returning(**beside, **off), tmp_path / "off")) == []
    place = tmp_path / "deaf.py"
    place.write_text(DEAF)
    deaf = returning(**{"arrivals.kind": f"{place}:Deaf"})
    assert differing(plain, tables(deaf, tmp_path / "run")) == []
