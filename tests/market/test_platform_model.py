"""The default model of a platform: that of the log, and what a run says of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import yaml
from kit import cases, refused
from kit.logs import log_of
from kit.markets import small_scenario

from rimsim.config import DataConfig, PlatformConfig, find_scenario, scenario_names
from rimsim.config.fields import DEFAULT_MODEL
from rimsim.errors import ConfigError
from rimsim.intensity.habits.mixture import BagHabits
from rimsim.intensity.impressions import layer_of
from rimsim.intensity.sets.bag import Bag
from rimsim.intensity.states import UserStates
from rimsim.market.opening import warm_model
from rimsim.market.platform_model import model_for, platform_model, repeats_note
from rimsim.market.world import check_plugs
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.report.comparison import comparison_report

DAY = 86_400
ONCE = log_of([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
AGAIN = dataclasses.replace(ONCE, repeatable=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A log of 60 users who mostly take their own few items again."""
    source = np.random.default_rng(8)
    rows = []
    for user in range(60):
        taste = source.dirichlet(np.full(20, 0.2))
        time = 1.5e9 + source.uniform(0, 5) * DAY
        for _ in range(source.integers(4, 9)):
            time += source.exponential(6) * DAY + 7200
            rows += [(user, int(source.choice(20, p=taste)), int(time) + 40 * n) for n in range(3)]
    file = tmp_path_factory.mktemp("again") / "log.csv"
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(file, index=False)
    return str(file)


def _scenario(path, repeats, model=DEFAULT_MODEL):
    """A market of the log under a treatment of repeats."""
    data = DataConfig(source=path, repeats=repeats)
    return small_scenario(data=data, slate=3, rounds=1, platform=PlatformConfig(model=model))


@cases(
    "name repeatable model",
    ("default", False, "bag-visits"),
    ("default", True, "bag-habits-visits"),
    ("default(steps=7)", True, "bag-habits-visits(steps=7)"),
    ("default(steps=7)", False, "bag-visits(steps=7)"),
    ("bag-visits", True, "bag-visits"),
    ("defaults.py:Model", True, "defaults.py:Model"),
)
def test_the_default_alone_follows_the_log(name, repeatable, model):
    """A default is the model with habits where items are taken again; all other names stay."""
    assert model_for(name, repeatable=repeatable) == model
    assert platform_model(PlatformConfig(model=name), AGAIN if repeatable else ONCE) == model


@cases("repeats named mark", ("consume", "bag-habits-visits", BagHabits), ("drop", "bag-visits", Bag))
def test_the_default_is_the_named_model_to_the_bit(path, repeats, named, mark):
    """The market opens with the same model and layer as if it had been named."""
    models = [warm_model(_scenario(path, repeats, name), 0) for name in (DEFAULT_MODEL, named)]
    assert isinstance(layer_of(models[0])[0].mark, mark)
    log = log_of([0, 0, 1], [3, 4, 5], [1.0, 2.0, 3.0], items=20)
    states = UserStates.of(log, np.array([0, 1]), np.array([1.6e9, 1.6e9]))
    np.testing.assert_array_equal(*(model.score(states).numpy() for model in models))
    np.testing.assert_array_equal(*(layer_of(model)[1].level for model in models))


def test_scenarios_of_films_open_with_the_same_model():
    """All scenarios but news and the tasks of sellers leave the model to their log."""
    models = {name: find_scenario(name).platform.model for name in scenario_names()}
    assert models.pop("news") == "fresh-visits"
    assert models.pop("sellers") == models.pop("sellers-hidden") == "bag-visits"
    assert set(models.values()) == {DEFAULT_MODEL}


def test_a_default_is_checked_before_the_log_is_read():
    """Wrong options of a default are refused, and a name that is nearly the default is corrected."""
    check_plugs(small_scenario(platform=PlatformConfig(model="default(steps=3)")))
    check_plugs(small_scenario(platform=PlatformConfig(model="default", learning="ips")))
    wrong = small_scenario(platform=PlatformConfig(model="default(step=3)"))
    refused(ConfigError, "unknown field 'step'. Did you mean 'steps'", check_plugs, wrong)
    misspelt = small_scenario(platform=PlatformConfig(model="defualt"))
    refused(ConfigError, "platform.model 'defualt' is unknown. Did you mean 'default'", check_plugs, misspelt)
    removed = small_scenario(platform=PlatformConfig(model="graph-hp"))
    refused(ConfigError, "platform.model 'graph-hp' is unknown. Did you mean", check_plugs, removed)


@cases(
    "model remedy",
    ("bag-visits", "bag-habits-visits"),
    ("ease", "ease-habits"),
    ("factors-hp(rank=4)", "factors-habits-hp"),
    ("popularity-visits", "default"),
    ("hp", "default"),
    ("auto-visits", "default"),
    ("default", None),
    ("own-visits", None),
    ("ease-habits-visits", None),
    ("gru-hp", None),
    ("auto(candidates=('own', 'bag-habits'))", None),
    ("mine.py:Model", None),
)
def test_a_named_model_without_repeats_is_noted(model, remedy):
    """The note names the model and a better one, only where users take items again."""
    platform = PlatformConfig(model=model)
    assert repeats_note(platform, ONCE) is None
    note = repeats_note(platform, AGAIN)
    if remedy is None:
        assert note is None
    else:
        assert note.startswith(f"platform.model is {model!r}")
        assert note.endswith(f"Set platform.model to '{remedy}'")


def test_a_run_records_the_chosen_model(path, tmp_path):
    """The config has the name and the choice, the report the choice; a run of before has the name alone."""
    config = _scenario(path, "consume", "default(steps=5)")
    config = dataclasses.replace(config, consumer=dataclasses.replace(config.consumer, truth="popularity"))
    options = {"seeds": 1, "workers": 1, "certify": False}
    run = compare(config, ["relevance", "random"], out=tmp_path / "run", **options)
    assert run.config["platform_model"] == "bag-habits-visits(steps=5)"
    assert run.config["scenario"]["platform"]["model"] == "default(steps=5)"
    assert "platform `bag-habits-visits(steps=5)`" in comparison_report(run).setting
    assert not any("platform.model" in note for note in run.config["notes"])
    file = run.folder / "config.yaml"
    entries = yaml.safe_load(file.read_text())
    del entries["platform_model"]
    entries["scenario"]["platform"]["model"] = "bag-visits"
    file.write_text(yaml.safe_dump(entries))
    assert "platform `bag-visits`" in comparison_report(load_run(run.folder)).setting
