"""Loops that let an agent serve a market."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rimsim.agents.contract import LearningAgent, PacingAgent, RepricingAgent
from rimsim.envs.market import market_env
from rimsim.errors import AgentError, ArrivalsError, ProcessError, RimsimError, one_line
from rimsim.intensity.contract import BLOCK
from rimsim.market import Feedback, Market, Needs
from rimsim.market.records import Slates, as_slates
from rimsim.measures import weighted_exposure

if TYPE_CHECKING:
    import gymnasium

    from rimsim.agents.contract import Agent
    from rimsim.arrays import Floats
    from rimsim.config import ScenarioConfig, Seeds
    from rimsim.intensity import IntensityModel
    from rimsim.market import Arrivals, World
    from rimsim.market.closed_round import ClosedRound
    from rimsim.market.controls import Control


@dataclass(frozen=True)
class Episode:
    """Length and reward of an episode."""

    steps: int
    """Number of arrivals served."""
    reward: float
    """Sum of rewards."""


def rollout(env: gymnasium.Env[Any, Any], agent: Agent, *, seed: int | None = None) -> Episode:
    """Let an agent act in an environment for one episode.

    The agent sees the same records as in the batch engine, and the outcome is the same to the last bit.

    Args:
        env: ``RIMMarket-v0``, wrapped or not.

    Raises:
        AgentError: If the agent raises an error, or its answer is not a slate.
    """
    inner = market_env(env)
    inner.needs = Needs.of(agent)
    env.reset(seed=seed)
    steps = 0
    total = 0.0
    last_opened = -1
    n_models = 1
    feedback_buffer = _FeedbackBuffer(agent, inner.market)
    while True:
        view_round = inner.market.round
        if view_round != last_opened:
            with _named(agent, f"before round {view_round}"):
                agent.begin_round(inner.round_view())
            last_opened = view_round
            n_models = 1
        n_models = _repriced(agent, inner.market, n_models)
        arrivals = inner.arrivals
        is_asked = inner.market.fallback is None
        slates = _answer(agent, arrivals, view_round) if is_asked else _no_answer(arrivals, inner.market)
        inner.annotate(slates)
        position_weights = inner.market.open.requirements.position_weights
        _, reward, terminated, truncated, _ = env.step(slates.items[0])
        if is_asked:
            feedback_buffer.enter(inner.feedback)
        else:
            feedback_buffer.enter_fallback(inner.feedback, position_weights)
        steps = steps + 1
        total = total + float(reward)
        if terminated or truncated:
            return Episode(steps, total)


def market_for(
    agent: Agent,
    config: ScenarioConfig,
    *,
    seeds: Seeds | None = None,
    world: World | None = None,
    model: IntensityModel | None = None,
    retrain: bool | None = None,
    control: Control | None = None,
) -> Market:
    """Market with the data that an agent needs.

    Args:
        seeds: Seeds by purpose; None: all are 0.
        world: Log, consumer and other parts that arms share; None: built from the config.
        model: Fitted model instead of the config's own.
        retrain: Overrides ``config.platform.retrain``; false: the platform never retrains.
        control: Source of the platform's training data; None: its own rounds.
    """
    needs = Needs.of(agent)
    return Market(
        config, seeds=seeds, world=world, model=model, retrain=retrain, control=control, needs=needs
    )


def play_round(
    market: Market, agent: Agent, batch_size: int | None = None, report: Callable[[int], None] | None = None
) -> None:
    """Let an agent serve the market's current round, in batches.

    Args:
        batch_size: Largest number of arrivals per batch; results do not depend on it. None: as many as can be scored at
            once.
        report: Function that gets the number of arrivals of each batch, for a progress bar.

    Raises:
        AgentError: If the agent raises an error, or its answer is not a slate.
    """
    number = market.round
    with _named(agent, f"before round {number}"):
        agent.begin_round(market.round_view())
    n_models = 1
    feedback_buffer = _FeedbackBuffer(agent, market)
    while not market.done and market.round == number:
        with _with_context(agent, f"in round {number}"):
            arrivals = market.next_arrivals(
                batch_size or BLOCK,
                in_waves=agent.order_free,
                ahead=agent.order_free,
                barrier_every=agent.barrier_every,
            )
        n_models = _repriced(agent, market, n_models)
        is_asked = market.fallback is None
        slates = _answer(agent, arrivals, number) if is_asked else _no_answer(arrivals, market)
        position_weights = market.open.requirements.position_weights
        with _with_context(agent, f"in round {number}"):
            feedback = market.serve(arrivals, slates)
        if is_asked:
            feedback_buffer.enter(feedback)
        else:
            feedback_buffer.enter_fallback(feedback, position_weights)
        if report is not None:
            report(len(feedback.slates))


class Recorder(Protocol):
    """Observer of a market that an agent serves."""

    def opened(self) -> None:
        """Record that a round has opened."""

    def served(self, count: int, /) -> None:
        """Record served arrivals."""

    def closed(self, closed: ClosedRound) -> None:
        """Record a finished round."""


def play(market: Market, agent: Agent, recorder: Recorder, batch_size: int | None = None) -> None:
    """Let an agent serve a market to its end, recorded."""
    while not market.done:
        recorder.opened()
        play_round(market, agent, batch_size, recorder.served)
        recorder.closed(market.closed.pop())


def closed_rounds(
    market: Market, agent: Agent, report: Callable[[int], None] | None = None
) -> Iterator[ClosedRound]:
    """Rounds, served one after the other by an agent."""
    while not market.done:
        play_round(market, agent, report=report)
        yield market.closed.pop()


def _repriced(agent: Agent, market: Market, n_models: int) -> int:
    """Let an agent know a new model of the round.

    ``n_models`` is the number of the round's models that the agent knows. The result is the present number.
    """
    n_now = len(market.open.models)
    if n_now > n_models and isinstance(agent, RepricingAgent):
        with _named(agent, f"solving prices again in round {market.round}"):
            agent.reprice(market.round_view())
    return n_now


def _answer(agent: Agent, arrivals: Arrivals, number: int) -> Slates:
    """Ask an agent for its slates in round ``number``."""
    first = int(arrivals.id[0])
    context = f"in round {number}, at arrival {first} or one of the {len(arrivals) - 1} after it"
    with _named(agent, context):
        return as_slates(agent.act(arrivals))


def _no_answer(arrivals: Arrivals, market: Market) -> Slates:
    """Empty slates, which the market's fallback replaces."""
    return Slates(np.full((len(arrivals), market.config.slate), -1))


