"""The same code on another device: scores, slates and a market's tables, on CUDA where there is one.

Each test runs with ``cpu`` too, where the answer must be the same to the last bit, so that the tests themselves are
tried on every machine.
"""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from kit import same_arrays
from kit.markets import play_out, settings_of, small_scenario

from rimsim.agents import make_agent, play_round, rollout
from rimsim.config import PlatformConfig, override
from rimsim.envs import MarketEnv
from rimsim.intensity import RIM, UserStates
from rimsim.intensity.contract import BLOCK
from rimsim.intensity.registry import load, make
from rimsim.market import Market, build_world
from rimsim.matching import price_slates, top_k
from rimsim.matching.kernels import row_states
from rimsim.matching.ranking import device_slates, device_top_k

CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
CLOSE = 2e-4
"""Relative difference of two float32 scores that went through other kernels."""


@pytest.fixture(scope="module")
def scenario():
    """Clones on a small catalogue with the personalised model, fitted on the CPU."""
    return small_scenario(rounds=2, platform=PlatformConfig(model="gru-hp", device="cpu", retrain=False))


@pytest.fixture(scope="module")
def saved(scenario, tmp_path_factory):
    """A folder with the model, fitted once, so that every device serves the same parameters."""
    folder = tmp_path_factory.mktemp("model") / "gru-hp"
    model = make("gru-hp", seed=0, device="cpu").fit(build_world(scenario).past)
    assert isinstance(model, RIM)
    model.save(folder)
    return folder


@contextmanager
def departures(device):
    """Collects how many numbers each fetch of float or bool tensors took off a device."""
    sizes = {"float": [0], "bool": [0]}
    originals = {name: getattr(torch.Tensor, name) for name in ("cpu", "numpy", "tolist", "to", "item")}

    def watched(name):
        def call(tensor, *args, **kwargs):
            result = originals[name](tensor, *args, **kwargs)
            stays = isinstance(result, torch.Tensor) and result.device.type == device and name == "to"
            kind = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
            if tensor.device.type == device and not stays and kind in sizes:
                sizes[kind].append(tensor.numel())
            return result

        return call

    try:
        for name in originals:
            setattr(torch.Tensor, name, watched(name))
        yield sizes
    finally:
        for name, original in originals.items():
            setattr(torch.Tensor, name, original)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tie_width", [0.0, 0.05])
