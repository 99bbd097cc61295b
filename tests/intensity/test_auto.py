"""The model ``auto``: how candidates are judged on later sessions, and which one is taken."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import refused
from kit.models import Shares

from rimsim import intensity
from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import Auto, AutoConfig, UserStates, judged
from rimsim.intensity.cache import fitted
from rimsim.intensity.contract import ModelCapabilities
from rimsim.intensity.persistence import is_stored
from rimsim.intensity.registry import load, make, register
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.testing import random_log

NAMES = ("popularity", "returning", "ease")


def test_what_is_judged_is_what_was_taken():
    """Precision and likelihood of popularity are what a loop over held-out users says."""
    log = random_log(n_users=80)
    (result,) = judged(log, ("popularity",))
    held = HeldOut.of(log, "30min", 0)
    p = make("popularity").fit(held.past).score(held.states.take([0]))[0].double().cpu().numpy()
    precision = []
    likelihood = []
    for consumed, taken in zip(held.consumed, held.taken, strict=True):
        scores = np.where(consumed, 0.0, p)
        precision.append(taken[np.argsort(-scores, kind="stable")[:10]].sum() / 10)
        likelihood += np.log((scores / scores.sum())[taken > 0]).tolist()
    assert result.precision == pytest.approx(np.mean(precision), abs=0.01)
    assert result.log_likelihood == pytest.approx(np.mean(likelihood), abs=1e-4)
    assert result.users == len(held)


def test_auto_is_what_it_chose(tmp_path, monkeypatch):
    """Once fitted it scores as the chosen model does, keeps its choice through an update, and is saved with it."""
    log = random_log(n_users=150)
    ranking = judged(log, NAMES)  # users of even and odd number want other items: a personal model is first
    assert ranking[0].name == "ease"
    assert {entry.name for entry in ranking} == set(NAMES)
    model = make("auto", mark=AutoConfig(candidates=NAMES))
    assert isinstance(fitted(model, log, tmp_path / "cache"), Auto)
    states = UserStates.of(log, np.arange(20), log.time[-1] + 60)
    assert model.name == "ease"
    assert torch.equal(model.score(states), make("ease").fit(log).score(states))
    assert model.update(log).name == "ease"
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert (loaded.name, loaded.ranking) == (model.name, model.ranking)
    assert torch.equal(loaded.score(states), model.score(states))
    monkeypatch.setattr(Auto, "fit", None)  # the second time it is read
    cached = fitted(make("auto", mark=AutoConfig(candidates=NAMES)), log, tmp_path / "cache")
    assert cached.name == "ease"


def test_without_later_sessions_the_fallback_is_taken():
    """A log in which nobody came back cannot rank; the fallback is taken, and popularity is the best that is known."""
    log = random_log()
    log = dataclasses.replace(log, time=log.time[0] + np.arange(len(log)) * 1.0)
    assert judged(log, NAMES) == ()
    assert make("auto", mark=AutoConfig(candidates=NAMES, fallback="returning")).fit(log).name == "returning"


def test_a_candidate_of_ones_own_is_not_kept(tmp_path):
    """What the cache could not give back is fitted each time, leaves no record and takes no weights."""
    register("choosing-own", lambda seed, device: Shares())
    config = AutoConfig(candidates=("choosing-own",))
    log = random_log()
    for _ in range(2):
        model = fitted(make("auto", mark=config), log, tmp_path / "cache")
        assert (model.name, is_stored(model)) == ("choosing-own", False)
    refused(ModelError, "cannot be saved", model.save, tmp_path / "model")
    assert not (tmp_path / "model" / "model.json").exists()
    assert ModelCapabilities.of(Auto()).takes_weights
    assert is_stored(Auto())
    settings = ({"candidates": ("bag", "choosing-own")}, {"candidates": ("bag",), "fallback": "choosing-own"})
    for candidate in (model, *(Auto(AutoConfig(**wrong)) for wrong in settings)):
        assert not ModelCapabilities.of(candidate).takes_weights


def test_wrong_candidates_and_logs_are_refused():
    """Hybrids, grounds, unknown names and auto cannot be chosen; fits need targets, updates the same catalogue."""
    log = random_log()
    for name in ("hp", "ease-hp", "auto", "nothing"):
        refused(ConfigError, name, Auto(AutoConfig(candidates=("popularity", name))).fit, log)
    silent = dataclasses.replace(log, target=np.zeros(len(log), bool))
    for model in (Auto(), intensity.EASE()):
        refused(ModelError, "no target event", model.fit, silent)
    refused(ModelError, "Expected 40", intensity.EASE().fit(log).update, random_log(n_items=30))
