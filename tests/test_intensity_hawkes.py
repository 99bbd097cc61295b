"""Hawkes processes: likelihood, simulation and goodness of fit against known answers."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from made_logs import log_of
from scipy.integrate import quad
from scipy.optimize import check_grad

from rimsim.intensity import Hawkes, HawkesConfig, Scales, UserStates
from rimsim.intensity.ground.hawkes import hawkes_terms, negative_log_likelihood, rescaled
from rimsim.rng import Purpose, generator
from rimsim.testing import random_log

RATES = np.array([2.0, 0.2])
TRUE = np.array([0.3, 0.3, 0.2, 0.4, 0.0])


def intensity(parameters, times, t):
    """λ(t) written out as it is defined."""
    mu, alpha, gamma = parameters[0], parameters[1:3], parameters[3:]
    own = sum((alpha * RATES * np.exp(-RATES * (t - s))).sum() for s in times[1:] if s < t)
    return mu + own + (gamma * RATES * np.exp(-RATES * (t - times[0]))).sum()


def simulate(parameters, rates, horizon, users, seed):
    """Times and offsets of users' events on [0, horizon], by thinning (Ogata, 1981); each has a first event at 0.

    Between events the intensity only falls, so the present intensity bounds it and thinning is exact.
    """
    scales = len(rates)
    mu, alpha, gamma = parameters[0], parameters[1 : scales + 1] * rates, parameters[scales + 1 :] * rates
    events_of_users = []
    for user in range(users):
        source = generator(seed, Purpose.MEASURE, user)
        time, seen, excited, events = 0.0, 0.0, gamma.copy(), [0.0]
        while True:
            bound = mu + excited.sum()
            time += float(source.exponential(1.0 / bound)) if bound > 0 else np.inf
            if time > horizon:
                break
            excited = excited * np.exp(-rates * (time - seen))
            seen = time
            if source.random() * bound <= mu + excited.sum():
                events.append(time)
                excited = excited + alpha
        events_of_users.append(events)
    offsets = np.concatenate([[0], np.cumsum([len(events) for events in events_of_users])]).astype(np.int64)
    return np.concatenate([np.array(events) for events in events_of_users]), offsets


def as_log(times, offsets, stop):
    """A log of simulated users, closed by an event of one more user at the end of observation."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    user, time = np.append(user, len(offsets) - 1), np.append(times, stop)
    return log_of(user, np.zeros(len(user)), time)


def test_likelihood_equals_brute_force():
    """The likelihood and its gradient equal numerical integration and finite differences."""
    times, offsets = simulate(TRUE, RATES, 6.0, 4, seed=1)
    terms = hawkes_terms(times, offsets, np.full(4, 6.0), RATES)
    point = np.array([0.4, 0.2, 0.3, 0.1, 0.2])
    expected, events = 0.0, 0
    for a, b in pairwise(offsets):
        own = times[a:b]
        expected -= sum(np.log(intensity(point, own, t)) for t in own[1:])
        edges = [*own, 6.0]
        for left, right in pairwise(edges):
            expected += quad(lambda t, own=own: intensity(point, own, t), left, right)[0]
        events += len(own) - 1
    found, _ = negative_log_likelihood(point, terms.at_event, terms.total)
    assert found == pytest.approx(expected / events, rel=1e-8)
    off = check_grad(
        lambda x: negative_log_likelihood(x, terms.at_event, terms.total)[0],
        lambda x: negative_log_likelihood(x, terms.at_event, terms.total)[1],
        point,
    )
    assert off < 1e-5


def test_simulated_counts_have_the_closed_form_mean():
    """With one scale and no first-event excitation the mean count is the textbook's."""
    rate, mu, alpha, horizon, users = np.array([1.0]), 0.5, 0.6, 20.0, 400
    _, offsets = simulate(np.array([mu, alpha, 0.0]), rate, horizon, users, seed=2)
    counts = np.diff(offsets) - 1
    # E N(T) = μT/(1−α) − μα(1 − e^{−β(1−α)T}) / (β(1−α)²)
    mean = mu * horizon / (1 - alpha) - mu * alpha * (1 - np.exp(-(1 - alpha) * horizon)) / (1 - alpha) ** 2
    assert abs(counts.mean() - mean) < 4 * counts.std() / users**0.5


