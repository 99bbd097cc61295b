"""Off-policy evaluation of a run, compared with the truth.

A run is repeated exactly, from its config and seeds. In each state of the log, the target agent is asked for a slate.
Then the target agent runs in a separate market, which gives its true value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from rimsim import agents as players
from rimsim import rng
from rimsim.agents import BUILT_IN, Agent, LearningAgent, RepricingAgent, StatingAgent, make_agent
from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import ScenarioConfig, Seeds
from rimsim.errors import ConfigError, RunFolderError, require_known
from rimsim.evaluation import ESTIMATORS, Chances, LoggedSlates, estimated
from rimsim.market import Arrivals, Feedback, Market, Needs, RoundView, Slates
from rimsim.market.records import VISIT_BITS, as_slates
from rimsim.market.slates import at_items, within_capacity
from rimsim.market.world import examination_of, expected_arrivals, own_places
from rimsim.measures import predicted_consumption
from rimsim.scenarios.kinds.results import Count, Panel, bias_over_seeds, bias_table, interval_panels
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.report.console import picture_places
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.runs.arms import chosen_seeds
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.files import read_table, write_table
from rimsim.scenarios.runs.job import Job, play_parts
from rimsim.scenarios.runs.locks import locked
from rimsim.scenarios.runs.store import CONFIG, RunFolder, repeat_command
from rimsim.scenarios.study.repetition import changed_inputs
from rimsim.user_code import own_code, require_trust

OPE = "ope.parquet"
PARTS = {
    "first visits": "round 0, visitors who come for the first time: no slate has moved their state",
    "later visits": "round 0, visitors who come again: what they were shown and took before has moved their state",
    "later rounds": "after a retraining: the platform has learnt from what the logged agent showed",
}
"""Part of a log → its arrivals, and the effects that an estimate of single steps leaves out."""
_FEW = 30  # effective number of slates below which the report warns about an estimate
# Largest share of slates in which an agent that is not random may differ from its copy with another random key. Some
# slates may differ, because keys also decide the order of ties.
_DRAWN = 0.05
# Number of the target's random stream, which makes its draws independent of those of the logged agent.
_TARGET = 19
# Share of the target's slates that the logged agent could have shown. Below this share, the report states the share
# that is missing.
_UNSUPPORTED = 0.999
# Largest distance between an estimate and the truth that is drawn, in units of the truth. Points farther away are drawn
# at the edge.
_WIDEST = 1.5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Estimates of a target agent's value, with its true value."""

    folder: Path
    logged: str  # name of the agent whose slates are in the log
    target: str  # name of the agent whose value is estimated
    table: pd.DataFrame  # estimates of all seeds, one per row


def ope(
    run: str | Path,
    target: str,
    *,
    logged: str | None = None,
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
    trust: bool = False,
    console: Console | None = None,
) -> Evaluation:
    """Estimate a target agent's value, and compute its true value.

    Estimates, intervals and truths are added to ``ope.parquet`` of the run folder.

    Args:
        run: Folder of a comparison.
        target: A text that :func:`rimsim.agents.make_agent` understands.
        logged: Agent of the run that reports propensities; None: the first such agent.
        seeds: Number of seeds, from 0, or a list; None: the seeds of the run.
        workers: Number of parallel seeds; None: one per core.
        trust: True: code that only the folder names may run. ``target`` and ``logged`` need no trust.
        console: Console that shows progress bars; None: no bars.

    Raises:
        ConfigError: If there is no such agent or seed, an agent does not report propensities, or the folder names code
            that is not trusted.
        RunFolderError: If the folder holds no comparison, or is in use, or its scenario, log or files have changed.
    """
    logged_run = RunFolder.open(run, "comparison")
    if not trust:
        agents = [str(agent) for agent in logged_run.config["agents"]]
        named = [*own_places(logged_run.scenario), *agents, *logged_run.own_measures]
        require_trust(str(logged_run.folder / CONFIG), named, [target, logged or ""])
    _require_unchanged(logged_run, console)
    logged_text = _logged(logged_run, logged)
    with own_code([target]):
        logged_name = make_agent(logged_text).name
        target_name = make_agent(target).name
    chosen = logged_run.seeds if seeds is None else chosen_seeds(seeds)
    total = 2 * len(chosen) * expected_arrivals(logged_run.scenario)
    play = partial(_evaluate, logged_run.scenario, logged_text, target)
    job = Job({}, chosen, play, bar="arrivals valued and served", total=total)
    with locked(logged_run.folder):
        table = play_parts(job, logged_run.folder, Execution(workers=workers, console=console))["ope"]
        evaluation = Evaluation(folder=logged_run.folder, logged=logged_name, target=target_name, table=table)
        # An earlier table keeps its rows on other pairs of agents.
        if (path := logged_run.folder / OPE).is_file():
            earlier_rows = read_table(path)
            is_replaced = (earlier_rows["logged"] == evaluation.logged) & (
                earlier_rows["target"] == evaluation.target
            )
            table = pd.concat([earlier_rows[~is_replaced], table], ignore_index=True)
        write_table(path, table)
        draw(evaluation_report(evaluation).plots, logged_run.folder / "pictures")
    return evaluation


