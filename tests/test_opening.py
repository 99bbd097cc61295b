"""What the platform's model is worth at the opening, beside bestsellers and the oracle."""

from __future__ import annotations

import pandas as pd
import pytest
from small_markets import small_replay, small_scenario

from rimsim.config import ArrivalsConfig
from rimsim.scenarios import compare
from rimsim.scenarios.report.sentences import opening_note
from rimsim.scenarios.study.play import AT_OPENING, opening_utilities

ONE_VISIT = ArrivalsConfig(per_round=120, max_visits=1)


def test_the_opening_has_the_utility_of_round_0_where_nobody_comes_twice(tmp_path):
    """Where each visitor comes once, the values at the opening are the utilities of the arms in round 0."""
    config = small_scenario(arrivals=ONE_VISIT, rounds=2)
    run = compare(config, AT_OPENING, seeds=2, frozen=(), out=tmp_path / "run", workers=1)
    rounds = run.rounds[(run.rounds["metric"] == "utility") & (run.rounds["round"] == 0)]
    expected = rounds.set_index(["agent", "seed"])["value"]
    assert run.opening is not None
    found = run.opening.set_index(["agent", "seed"])["utility"]
    assert found.to_dict() == pytest.approx(expected.to_dict())


def test_the_opening_of_a_replay_counts_hits(tmp_path):
    """In a replay the oracle knows the sessions, so no slate hits more than its slates."""
    utility = opening_utilities(small_replay(), seed=0).set_index("agent")["utility"]
    assert 0 < utility["popularity"] <= utility["oracle"]
    assert 0 < utility["relevance"] <= utility["oracle"]


@pytest.mark.parametrize(("model", "warns"), [(0.9, False), (0.5, True)])
def test_a_run_says_when_bestsellers_beat_its_model(model, warns):
    """The note is a warning where bestsellers are ahead at some seed, and names the share of the oracle."""
    rows = [
        (agent, seed, value)
        for seed in (0, 1)
        for agent, value in zip(AT_OPENING, (model, 0.8, 1.0), strict=True)
    ]
    note = opening_note(pd.DataFrame(rows, columns=["agent", "seed", "utility"]))
    assert note.startswith("warning") == warns
    assert f"{100 * model:.0f} % of the oracle's 1.000" in note
    assert "bestsellers have 0.800" in note


def test_the_opening_keeps_to_a_cap_on_users():
    """Positions beyond a user's cap are empty at the opening, as they are in the round."""
    whole = opening_utilities(small_scenario(), seed=0).set_index("agent")["utility"]
    capped = opening_utilities(small_scenario(user_cap=1), seed=0).set_index("agent")["utility"]
    assert (capped < 0.7 * whole).all()
