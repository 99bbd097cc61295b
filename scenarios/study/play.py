"""Run of an arm, and the files that it writes."""

from __future__ import annotations

import dataclasses
import hashlib
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from rimsim import agents as players
from rimsim import measures
from rimsim.agents.feasibility import undeliverable
from rimsim.agents.play import play
from rimsim.agents.prices import SAMPLED_TOL, States, constraints_of, joined_states, too_few_to_round
from rimsim.arrays import ALWAYS, Array, Float32s, Floats, Ints, seconds
from rimsim.config import ScenarioConfig, Seeds
from rimsim.market import Market, Needs, Round, World, build_world
from rimsim.market.consumers.contract import ConsumerCapabilities, true_intensity_of
from rimsim.market.providers import Roster
from rimsim.market.records import within_capacity
from rimsim.market.scores import StateScores, most_states
from rimsim.market.world import own_places, warm_model
from rimsim.matching import Certificate, DualPrices, certificate, solve_prices
from rimsim.matching.certificates import BestValues
from rimsim.measures.groups import figures_of_groups
from rimsim.plugs import own_code
from rimsim.requirements.campaigns import group_name, members_of
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.checkpoint import Checkpoint, mark_done
from rimsim.scenarios.runs.job import Arm, Report, is_done
from rimsim.scenarios.runs.process import errors_of_interrupts
from rimsim.scenarios.study.controls import control_of
from rimsim.system import cache_folder, give_back
from rimsim.tracking import RoundRecord, Tracker

AT_OPENING = ("relevance", "popularity", "oracle")
"""Agents whose utility at the opening is computed: the best by the model, bestsellers, the truly best."""
_FINAL = ("utility", "examined_shortfall", "shortfall", "coverage", "perplexity")
"""Built-in measures in TensorBoard's table."""
_OF_LEDGER = ("consumed", "probability", "true_intensity", "intensity", "price", "propensity")
_OF_ROUND = ("relevant", "counts_items", "required", "position_weights", "log_counts", "cost")
"""Fields that a round's facts and a closed round have under the same names."""
_BOUND_TOL = 1e-3
"""Relative tolerance of the bound on the value of a round."""
MOST_GROUPS = 24
"""Groups of a column that TensorBoard shows, those with most items."""
CHARTED = ("exposures", "undelivered", "consumptions", "revenue")
"""Metrics of groups that TensorBoard shows."""
GroupMembers: TypeAlias = Mapping[str, Mapping[str, Ints]]
"""Column → group → its items."""
_COUNTS = ("first", "served", "bound_price", "ticks", "items", "arrivals")
"""Names of an arm's counts in checkpoints."""


def prepare(arm: Arm, report: Report) -> None:
    """Fit the models of a seed, and write table ``opening``."""
    place = arm.folder / "opening" / f"{arm.seed}.parquet"
    plug_places = own_places(arm.config)
    with store.disk_errors(cache_folder()), own_code(plug_places):
        build_world(arm.config)
        warm_model(arm.config, arm.seed)
    with store.disk_errors(arm.folder), own_code(plug_places):
        if not place.is_file():
            store.write_table(place, opening_utilities(arm.config, arm.seed))
    report(1)


def opening_utilities(config: ScenarioConfig, seed: int) -> pd.DataFrame:
    """Utility of round 0 at the opening, by agent.

    Utility is the expected number of consumptions per slate, as if nothing was consumed earlier in the round.
    """
    market = Market(config, seeds=Seeds.all(seed), needs=Needs(future=True))
    view = market.round_view()
    agents = [players.make_agent(name) for name in AT_OPENING]
    for agent in agents:
        agent.begin_round(view)
    total = np.zeros(len(agents))
    visits_valued = 0
    assert view.audience is not None  # noqa: S101  # needs the future
    for states in view.audience:
        visits = market.open.visits(states.row)
        true = true_intensity_of(market.consumer, visits, market.n_items).to(market.device)
        revealed = dataclasses.replace(states, true_intensity=true)
        for number, agent in enumerate(agents):
            slates = within_capacity(np.asarray(agent.act(revealed)), states.capacity)
            total[number] += market.open.respond(visits, slates).probability.sum()
        visits_valued += len(states)
    return pd.DataFrame(
        {"agent": AT_OPENING, "seed": np.int64(seed), "utility": total / max(visits_valued, 1)}
    )