def _require_unchanged(run: RunFolder, console: Console | None) -> None:
    """Refuse a run whose scenario, log or files have changed."""
    # A changed market would not repeat the run, and its estimates would stand next to the tables of another one.
    if inputs := changed_inputs(run):
        raise RunFolderError(
            f"{run.folder}: changed since the run began: {', '.join(inputs)}. So the run cannot be repeated. "
            f"Undo these changes, or run again: {repeat_command(run)}"
        )
    if console is not None and "scenario" not in run.config["digests"]:
        text = (
            f"note: {run.folder} is of an earlier version and keeps no digest of its scenario, so an edit of {CONFIG} "
            "is not noticed"
        )
        console.print(text, markup=False, soft_wrap=True)


def _logged(run: RunFolder, text: str | None) -> str:
    """Text of the agent whose log is used."""
    agents = [str(agent) for agent in run.config["agents"]]
    if text is not None:
        require_known("--logged: {} is not among the run's agents", [text], agents)
        return text
    for agent in agents:
        with own_code([agent]):
            if isinstance(make_agent(agent), StatingAgent):
                return agent
    raise ConfigError(
        f"{run.folder}: its agents ({', '.join(agents)}) do not report the propensities of their slates. "
        "Evaluate a run with random, epsilon-greedy or entropic-dual"
    )


def _evaluate(
    config: ScenarioConfig, logged: str, target: str, seed: int, report: Count
) -> dict[str, pd.DataFrame]:
    """Table of estimates at one seed."""
    with own_code([logged, target, *own_places(config)]):
        rounds = replayed(config, seed, logged, target, report)
        world = true_values(config, seed, target, report)
    logged_name = make_agent(logged).name
    target_name = make_agent(target).name
    return {"ope": estimates(rounds, world, logged=logged_name, target=target_name, seed=seed)}


@dataclass(frozen=True, eq=False)
class ReplayedRound:
    """Logged round, and worth of the target agent's slates."""

    log: LoggedSlates  # slates, consumptions and propensities
    arrival: Ints  # (n,) ids of arrivals
    first: Bools  # (n,) True for first visits, whose states do not depend on earlier slates
    # (n,) true expected consumptions of the target's slate, in the state of the log.
    worth: Floats
    # (n,) 1 if the logged agent could have shown the target's slate, 0 if not; NaN if unknown.
    supported: Floats


def replayed(
    config: ScenarioConfig, seed: int, logged: str, target: str, report: Count
) -> list[ReplayedRound]:
    """Repeated rounds of an arm, shown to a target agent."""
    logged_agent = make_agent(logged)
    target_agent = make_agent(target)
    is_own = not isinstance(target_agent, StatingAgent) and target.partition("(")[0] not in BUILT_IN
    # The twin, a second copy of the target, gets another random key. If its slates differ, the target is random.
    twin = make_agent(target) if is_own else None
    watched_class = _WatchedLearner if isinstance(logged_agent, LearningAgent) else _Watched
    market = Market(config, seeds=Seeds.all(seed), needs=Needs.of(logged_agent, target_agent))
    rounds: list[ReplayedRound] = []
    # A target that adapts its prices to its deliveries must see arrivals one by one, in clock order.
    batch = None if target_agent.order_free else 1
    while not market.done:
        watched = watched_class(logged_agent, target_agent, market, twin if not rounds else None)
        players.play_round(market, watched, batch, report)
        rounds.append(watched.round(market))
        market.closed.pop()
    return rounds