def test_parameters_are_recovered_from_simulated_users():
    """A fit to simulated users finds background rate, branching ratio and first-event excitation."""
    times, offsets = simulate(TRUE, RATES, 30.0, 300, seed=3)
    config = HawkesConfig(horizon=1.0, scales=Scales(shortest=0.5, longest=5.0, number=2))
    model = Hawkes(config).fit(as_log(times, offsets, 30.0))
    np.testing.assert_allclose(model.parameters[:3], TRUE[:3], atol=0.06)
    np.testing.assert_allclose(model.parameters[3:].sum(), 0.4, atol=0.12)
    assert model.branching_ratio == pytest.approx(0.5, abs=0.06)


def test_rescaled_times_accept_the_truth_and_reject_a_poisson_process():
    """True parameters pass the time-rescaling test; a homogeneous process fails it, and 3S sees that."""
    times, offsets = simulate(TRUE, RATES, 30.0, 60, seed=4)
    terms = hawkes_terms(times, offsets, np.full(60, 30.0), RATES)
    right = rescaled(terms, TRUE)
    assert right.p_value > 0.01
    assert right.squares == pytest.approx(2.0, abs=0.15)
    assert abs(right.correlation) < 0.08
    flat = np.zeros(5)
    flat[0] = len(terms.at_event) / terms.total[0]
    wrong = rescaled(terms, flat)
    assert wrong.p_value < 1e-4
    assert wrong.squares > 2.2


def test_the_stable_option_bounds_the_branching_ratio():
    """A process that comes out unstable is fitted under the bound, and its likelihood is no better for it."""
    times, offsets = simulate(np.array([0.2, 0.5, 0.45, 0.0, 0.0]), RATES, 20.0, 60, seed=5)
    log = as_log(times, offsets, 20.0)
    scales = Scales(shortest=0.5, longest=5.0, number=2)
    free = Hawkes(HawkesConfig(horizon=1.0, scales=scales)).fit(log)
    held = Hawkes(HawkesConfig(horizon=1.0, scales=scales, stable_below=0.7)).fit(log)
    assert free.branching_ratio > 0.7 >= held.branching_ratio - 1e-6
    assert held.nll > free.nll


def test_intensity_is_the_integral_over_the_horizon():
    """λ(x) is c times the integrated intensity after the state's events."""
    times, offsets = simulate(TRUE, RATES, 10.0, 40, seed=6)
    log = as_log(times, offsets, 10.0)
    model = Hawkes(HawkesConfig(horizon=2.0, scales=Scales(shortest=0.5, longest=5.0, number=2))).fit(log)
    user = int(np.argmax(np.diff(offsets)))
    own = times[offsets[user] : offsets[user + 1]]
    fitted = model.parameters
    expected = quad(lambda t: intensity(fitted, own, t), 10.0, 12.0)[0] * model.factor
    assert float(model.intensity(UserStates.of(log, [user], 10.0))) == pytest.approx(expected, rel=1e-5)


def test_only_targets_are_scored():
    """Events that are history excite, but neither they nor the gaps before them are in the likelihood."""
    log = random_log()
    late = dataclasses.replace(log, target=log.time > np.median(log.time))
    model = Hawkes().fit(late)
    order = np.lexsort((log.time, log.user))
    first = np.r_[True, np.diff(log.user[order]) != 0]
    assert len(model.terms(late).at_event) == (late.targets[order] & ~first).sum()


def test_likelihood_equals_ticks():
    """The package tick gives the same likelihood, up to its convention of subtracting 1 from every intensity."""
    model = pytest.importorskip("tick.hawkes.model")
    kind = model.ModelHawkesSumExpKernLogLik
    for base in kind.__mro__[:-1]:
        # tick finds its settable attributes in docstrings, which current versions of numpydoc no longer
        # yield.
        if "__setattr__" in vars(base):
            base.__setattr__ = object.__setattr__
    times, offsets = simulate(TRUE, RATES, 20.0, 3, seed=3)
    point, other = np.array([0.4, 0.2, 0.3, 0.1, 0.2]), 0.7
    for a, b in pairwise(offsets):
        own = times[a:b]
        terms = hawkes_terms(own, np.array([0, len(own)]), np.array([20.0]), RATES)
        found = negative_log_likelihood(point, terms.at_event, terms.total)[0] * (len(own) - 1)
        # The first event is a node of its own that excites the others and has a constant intensity.
        theirs = kind(RATES, n_threads=1)
        theirs.fit([own[1:], own[:1] + 1e-12], end_times=20.0)
        kernels = np.zeros((2, 2, 2))
        kernels[0, 0], kernels[0, 1] = point[1:3], point[3:]
        value = theirs.loss(np.concatenate([[point[0], other], kernels.ravel()])) * len(own)
        assert found == pytest.approx(value - (other * 20.0 - np.log(other)) + 2 * 20.0, rel=1e-9)