def run_arm(arm: Arm, report: Report, *, batch_size: int | None = None) -> None:
    """Run the remaining rounds of an arm.

    After an error, the traceback is in ``failures/`` of the run folder. ``report`` is called with numbers of arrivals
    served; results do not depend on the batch size.
    """
    if is_done(arm.folder, arm.part):
        return
    traceback_file = arm.folder / store.FAILURES / f"{arm.part}.txt"
    with store.disk_errors(traceback_file):
        traceback_file.unlink(missing_ok=True)
    try:
        plug_places = [arm.agent, *arm.options.measures, *own_places(arm.config)]
        with errors_of_interrupts(), store.disk_errors(arm.folder), own_code(plug_places):
            _play_rounds(arm, report, batch_size)
    except Exception:
        with suppress(OSError):
            store.write_text(traceback_file, traceback.format_exc())
        raise


def _play_rounds(arm: Arm, report: Report, batch_size: int | None) -> None:
    agent = players.make_agent(arm.agent)
    market = players.market_for(
        agent,
        arm.config,
        seeds=Seeds.all(arm.seed),
        retrain=False if arm.control == "frozen" else None,
        control=control_of(arm, report),
    )
    recorder = ArmRecorder(arm, agent, market, report)
    recorder.resume()
    with Tracker(
        arm.folder,
        arm.name,
        arm.seed,
        first_round=market.round,
        first_arrival=recorder.count,
        measures=recorder.measures,
    ) as recorder.tracker:
        play(market, agent, recorder, batch_size)
        recorder.finish()
    mark_done(arm.folder, arm.part)