def true_values(config: ScenarioConfig, seed: int, target: str, report: Count) -> list[tuple[Ints, Floats]]:
    """Arrival ids and expected consumptions in the target's own market."""
    agent = make_agent(target)
    market = players.market_for(agent, config, seeds=Seeds.all(seed))
    ledgers = (closed.ledger for closed in players.closed_rounds(market, agent, report))
    return [(ledger.schedule.id, ledger.probability.sum(1)) for ledger in ledgers]


class _Watched:
    """Logged agent that also asks a target for its slates."""

    def __init__(
        self, logged_agent: Agent, target_agent: Agent, market: Market, twin: Agent | None = None
    ) -> None:
        self.name = logged_agent.name
        self.order_free = logged_agent.order_free and target_agent.order_free
        self.barrier_every = logged_agent.barrier_every
        self._logged = logged_agent
        self._target = target_agent
        self._market = market
        self._twin = twin  # second copy of the target, which shows if its slates are random
        self._parts: list[dict[str, Any]] = []  # records of the batches of a round

    def begin_round(self, view: RoundView) -> None:
        """Start the round for all agents."""
        for agent, own_view in self._views(view):
            agent.begin_round(own_view)

    def reprice(self, view: RoundView) -> None:
        """Let agents with prices solve them for a new model."""
        for agent, own_view in self._views(view):
            if isinstance(agent, RepricingAgent):
                agent.reprice(own_view)

    def _views(self, view: RoundView) -> Iterator[tuple[Agent, RoundView]]:
        """Agents with their views, whose generators are independent."""
        yield self._logged, view
        for number, agent in enumerate((self._target, self._twin), _TARGET):
            if agent is not None:
                key = rng.derived_seed(view.key, rng.Purpose.AGENT, number)
                yield agent, dataclasses.replace(view, key=key)

    def act(self, arrivals: Arrivals) -> Slates:
        """Slates of the logged agent."""
        slates = as_slates(self._logged.act(arrivals))
        if slates.chances is None:
            raise ConfigError(
                f"--logged: {self.name!r} does not report the propensities of its slates. Choose random, "
                "epsilon-greedy, entropic-dual, or an agent of your own that sets Slates.chances"
            )
        items = within_capacity(slates.items, arrivals.capacity)
        target_chances = None
        if isinstance(self._target, StatingAgent):
            target_chances = self._target.chance_of(items, arrivals)
        target_slates = as_slates(self._target.act(arrivals))
        if target_slates.propensity is not None and target_chances is None:
            raise ConfigError(
                f"--target: {self._target.name!r} samples its slates, but cannot compute the propensity of a given "
                "slate. Name an agent that has the method chance_of, or an agent whose slates are not random"
            )
        target_items = within_capacity(target_slates.items, arrivals.capacity)
        if target_chances is None:  # the target is not random, so its slate has the probability 1
            target_chances = Chances.certain(target_items, items)
        notes = self._notes(arrivals, slates, target_chances, items=items, target_items=target_items)
        if self._twin is not None:
            twin_items = as_slates(self._twin.act(arrivals)).items
            notes["differs_from_twin"] = (twin_items != target_slates.items).any(1)
        self._parts.append(notes)
        return slates

    def _notes(
        self, arrivals: Arrivals, slates: Slates, target: Chances, items: Ints, target_items: Ints
    ) -> dict[str, Any]:
        """Record of a batch, with items of both agents."""
        market = self._market
        visits = market.open.visits(arrivals.row)
        examination = examination_of(market.config, market.consumer, market.config.consumer.position_decay)
        ground = arrivals.ground_intensity.cpu().numpy()[:, None]

        def predicted(slates_items: Ints) -> Floats:
            """(n, k) consumption probabilities of slates, by the model."""
            relevance = at_items(arrivals.relevance, slates_items)
            intensity = np.where(slates_items >= 0, relevance * ground, np.nan)
            return predicted_consumption(intensity, examination)

        supported = np.full(len(target_items), np.nan)
        if isinstance(self._logged, StatingAgent):
            supported = (self._logged.chance_of(target_items, arrivals).slate > 0).astype(np.float64)
        return {
            "index": arrivals.row,
            "logging": slates.chances,
            "target": target,
            "predicted": predicted(items),
            "predicted_target": predicted(target_items).sum(1),
            "worth": market.open.respond(visits, target_items).probability.sum(1),
            "supported": supported,
            "admissible": arrivals.admissible.sum(1).cpu().numpy().astype(np.int64),
            "uniform": slates.uniform if slates.uniform is not None else np.zeros(len(target_items), bool),
        }

    def round(self, market: Market) -> ReplayedRound:
        """Records of the last round, in clock order."""
        ledger = market.closed[-1].ledger
        parts_of = {name: [part[name] for part in self._parts] for name in self._parts[0]}
        chances = {name: Chances.joined(parts_of.pop(name)) for name in ("logging", "target")}
        columns = {name: np.concatenate(parts) for name, parts in parts_of.items()}
        if (share := float(columns.get("differs_from_twin", np.zeros(1)).mean())) > _DRAWN:
            raise ConfigError(
                f"--target: {self._target.name!r} samples its slates: {share:.0%} of the slates change with the random "
                "key. Give the agent the method chance_of, or make its slates not random"
            )
        order = np.argsort(columns["index"])
        log = LoggedSlates(
            reward=ledger.consumed.astype(np.float64),
            shown=ledger.item >= 0,
            visitor=ledger.schedule.user[ledger.schedule.slot],
            uniform=bool(columns["uniform"].all()),
            logging=chances["logging"].rows(order),
            target=chances["target"].rows(order),
            **{name: columns[name][order] for name in ("predicted", "predicted_target", "admissible")},
        )
        arrival = ledger.schedule.id
        return ReplayedRound(
            log=log,
            arrival=arrival,
            # The lowest bits of an id are the number of the visit.
            first=(arrival & ((1 << VISIT_BITS) - 1)) == 0,
            worth=columns["worth"][order],
            supported=columns["supported"][order],
        )


