"""What a long run is expected to take: said only of long ones, grows with what is asked, refused where memory lacks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_logs import log_of
from small_markets import small_broadcast, small_replay, small_scenario

from rimsim import system
from rimsim.errors import ConfigError
from rimsim.scenarios import compare
from rimsim.scenarios.execution import forecast
from rimsim.scenarios.execution.forecast import LONG, Forecast, announce, fit_seconds, log_bytes
from rimsim.scenarios.execution.rates import UPDATES
from rimsim.scenarios.study.forecast import foreseen


def _log(events, users=50, items=40):
    place = np.arange(events)
    return log_of(place % users, place % items, place, users, items)


def _foreseen(config, arms=3, seeds=1, *, certify=True, workers=1):
    return foreseen([config], arms, seeds, certify=certify, workers=workers)


@pytest.mark.parametrize("made", [small_scenario, small_replay, small_broadcast])
def test_more_rounds_arms_and_seeds_take_longer(made):
    """Whatever is asked for beyond a run is foreseen to cost more."""
    config = made(rounds=2)
    least = _foreseen(config).seconds
    assert _foreseen(made(rounds=4)).seconds > least or config.arrivals.per_round is None
    assert _foreseen(config, arms=4).seconds > least
    assert _foreseen(config, seeds=2).seconds > least
    assert _foreseen(config, certify=False).seconds < least
    assert foreseen([config, made(rounds=3)], 3, 1, certify=True, workers=1).seconds > least


def test_a_model_that_is_dear_to_update_takes_longer_each_round():
    """Every round's end costs more with a sequence model than with the usual one, by the same amount."""

    def seconds(model, rounds):
        config = small_scenario(rounds=rounds)
        platform = dataclasses.replace(config.platform, model=model)
        return _foreseen(dataclasses.replace(config, platform=platform), arms=1, certify=False).seconds

    usual, dear = (seconds(model, 5) - seconds(model, 3) for model in ("bag-visits", "gru-visits"))
    assert dear == pytest.approx(usual + 2 * UPDATES["gru"])


def test_more_arrivals_take_longer_and_more_workers_less_long():
    """Time falls with workers, as far as they share it, and memory rises."""
    config = small_scenario()
    more = dataclasses.replace(config, arrivals=dataclasses.replace(config.arrivals, per_round=10**5))
    assert _foreseen(more).seconds > _foreseen(config).seconds
    assert _foreseen(more).memory > _foreseen(config).memory
    assert _foreseen(more, workers=3).seconds < _foreseen(more).seconds
    assert _foreseen(more, workers=3).memory > _foreseen(more).memory


def test_a_larger_log_takes_longer_to_fit_and_more_memory():
    """Fits and memory grow with events, users and items; a model of one's own is named, not guessed at."""
    small, large = _log(400), _log(4000, users=80, items=60)
    assert fit_seconds(["gru"], small)[0] < fit_seconds(["gru"], large)[0]
    assert log_bytes(small) < log_bytes(large)
    assert fit_seconds(["gru-hp", "gru", "mine.py:Model"], small) == (
        fit_seconds(["gru"], small)[0],
        ("mine.py:Model",),
    )


def test_only_a_long_run_is_told_of():
    """The line is there above the threshold, with time and memory, and not below."""
    said: list[str] = []
    announce(Forecast(LONG, 0.0, 1, 1e9, 1e9), said.append, "events")
    assert said == []
    announce(Forecast(100.0, 7200.0, 2, 1.3e9, 0.4e9, ("mine.py:Model",)), said.append, "events")
    assert said == [
        "estimate: 62 min on 2 workers (2.0 h of CPU time) and 2.1 GB, without the fits of mine.py:Model"
    ]


@pytest.mark.parametrize(
    ("there", "named"), [(5 * 10**9, "--workers 3 or fewer"), (10**9, "a lower arrivals")]
)
def test_a_run_that_needs_more_memory_than_there_is_is_refused(monkeypatch, there, named):
    """The message has both figures and names the option to lower: workers as long as one fits."""
    monkeypatch.setattr(forecast, "memory", lambda: there)
    plan = Forecast(1.0, 1.0, 8, 2e9, 1e9)
    with pytest.raises(ConfigError, match=rf"10\.0 GB.*{there / 1e9:.1f} GB.*{named}"):
        announce(plan, lambda _: None, "arrivals")
    announce(plan, lambda _: None, "arrivals", here=False)


def test_a_comparison_that_does_not_fit_writes_nothing(monkeypatch, tmp_path):
    """It is refused before its folder is made and its truth fitted."""
    monkeypatch.setattr(forecast, "memory", lambda: 1000)
    config = small_scenario(name="never-fitted")
    with pytest.raises(ConfigError, match=r"arrivals\.per_round"):
        compare(config, ["random"], seeds=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_this_machine_says_how_much_memory_it_has(monkeypatch):
    """It is a positive number, or none where the system does not say."""
    there = system.memory()
    assert there is None or there > 2**28
    monkeypatch.setattr(system.os, "sysconf", lambda _: (_ for _ in ()).throw(ValueError))
    assert system.memory() is None
