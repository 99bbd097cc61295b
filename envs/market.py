"""``RIMMarket-v0``: environment in which a step serves one arrival."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, SupportsFloat, TypeAlias, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from rimsim.arrays import TICKS, Array, Bools, Float32s, Ints
from rimsim.config import Seeds, find_scenario, override
from rimsim.data.session_logs import LogSource, source_name
from rimsim.envs.observations import (
    GROUND_BOUND,
    Snapshot,
    Standing,
    Stock,
    exposure_picture,
    observation_of,
    observe,
)
from rimsim.envs.steps import COMPILES, RECORD, enter, observe_all, outcome, serve_all
from rimsim.errors import AgentError, ConfigError, MarketError, require_known
from rimsim.market import Feedback, Market, Slates, build_world
from rimsim.market.records import NO_NEEDS, as_slates
from rimsim.system import progress_to

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView
    from rimsim.market.round import Round
    from rimsim.market.scores import ScoreRows
    from rimsim.market.state import MarketState

_MOST_ARRIVALS = 1 << 24
"""Up to which whole numbers are exact in float32: the bound of exposures where a round's arrivals are unknown."""

_CHOSEN = np.ones(1, bool)
"""A mask of the one market in a table of one."""
Observation: TypeAlias = "dict[str, Array]"
Action: TypeAlias = "Ints"
InvalidItems: TypeAlias = Literal["raise", "empty"]
Answer: TypeAlias = "Ints | Slates"
"""Items (k,) of an action, or a slate (1, k) with notes of an agent."""


class _Step(NamedTuple):
    """Served arrival, whose feedback is computed on demand."""

    opened: Round
    row: int
    place: tuple[ScoreRows, int]
    """Its scores, as the place in a block."""
    revealed: Arrivals | None
    """Arrival with fields that the slate's outcome would change; None: without such fields."""
    shown: Ints
    consumed: Bools


class NamedArguments:
    """Base of environments that refuse unknown arguments."""

    def __new__(cls, *_: object, **named: object) -> Self:
        """Make an environment; refuse unknown arguments."""
        # Gymnasium passes on what make was given, and would report Python's own error with all of it.
        parameters = inspect.signature(cls.__init__).parameters
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            require_known("RIMMarket-v0: {} is not an argument", named, [*parameters][1:])
        return super().__new__(cls)


