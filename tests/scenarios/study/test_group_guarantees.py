"""Guarantees of groups of items, by an attribute: their fields, their members, and what is refused."""

from dataclasses import replace

import pandas as pd
from kit import cases, refused
from kit.shop import COLUMNS, SETTINGS

from rimsim import config as records
from rimsim.config.guarantees import GroupShare, require_single, with_guarantees
from rimsim.errors import ConfigError
from rimsim.market import build_world
from rimsim.requirements.campaigns import groups_of, members_of
from rimsim.scenarios import compare
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.cli.tools import guarantee
from rimsim.scenarios.study.checks import LogArguments, grid_with, resolved


def test_a_guarantee_replaces_that_of_single_items():
    """β of items becomes 0, unless it is set too, and a group of the same column is replaced."""
    scenario = records.scenario_from({"exposure": {"groups": [{"column": "genres", "beta": 0.9}]}})
    config = resolved(scenario, guarantee={"genres": 0.2, "seller": 0.5})
    pairs = [(group.column, group.beta) for group in config.exposure.groups]
    assert (config.exposure.beta, pairs) == (0.0, [("genres", 0.2), ("seller", 0.5)])
    config_of_both = resolved(scenario, settings={"exposure.beta": 0.3}, guarantee={"seller": 0.5})
    assert config_of_both.exposure.beta == 0.3
    varied = records.override(config, {"exposure.groups.seller.beta": 0.7})
    assert [group.beta for group in varied.exposure.groups] == [0.2, 0.7]
    refused(ConfigError, "unknown field", records.override, config, {"exposure.groups.brand.beta": 0.7})


def test_a_guarantee_may_be_part_of_an_equal_share_of_each_group():
    """The share may count items or groups, in Python as in a scenario; several shares of it are points of a sweep."""
    config = resolved("closed-loop", guarantee={"seller": {"beta": 0.3, "of": "groups"}, "genres": 0.2})
    groups = [(group.column, group.beta, group.of) for group in config.exposure.groups]
    assert groups == [("seller", 0.3, "groups"), ("genres", 0.2, "items")]
    assert records.scenario_from(records.to_plain(config)) == config
    shares = {"seller": {"beta": [0.3, 0.6], "of": "groups"}}
    config = resolved("closed-loop", guarantee={"seller": {"most": 2, "of": "groups"}})
    assert config.exposure.groups == (records.GroupConfig("seller", 0.0, of="groups", most=2.0),)
    assert records.scenario_from(records.to_plain(config)) == config
    assert grid_with({}, shares) == {"exposure.groups.seller.beta": [0.3, 0.6]}
    refused(ConfigError, "seller=0.3,0.6:groups has several shares", require_single, shares)


def test_the_command_line_says_which_share_is_guaranteed():
    """A colon and a word after the share name the share, and other words are refused."""
    assert guarantee("seller=0.3:groups") == ("seller", GroupShare((0.3,), "groups"))
    assert guarantee("a=b=0.3,0.5:groups") == ("a=b", GroupShare((0.3, 0.5), "groups"))
    assert guarantee("seller=0.3") == ("seller", GroupShare((0.3,), "items"))
    assert guarantee("seller=0.3:groups:most=2") == ("seller", GroupShare((0.3,), "groups", 2.0))
    assert guarantee("seller=0:most=1.5") == ("seller", GroupShare((0.0,), "items", 1.5))
    assert str(GroupShare((0.3, 0.5), "groups", 2.0)) == "0.3,0.5:groups:most=2"
    for text in (
        "seller=0:groups",
        "seller=0.3:most=",
        "seller=0.3:most=0",
        "seller=0.3:sellers",
        "seller=0.3:",
        "seller=:groups",
        "seller=1.2:groups",
    ):
        refused(ConfigError, "Write COLUMN=SHARE with .*:groups", guarantee, text)


@cases(
    "share",
    (0,),
    (1.2,),
    (-0.5,),
    (True,),
    ("0.5",),
    (float("nan"),),
    ({"beta": 0.5, "off": "groups"},),
    ([],),
)
def test_a_share_that_is_none_is_refused(share):
    """A share is a number above 0, at most 1."""
    message = "guarantee: found seller="
    refused(
        ConfigError, message, with_guarantees, records.ScenarioConfig(), {"seller": share}, keeps_items=False
    )


def test_a_wrong_column_is_refused_by_the_command(csv, capsys):
    """The message has the column that is not there, and the nearest one."""
    assert main(["compare", "--data", str(csv), "--columns", COLUMNS, "--guarantee", "sellr=0.5"]) == 2
    message = capsys.readouterr().err
    assert "groups of 'sellr'" in message
    assert "Did you mean 'seller'?" in message


def test_a_column_that_is_no_attribute_is_refused_with_the_reason(csv, tmp_path):
    """Nothing is written, and the message says why the column is ignored."""
    out = tmp_path / "run"
    call = {"data": csv, "settings": SETTINGS, "guarantee": {"channel": 0.5}, "out": out}
    text = refused(ConfigError, "groups of 'channel'", compare, "closed-loop", **call)
    assert "the column is ignored: it differs within" in text
    assert "such as 'app' and 'web' of item SKU-" in text
    assert not out.exists()


def test_members_of_groups_are_the_items_with_a_value():
    """An item with several values is in each group; items without a value are in none."""
    items = pd.DataFrame({"genres": ["b|a", "", "a", "<NA>", "b|b"]})
    assert {name: list(of) for name, of in members_of(items, "genres").items()} == {"a": [0, 2], "b": [0, 4]}
    guarantees = groups_of(items, records.GroupConfig("genres", 0.5, ("b",)))
    assert [(group.name, list(group.items)) for group in guarantees.guarantees] == [("genres b", [0, 4])]


def test_providers_are_those_of_a_column_of_the_log(csv):
    """Sellers can leave the market: a column of the events serves as the providers' column."""
    config = resolved("closed-loop", log=LogArguments(csv), settings=SETTINGS)
    providers = records.ProvidersConfig("viability", (("column", "seller"),))
    world = build_world(replace(config, providers=providers))
    assert [world.roster.names[provider] for provider in world.roster.of_item] == world.log.items[
        "seller"
    ].tolist()
