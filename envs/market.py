"""``RIMMarket-v0``: environment in which a step serves one arrival."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsFloat, TypeAlias, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from rimsim.arrays import TICKS, Array, Bools, Float32s, Ints
from rimsim.config import ScenarioConfig, Seeds, find_scenario, override
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
from rimsim.envs.steps import (
    NOT_SCORED,
    NOT_SERVED,
    SteppedMarket,
    market_list,
    no_outcomes,
    observe_next,
    step_markets,
)
from rimsim.errors import AgentError, ConfigError, MarketError, require_known
from rimsim.market import Feedback, Market, Slates, build_world
from rimsim.market.records import NO_NEEDS, as_slates
from rimsim.market.scores.block import ScoreRows
from rimsim.system import progress_to

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView
    from rimsim.market.round import OpenRound
    from rimsim.market.state import MarketState

_MOST_ARRIVALS = 1 << 24
"""Upper bound of observed exposures if the number of arrivals is unknown. Float32 holds all whole numbers up to this
bound exactly."""

_CHOSEN = np.ones(1, bool)
"""Mask that selects the market in a list of one."""
Observation: TypeAlias = "dict[str, Array]"
Action: TypeAlias = "Ints"
InvalidItems: TypeAlias = Literal["raise", "empty"]


@dataclass(frozen=True, eq=False)
class _Step:
    """Served arrival, whose feedback is computed on demand."""

    opened: OpenRound
    row: int
    """Row of the arrival in the schedule."""
    block: ScoreRows
    """Block with the scores of the served arrival."""
    index: int
    """Index of the arrival in the block."""
    revealed: Arrivals | None = None
    """Arrival with the fields that the outcome of its slate would change; None: the agent needs no such field."""

    @property
    def feedback(self) -> Feedback:
        """Feedback of the step."""
        arrivals = self.revealed
        rows = np.array([self.row])
        if arrivals is None:
            arrivals = self.opened.arrivals(rows, self.block.cut(self.index, 1), NO_NEEDS)
        ledger = self.opened.ledger
        return Feedback(arrivals, ledger.item[rows].astype(np.int64), ledger.consumed[rows])


class NamedArguments:
    """Base of environments that refuse unknown arguments."""

    def __new__(cls, *_: object, **named: object) -> Self:
        """Make an environment; refuse unknown arguments."""
        # Gymnasium passes on all arguments of `make`. Without this check, it would report Python's error with all of
        # them.
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
        ``admissible``        MultiBinary (M,)    0, 1           on offer, and the user may take it (again)
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

    # This is an instance attribute, because Gymnasium declares it as one.
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
        self.config = _configured(scenario, data, rounds, settings)
        self.render_mode = render_mode
        self.model_seed = model_seed
        self.invalid_items: InvalidItems = invalid_items
        """Answer to an item outside the catalogue: an error, or an empty position."""
        self.needs = NO_NEEDS
        """Optional fields of arrivals and feedback, in addition to those of every agent."""
        with progress_to(_print):
            world = build_world(self.config)
        self.n_items = world.log.n_items
        most_arrivals = world.most_arrivals or _MOST_ARRIVALS
        self.observation_space: spaces.Space[Observation] = _observation_space(self.n_items, most_arrivals)
        self.action_space = spaces.MultiDiscrete(np.full(self.config.slate, self.n_items))
        self._market: Market | None = None
        self._seeds = Seeds()
        self._stock: Stock
        self._begun: MarketState | None = None
        """State of the market at the beginning of the open round, or of the last round if all rounds are over."""
        self._notes: dict[int, Slates] = {}
        """Annotated slates of the open round, by the row of the arrival."""
        self._note: Slates | None = None
        """Prices and propensities for the next slate, from :meth:`annotate`; None: none were given."""
        self._last: _Step | None = None
        """Last arrival that the market's own methods served."""
        self._view: RoundView | None = None
        """View of the open round, once it was asked for."""
        self._stepped: SteppedMarket | None = None
        """Open round for compiled steps; None before the first of them."""
        self._stepped_list: list[SteppedMarket] = []
        self._outcomes = no_outcomes(1)

    @property
    def market(self) -> Market:
        """The running market.

        Raises:
            MarketError: If the environment was never reset.
        """
        if self._market is None:
            raise MarketError("the environment has not been reset. Call reset() first")
        return self._market

    @property
    def arrivals(self) -> Arrivals:
        """Waiting arrival, as a batch of one."""
        scores = self._waiting_scores()
        return self.market.open.arrivals(np.array([self._row]), scores, self.needs)

    @property
    def feedback(self) -> Feedback:
        """Outcome of the last step."""
        if self._market is not None and (row := int(self._stock.observed.last_row[0])) >= 0:
            return self._compiled_step(row).feedback
        if self._last is None:
            raise MarketError("no slate has been served yet. Call step() first")
        return self._last.feedback

    def _compiled_step(self, row: int) -> _Step:
        """Step of an arrival that compiled code served."""
        opened = self.market.open
        return _Step(opened, row, *opened.place(row))

    def round_view(self) -> RoundView:
        """View of the current round, as agents get it."""
        return self.market.round_view()

    @property
    def standing(self) -> Standing:
        """Current round and its waiting arrival."""
        market = self.market
        relevances, grounds, admissibles = self._waiting_scores().arrays
        if self._view is None or self._view.round != market.round:
            self._view = market.round_view()
        return Standing(
            intensity=(relevances[0] * grounds[0]).astype(np.float64),
            admissible=admissibles[0],
            required=market.required,
            exposure=market.exposure,
            position_weights=market.open.requirements.position_weights,
            cost=market.cost,
            served=market.served,
            arrivals=self._view.arrivals,
        )

    def action_masks(self) -> Bools:
        """Masks of allowed items, one position after the other.

        The mask of a position ignores the other positions. If an item is chosen twice, its second position stays
        empty.
        """
        _, _, admissible = self._waiting_scores().arrays
        return np.tile(admissible[0].astype(np.bool_), self.config.slate)

    @property
    def state(self) -> Snapshot:
        """Episode so far, for :meth:`load_state`; ``copy.deepcopy`` works, too."""
        if self._begun is None:
            raise MarketError("the environment has not been reset. Call reset() first")
        opened = self.market.open
        rows = np.flatnonzero(opened.queue.state.is_served).tolist()
        items = opened.ledger.item.astype(np.int64)
        return Snapshot(
            seeds=self._seeds,
            begun=copy.deepcopy(self._begun),
            answers=tuple(self._notes.get(row, items[row]) for row in rows),
            np_random=copy.deepcopy(self.np_random),
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
        # An emptied position is −1 in the recorded answers, which were accepted before.
        self.invalid_items = "empty"
        try:
            for answer in state.answers:
                if isinstance(answer, Slates):
                    self.annotate(answer)
                self.step(answer.items[0] if isinstance(answer, Slates) else answer)
        finally:
            self.invalid_items = invalid_items

    def __deepcopy__(self, memo: dict[int, object]) -> MarketEnv:
        duplicate = type(self).__new__(type(self))
        duplicate.__setstate__(self.__getstate__())  # this makes a fresh environment with the same arguments
        memo[id(self)] = duplicate
        duplicate.spec = self.spec
        duplicate.needs = self.needs
        if self._begun is not None:
            duplicate.load_state(self.state)
        return duplicate

    def annotate(self, slates: Slates) -> None:
        """Record prices and propensities of the next step's exposures."""
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
        # A number is sampled on every reset, so that the random stream advances with a given seed, too.
        drawn_seed = int(self.np_random.integers(2**31))
        episode_seed = drawn_seed if seed is None else seed
        seeds = {
            "arrivals": episode_seed,
            "choice": episode_seed,
            "model": self.model_seed,
            "agent": episode_seed,
        }
        for name, value in (options or {}).items():
            if name != "seeds" or not isinstance(value, dict) or set(value) - set(seeds):
                raise ConfigError(
                    f"reset: the option {name!r} is {value!r}. Expected only the option 'seeds', a dictionary with one "
                    f"or more of the keys {', '.join(seeds)}"
                )
            seeds |= value
        self._open(_seeds(seeds))
        self._begin()
        no_items = np.full(self.config.slate, -1)
        return self.observation(), {"market": self._summary(no_items, no_items, no_items >= 0)}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Show a slate to the waiting arrival; observe the next."""
        slate = self.items_of(action)
        numbers = np.empty((1, 3 * self.n_items + 3), np.float32)
        admissible = np.empty((1, self.n_items), np.int8)
        if self.stepped_market() is not None:
            shown = slate[None].copy()
            taken = np.empty(shown.shape, bool)
            if step_markets(self._stepped_list, _CHOSEN, shown, taken, self._outcomes, numbers, admissible):
                self.advance(self._outcomes[0])
                observe_next(self._stepped_list, self._outcomes, numbers, admissible)
            status, *values, reward = self._outcomes.item()
            if status != NOT_SERVED:
                if status == NOT_SCORED:
                    self.score_waiting()
                    self.observe(numbers[0], admissible[0])
                info = _info(values, shown[0], taken[0])
                return observation_of(numbers[0], admissible[0]), reward, False, False, {"market": info}
        info, reward = self.answer(slate)
        self.observe(numbers[0], admissible[0])
        return observation_of(numbers[0], admissible[0]), reward, self.market.done, False, {"market": info}

    def stepped_market(self) -> SteppedMarket | None:
        """Open round for compiled steps; None if they cannot serve."""
        market = self._market
        if market is None or self._note is not None or self.needs is not NO_NEEDS:
            return None
        if self._stepped is None or self._stepped.columns is not market.open.columns:
            self._stepped = self._made_stepped(market)
        return self._stepped

    def _made_stepped(self, market: Market) -> SteppedMarket | None:
        """Record for compiled steps; None if they cannot serve."""
        opened = market.open
        # Compiled steps count exposures of items alone, with fixed examinations, and know only consumers with a law.
        has_rows = len(opened.requirements.table) > 0
        has_random_examination = self.config.exposure.examination == "random"
        has_fallback = market.fallback is not None
        if self._row < 0 or has_rows or has_random_examination or has_fallback or not opened.follows_law:
            return None
        opened.score_ahead(self._row, -1)  # −1: the scores of served arrivals stay
        stepped = SteppedMarket(
            columns=opened.columns,
            responder=opened.responder(),
            scores=opened.score_columns,
            observed=self._stock.observed,
            id=opened.schedule.id,
            number=opened.number,
            n_rounds=self.config.rounds,
            cost=market.cost,
            fixed_states=opened.has_fixed_states,
        )
        self._stepped_list = market_list(stepped, 1)
        return stepped

    def score_waiting(self) -> None:
        """Score the arrival that waits for the next compiled step."""
        self.market.open.score_ahead(self._row, int(self._stock.observed.last_row[0]))

    def advance(self, outcome: Any) -> None:
        """Let the clock go on after a compiled step.

        Compiled code then observes the next arrival. If a process has changed the round, the arrival is handed out and
        entered into the outcome of the step.
        """
        opened = self.market.open
        last_row = self._stock.observed.last_row
        step = _Step(opened, int(last_row[0]), *opened.known_place(last_row[0]))
        columns = opened.columns
        try:
            opened.queue.open_stretch()
        finally:
            if opened.columns is not columns:  # a process may have changed the scores of the last step
                self._last = step
                last_row[0] = -1
        if self._stepped is None or self._stepped.columns is not opened.columns:
            row = self._row
            outcome["status"] = NOT_SCORED
            outcome["arrival"] = opened.schedule.id[row]
            outcome["time"] = opened.schedule.tick[row] / TICKS
            outcome["shortfall"] = self._stock.observed.undelivered[0]

    def _keep_last(self) -> None:
        """Keep the last step's scores, which a process may change."""
        last_row = self._stock.observed.last_row
        if last_row[0] >= 0:
            self._last = self._compiled_step(int(last_row[0]))
            last_row[0] = -1

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
        """``info["market"]`` and reward of a step without compiled code."""
        items = self.items_of(action).copy()
        note = self._note
        self._note = None
        slates = Slates(items[None].copy())
        if note is not None:
            slates = as_slates(dataclasses.replace(note, items=items[None]))
        has_fallback = self.market.fallback is not None
        shown, consumed, gain = self._serve(slates, is_annotated=note is not None)
        # A fallback replaces the action, so it has emptied no position.
        info = self._summary(shown if has_fallback else items, shown, consumed)
        return info, info["consumed"] + self.market.cost * gain

    def _serve(self, slates: Slates, *, is_annotated: bool) -> tuple[Ints, Bools, float]:
        """Shown items, mask of consumed items, and gain in delivery."""
        market = self.market
        opened = market.open
        row = self._row
        scores = self._waiting_scores()
        # The arrival is read before its slate is shown, because a consumption changes its history.
        revealed = None if self.needs is NO_NEEDS else self.arrivals
        shown_batch, consumed_batch = market.show(np.array([row]), slates, empty=True)
        shown = shown_batch[0].copy()
        consumed = consumed_batch[0].copy()
        self._last = _Step(opened, row, scores, 0, revealed)
        self._stock.observed.last_row[0] = -1
        if is_annotated:
            self._notes[row] = dataclasses.replace(slates, items=shown[None].copy())
        gain = self._stock.count(row, shown)
        if market.open is opened or market.done:  # no new round has opened
            self._hand_out(market)
        else:
            self._begin()
        return shown, consumed, gain

    def render(self) -> Any:
        """Text or picture of exposures and requirements."""
        if self.render_mode is None:
            return None
        market = self.market
        missing = np.maximum(market.required - market.exposure, 0).sum()
        required = float(market.required.sum()) or 1.0
        text = (
            f"{self.config.name}: round {min(market.round + 1, self.config.rounds)} of {self.config.rounds}, "
            f"{market.served} of {market.n_arrivals} arrivals served, "
            f"{(market.exposure > 0).mean():.0%} of items shown, {missing / required:.0%} of guarantees "
            "still to deliver"
        )
        if self.render_mode == "ansi":
            return text
        return exposure_picture(market.exposure, market.required, text)

    @property
    def _row(self) -> int:
        """Row of the waiting arrival; −1 if the episode is over."""
        row = self._stock.observed.row
        # No arrival waits if the clock has gone on, or if an interrupt came, after the last slate.
        if row[0] < 0 and not self.market.done:
            self._keep_last()
            self._hand_out(self.market)
        return int(row[0])

    def _waiting_scores(self) -> ScoreRows:
        """Scores (1, M) of the waiting arrival."""
        opened = self.market.open
        if self._row < 0:
            raise MarketError("the episode is over, so no arrival is waiting. Call reset() first")
        block, index = opened.place(self._row)
        return block.cut(index, 1)

    def _open(self, seeds: Seeds) -> None:
        """Make a new market with these seeds."""
        with progress_to(_print):
            self._market = Market(self.config, seeds=seeds, needs=self.needs)
        self._seeds = seeds
        self._last = None
        self._note = None

    def _begin(self) -> None:
        """Set up a round's records before its first arrival."""
        market = self.market
        self._begun = market.state
        self._notes = {}
        self._view = None
        self._stepped = None
        self._stock = Stock(market.open)
        self._hand_out(market)

    def _hand_out(self, market: Market) -> None:
        """Advance to the next arrival, if there is one."""
        self._stock.observed.row[0] = -1
        if not market.done:
            row = market.open.queue.take(1)[0]
            self._stock.renew()
            self._stock.observed.row[0] = row

    def observation(self) -> Observation:
        """Observation of the waiting arrival."""
        numbers = np.empty(3 * self.n_items + 3, np.float32)
        admissible = np.empty(self.n_items, np.int8)
        self.observe(numbers, admissible)
        return observation_of(numbers, admissible)

    def observe(self, numbers: Float32s, admissible: NDArray[np.int8]) -> None:
        """Fill in the arrays of :func:`observation_of`."""
        market = self.market
        observed = self._stock.observed
        index = 0  # of the arrival in the arrays of scores
        if self._row < 0:  # the episode is over
            relevance = np.zeros((1, self.n_items), np.float32)
            ground = np.zeros(1, np.float32)
            is_admissible = np.zeros((1, self.n_items), bool)
        else:
            block, index = market.open.place(self._row)
            relevance, ground, is_admissible = block.arrays
        observe(relevance[index], ground[index:], is_admissible[index], observed.exposure, observed.shortfall,
            _clock(market), numbers, admissible)  # fmt: skip

    def _summary(self, chosen: Ints, shown: Ints, consumed: Bools) -> dict[str, Any]:
        """``info["market"]`` from chosen, shown and consumed items."""
        market = self.market
        schedule = market.open.schedule
        row = self._row
        values = [
            market.round,
            market.served,
            int(schedule.id[row]) if row >= 0 else -1,
            market.env.now,
            int(np.count_nonzero(consumed)),
            int(np.count_nonzero(chosen != shown)),
            float(self._stock.observed.undelivered[0]),
            float(self._stock.observed.excess[0]),
        ]
        return _info(values, shown, consumed)


def _info(values: list[Any], shown: Ints, consumed: Bools) -> dict[str, Any]:
    """``info["market"]`` from the values of :func:`rimsim.envs.steps.no_outcomes` and a slate."""
    number, served, arrival, time, n_consumed, n_emptied, shortfall, excess = values
    return {
        "round": number,
        "served": served,
        "arrival": arrival,
        "time": time,
        "consumed": n_consumed,
        "items": tuple(shown.tolist()),
        "taken": tuple(consumed.tolist()),
        "emptied": n_emptied,
        "shortfall": shortfall,
        "excess": excess,
    }


def _configured(
    scenario: str, data: LogSource | None, rounds: int | None, settings: dict[str, object] | None
) -> ScenarioConfig:
    """Scenario with the changes that an environment's arguments ask for."""
    changes: dict[str, object] = dict(settings or {})
    if data is not None:
        changes["data.source"] = source_name(data)
    if rounds is not None:
        changes["rounds"] = rounds
    return override(find_scenario(scenario), changes, origin="settings")


def _observation_space(n_items: int, most_arrivals: int) -> spaces.Space[Observation]:
    """Space of observations; ``most_arrivals`` bounds exposures of a round."""
    ones = np.ones(n_items, np.float32)
    parts: dict[str, spaces.Space[Any]] = {
        "relevance": spaces.Box(0 * ones, ones),
        "ground_intensity": spaces.Box(0.0, GROUND_BOUND, (1,), np.float32),
        "exposure": spaces.Box(0 * ones, most_arrivals * ones),
        "shortfall": spaces.Box(0 * ones, most_arrivals * ones),
        "admissible": spaces.MultiBinary(n_items),
        "clock": spaces.Box(0.0, 1.0, (2,), np.float32),
    }
    return spaces.Dict(parts)  # type: ignore[return-value]  # dict[str, Any]


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
    numbers = items.tolist()  # plain Python is faster here than NumPy, because a slate is short
    if min(numbers) >= 0 and max(numbers) < n_items:
        return
    position, number = next(pair for pair in enumerate(numbers) if not 0 <= pair[1] < n_items)
    raise AgentError(
        f"an action has the item {number} in position {position}. Expected items from 0 to {n_items - 1}. To leave "
        "such positions empty, make the environment with invalid_items='empty'"
    )


def _clock(market: Market) -> tuple[float, float]:
    """Elapsed share of the round and of the run."""
    progress = market.open.queue.share
    return progress, min(1.0, (market.round + progress) / market.config.rounds)


def _seeds(values: dict[str, int]) -> Seeds:
    """Seeds by purpose, checked."""
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