@pytest.mark.parametrize("share", [None, 0.6, 0.01])
def test_ranking_by_tensor_operations_is_the_compiled_ranking(device, tie_width, share):
    """Price slates on a device equal those of the compiled code: ties, dither, masks and prices of both signs."""
    draw = np.random.default_rng(3)
    n = 40
    m = 300
    k = 8
    scores = (draw.integers(30, size=(n, m)) / 30).astype(np.float32)  # ties in every row
    price = draw.choice([-0.2, 0.0, 0.4], m)
    admissible = None if share is None else draw.random((n, m)) < share
    keys = draw.integers(2**40, size=n)
    ties = {"tie_seed": 9, "row_keys": keys, "tie_width": tie_width}
    expected = price_slates(scores, price, k, admissible=admissible, **ties)
    scores_on_device = torch.from_numpy(scores).to(device)
    mask = None if admissible is None else torch.from_numpy(admissible).to(device)
    slates = device_slates(scores_on_device, price, k, mask, row_states(9, keys), tie_width)
    np.testing.assert_array_equal(slates, expected)
    np.testing.assert_array_equal(price_slates(scores_on_device, price, k, admissible=mask, **ties), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_ranking_by_tensor_operations_does_not_warn_of_its_prices(device):
    """PyTorch gives no warning of prices that nobody may write to, such as one price for all items."""
    price = np.broadcast_to(0.5, 4)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else a test before this one could use up the only warning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            states = row_states(0, np.arange(2))
            slates = device_slates(torch.ones((2, 4), device=device), price, 2, None, states, 0.0)
    finally:
        torch.set_warn_always(before)
    assert slates.shape == (2, 2)


@pytest.mark.parametrize("device", DEVICES)
def test_top_k_on_a_device_is_that_of_the_cpu(device):
    """Distinct scores have one best slate, whichever code finds it; short rows end in empty positions."""
    draw = np.random.default_rng(4)
    scores = torch.from_numpy(draw.permuted(np.tile(np.arange(200, dtype=np.float32), (30, 1)), axis=1))
    admissible = torch.from_numpy(draw.random((30, 200)) < draw.choice([0.01, 0.7], (30, 1)))
    expected = device_top_k(scores, admissible, 6)
    np.testing.assert_array_equal(top_k(scores.to(device), admissible.to(device), 6), expected)
    np.testing.assert_array_equal(device_top_k(scores.to(device), admissible.to(device), 6), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_scores_agree_with_those_of_the_cpu(scenario, saved, device):
    """λ(x,y) of one model on two devices differs by rounding alone, and lies on the model's device."""
    past = build_world(scenario).past
    states = UserStates.of(past, np.arange(50), np.full(50, past.time[-1] + 1.0))
    expected = load(saved, "cpu").score(states)
    scores = load(saved, device).score(states)
    assert scores.device.type == device
    torch.testing.assert_close(scores.cpu(), expected, rtol=CLOSE if device != "cpu" else 0, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["random", "relevance", "rim-dual", "rim-feedback"])
def test_a_short_market_is_the_same_on_a_device(scenario, saved, device, name):
    """Two rounds leave the ledger of the CPU: slates equal but for near-ties, λ(x,y) equal but for rounding."""
    markets = [Market(scenario, model=load(saved, place)) for place in ("cpu", device)]
    assert [market.device.type for market in markets] == ["cpu", device]
    on_cpu, on_device = (play_out(market, make_agent(name)) for market in markets)
    for closed, device_closed in zip(on_cpu.closed, on_device.closed, strict=True):
        ledger = closed.ledger
        device_ledger = device_closed.ledger
        np.testing.assert_array_equal(closed.required, device_closed.required)
        assert closed.cost == pytest.approx(device_closed.cost, rel=CLOSE)
        is_equal = (ledger.item == device_ledger.item).all(1)
        if device == "cpu":
            assert is_equal.all()
            np.testing.assert_array_equal(ledger.consumed, device_ledger.consumed)
        # Prices hang on many scores: one near-tie of the solver moves a price, and with it some slates.
        assert is_equal.mean() > (0.97 if name in {"random", "relevance"} else 0.8)
        first = slice(0, 20)  # before anything that differs can have changed a state
        if name in {"random", "relevance"}:
            rows = np.flatnonzero(is_equal[first])
            np.testing.assert_allclose(ledger.intensity[rows], device_ledger.intensity[rows], rtol=5 * CLOSE)
            for row in np.flatnonzero(~is_equal[first]):  # another order is allowed among near-ties only
                np.testing.assert_allclose(
                    ledger.intensity[row], device_ledger.intensity[row], rtol=5 * CLOSE
                )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["relevance", "rim-dual(spend=False)"])
def test_scores_stay_on_the_device_until_the_slates(scenario, saved, device, name):
    """While a round is served, no fetch is larger than a block of slates; the watch itself is tried on the CPU."""
    market = Market(scenario, model=load(saved, device))
    agent = make_agent(name)
    agent.begin_round(market.round_view())  # prices are solved on the CPU, once a round
    with departures(device) as taken:
        while market.round == 0:
            arrivals = market.next_arrivals(BLOCK, in_waves=True)
            if market.served + len(arrivals) == market.n_arrivals:
                break
            market.serve(arrivals, agent.act(arrivals))
    assert market.served > 0
    if device == "cpu":  # compiled code reads scores where they lie, as NumPy sees them
        assert max(taken["float"]) >= BLOCK * market.n_items // 2
    else:
        assert max(taken["float"]) <= BLOCK * scenario.slate
        assert max(taken["bool"]) <= BLOCK * scenario.slate


@pytest.mark.parametrize("device", DEVICES)
def test_an_environment_on_a_device_is_its_engine(scenario, device):
    """The environment and the engine with the model on one device agree in every slate and consumption."""
    config = override(scenario, {"platform.device": device, "rounds": 1})
    market = Market(config)
    agent = make_agent("relevance")
    play_round(market, agent)
    env = MarketEnv("closed-loop", settings=settings_of(config))
    rollout(env, make_agent("relevance"), seed=0)
    same_arrays(env.market.closed[0].ledger, market.closed[0].ledger, "item", "consumed")