class ArmRecorder:
    """Recorder of an arm's tables, event files and checkpoints."""

    tracker: Tracker

    def __init__(self, arm: Arm, agent: players.Agent, market: Market, report: Report) -> None:
        self._arm = arm
        self._agent = agent
        self.market = market
        self.served = report
        self.count = 0  # arrivals served so far
        self._own = {
            measure.name: measure for measure in measures.own_measures(arm.options.measures).values()
        }
        self.measures = {**measures.MEASURES, **self._own}
        self._shared = shared_facts(market.world, arm.config, arm.seed)
        self._adoption = AdoptionCount(market.world.release)
        self._figures: list[pd.DataFrame] = []
        self._first: Ints | None = None
        self._hindsight = HindsightPrices((arm.shared or arm.folder) / store.STATES / "hindsight")
        self._rounds = arm.folder / "rounds" / f"{arm.part}.parquet"
        items = market.world.log.items
        self._members: GroupMembers = {column: members_of(items, column) for column in arm.group_columns}
        self._chosen = {
            (column, value)
            for column, groups in self._members.items()
            for value in sorted(groups, key=lambda value: -len(groups[value]))[:MOST_GROUPS]
        }

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        checkpoint = Checkpoint.latest(self._arm.folder, self._arm.part, _COUNTS)
        if checkpoint is None:
            return
        market = self.market
        release = self.market.world.release
        market.load_state(checkpoint.market)
        self._first, served, price, ticks, items, arrivals = (checkpoint.arm[name] for name in _COUNTS)
        self.count = int(served)
        self._hindsight.last = price if len(price) else None
        self._adoption = AdoptionCount(release, ticks, items, arrivals)
        if isinstance(self._agent, players.RememberingAgent):
            self._agent.load_state(checkpoint.agent)
        before = store.read_table(self._rounds)
        self._figures = [before[before["round"] == number] for number in range(market.round)]
        self.served(self.count)

    def opened(self) -> None:
        """Write infeasible guarantees, and prepare the certificate."""
        if self._arm.config.exposure.hard:
            _write_undeliverable(self._arm, self.market, self._shared.keywords["release"])
        if self._arm.options.certify:
            prepare_certificate(self.market, self._hindsight)

    def closed(self, closed: Round) -> None:
        """Write the tables, events and checkpoint of a round."""
        give_back()
        arm = self._arm
        market = self.market
        self.count += len(closed.ledger.schedule)
        exposure = closed.ledger.exposure(market.n_items)
        self._first = exposure if self._first is None else self._first
        price = self._agent.item_price if isinstance(self._agent, players.PricingAgent) else None
        proof = certified(closed, self._hindsight) if arm.options.certify else None
        adoption = self._adoption
        adoption.enter(closed)
        facts = facts_of(self._shared, closed, self._first, adoption, proof, price)
        values = measures.measured(facts, self.measures.values()) | players.diagnostics_of(self._agent)
        columns = {"metric": list(values), "value": list(values.values())}
        self._figures.append(_round_table(arm, closed.number, columns))
        groups = groups_table(arm, self._members, closed, facts)
        _write_round(arm, market, closed, facts, price, groups)
        store.write_table(self._rounds, pd.concat(self._figures, ignore_index=True))
        platform = {"rescale": closed.rescale, "cost": closed.cost, "learnt_events": closed.learnt_events}
        self.tracker.round(
            RoundRecord(
                round=closed.number,
                arrivals=self.count,
                metrics=_tracked(values, arm.config)
                | {f"platform/{name}": platform[name] for name in platform},
                item_price=price,
                exposure=facts.delivered,
                required=closed.required,
                groups=self._charted(groups),
            )
        )
        self._save()
        self.served(0)  # the round is on disk, all of it

    def _charted(self, groups: pd.DataFrame) -> dict[str, float]:
        """Tag → value of the largest groups, for TensorBoard."""
        if groups.empty:
            return {}
        rows = groups[["column", "group", "metric", "value"]].itertuples(index=False)
        return {
            f"groups/{column} {group}/{metric}": value
            for column, group, metric, value in rows
            if (column, group) in self._chosen and metric in CHARTED
        }

    def _save(self) -> None:
        agent = self._agent
        adoption = self._adoption
        price = self._hindsight.last
        # An agent that learns and has no memory to be saved begins again where its run is resumed.
        can_resume = isinstance(agent, players.RememberingAgent) or not isinstance(
            agent, players.LearningAgent
        )
        if self.market.done or not can_resume or self._first is None:
            return
        counts: tuple[Array, ...] = (
            self._first,
            np.array(self.count, np.int64),
            np.zeros(0) if price is None else price,
            *(adoption.ticks, adoption.items, adoption.arrivals),
        )
        memory = agent.state if isinstance(agent, players.RememberingAgent) else {}
        checkpoint = Checkpoint(self.market.state, dict(zip(_COUNTS, counts, strict=True)), memory)
        checkpoint.save(self._arm.folder, self._arm.part)

    def finish(self) -> None:
        """Write the final values and the times to adoption."""
        arm = self._arm
        figures = pd.concat(self._figures, ignore_index=True)
        means = measures.late_means(figures).set_index("metric")["value"]
        finals = {name: float(means[name]) if name in means else None for name in (*_FINAL, *self._own)}
        # Besides agent and seed, swept fields tell the arms of a run apart: the rest is in config.yaml.
        swept = {
            name: value if isinstance(value, float | int | str | bool) else str(value)
            for name, value in arm.labels
        }
        self.tracker.finish({"beta": arm.config.exposure.beta} | swept, finals)
        adopted = self._adoption.table(arm.name, arm.seed)
        if adopted is not None:
            store.write_table(arm.folder / "adoption" / f"{arm.part}.parquet", adopted)