class MarketEnv(NamedArguments, gymnasium.Env[Observation, Action], EzPickle):
    """Market where a step shows k items to one arrival.

    Action space:
        ``MultiDiscrete([M] * k)``: k different items of M, in the order of positions. A repeated or inadmissible item
        leaves its position empty and is counted in ``info["market"]["emptied"]``. A number outside 0 to M − 1 is an
        error, unless ``invalid_items`` is ``empty``.

    Observation space:
        ``Dict``. N is the largest number of arrivals that a round can have.

        ====================  ==================  =============  =============================================
        key                   space               low to high    what
        ====================  ==================  =============  =============================================
        ``relevance``         Box (M,) float32    0 to 1         p(y|x) over admissible items
        ``ground_intensity``  Box (1,) float32    0 to 10,000    λ(x), expected events of the session
        ``exposure``          Box (M,) float32    0 to N         exposures so far in this round
        ``shortfall``         Box (M,) float32    0 to N         exposures that its guarantees still lack
        ``admissible``        MultiBinary (M,)    0, 1           released, and not yet consumed by this user
        ``clock``             Box (2,) float32    0 to 1         elapsed shares of the round and of the run
        ====================  ==================  =============  =============================================

        Exposure and shortfall are in the unit of the guarantee.

    Starting state:
        In round 0 the model is fitted to the warm-up log, there is no exposure, and the first arrival waits. Models and
        truths are fitted on first use and cached. A note on the standard error stream announces the fit.

    Rewards: Consumptions + c × reduction of the shortfall by the slate. An exposure reduces the shortfall as long as
        its item, group or campaign lacks exposure. An exposure above a cap costs c. The sum of rewards over a round is
        the return plus a constant.

    Episode end:
        ``terminated`` is true after the last arrival of the last round. In the observation after that step, the
        relevance and admissibility of all items are 0. ``truncated`` is never true. The platform retrains inside the
        step that ends a round.

    Information:
        ``info["market"]`` has ``round``, ``served``, ``arrival`` and ``time`` of the arrival that waits. For the slate
        of the step it has ``items``, ``taken``, ``consumed`` (their number) and ``emptied``. ``shortfall`` and
        ``excess`` are totals of the round.

    Version history:
        v0: first version.

    Args:
        scenario: Name of a built-in scenario or path of a YAML file.
        data: Replaces ``data.source``: a name, a path, a data frame (pandas, Polars, Arrow) or an ``EventLog``.
        rounds: Replaces ``rounds``.
        settings: Other fields of the scenario to replace, by dotted name: ``{"exposure.beta": 0.3}``.
        model_seed: Seed of the platform's model. ``reset(seed=…)`` does not change this seed, so a reset need not fit a
            model.
        render_mode: ``ansi`` (text), ``rgb_array`` (picture of exposures and requirements), or None.
        invalid_items: ``raise`` refuses an action with a number outside 0 to M − 1. ``empty`` leaves its position empty
            and counts it, except for −1, which leaves a position empty on purpose.

    Example:
        >>> import gymnasium, rimsim
        >>> env = gymnasium.make("RIMMarket-v0", settings={"platform.model": "hp", "arrivals.per_round": 5})
        >>> observation, info = env.reset(seed=1)
        >>> best = (observation["relevance"]).argsort()[::-1][:10]
        >>> observation, reward, terminated, truncated, info = env.step(best)
        >>> info["market"]["emptied"]
        0
    """

    # Gymnasium declares it an instance attribute.
    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str = "online-match",
        *,
        data: LogSource | None = None,
        rounds: int | None = None,
        settings: dict[str, object] | None = None,
        model_seed: int = 0,
        render_mode: str | None = None,
        invalid_items: InvalidItems = "raise",
    ) -> None:
        EzPickle.__init__(
            self,
            scenario,
            data=data,
            rounds=rounds,
            settings=settings,
            model_seed=model_seed,
            render_mode=render_mode,
            invalid_items=invalid_items,
        )
        require_known("RIMMarket-v0: invalid_items is {}", [invalid_items], get_args(InvalidItems))
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode is {render_mode!r}. Expected 'ansi', 'rgb_array' or None")
        changes: dict[str, object] = dict(settings or {})
        if data is not None:
            changes["data.source"] = source_name(data)
        if rounds is not None:
            changes["rounds"] = rounds
        self.config = override(find_scenario(scenario), changes, origin="settings")
        self.render_mode = render_mode
        self.model_seed = model_seed
        self.invalid_items: InvalidItems = invalid_items
        """Answer to an item outside the catalogue: an error, or an empty position."""
        self.needs = NO_NEEDS
        """Fields that are filled in for the agent beside those of every agent."""
        self.barrier_every: int | None = None
        self._market: Market | None = None
        self._row = -1
        """Row of the arrival that waits in its round; −1 where none does."""
        self._place: tuple[ScoreRows, int] | None = None
        """Its scores under the model, as the place in a block; None where no arrival waits."""
        self._last: _Step | None = None
        self._note: Slates | None = None
        self._seeds = Seeds()
        self._begun: MarketState | None = None
        """The market when the open round began; of the last round if all are over."""
        self._answers: list[Answer] = []
        """Slates that were answered since."""
        self._view: RoundView | None = None
        """View of the open round, once it was asked for."""
        self.record = np.zeros(1, RECORD)
        """Record by which compiled code serves the market's arrivals."""
        self._attached: Round | None = None
        """Round to whose arrays the record points; None: to none."""
        self._stepping = False
        """True while the record and the market are not in accord; so it stays where an interrupt falls there."""
        with progress_to(_print):
            world = build_world(self.config)
        m = self.n_items = world.log.n_items
        most = world.most_arrivals or _MOST_ARRIVALS
        one = np.ones(m, np.float32)
        self.observation_space: spaces.Space[Observation] = spaces.Dict(  # type: ignore[assignment]  # dict[str, Any]
            {
                "relevance": spaces.Box(0 * one, one),
                "ground_intensity": spaces.Box(0.0, GROUND_BOUND, (1,), np.float32),
                "exposure": spaces.Box(0 * one, most * one),
                "shortfall": spaces.Box(0 * one, most * one),
                "admissible": spaces.MultiBinary(m),
                "clock": spaces.Box(0.0, 1.0, (2,), np.float32),
            }
        )
        self._nothing = (0 * one[None], 0 * one[:1], np.zeros((1, m), bool)), 0
        """Scores where no arrival waits, and their place."""
        self.action_space = spaces.MultiDiscrete(np.full(self.config.slate, m))

    @property
    def market(self) -> Market:
        """The running market.

        Raises:
            MarketError: If the environment was never reset.
        """
        self._follow()
        if self._market is None:
            raise MarketError("the environment has not been reset. Call reset() first")
        return self._market

    @property
    def arrivals(self) -> Arrivals:
        """Waiting arrival, as a batch of one."""
        return self.market.open.arrivals(np.array([self._row]), self._waiting(), self.needs)

    @property
    def feedback(self) -> Feedback:
        """Outcome of the last step."""
        self._follow()
        if self._last is None:
            raise MarketError("no slate has been served yet. Call step() first")
        opened, row, (block, place), arrivals, shown, consumed = self._last
        if arrivals is None:
            arrivals = opened.arrivals(np.array([row]), block.cut(place, 1), NO_NEEDS)
        return Feedback(arrivals, shown[None], consumed[None])

    def round_view(self) -> RoundView:
        """View of the current round, as agents get it."""
        return self.market.round_view()

    @property
    def standing(self) -> Standing:
        """Current round and its waiting arrival."""
        market, scores = self.market, self._waiting()
        if self._view is None or self._view.round != market.round:
            self._view = market.round_view()
        relevances, grounds, admissibles = scores.arrays
        return Standing(
            (relevances[0] * grounds[0]).astype(np.float64),
            admissibles[0],
            market.required,
            market.exposure,
            market.open.requirements.position_weights,
            market.cost,
            market.served,
            self._view.arrivals,
        )

    def action_masks(self) -> Bools:
        """Masks of allowed items, one position after the other.

        The mask of a position ignores the other positions. If an item is chosen twice, its second position stays
        empty.
        """
        return np.tile(self._waiting().arrays[2][0].astype(np.bool_), self.config.slate)

    @property
    def state(self) -> Snapshot:
        """Episode so far, for :meth:`load_state`; ``copy.deepcopy`` works, too."""
        self._follow()
        if self._begun is None:
            raise MarketError("the environment has not been reset. Call reset() first")
        return Snapshot(
            self._seeds, copy.deepcopy(self._begun), tuple(self._answers), copy.deepcopy(self.np_random)
        )

    def load_state(self, state: Snapshot) -> None:
        """Resume an episode from a state, identical in every bit.

        Both environments must have the same arguments. Loading serves the slates of the current round again, which
        takes as long as at first. A state can be loaded any number of times.
        """
        self._np_random = copy.deepcopy(state.np_random)
        self._open(state.seeds)
        self.market.load_state(copy.deepcopy(state.begun))
        self._begin()
        invalid_items = self.invalid_items
        self.invalid_items = "empty"  # an emptied position is −1 in the answers, which were accepted once
        try:
            for answer in state.answers:
                if isinstance(answer, Slates):
                    self.annotate(answer)
                self.step(answer.items[0] if isinstance(answer, Slates) else answer)
        finally:
            self.invalid_items = invalid_items

    def __deepcopy__(self, memo: dict[int, object]) -> MarketEnv:
        made = type(self).__new__(type(self))
        made.__setstate__(self.__getstate__())  # a fresh one, by the same arguments
        memo[id(self)] = made
        made.spec = self.spec
        made.needs, made.barrier_every = self.needs, self.barrier_every
        if self._begun is not None:
            made.load_state(self.state)
        return made

    def annotate(self, slates: Slates) -> None:
        """Record prices and propensities of the next step's exposures."""
        self._follow()
        self._note = slates

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset the market.

        Args:
            seed: Seed of arrivals, choices and the agent's random numbers. None: the next seed of the random stream
                that the last given seed began.
            options: ``{"seeds": {"arrivals": 1, "choice": 2, …}}`` sets seeds one by one.

        Raises:
            ConfigError: If an option is unknown.
        """
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31))
        both = drawn if seed is None else seed
        seeds = {"arrivals": both, "choice": both, "model": self.model_seed, "agent": both}
        for name, value in (options or {}).items():
            if name != "seeds" or not isinstance(value, dict) or set(value) - set(seeds):
                raise ConfigError(
                    f"reset: the option {name!r} is {value!r}. Expected only the option 'seeds', a dictionary with one "
                    f"or more of the keys {', '.join(seeds)}"
                )
            seeds |= value
        self._open(_seeds(seeds))
        self._begin()
        nothing = np.full(self.config.slate, -1)
        return self.observation(), {"market": self._summary(nothing, nothing, nothing >= 0)}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Show a slate to the waiting arrival; observe the next."""
        if not self.attach():
            info, reward = self.answer(action)
            return self.observation(), reward, self.market.done, False, {"market": info}
        asked, m = self.items_of(action), self.n_items
        shown, taken, self._stepping = asked[None].copy(), np.empty((1, len(asked)), bool), True
        serve_all(self.record, _CHOSEN, shown, taken)
        told = outcome(self.record)
        if told.scored < 1:
            self.score_next()
        numbers, admissible = np.empty((1, 3 * m + 3), np.float32), np.empty((1, m), np.int8)
        observe_all(self.record, _CHOSEN, numbers, admissible)
        if told.scored < 0:
            self.detach()
        self._stepping = False  # last, so that no interrupt leaves a record without room
        info = {
            "round": int(told.round),
            "served": int(told.served),
            "arrival": int(told.arrival),
            "time": told.now / TICKS,
            "consumed": int(told.n_consumed),
            "items": tuple(shown[0].tolist()),
            "taken": tuple(taken[0].tolist()),
            "emptied": int(told.emptied),
            "shortfall": told.shortfall,
            "excess": 0.0,
        }
        return observation_of(numbers[0], admissible[0]), told.reward, False, False, {"market": info}

    def items_of(self, action: Action) -> Ints:
        """Items of an action, which is checked.

        Agents may leave positions of an annotated slate empty, by −1.

        Raises:
            AgentError: If the action is not a slate, or holds a number that is not an item.
        """
        items = one_slate(action, self.config.slate)
        if self.invalid_items == "raise" and self._note is None:
            require_items(items, self.n_items)
        return items

    def answer(self, action: Action) -> tuple[dict[str, Any], float]:
        """``info["market"]`` and reward of a step, not compiled."""
        self.detach()
        items = self.items_of(action).copy()
        note, self._note = self._note, None
        answer = items if note is None else as_slates(dataclasses.replace(note, items=items[None]))
        shown, consumed, gain = self._serve(answer)
        info = self._summary(items, shown, consumed)
        return info, info["consumed"] + self.market.cost * gain

    def _serve(self, answer: Answer) -> tuple[Ints, Bools, float]:
        """Shown items, mask of consumed items, and gain in delivery."""
        market, row, place = self.market, self._row, self._waiting_place()
        opened = market.open
        revealed = None if self.needs is NO_NEEDS else self.arrivals  # before what is consumed changes it
        slates = answer if isinstance(answer, Slates) else Slates(answer[None].copy())
        many = market.show(np.array([row]), slates, empty=True)
        shown, consumed = many[0][0].copy(), many[1][0]
        self._last = _Step(opened, row, place, revealed, shown, consumed)
        gain = self._stock.count(row, shown)
        self._answers.append(answer)
        if market.open is opened or market.done:
            self._hand_out(market)
        else:
            self._begin()
        return shown, consumed, gain

    def render(self) -> Any:
        """Text or picture of exposures and requirements."""
        if self.render_mode is None:
            return None
        market = self.market
        short = np.maximum(market.required - market.exposure, 0).sum()
        total = float(market.required.sum()) or 1.0
        text = (
            f"{self.config.name}: round {min(market.round + 1, self.config.rounds)} of {self.config.rounds}, "
            f"{market.served} of {market.n_arrivals} arrivals served, "
            f"{(market.exposure > 0).mean():.0%} of items shown, {short / total:.0%} of guarantees still to deliver"
        )
        if self.render_mode == "ansi":
            return text
        return exposure_picture(market.exposure, market.required, text)

    def attach(self) -> bool:
        """True if compiled code can serve the next slate."""
        opened, market = self._attached, self._market
        own = self.needs is not NO_NEEDS or self._note is not None or self._stepping or not COMPILES
        if market is not None and opened is market.open and opened.attached and not own:
            return True
        self.detach()
        terms = None if own else self._record_terms()
        self._stepping = terms is not None
        if terms is not None:
            enter(self.record, terms)
            self._attached = self.market.open
            self._attached.attach(self.record, terms)
            self._stepping = False
        return terms is not None

    def detach(self) -> None:
        """Let only the market's own methods serve from here on."""
        self._follow()
        if self._attached is not None:
            self._attached.detach()
            self._attached = None

    def score_next(self) -> None:
        """Score the arrival that waits for compiled code."""
        if self._attached is not None:
            self._attached.score_waiting()

    def _follow(self) -> None:
        """Enter what compiled code has served since the last look."""
        opened, first = self._attached, self._row
        if opened is None or (row := int(self.record["served"][0])) <= first:
            return
        shown, consumed = opened.ledger.item[first:row].astype(np.int64), opened.ledger.consumed[row - 1]
        place, following = opened.place(row - 1), opened.place(row)  # before all else, for both may fail
        self._last = _Step(opened, row - 1, place, None, shown[-1].copy(), consumed.copy())
        self._answers.extend(shown)
        self._row, self._place = row, following
        self._stock.missing = float(self.record["shortfall"][0])

    def _record_terms(self) -> dict[str, Any] | None:
        """Terms of the record; None if compiled code cannot serve."""
        market, stock, row = self.market, self._stock, self._row
        if len(market.open.requirements.table) or self.config.exposure.examination == "random":
            return None
        if row + 1 == market.n_arrivals or not 0 <= row == market.served:  # the last slate ends the round
            return None
        if (terms := market.open.record_terms()) is None:
            return None
        terms |= {"rounds": self.config.rounds, "cost": market.cost, "shortfall": stock.missing}
        return terms | {"seen_exposure": stock.exposure, "seen_shortfall": stock.shortfall}

    def _waiting(self) -> ScoreRows:
        self._follow()
        block, place = self._waiting_place()
        return block.cut(place, 1)

    def _waiting_place(self) -> tuple[ScoreRows, int]:
        if self._place is None:
            raise MarketError("the episode is over, so no arrival is waiting. Call reset() first")
        return self._place

    def _open(self, seeds: Seeds) -> None:
        """Make a new market with these seeds."""
        with progress_to(_print):
            market = Market(self.config, seeds=seeds, barrier_every=self.barrier_every, needs=self.needs)
        if self._attached is not None:  # not detached: where its scores failed, they would fail again
            self._attached.arriving.keep_record()
            self._attached = None
        self._market, self._seeds = market, seeds
        self._last = self._note = None

    def _begin(self) -> None:
        """Set up a round's records before its first arrival."""
        self._begun, self._answers, self._view = self.market.state, [], None
        self._hand_out(self.market)
        self._stock = Stock(self.market.open)

    def _hand_out(self, market: Market) -> None:
        """Advance to the next arrival, if there is one."""
        self._row, self._place = -1, None
        if not market.done:
            self._row = int(market.open.arriving.take(1)[0])
            self._place = market.open.place(self._row)

    def observation(self) -> Observation:
        """Observation of the waiting arrival."""
        numbers, admissible = np.empty(3 * self.n_items + 3, np.float32), np.empty(self.n_items, np.int8)
        self.observe(numbers, admissible)
        return observation_of(numbers, admissible)

    def observe(self, numbers: Float32s, admissible: NDArray[np.int8]) -> None:
        """Fill in the arrays of :func:`observation_of`."""
        clock, stock = _clock(self.market), self._stock
        scores, place = self._nothing if self._place is None else (self._place[0].arrays, self._place[1])
        relevance, ground, can = scores[0][place], scores[1][place:], scores[2][place]
        observe(relevance, ground, can, stock.exposure, stock.shortfall, clock, numbers, admissible)

    def _summary(self, asked: Ints, shown: Ints, consumed: Bools) -> dict[str, Any]:
        """``info["market"]`` from chosen, shown and consumed items."""
        market, row, stock = self.market, self._row, self._stock
        opened, wanted, items, taken = market.open, asked.tolist(), shown.tolist(), consumed.tolist()
        emptied = 0 if items == wanted else sum(map(operator.ne, items, wanted))
        return {
            "round": market.round,
            "served": opened.arriving.served,
            "arrival": int(opened.schedule.id[row]) if row >= 0 else -1,
            "time": float(opened.schedule.tick[row] / TICKS) if row >= 0 else 0.0,
            "consumed": taken.count(True),
            "items": tuple(items),
            "taken": tuple(taken),
            "emptied": emptied,
            "shortfall": stock.missing,
            "excess": stock.excess,
        }


