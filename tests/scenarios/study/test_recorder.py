"""The recorder of an arm: counts of adoption, figures of the platform, and the groups that TensorBoard shows."""

from types import SimpleNamespace

import numpy as np
import pytest
from kit.markets import small_run, small_scenario

from rimsim import config as records
from rimsim.agents import closed_rounds, make_agent, market_for
from rimsim.config import Seeds
from rimsim.requirements.campaigns import members_of
from rimsim.scenarios.study import recorder
from rimsim.scenarios.study.facts import AdoptionCount
from rimsim.tracking import event_folder, read_scalars


def _round(ticks, consumptions):
    """A closed round in which arrivals with one position each consume an item or nothing (−1)."""
    item = np.array(consumptions)[:, None]
    schedule = SimpleNamespace(tick=np.array(ticks))
    return SimpleNamespace(
        ledger=SimpleNamespace(item=np.maximum(item, 0), consumed=item >= 0, schedule=schedule)
    )


def test_adoption_is_counted_from_the_first_arrival_that_could_be_shown_an_item():
    """Items count from after the first arrival to the last one; an arrival at the tick of a release can adopt."""
    count = AdoptionCount(release=np.array([0, 10, 11, 20, 30, 31]))
    count.enter(_round([10, 15, 20], [0, -1, 3]))
    count.enter(_round([25, 30], [2, 3]))
    assert count.released().tolist() == [2, 3, 4]
    assert count.sold().tolist() == [1, 0, 1, 2, 0, 0]
    table = count.table("mine", 7)
    assert table[["item", "duration", "observed"]].to_numpy().tolist() == [[2, 3, 1], [3, 1, 1], [4, 1, 0]]
    assert (set(table["agent"]), set(table["seed"])) == ({"mine"}, {7})


def test_adoption_has_no_table_where_nothing_is_released():
    """Items that are there at the first arrival, or come after the last, have no time of adoption."""
    count = AdoptionCount(release=np.array([10, 31]))
    count.enter(_round([10, 30], [0, 0]))
    assert count.times() is None
    assert count.table("mine", 7) is None


def test_figures_of_the_platform_are_those_of_each_closed_round(tmp_path):
    """Rescale, cost and learnt events in the event files are a round's own, and each stands under its name."""
    config = small_scenario(rounds=2)
    run = small_run(tmp_path / "run", ("rim-feedback",), config, frozen=())
    scalars = read_scalars(event_folder(run.folder, "rim-feedback", 0))
    agent = make_agent("rim-feedback")
    rounds = list(closed_rounds(market_for(agent, config, seeds=Seeds.all(0)), agent))
    for name in ("rescale", "cost", "learnt_events"):
        expected = [(closed.number, pytest.approx(getattr(closed, name), rel=1e-6)) for closed in rounds]
        assert scalars[f"platform/{name}"] == expected
    assert rounds[1].cost != pytest.approx(rounds[1].rescale)


def test_tensorboard_shows_the_groups_with_most_items(tmp_path, monkeypatch):
    """Of more groups than are shown, those with fewer items have no series."""
    monkeypatch.setattr(recorder, "MOST_GROUPS", 3)
    config = small_scenario(rounds=1, exposure=records.ExposureConfig(beta=0.0))
    run = small_run(tmp_path / "run", ("random",), config, frozen=(), groups=("genres",))
    tags = read_scalars(event_folder(run.folder, "random", 0))
    shown = {tag.split("/")[1] for tag in tags if tag.startswith("groups/")}
    sizes = {group: len(items) for group, items in members_of(run.catalogue, "genres").items()}
    largest = sorted(sizes, key=sizes.get)[-3:]
    assert sizes[largest[0]] > sorted(sizes.values())[-4]
    assert shown == {f"genres {group}" for group in largest}