class _WatchedLearner(_Watched):
    """Learning agent that also asks a target for its slates."""

    def learn(self, feedback: Feedback) -> None:
        """Let the logged agent learn, but not the target agent."""
        self._logged.learn(feedback)  # type: ignore[attr-defined]  # the logged agent is a LearningAgent here


def estimates(
    rounds: Sequence[ReplayedRound],
    world: Sequence[tuple[Ints, Floats]],
    *,
    logged: str,
    target: str,
    seed: int,
) -> pd.DataFrame:
    """Estimates by every estimator on every part of a log."""
    rows: list[dict[str, object]] = []
    for part in PARTS:
        logs: list[LoggedSlates] = []
        truths: list[Floats] = []
        worths: list[Floats] = []
        supports: list[Floats] = []
        for number, (logged_round, (arrival, value)) in enumerate(zip(rounds, world, strict=True)):
            is_of_part = _of_part(part, number, logged_round)
            if is_of_part.any():
                logs.append(logged_round.log.rows(is_of_part))
                truths.append(value[np.isin(arrival, logged_round.arrival[is_of_part])])
                worths.append(logged_round.worth[is_of_part])
                supports.append(logged_round.supported[is_of_part])
        if not logs:
            continue
        log = LoggedSlates.joined(logs)
        truth = float(np.concatenate(truths).mean())
        worth = float(np.concatenate(worths).mean())
        support = float(np.concatenate(supports).mean())
        for name in ESTIMATORS:
            estimate = estimated(name, log)
            if estimate is not None:
                row = {
                    "estimator": name,
                    "target": target,
                    "seed": seed,
                    "estimate": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "truth": truth,
                    "logged": logged,
                    "part": part,
                    "truth_at_log": worth,
                    "effective": estimate.effective,
                    "support": support,
                    "slates": len(log),
                }
                rows.append(row)
    return pd.DataFrame(rows)


