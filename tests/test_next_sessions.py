"""Sequence models that are fitted to whole sessions in place of next events."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from made_logs import log_of

from rimsim.intensity import GRU, GRUConfig, IntensityModel, Transformer, TransformerConfig, UserStates
from rimsim.intensity.sequence.training import batches, windows
from rimsim.testing import IntensityModelTests, random_log

HOUR = 3600.0
SMALL = GRUConfig(
    width=8, context=50, epochs=3, learning_rate=0.02, update_learning_rate=0.02, target="next-session"
)


def small_log():
    """Two users; the first has sessions of 2, 1 and 2 events, the second one of 1 and one of 2."""
    user = np.array([0, 0, 1, 0, 0, 0, 1, 1])
    time = np.array([0.0, 60, 90, 2 * HOUR, 4 * HOUR, 4 * HOUR + 60, 6 * HOUR, 6 * HOUR + 1])
    return log_of(user, np.arange(8), time)


def told(log):
    """What is foretold from what: pairs of (items read, items with a weight), over all batches."""
    found = []
    for batch in batches(windows(log, 10, 5, "30min"), 4, torch.device("cpu")):
        for row, step, later, weight in zip(batch.row, batch.step, batch.later, batch.weight, strict=True):
            labels = later[weight > 0].tolist()
            np.testing.assert_allclose(weight[weight > 0], 1 / len(labels))
            found.append((batch.items[row, :step].tolist(), labels))
    return sorted(found)


def test_a_session_is_foretold_from_what_came_before_it():
    """Each session is the label of the state at its start, all its events alike; nothing else is predicted."""
    expected = [([], [0, 1]), ([], [2]), ([0, 1], [3]), ([0, 1, 3], [4, 5]), ([2], [6, 7])]
    assert told(small_log()) == expected


def test_history_within_a_session_is_no_label():
    """Events that are no targets have no weight, and a session that history begins is not foretold."""
    log = dataclasses.replace(small_log(), target=np.array([0, 1, 1, 1, 1, 0, 0, 1], bool))
    assert told(log) == [([], [2]), ([0, 1], [3]), ([0, 1, 3], [4])]


def test_an_empty_log_has_no_windows():
    """A log without events has no sessions to foretell."""
    assert len(windows(small_log().rows(slice(0, 0)), 10, 5, "30min")) == 0


@pytest.mark.parametrize("model", [GRU, Transformer])
def test_the_first_events_of_sessions_are_learnt(model):
    """In a log whose sessions go through the items in one order, sessions are foretold and not next events."""
    days = np.arange(30) * 86400.0
    user = np.repeat(np.arange(20), 60)
    item = np.tile(np.tile([0, 1], 30), 20)
    time = np.tile((days[:, None] + [0.0, 60.0]).ravel(), 20)
    order = np.lexsort((item, user, time))
    log = dataclasses.replace(
        random_log(n_users=20, n_items=5),
        user=user[order],
        item=item[order],
        time=time[order],
        value=np.ones(1200, np.float32),
    )
    config = GRUConfig if model is GRU else TransformerConfig
    states = UserStates.of(log, [3], 10 * 86400.0)
    given = {
        "width": 8,
        "context": 40,
        "burn": 4,
        "epochs": 20,
        "learning_rate": 0.02,
        "dropout": 0.0,
        "cold_items": False,
        "patience": 0,
    }
    session = model(config(**given, target="next-session")).fit(log).score(states)[0]
    event = model(config(**given)).fit(log).score(states)[0]
    assert float(session[:2].min()) > 0.35
    assert float(event[0]) > 0.6


class TestNextSession(IntensityModelTests):
    """A GRU fitted to whole sessions."""

    def make(self) -> IntensityModel:
        """The model under test."""
        return GRU(SMALL)