def _tracked(values: Mapping[str, float | None], config: ScenarioConfig) -> dict[str, float | None]:
    """Metrics for TensorBoard, without providers' if there are none."""
    has_providers = config.providers.kind != "none"
    return {
        name: value
        for name, value in values.items()
        if has_providers or name not in measures.MEASURES or measures.MEASURES[name].group != "two_sides"
    }


# -- facts of a round -------------------------------------------------------------------------------------------------
@dataclass
class AdoptionCount:
    """Count of consumptions over the rounds of an arm."""

    release: Ints
    """(M,) release tick of each item; items released before the first arrival are not counted."""
    ticks: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Tick of each arrival so far."""
    items: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Item of each consumption so far."""
    arrivals: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Arrival of each consumption so far, by its place in ``ticks``."""

    def enter(self, closed: Round) -> None:
        """Add the consumptions of a round to the counts."""
        row, position = np.nonzero(closed.ledger.consumed)
        self.items = np.append(self.items, closed.ledger.item[row, position].astype(np.int64))
        self.arrivals = np.append(self.arrivals, row + len(self.ticks))
        self.ticks = np.append(self.ticks, closed.ledger.schedule.tick)

    def released(self) -> Ints:
        """Indices of items that have come onto the market."""
        return np.flatnonzero((self.release > self.ticks[0]) & (self.release <= self.ticks[-1]))

    def sold(self) -> Ints:
        """(M,) consumptions of each item in all rounds so far."""
        return np.bincount(self.items, minlength=len(self.release))

    def times(self) -> measures.AdoptionTimes | None:
        """Times from release to first consumption of released items."""
        late = self.released()
        if not len(late):
            return None
        place = np.full(len(self.release), -1)
        place[late] = np.arange(len(late))
        items = place[self.items]
        start = np.searchsorted(self.ticks, self.release[late], "left")
        return measures.adoption_times(start, items[items >= 0], self.arrivals[items >= 0], len(self.ticks))

    def table(self, agent: str, seed: int) -> pd.DataFrame | None:
        """Table ``adoption`` of an arm; None without releases."""
        times = self.times()
        if times is None:
            return None
        keys = {"agent": agent, "seed": np.int64(seed), "item": self.released()}
        return pd.DataFrame(keys | {"duration": times.duration, "observed": times.observed})


def shared_facts(world: World, config: ScenarioConfig, seed: int) -> partial[measures.RoundFacts]:
    """Facts that all rounds of a scenario and seed share."""
    items = world.log.items
    return partial(
        measures.RoundFacts,
        seed=seed,
        decay=config.consumer.position_decay,
        attraction=config.consumer.attraction,
        popularity=np.bincount(world.past.item, minlength=len(items)),
        genre_weights=measures.genre_weights([str(text) for text in items["genres"]])[0],
        release=np.where(world.release == ALWAYS, -np.inf, seconds(world.release)),
        provider=world.roster.of_item,
        items=items,
    )


def facts_of(
    shared: partial[measures.RoundFacts],
    closed: Round,
    first: Ints,
    adoption: AdoptionCount,
    proof: Certificate | None,
    item_price: Floats | None,
) -> measures.RoundFacts:
    """Record of a round.

    Args:
        shared: Facts of all rounds.
        closed: The round.
        first: (M,) exposures of round 0 of the same arm.
        adoption: Consumptions up to the round's end.
        proof: Certificate of the round; None: the round has no metrics of a certificate.
        item_price: (M,) prices v at the end of the round; None for an agent without prices.
    """
    ledger = closed.ledger
    value = None
    if proof is not None:  # an exposure above a cap costs c too
        penalty = closed.cost * (proof.shortfall + proof.excess)
        value = proof.value if proof.excess == 0 else proof.score - penalty
    schedule = ledger.schedule
    every_position = {"decay": 1.0} if closed.counts_items else {}  # a replay sees all positions
    fields = {name: getattr(ledger, name) for name in _OF_LEDGER}
    fields |= {name: getattr(closed, name) for name in _OF_ROUND}
    return shared(
        **every_position,
        **fields,
        round=closed.number,
        slates=ledger.item,
        user=schedule.user[schedule.slot],
        time=seconds(schedule.tick),
        history=closed.histories.lengths_at(schedule.slot, schedule.tick),
        ground_intensity=ledger.ground,
        least=closed.promises.least,
        most=closed.promises.most,
        counted=closed.delivered,
        first_exposure=first,
        there=closed.offer.there,
        came=closed.offer.came >= 0,
        sold=adoption.sold(),
        item_price=item_price,
        adoption=adoption.times(),
        value_model=value,
        bound=None if proof is None else proof.bound,
        gap=None if proof is None or proof.excess > 0 else proof.gap,
        estimated_decay=None if closed.decay is None else closed.decay.decay,
        decay_error=None if closed.decay is None else float(np.diff(closed.decay.interval)[0] / 2),
    )


# -- certificates of rounds -------------------------------------------------------------------------------------------
@dataclass(eq=False)
class HindsightPrices:
    """Prices of an arm's rounds in hindsight.

    The prices depend on the rounds alone, not on the arm's own prices. So arms with the same rounds share one solution,
    as in a replay, where states do not depend on slates.
    """

    folder: Path | None = None
    """Folder of solutions that other arms use until the run is over; None: no folder."""
    last: Floats | None = None
    """(M,) prices of the last solved round; None: no round is solved."""

    def of(self, solve: partial[DualPrices]) -> DualPrices:
        """Prices of a round.

        Args:
            solve: :func:`~rimsim.matching.solve_prices` with its arguments, but without start prices.
        """
        solve_from_last = partial(solve, prices=self.last)
        prices = solve_from_last() if self.folder is None else cached_prices(self.folder, solve_from_last)
        self.last = prices.item_price
        return prices


def cached_prices(folder: Path, solve: partial[DualPrices]) -> DualPrices:
    """Solution of a price problem, cached by its arguments."""
    place = folder / f"{_digest(solve)}.npz"
    arrays = store.read_arrays(place)
    if arrays is None:
        prices = solve()
        store.write_arrays(place, {name: np.asarray(value) for name, value in prices._asdict().items()})
        return prices
    return DualPrices(
        arrays["item_price"], arrays["row_price"], float(arrays["dual"]), float(arrays["resolution"])
    )


def _digest(call: partial[DualPrices]) -> str:
    digest = hashlib.sha256()  # half the time of BLAKE2 where the processor knows it
    waiting: list[object] = [*call.args, *sorted(call.keywords.items())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            waiting.extend(value)
        elif dataclasses.is_dataclass(value):
            waiting.extend((entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value))
        elif isinstance(value, np.ndarray):
            digest.update(repr((value.dtype.str, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def certified(closed: Round, hindsight: HindsightPrices) -> Certificate:
    """Certificate of a round's slates: value V, bound D(w), gap.

    Scores are from the model that served the round, in the states of the arrivals. Any prices give a valid bound, but a
    loose bound would look like a loss of the agent. So prices are solved in hindsight. If there are too many states,
    prices are solved on evenly spaced states, but V and D(w) use all states, block by block. In the bound, a missing
    exposure of a group or campaign costs c, and slates keep all caps.
    """
    # One model served the round, so its states are in clock order, as the ledger is.
    slates = closed.ledger.item.astype(np.int64)
    states = closed.states
    promised = len(closed.promises) > 0
    active = closed.promises.active(states.audiences, len(slates))
    constraints = constraints_of(closed.required, closed.promises, active, closed.cost)
    scores: Float32s | StateScores = states
    capacity = states.positions(slates.shape[1])
    served_values = None
    if closed.best is None:
        (item_price, row_price, *_), solver_states = _bound_prices(closed, states, closed.cost, hindsight)
        if len(solver_states.scores) == len(slates):
            scores, capacity = solver_states
    else:
        item_price = closed.best.price
        row_price = np.zeros(0)
        served_values = closed.best.value, closed.ledger.intensity
    return certificate(
        scores,
        slates,
        capacity,
        constraints.least,
        item_price,
        closed.cost,
        max_exposure=constraints.most if promised else None,
        position_weights=closed.position_weights,
        rows=constraints.rows if promised else None,
        row_price=row_price if promised else 0.0,
        known=served_values,
    )


def prepare_certificate(market: Market, hindsight: HindsightPrices) -> None:
    """Note values for the certificate as the round is served.

    If slates do not change states, states need not be scored again for D(w), because its prices can be solved first.
    """
    opened = market.open
    if ConsumerCapabilities.of(market.consumer).exogenous and not len(opened.promises):
        prices, _ = _bound_prices(opened, market.foreseen_states(), market.cost, hindsight)
        price = np.clip(prices.item_price, -market.cost, 0.0)
        opened.best = BestValues(price, np.full(opened.ledger.item.shape, np.nan))


def _bound_prices(
    market_round: Round, states: StateScores, cost: float, hindsight: HindsightPrices
) -> tuple[DualPrices, States]:
    """Prices of a round's bound, and the solver's states."""
    table = market_round.promises
    (n, m) = states.shape
    sampled_states = states.sampled(most_states(m))
    solver_states = joined_states(sampled_states, market_round.ledger.item.shape[1])
    is_complete = len(sampled_states) == n
    promised = len(table) > 0
    is_active_in_sample = table.active(sampled_states.audiences, len(sampled_states))
    if not is_complete:
        is_active = table.active(states.audiences, n)
        table = dataclasses.replace(table, arrivals=is_active.sum(0).astype(np.float64))
    constraints = constraints_of(
        market_round.required, table, is_active_in_sample, cost, None if is_complete else n
    )
    is_uniform = bool(market_round.position_weights[0] == market_round.position_weights[-1])
    prices = hindsight.of(
        partial(
            solve_prices,
            solver_states.scores,
            solver_states.capacity,
            _sampled_floors(constraints.least)
            if is_uniform and not is_complete and not promised
            else constraints.least,
            constraints.most if promised else None,
            cost=cost,
            tol=_BOUND_TOL if is_complete else SAMPLED_TOL,
            for_bound=True,
            position_weights=market_round.position_weights,
            rows=constraints.rows if promised else None,
        )
    )
    return prices, solver_states


def _sampled_floors(floors: Floats) -> Floats:
    """(M,) floors of a sample of states, rounded where possible."""
    if too_few_to_round(floors):
        return floors
    # The auction, which takes whole floors, is the faster; rounding the running sum keeps their total.
    return np.diff(np.floor(np.cumsum(floors) + 0.5), prepend=0.0)


# -- tables of a round ------------------------------------------------------------------------------------------------
def _round_table(arm: Arm, number: int, columns: Mapping[str, object]) -> pd.DataFrame:
    """Table of a round with agent, seed and round."""
    keys = {"agent": arm.name, "seed": np.int64(arm.seed), "round": np.int64(number)}
    return pd.DataFrame(keys | dict(columns))


def _put(arm: Arm, table: str, number: int, columns: Mapping[str, object]) -> None:
    """Write an arm's part of a table."""
    store.write_table(arm.round_file(table, number), _round_table(arm, number, columns))