def _of_part(part: str, number: int, logged_round: ReplayedRound) -> Bools:
    """(n,) mask of a round's arrivals that belong to a part."""
    if part == "later rounds":
        return np.full(len(logged_round.first), number > 0)
    is_first = logged_round.first
    return (is_first if part == "first visits" else ~is_first) & (number == 0)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means of estimators over seeds, with bias by :func:`bias_over_seeds`.

    ``rmse`` is the root mean squared error over seeds. ``coverage`` is the share of seeds whose interval includes the
    truth. ``moved`` is the mean of truth − truth_at_log: the target's effect on states, which a single-step estimate
    omits.
    """
    by_seed = table.assign(
        rmse=(table["estimate"] - table["truth"]) ** 2,
        coverage=(table["low"] <= table["truth"]) & (table["truth"] <= table["high"]),
        moved=table["truth"] - table["truth_at_log"],
    )
    means = ("rmse", "coverage", "moved", "effective", "support", "slates")
    keys = ("logged", "target", "part", "estimator")
    means_of_estimators = bias_over_seeds(by_seed, keys, ("estimate", "truth"), means)
    # So far, the column rmse is the mean squared error.
    return means_of_estimators.assign(rmse=np.sqrt(means_of_estimators["rmse"]))


def evaluation_report(evaluation: Evaluation) -> Report:
    """Report of an evaluation, by part of the log."""
    means = summary(evaluation.table)
    parts = {part: rows for part in PARTS if not (rows := means[means["part"] == part]).empty}
    return Report(
        question=f"What is `{evaluation.target}` worth, estimated from the log of `{evaluation.logged}`?",
        cautions=tuple(text for part, rows in parts.items() for text in _sentences(part, rows)),
        sections=(
            Section(
                "Estimates and truth",
                plots=(Plot("ope", partial(_estimators_against_truth, evaluation, parts)),),
                tables=tuple(_table(part, rows) for part, rows in parts.items()),
            ),
        ),
        places=partial(picture_places, evaluation.folder),
    )


def _table(part: str, means: pd.DataFrame) -> TextTable:
    """Table of the estimators on a part of the log."""
    first = means.iloc[0]
    title = (
        f"{first['target']} from the log of {first['logged']}, {part} ({PARTS[part]}); "
        f"truth {first['truth']:.4f}, seeds: {first['seeds']}"
    )
    columns = {
        "estimate": ("estimate", ".4f"),
        "± (95%)": ("around", ".4f"),
        "bias": ("bias", "+.4f"),
        "rmse": ("rmse", ".4f"),
        "truth in interval": ("coverage", ".1%"),
        "effective slates": ("effective", ".0f"),
    }
    return bias_table(title, means, "estimator", ("estimator",), columns)


def _sentences(part: str, rows: pd.DataFrame) -> list[str]:
    """Limits of single-step estimates on a part of the log."""
    first = rows.iloc[0]
    moved = float(first["moved"])
    if part == "first visits":
        text = (
            f"{part}: states are the same under any agent; the target is worth {moved:+.4f} more in its own world than "
            "here, which is what its draws and its prices make of them."
        )
    else:
        why = {
            "later visits": "the slates themselves have moved the states",
            "later rounds": "the platform has learnt from other slates, and prices from other states",
        }
        text = (
            f"{part}: single-step evaluation cannot be right, since {why[part]}: in its own world the target is worth "
            f"{moved:+.4f} ({moved / first['truth']:+.1%}) beside what it is worth in the states of the log."
        )
    lines = [text]
    if first["support"] < _UNSUPPORTED:
        lines.append(
            f"{part}: {1 - first['support']:.1%} of the target's slates could not have been logged; what weights "
            "cannot reach counts as 0, and only direct says something of it."
        )
    unreliable = rows[rows["effective"] < _FEW]
    if len(unreliable):
        names = ", ".join(
            f"{name} {count:.3g}"
            for name, count in zip(unreliable["estimator"], unreliable["effective"], strict=True)
        )
        lines.append(
            f"{part}: estimates rest on few of the {first['slates']:.0f} slates ({names} effective slates), and so do "
            "their intervals. Log more arrivals, or an agent whose slates are more like the target's."
        )
    return lines


def _estimators_against_truth(evaluation: Evaluation, parts: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot of estimates and true value, by log part."""
    names = list(dict.fromkeys(name for rows in parts.values() for name in rows["estimator"]))
    panels = []
    for part, means in parts.items():
        rows = means.set_index("estimator").reindex(names)
        truth = float(rows["truth"].mean())
        limits = (truth - _WIDEST * abs(truth), truth + _WIDEST * abs(truth))
        worth_at_log = truth - float(rows["moved"].mean())
        panel = Panel(
            title=part,
            labels=names,
            value=rows["estimate"],
            width=rows["width"],
            truth=truth,
            reference=worth_at_log,
            limits=limits,
        )
        panels.append(panel)
    seeds = int(next(iter(parts.values()))["seeds"].iloc[0])
    return interval_panels(
        f"What {evaluation.target} is worth, estimated from the log of {evaluation.logged}",
        "Consumptions of a slate. Dots: mean estimates over seeds; bars: their mean 95% intervals. Line: the truth, "
        f"in the target's own world. Dotted: in the states of the log. Seeds: {seeds}.",
        panels,
    )
