"""Answers of your own agents, models and consumers that no market can use are refused."""

import numpy as np
from kit import MODEL, cases, refused
from kit.markets import played, small_scenario

from rimsim.config import ConsumerConfig, PlatformConfig
from rimsim.errors import AgentError, MarketError, ModelError
from rimsim.intensity.contract import resolved
from rimsim.intensity.registry import make
from rimsim.market import Market, Slates
from rimsim.market.opening import warm_model


@cases(
    "field value said",
    ("price", np.inf, "price is infinite at a shown item"),
    ("propensity", 3.0, "propensity holds 3. Expected chances above 0 and at most 1"),
    ("propensity", -0.5, "propensity holds -0.5. Expected"),
    ("propensity", 0.0, "propensity holds 0. Expected"),
)
def test_prices_and_chances_that_cannot_be_are_refused(field, value, said):
    """They would stand in the ledger, and in what a platform learns by inverse propensities."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(1)
    items = np.full((1, market.config.slate), -1)
    items[0, 1] = int(arrivals.admissible[0].nonzero()[0, 0])
    numbers = np.full(items.shape, np.nan, np.float32)  # nothing is said of empty positions
    numbers[0, 1] = value
    refused(AgentError, said, market.serve, arrivals, Slates(items, **{field: numbers}))
    numbers[0, 1] = 0.5
    market.serve(arrivals, Slates(items, **{field: numbers}))


@cases(
    "scores said",
    ("+ torch.rand(1)", "its scores change from call to call"),
    ("* len(states)", "its scores change with the other states of a batch"),
    ("* 1e30", r"the intensity λ\(x\) of a state is .*e\+\d+, more than the [\d,]+ events"),
)
def test_a_model_whose_scores_depend_on_more_than_the_state_is_refused(write, scores, said):
    """A market would else depend on the size of its batches."""
    write(MODEL.replace("self.n_items)", f"self.n_items) {scores}"))
    config = small_scenario(platform=PlatformConfig(model="mine.py:Mine"))
    refused(ModelError, f"mine.py:Mine: {said}", warm_model, config, 0)


def test_a_model_of_your_own_is_told_a_device_that_is_there(write):
    """PyTorch knows no device called auto."""
    write(MODEL.replace("        pass", "        self.given = device"))
    assert make("mine.py:Mine", device="auto").given == str(resolved("auto"))
    config = small_scenario(platform=PlatformConfig(model="mine.py:Mine", calibrate_opening=False))
    assert warm_model(config, 0).given in {"cpu", "cuda"}


def test_a_consumer_that_does_not_draw_with_its_probabilities_is_refused(write):
    """Utilities are of probabilities, returns of consumptions: they must be of one law."""
    write(
        "from rimsim.market.consumers import Intensity\n"
        "from dataclasses import replace\n"
        "class Greedy(Intensity):\n"
        "    def respond(self, visits, slates):\n"
        "        found = super().respond(visits, slates)\n"
        "        return replace(found, consumed=slates >= 0, probability=(slates >= 0) * 0.01)\n"
    )
    config = small_scenario(rounds=1, consumer=ConsumerConfig(kind="mine.py:Greedy"))
    refused(MarketError, r"Greedy.respond: it returned 600 consumptions, .* add up to 6\.0", played, config)
