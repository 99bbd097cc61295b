"""The ground intensity of visits: its terms in plain Python, its optimum, and what it does beyond the log."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from kit import refused
from kit.logs import log_of
from scipy.optimize import check_grad

from rimsim.data import EventLog
from rimsim.errors import ModelError
from rimsim.intensity import HawkesPoisson, UserStates, Visits, VisitsConfig
from rimsim.intensity.ground.hawkes import poisson_objective
from rimsim.intensity.ground.visits import TERMS, log_linear_objective, terms
from rimsim.intensity.states import session_examples
from rimsim.rng import Purpose, generator
from rimsim.testing import random_log

GAP = 1800.0


def sessions_of(sizes: list[list[int]], pause: float = 86400.0) -> EventLog:
    """A log in which user u has sessions of ``sizes[u]`` events, ten seconds apart, a ``pause`` between sessions."""
    user = []
    time = []
    for number, session_sizes in enumerate(sizes):
        now = 1000.0 * number
        for size in session_sizes:
            user += [number] * size
            time += [now + 10.0 * event for event in range(size)]
            now = time[-1] + pause
    return log_of(user, np.arange(len(user)) % 5, time, len(sizes), 5)


def habits(n_users: int = 400, seed: int = 0) -> EventLog:
    """A log whose users have sessions of about their own size, the first one larger; half of the users come once."""
    source = generator(seed, Purpose.MEASURE, n_users)
    mean_size = source.gamma(1.0, 6.0, n_users)
    sizes = []
    for user in range(n_users):
        later = 0 if user % 2 else 1 + int(source.poisson(4.0))
        first = 1 + int(source.poisson(3 * mean_size[user]))
        sizes.append([first, *(1 + source.poisson(mean_size[user], later))])
    return sessions_of(sizes)


def written_out(events: list[float], now: float, usual: float, weight: float) -> list[float]:
    """The terms of one state as they are defined, in plain Python."""
    if not events:
        return [1.0] + [0.0] * (len(TERMS) - 1)
    sizes = [1]
    for before, after in pairwise(events):
        if after - before > GAP:
            sizes.append(1)
        else:
            sizes[-1] += 1
    logs = [float(np.log(size)) for size in sizes]
    return [
        0.0,
        1.0,
        logs[0],
        sum(size - usual for size in logs[1:]) / (len(logs) - 1 + weight),
        logs[-1] if len(logs) > 1 else 0.0,
        float(len(logs) == 1),
        float(np.log(len(logs))),
        float(np.log1p((max(now, events[-1] + GAP) - events[-1]) / GAP)),
    ]


def test_terms_are_what_they_say():
    """The terms of random states, some of them empty, equal those computed in plain Python, also event by event."""
    source = generator(0, Purpose.MEASURE)
    model = Visits()
    histories = [
        np.cumsum(source.choice([5.0, GAP, GAP + 1, 1e5], size, p=[0.6, 0.1, 0.1, 0.2])).tolist()
        for size in (0, 1, 2, 5, 0, 40, 17, 0)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    now = np.array([history[-1] + 700.0 * row if history else 1.0 for row, history in enumerate(histories)])
    times = np.concatenate(histories)
    states = UserStates(offsets, np.zeros(len(times), np.int64), times, now)
    last = np.array([history[-1] + GAP if history else 0.0 for history in histories])
    instant = torch.from_numpy(np.maximum(now, last))
    expected = np.array(
        [written_out(history, t, 1.3, 2.0) for history, t in zip(histories, now, strict=True)]
    )
    values = terms(model.encode(states), instant, GAP, 1.3, 2.0).numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    for row, history in enumerate(histories):
        hidden = model.encode(UserStates(np.zeros(2, np.int64), states.items[:0], times[:0], now[:1]))
        for event in torch.tensor(history, dtype=torch.float64):
            hidden = model.step(hidden, torch.zeros(1, dtype=torch.int64), event[None])
        values = terms(hidden, instant[row : row + 1], GAP, 1.3, 2.0)[0]
        np.testing.assert_allclose(values.numpy(), expected[row], rtol=1e-12)


def test_the_fit_is_optimal():
    """At the fitted weights the penalised gradient is zero; without a penalty Σ φ·λ is Σ φ·count."""
    log = habits()
    free = Visits(VisitsConfig(ridge=0.0)).fit(log)
    examples = session_examples(log)
    phi = free._terms_of(free.encode(examples.states), examples.states.now)
    rate = free.intensity(examples.states).double().numpy()
    np.testing.assert_allclose(phi.T @ rate, phi.T @ examples.counts, rtol=1e-4)
    penalised = Visits(VisitsConfig(ridge=0.1)).fit(log)
    unit = penalised.tensors()["unit"].numpy()
    offset = np.full(len(phi), penalised.level)
    counts = examples.counts.astype(float)
    _, slope = log_linear_objective(penalised.weights.numpy() * unit, phi / unit, offset, counts, 0.1)
    assert np.abs(slope).max() < 1e-4


@pytest.mark.parametrize("kind", [HawkesPoisson, Visits])
def test_a_session_begins_after_a_silence(kind):
    """With sessions as horizon, a state just after its last event is scored as one a gap later."""
    log = random_log()
    model = kind().fit(log)
    user = [int(log.user[-1])]
    ends = log.time[-1] + np.array([1.0, GAP, 1e7])
    soon, later, much_later = (float(model.intensity(UserStates.of(log, user, end))) for end in ends)
    assert soon == pytest.approx(later)
    assert much_later != later


def test_gradients_are_derivatives():
    """Analytic gradients of Hawkes-Poisson and of visits agree with finite differences."""
    source = generator(1, Purpose.MEASURE)
    phi = source.random((50, 6))
    offset = source.normal(size=50)
    counts = source.poisson(2.0, 50).astype(float)
    for objective in (
        lambda weights: poisson_objective(weights, phi, counts, 0.1),
        lambda weights: log_linear_objective(weights, phi - 0.5, offset, counts, 0.1),
    ):
        point = source.random(6) + 0.1
        value, slope = (lambda w, o=objective, n=n: o(w)[n] for n in (0, 1))
        assert check_grad(value, slope, point) < 1e-5


def test_no_term_is_extrapolated():
    """A longer silence, or more or larger sessions, than any in the log count as the longest, most or largest."""
    log = habits()
    model = Visits().fit(log)
    day = 86400.0
    far, farther = (sessions_of([[200] * 40], pause=pause * day) for pause in (1e4, 1e5))
    huge, huger = (sessions_of([[size] * 40]) for size in (10**3, 10**4))
    for extreme, more_extreme in ((far, farther), (huge, huger)):
        rate = [
            float(model.intensity(UserStates.of(log, [0], log.time[-1] + 1e9)))
            for log in (extreme, more_extreme)
        ]
        assert rate[0] == rate[1]
    examples = session_examples(log)
    rates = model.intensity(examples.states)
    assert rate[0] < 100 * float(rates.max())


@pytest.mark.parametrize("kind", [HawkesPoisson, Visits])
def test_an_update_keeps_the_mean_and_what_the_new_log_does_not_tell(kind):
    """After an update on later sessions alone, their mean λ is what it was, and that of first visits about so."""
    log = habits()
    model = kind().fit(log)
    came_back = session_examples(log).states.lengths > 0
    target = np.isin(log.sessions(GAP).of_event, np.flatnonzero(came_back)) & (np.arange(len(log)) % 3 == 0)
    thin = dataclasses.replace(log, target=target)
    states = session_examples(thin).states
    nobody = UserStates.of(log, [0], log.time[0])
    before = float(model.intensity(states).mean())
    new = float(model.intensity(nobody))
    model.update(thin)
    assert float(model.intensity(states).mean()) == pytest.approx(before, rel=1e-5)
    assert model.rescale > 1
    assert kind is HawkesPoisson or float(model.intensity(nobody)) == pytest.approx(new, rel=0.2)


def test_logs_that_tell_little_give_the_mean():
    """A log with one session, or in which nobody comes back, gives its mean count to all states; horizons theirs."""
    for sizes in ([[7]], [[3], [5], [13]]):
        log = sessions_of(sizes)
        model = Visits().fit(log)
        states = UserStates.of(log, [0, 0], [log.time[0], log.time[-1] + 1e6])
        np.testing.assert_allclose(model.intensity(states).numpy(), 7.0, rtol=1e-3)
        short_log = sessions_of([[3, 4, 4], [2, 9]])
        assert bool(
            torch.isfinite(model.update(short_log).intensity(session_examples(short_log).states)).all()
        )
    returning = dataclasses.replace(sessions_of([[4, 6]]), target=np.repeat([False, True], [4, 6]))
    model = Visits().fit(returning)
    np.testing.assert_allclose(model.intensity(UserStates.of(returning, [0], [0.0])).numpy(), 6.0, rtol=1e-3)
    log = random_log()
    model = Visits(VisitsConfig(horizon=5 * 86400.0)).fit(log)
    examples = model.examples(log)
    assert float(model.intensity(examples.states).sum()) == pytest.approx(examples.counts.sum(), rel=0.02)


def test_a_log_without_target_events():
    """A fit to no target event is an error, an update on none changes nothing, and no score comes before a fit."""
    log = habits(20)
    silent = dataclasses.replace(log, target=np.zeros(len(log), bool))
    refused(ModelError, "visits: found 0 examples with 0 events", Visits().fit, silent)
    states = session_examples(log).states
    refused(ModelError, "visits: the model is not fitted yet", Visits().intensity, states)
    model = Visits().fit(log)
    before = model.intensity(states)
    assert torch.equal(model.update(silent).intensity(states), before)
    assert model.rescale == 1.0