def _print(line: str) -> None:
    """Print a note before a first fit, which takes long."""
    sys.stderr.write(f"rimsim, first use: {line}\n")
    sys.stderr.flush()


def one_slate(action: Action, k: int) -> Action:
    """Items of an action as a C-contiguous int64 array.

    Raises:
        AgentError: If the action is not an array of k integers.
    """
    items = np.asarray(action)
    if items.shape != (k,) or items.dtype.kind not in "iu":
        raise AgentError(
            f"an action has shape {items.shape} and type {items.dtype}. Expected shape ({k},) and whole numbers"
        )
    return items.astype(np.int64, order="C", copy=False)


def require_items(items: Ints, n_items: int) -> None:
    """Refuse numbers that are not items.

    Raises:
        AgentError: If a number is not from 0 to M − 1.
    """
    numbers = items.tolist()  # for a slate, quicker than reductions by NumPy
    if min(numbers) >= 0 and max(numbers) < n_items:
        return
    position, number = next(pair for pair in enumerate(numbers) if not 0 <= pair[1] < n_items)
    raise AgentError(
        f"an action has the item {number} in position {position}. Expected items from 0 to {n_items - 1}. To leave "
        "such positions empty, make the environment with invalid_items='empty'"
    )


def _clock(market: Market) -> tuple[float, float]:
    """Elapsed share of the round and of the run."""
    progress = market.open.arriving.share
    return progress, min(1.0, (market.round + progress) / market.config.rounds)


def _seeds(values: dict[str, int]) -> Seeds:
    try:
        return Seeds(**values)
    except ValueError as error:
        raise ConfigError(f"reset: seeds are {values}. Expected whole numbers from 0 up") from error


def market_env(env: gymnasium.Env[Any, Any]) -> MarketEnv:
    """Market environment within any number of wrappers.

    Raises:
        ConfigError: If the innermost environment is not a market.
    """
    inner = env.unwrapped
    if not isinstance(inner, MarketEnv):
        raise ConfigError(f"found a {type(inner).__name__}. Expected the environment RIMMarket-v0")
    return inner