def _write_undeliverable(arm: Arm, market: Market, release: Floats) -> None:
    infeasible = undeliverable(market.round_view(), release)
    if infeasible:
        columns = {
            "why": [guarantee.why for guarantee in infeasible],
            "items": [len(guarantee.items) for guarantee in infeasible],
            "required": [guarantee.required for guarantee in infeasible],
            "reachable": [guarantee.reachable for guarantee in infeasible],
            "text": [str(guarantee) for guarantee in infeasible],
        }
        _put(arm, "undeliverable", market.round, columns)


def groups_table(arm: Arm, members: GroupMembers, closed: Round, facts: measures.RoundFacts) -> pd.DataFrame:
    """Figures of each group in a round, as table ``groups``."""
    promises = closed.promises
    due = dict(zip(promises.name, zip(promises.least, closed.delivered, strict=True), strict=True))
    tables = []
    for column, items in members.items():
        names = {value: group_name(column, value) for value in items}
        required = {value: due[name] for value, name in names.items() if name in due}
        rows = figures_of_groups(facts, items, required)
        figures = pd.DataFrame(rows, columns=["group", "metric", "value"])
        figures.insert(0, "column", column)
        tables.append(figures)
    keys = {"agent": arm.name, "seed": np.int64(arm.seed), "round": np.int64(closed.number)}
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"value": []})
    return pd.DataFrame({**{name: [value] * len(table) for name, value in keys.items()}, **table})