@contextmanager
def _with_context(agent: Agent, context: str) -> Iterator[None]:
    """Add agent and ``context`` to rimsim's errors.

    An error of a process, or about the arrivals of the next round, is not changed, because the agent did not cause it.
    """
    try:
        yield
    except (ArrivalsError, ProcessError):
        raise
    except RimsimError as error:
        raise type(error)(*(f"agent {agent.name!r} {context}: {error}", *error.args[1:])) from error


@contextmanager
def _named(agent: Agent, context: str) -> Iterator[None]:
    """Turn any error into one that names agent and ``context``."""
    try:
        with _with_context(agent, context):
            yield
    except RimsimError:
        raise
    except Exception as error:
        raise AgentError(
            f"agent {agent.name!r} raised {type(error).__name__} {context}: {one_line(error)}"
        ) from error


class _FeedbackBuffer:
    """Feedback, collected for a learning agent until a barrier."""

    def __init__(self, agent: Agent, market: Market) -> None:
        self._learner = agent if isinstance(agent, LearningAgent) else None
        self._pacing = agent if isinstance(agent, PacingAgent) else None
        self._every = agent.barrier_every
        self._market = market
        self._unlearnt: list[Feedback] = []
        self._count = 0

    def enter(self, feedback: Feedback) -> None:
        """Add feedback; let the agent learn at barriers."""
        if self._learner is None:
            return
        self._unlearnt.append(feedback)
        self._note_served(self._learner, len(feedback.slates))

    def enter_fallback(self, feedback: Feedback, position_weights: Floats) -> None:
        """Let a pacing agent count a fallback's slates."""
        # The agent learns nothing from them, because another system has chosen them.
        if self._pacing is not None:
            with _named(self._pacing, f"counting exposures in round {self._market.round}"):
                for row, slate in enumerate(feedback.slates):
                    exposure = weighted_exposure(slate[None], position_weights, self._market.n_items)
                    self._pacing.note_delivery(exposure, feedback.arrivals.rows(slice(row, row + 1)))
        if self._learner is not None:
            self._note_served(self._learner, len(feedback.slates))

    def _note_served(self, learner: LearningAgent, n: int) -> None:
        """Note served arrivals; let the agent learn at barriers."""
        self._count += n
        at_barrier = self._every is not None and self._count % self._every == 0
        if at_barrier or self._market.served == 0 or self._market.done:
            self._learn(learner)
            if not at_barrier:  # the end of a round; the next round counts from 0
                self._count = 0

    def _learn(self, learner: LearningAgent) -> None:
        """Let an agent learn the collected feedback, arrival by arrival.

        So the result does not depend on the batch size. Batches served in waves may be out of clock order.
        """
        answered: list[tuple[int, Feedback, int]] = []  # row of the arrival, batch, index in the batch
        for batch in self._unlearnt:
            answered += [(int(row), batch, index) for index, row in enumerate(batch.arrivals.row)]
        answered.sort(key=lambda entry: entry[0])
        for _, batch, index in answered:
            single_row = slice(index, index + 1)
            with _named(learner, f"learning in round {self._market.round}"):
                slates = np.asarray(batch.slates[single_row])
                consumed = np.asarray(batch.consumed[single_row])
                learner.learn(Feedback(batch.arrivals.rows(single_row), slates, consumed))
        self._unlearnt = []
