"""Guarantees as a config states them: refused with the name of the field, or read again unchanged."""

import re

import yaml
from kit import DOCS, cases, markets, refused

from rimsim.config import find_scenario, scenario_from, to_plain
from rimsim.errors import ConfigError
from rimsim.market import Market
from rimsim.market.world import check_promises

SHARE = {"name": "a", "items": [1], "share": 0.1}


@cases(
    "change message",
    ({"items": {"genre": "Horror"}}, "the table has no column 'genre'. Did you mean 'genres'"),
    ({"items": {"genres": "Horor"}}, "column 'genres' has no value 'Horor'. Did you mean 'Horror'"),
    ({"items": ["26O"]}, "the catalogue has no item '26O'"),
    ({"items": {"genres": "Western", "year": 1994}}, "no item matches the filter"),
    ({"items": "new"}, "no item is released after the opening"),
    ({"first": "4d"}, "none of its items is released in its time"),
    ({"audience": {"users": {"sex": "F"}}}, "audience: the table has no column 'sex'"),
    ({"audience": {"share": 1e-9}}, "the audience has no user"),
    ({"exposures": 10_000}, "10,000 exposures, but .* its audience has only about 120 positions"),
    ({"exposures": 100, "caps": 4}, "100 exposures, .* about 24 positions .* or higher caps"),
)
def test_rows_that_cannot_be_are_refused_by_name(change, message):
    """Without items, users or positions, beyond caps, or with unknown names, a market is refused with the name."""
    campaign = {"name": "a", "items": [260], "exposures": 10, "stop": 7} | change
    config = markets.promising(campaigns=[campaign], groups=[], most=campaign.pop("caps", None))
    refused(ConfigError, f"campaign 'a'.*{message}", Market, config)
    refused(ConfigError, f"campaign 'a'.*{message}", check_promises, config, 0)


@cases(
    "exposure message",
    ({"campaigns": [{"items": [1], "share": 0.1}]}, "field 'exposure.campaigns.name' is missing"),
    ({"campaigns": [{"name": "a", "items": [1]}]}, "neither exposures nor share is set"),
    ({"campaigns": [{"name": "a", "items": [1], "exposures": 3}]}, "it has exposures .3. but no stop"),
    ({"campaigns": [SHARE | {"start": 3, "stop": 2}]}, "stop 2 is not after start 3"),
    ({"campaigns": [SHARE | {"start": 99}]}, "last round ends on day 56"),
    ({"campaigns": [{"name": "a", "item": [1], "share": 0.1}]}, "Did you mean .*items"),
    ({"campaigns": [SHARE] * 2}, "'a' occurs twice"),
    ({"groups": [{"colum": "genres", "beta": 0.1}]}, "Did you mean .*column"),
    ({"groups": [{"column": "genres", "beta": 2}]}, "2 is above 1"),
    ({"groups": [{"column": "genres", "beta": 2, "of": "groups"}]}, "2 is above 1"),
    ({"groups": [{"column": "genres", "beta": 0.1, "of": "sellers"}]}, "Use one of groups, items"),
    ({"groups": [{"column": "genres"}]}, "neither beta nor most is set"),
    ({"groups": [{"column": "genres", "beta": 0.5, "most": 0.4}]}, "0.4 is below beta, 0.5"),
    ({"most": 0.1}, "exposure.most is 0.1, below exposure.beta"),
    ({"per": "week"}, "'week' has no unit|'week' is not a duration"),
)
def test_a_wrong_config_says_what_is_allowed(exposure, message):
    """Each fault of a promise is named with what is allowed, before anything is built."""
    refused(ConfigError, message, scenario_from, {"exposure": exposure})


def test_a_config_with_promises_survives_a_round_trip_and_examples_open():
    """What a YAML says is the same record when read again; of each example of the page a market opens."""
    for config in (markets.promising(per="7d"), find_scenario("campaigns")):
        assert scenario_from(yaml.safe_load(yaml.safe_dump(to_plain(config)))) == config
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 5
    small = to_plain(markets.small_scenario())
    for text in examples:
        plain = yaml.safe_load(text)
        assert set(plain) <= {"rounds", "arrivals", "releases", "exposure"}
        merged = small | plain | {"arrivals": small["arrivals"] | plain.get("arrivals", {})}
        view = Market(scenario_from(merged)).round_view()
        assert view.required.any() or len(view.promises)