def _write_round(
    arm: Arm,
    market: Market,
    closed: Round,
    facts: measures.RoundFacts,
    price: Floats | None,
    groups: pd.DataFrame,
) -> None:
    """Write the tables of a round."""
    number = closed.number
    ledger = closed.ledger
    required = facts.required_positions
    if arm.options.ledger:
        exposures = ledger.table(arm.name, arm.seed, number)
        store.write_table(
            arm.round_file("ledger", number), exposures.assign(agent=exposures["agent"].astype(str))
        )
    if "truth" in arm.options.reveal:
        _put(arm, "truth", number, ledger.true_columns())
    schedule = ledger.schedule
    arrivals = {
        "arrival": schedule.id,
        "time": schedule.tick / 1e6,
        "user": schedule.user[schedule.slot],
        "log_user": schedule.log_user[schedule.slot],
        "ground_intensity": ledger.ground,
    }
    _put(arm, "arrivals", number, arrivals)
    _put(arm, "learnt", number, {"events": [closed.learnt_events]})
    guaranteed = np.flatnonzero(required)
    table = _round_table(arm, number, {"item": guaranteed, "required": required[guaranteed]})
    place = arm.round_file("required", number)
    if market.same_for_all_arms:
        table = table.drop(columns="agent")
        place = place.with_name(f"{arm.seed}-{number:03d}.parquet")
    store.write_table(place, table)
    moves = _moves(closed, market.world.roster)
    if moves is not None:
        _put(arm, "providers", number, moves)
    if len(closed.promises):
        promises = closed.promises
        columns = {
            "name": list(promises.name),
            "begin": promises.begin / 1e6,
            "end": promises.end / 1e6,
            "arrivals": promises.arrivals,
            "due": closed.due,
            "least": promises.least,
            "most": promises.most,
            "delivered": closed.delivered,
        }
        _put(arm, "promises", number, columns)
    if len(groups):
        store.write_table(arm.round_file("groups", number), groups)
    filled = facts.slates >= 0
    chance = measures.predicted_consumption(facts.intensity, facts.examination)
    curve = measures.reliability(chance[filled], facts.consumed[filled])
    _put(
        arm,
        "reliability",
        number,
        {"decile": 1 + np.arange(len(curve.exposures)), **dataclasses.asdict(curve)},
    )
    if price is not None:
        _put(arm, "prices", number, {"item": np.arange(len(price)), "price": price, "cost": closed.cost})


def _moves(closed: Round, roster: Roster) -> dict[str, object] | None:
    """Table columns on providers that left or came, if any."""
    changes = closed.changes
    providers = np.flatnonzero(changes.leaves | changes.comes)
    if not len(providers):
        return None
    items = np.bincount(roster.of_item, minlength=len(roster.names))
    return {
        "provider": [roster.names[provider] for provider in providers],
        "event": np.where(changes.leaves[providers], "left", "came"),
        "items": items[providers],
        "satisfaction": changes.satisfaction[providers],
    }
