"""Ground intensities by Hawkes processes, against simulation, integration and rescaled times."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from kit.logs import log_of
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
    mu = parameters[0]
    alpha = parameters[1:3]
    gamma = parameters[3:]
    excitation = sum((alpha * RATES * np.exp(-RATES * (t - s))).sum() for s in times[1:] if s < t)
    return mu + excitation + (gamma * RATES * np.exp(-RATES * (t - times[0]))).sum()


def simulate(parameters, rates, horizon, users, seed):
    """Times and offsets of users' events on [0, horizon] after one at 0, by thinning, which is exact (Ogata, 1981)."""
    scales = len(rates)
    mu = parameters[0]
    alpha = parameters[1 : scales + 1] * rates
    gamma = parameters[scales + 1 :] * rates
    events_of_users = []
    for user in range(users):
        source = generator(seed, Purpose.MEASURE, user)
        time = 0.0
        seen = 0.0
        excited = gamma.copy()
        events = [0.0]
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
    user = np.append(user, len(offsets) - 1)
    time = np.append(times, stop)
    return log_of(user, np.zeros(len(user)), time)


def test_likelihood_equals_brute_force():
    """The likelihood and its gradient equal numerical integration and finite differences."""
    times, offsets = simulate(TRUE, RATES, 6.0, 4, seed=1)
    own_terms = hawkes_terms(times, offsets, np.full(4, 6.0), RATES)
    point = np.array([0.4, 0.2, 0.3, 0.1, 0.2])
    expected = 0.0
    events = 0
    for a, b in pairwise(offsets):
        user_times = times[a:b]
        expected -= sum(np.log(intensity(point, user_times, t)) for t in user_times[1:])
        edges = [*user_times, 6.0]
        for start, stop in pairwise(edges):
            expected += quad(lambda t, user_times=user_times: intensity(point, user_times, t), start, stop)[0]
        events += len(user_times) - 1
    likelihood, _ = negative_log_likelihood(point, own_terms.at_event, own_terms.total)
    assert likelihood == pytest.approx(expected / events, rel=1e-8)

    def part(number):
        return lambda x: negative_log_likelihood(x, own_terms.at_event, own_terms.total)[number]

    assert check_grad(part(0), part(1), point) < 1e-5


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
    of_truth = rescaled(terms, TRUE)
    assert of_truth.p_value > 0.01
    assert of_truth.squares == pytest.approx(2.0, abs=0.15)
    assert abs(of_truth.correlation) < 0.08
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
    bounded = Hawkes(HawkesConfig(horizon=1.0, scales=scales, stable_below=0.7)).fit(log)
    assert free.branching_ratio > 0.7 >= bounded.branching_ratio - 1e-6
    assert bounded.nll > free.nll


def test_intensity_is_the_integral_over_the_horizon():
    """λ(x) is c times the integrated intensity after the state's events."""
    times, offsets = simulate(TRUE, RATES, 10.0, 40, seed=6)
    log = as_log(times, offsets, 10.0)
    model = Hawkes(HawkesConfig(horizon=2.0, scales=Scales(shortest=0.5, longest=5.0, number=2))).fit(log)
    user = int(np.argmax(np.diff(offsets)))
    user_times = times[offsets[user] : offsets[user + 1]]
    fitted = model.parameters
    expected = quad(lambda t: intensity(fitted, user_times, t), 10.0, 12.0)[0] * model.factor
    assert float(model.intensity(UserStates.of(log, [user], 10.0))) == pytest.approx(expected, rel=1e-5)


def test_only_targets_are_scored():
    """Events that are history excite, but neither they nor the gaps before them are in the likelihood."""
    log = random_log()
    late = dataclasses.replace(log, target=log.time > np.median(log.time))
    model = Hawkes().fit(late)
    order = np.lexsort((log.time, log.user))
    first = np.r_[True, np.diff(log.user[order]) != 0]
    assert len(model.terms(late).at_event) == (late.targets[order] & ~first).sum()
