"""Off-policy evaluation of a run, compared with the truth.

A run is repeated exactly, from its config and seeds. In each state of the log, the target agent is asked for a slate.
Then the target agent runs in a separate market, which gives its true value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
from rimsim.agents import BUILT_IN, Agent, LearningAgent, StatingAgent, make_agent
from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import ScenarioConfig, Seeds
from rimsim.errors import ConfigError, require_known
from rimsim.evaluation import ESTIMATORS, Chances, LoggedSlates, estimated
from rimsim.market import Arrivals, Feedback, Market, Needs, RoundView, Slates
from rimsim.market.records import VISIT_BITS, as_slates
from rimsim.market.slates import at_items, within_capacity
from rimsim.market.world import examination_of, expected_arrivals, own_places
from rimsim.measures import predicted_consumption
from rimsim.plugs import own_code
from rimsim.scenarios.kinds.results import Count, Panel, bias_over_seeds, bias_table, interval_panels
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.report.console import picture_places
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.runs.arms import chosen_seeds
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.files import read_table, write_table
from rimsim.scenarios.runs.job import Job, play_parts
from rimsim.scenarios.runs.locks import locked
from rimsim.scenarios.runs.store import RunFolder

OPE = "ope.parquet"
PARTS = {
    "first visits": "round 0, visitors who come for the first time: no slate has moved their state",
    "later visits": "round 0, visitors who come again: what they were shown and took before has moved their state",
    "later rounds": "after a retraining: the platform has learnt from what the logged agent showed",
}
"""Part of a log → arrivals of the part, and effects that a single-step estimate leaves out."""
_FEW = 30  # effective slates below which an estimate and its interval are warned of
_DRAWN = 0.05  # share of slates that may differ between the two, as ties are broken by the key
_TARGET = 19  # key of the target's draws in the states of the log, apart from those of the logged agent
_UNSUPPORTED = 0.999  # share of a target's slates in the log's support, below which some are missing
_WIDEST = 1.5  # estimates further from the truth, in units of the truth, stand at the edge of a plot


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Estimates of a target agent's value, with its true value."""

    folder: Path
    logged: str  # name of the agent that showed slates
    target: str  # name of the agent that was valued
    table: pd.DataFrame  # rows of estimates for all seeds


def ope(
    run: str | Path,
    target: str,
    *,
    logged: str | None = None,
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
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
        console: Console that shows progress bars; None: no bars.

    Raises:
        ConfigError: If there is no such agent or seed, or an agent does not report propensities.
        RunFolderError: If the folder holds no comparison, or is in use.
    """
    begun = RunFolder.open(run, "comparison")
    shows = _logged(begun, logged)
    with own_code([target]):
        names = make_agent(shows).name, make_agent(target).name
    chosen = begun.seeds if seeds is None else chosen_seeds(seeds)
    total = 2 * len(chosen) * expected_arrivals(begun.scenario)
    play = partial(_evaluate, begun.scenario, shows, target)
    job = Job({}, chosen, play, bar="arrivals valued and served", total=total)
    with locked(begun.folder):
        table = play_parts(job, begun.folder, Execution(workers=workers, console=console))["ope"]
        done = Evaluation(begun.folder, *names, table)
        if (before := begun.folder / OPE).is_file():  # rows of other pairs of agents stay
            others = read_table(before)
            same = (others["logged"] == done.logged) & (others["target"] == done.target)
            table = pd.concat([others[~same], table], ignore_index=True)
        write_table(before, table)
        draw(evaluation_report(done).plots, begun.folder / "pictures")
    return done


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
    names = {"logged": make_agent(logged).name, "target": make_agent(target).name}
    return {"ope": estimates(rounds, world, **names, seed=seed)}


@dataclass(frozen=True, eq=False)
class ReplayedRound:
    """Logged round, and worth of the target agent's slates."""

    log: LoggedSlates  # Slates, consumptions and chances
    arrival: Ints  # (n,) arrival ids
    first: Bools  # (n,) first visits: states that no slate has moved
    worth: Floats  # (n,) true expected consumptions of the slate that the target drew in the state of the log
    supported: Floats  # (n,) whether that slate could have been logged; NaN where the logged agent cannot say


def replayed(
    config: ScenarioConfig, seed: int, logged: str, target: str, report: Count
) -> list[ReplayedRound]:
    """Repeated rounds of an arm, shown to a target agent."""
    shows = make_agent(logged)
    valued = make_agent(target)
    own = not isinstance(valued, StatingAgent) and target.partition("(")[0] not in BUILT_IN
    twin = make_agent(target) if own else None  # asked with another key, it shows whether your target draws
    kind = _WatchedLearner if isinstance(shows, LearningAgent) else _Watched
    market = Market(config, seeds=Seeds.all(seed), needs=Needs.of(shows, valued))
    rounds: list[ReplayedRound] = []
    # A target whose prices follow its own delivery is asked one arrival after the other.
    batch = None if valued.order_free else 1
    while not market.done:
        watched = kind(shows, valued, market, twin if not rounds else None)
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

    def __init__(self, shows: Agent, valued: Agent, market: Market, twin: Agent | None = None) -> None:
        self.name = shows.name
        self.order_free = shows.order_free and valued.order_free
        self.barrier_every = shows.barrier_every
        self._shows = shows
        self._valued = valued
        self._market = market
        self._twin = twin
        self._parts: list[dict[str, Any]] = []

    def begin_round(self, view: RoundView) -> None:
        """Start the round for both agents with independent generators."""
        self._shows.begin_round(view)
        key = rng.derived_seed(view.key, rng.Purpose.AGENT, _TARGET)
        self._valued.begin_round(dataclasses.replace(view, key=key))
        if self._twin is not None:
            other = rng.derived_seed(view.key, rng.Purpose.AGENT, _TARGET + 1)
            self._twin.begin_round(dataclasses.replace(view, key=other))

    def act(self, arrivals: Arrivals) -> Slates:
        """Slates of the logged agent."""
        slates = as_slates(self._shows.act(arrivals))
        if slates.chances is None:
            raise ConfigError(
                f"--logged: {self.name!r} does not report the propensities of its slates. Choose random, "
                "epsilon-greedy, entropic-dual, or an agent of your own that sets Slates.chances"
            )
        items = within_capacity(slates.items, arrivals.capacity)
        asked = self._valued.chance_of(items, arrivals) if isinstance(self._valued, StatingAgent) else None
        drawn = as_slates(self._valued.act(arrivals))
        if drawn.propensity is not None and asked is None:
            raise ConfigError(
                f"--target: {self._valued.name!r} samples its slates, but cannot compute the propensity of a given "
                "slate. Name an agent that has the method chance_of, or an agent whose slates are not random"
            )
        own = within_capacity(drawn.items, arrivals.capacity)
        target = Chances.certain(own, items) if asked is None else asked
        notes = self._notes(arrivals, slates, target, items, own)
        if self._twin is not None:
            notes["drawn"] = (as_slates(self._twin.act(arrivals)).items != drawn.items).any(1)
        self._parts.append(notes)
        return slates

    def _notes(self, arrivals: Arrivals, slates: Slates, target: Chances, *shown: Ints) -> dict[str, Any]:
        """Record of a batch, with items of both agents."""
        own = shown[1]
        market = self._market
        visits = market.open.visits(arrivals.row)
        examination = examination_of(market.config, market.consumer, market.config.consumer.position_decay)
        ground = arrivals.ground_intensity.cpu().numpy()[:, None]
        relevances = (
            np.where(some >= 0, at_items(arrivals.relevance, some) * ground, np.nan) for some in shown
        )
        predicted = [predicted_consumption(relevance, examination) for relevance in relevances]
        supported = np.full(len(own), np.nan)
        if isinstance(self._shows, StatingAgent):
            supported = (self._shows.chance_of(own, arrivals).slate > 0).astype(np.float64)
        return {
            "index": arrivals.row,
            "logging": slates.chances,
            "target": target,
            "predicted": predicted[0],
            "predicted_target": predicted[1].sum(1),
            "worth": market.open.respond(visits, own).probability.sum(1),
            "supported": supported,
            "admissible": arrivals.admissible.sum(1).cpu().numpy().astype(np.int64),
            "uniform": slates.uniform if slates.uniform is not None else np.zeros(len(own), bool),
        }

    def round(self, market: Market) -> ReplayedRound:
        """Records of the last round, in clock order."""
        ledger = market.closed[-1].ledger
        noted = {name: [part[name] for part in self._parts] for name in self._parts[0]}
        chances = {name: Chances.joined(noted.pop(name)) for name in ("logging", "target")}
        joined = {name: np.concatenate(parts) for name, parts in noted.items()}
        if (share := float(joined.get("drawn", np.zeros(1)).mean())) > _DRAWN:
            raise ConfigError(
                f"--target: {self._valued.name!r} samples its slates: {share:.0%} of the slates change with the random "
                "key. Give the agent the method chance_of, or make its slates not random"
            )
        order = np.argsort(joined["index"])
        log = LoggedSlates(
            reward=ledger.consumed.astype(np.float64),
            shown=ledger.item >= 0,
            visitor=ledger.schedule.user[ledger.schedule.slot],
            uniform=bool(joined["uniform"].all()),
            logging=chances["logging"].rows(order),
            target=chances["target"].rows(order),
            **{name: joined[name][order] for name in ("predicted", "predicted_target", "admissible")},
        )
        arrival = ledger.schedule.id
        worth = joined["worth"][order]
        first = (arrival & ((1 << VISIT_BITS) - 1)) == 0
        return ReplayedRound(log, arrival, first, worth, joined["supported"][order])


class _WatchedLearner(_Watched):
    """Learning agent that also asks a target for its slates."""

    def learn(self, feedback: Feedback) -> None:
        """Let the logged agent learn, but not the target agent."""
        self._shows.learn(feedback)  # type: ignore[attr-defined]  # it is a LearningAgent


def estimates(
    rounds: Sequence[ReplayedRound],
    world: Sequence[tuple[Ints, Floats]],
    *,
    logged: str,
    target: str,
    seed: int,
) -> pd.DataFrame:
    """Estimates by every estimator on every part of a log."""
    rows: list[tuple[object, ...]] = []
    for part in PARTS:
        numbered = enumerate(zip(rounds, world, strict=True))
        chosen = [(one, own, _of_part(part, number, one)) for number, (one, own) in numbered]
        chosen = [(one, own, some) for one, own, some in chosen if some.any()]
        if not chosen:
            continue
        log = LoggedSlates.joined([one.log.rows(some) for one, _, some in chosen])
        truth = np.concatenate([own[1][np.isin(own[0], one.arrival[some])] for one, own, some in chosen])
        worth = np.concatenate([one.worth[some] for one, _, some in chosen])
        supported = np.concatenate([one.supported[some] for one, _, some in chosen])
        common = (float(truth.mean()), logged, part, float(worth.mean()))
        for name in ESTIMATORS:
            found = estimated(name, log)
            if found is not None:
                said = (found.value, found.low, found.high)
                last = (found.effective, float(supported.mean()), len(log))
                rows.append((name, target, seed, *said, *common, *last))
    columns = ["estimator", "target", "seed", "estimate", "low", "high", "truth", "logged", "part"]
    return pd.DataFrame(rows, columns=[*columns, "truth_at_log", "effective", "support", "slates"])


def _of_part(part: str, number: int, one: ReplayedRound) -> Bools:
    """(n,) mask of a round's arrivals that belong to a part."""
    if part == "later rounds":
        return np.full(len(one.first), number > 0)
    return (one.first if part == "first visits" else ~one.first) & (number == 0)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means of estimators over seeds, with bias by :func:`bias_over_seeds`.

    ``rmse`` is the root mean squared error over seeds. ``coverage`` is the share of seeds whose interval includes the
    truth. ``moved`` is the mean of truth − truth_at_log: the target's effect on states, which a single-step estimate
    omits.
    """
    work = table.assign(
        rmse=(table["estimate"] - table["truth"]) ** 2,
        coverage=(table["low"] <= table["truth"]) & (table["truth"] <= table["high"]),
        moved=table["truth"] - table["truth_at_log"],
    )
    means = ("rmse", "coverage", "moved", "effective", "support", "slates")
    found = bias_over_seeds(work, ("logged", "target", "part", "estimator"), ("estimate", "truth"), means)
    return found.assign(rmse=np.sqrt(found["rmse"]))


def evaluation_report(done: Evaluation) -> Report:
    """Report of an evaluation, by part of the log."""
    found = summary(done.table)
    parts = {part: rows for part in PARTS if not (rows := found[found["part"] == part]).empty}
    return Report(
        question=f"What is `{done.target}` worth, estimated from the log of `{done.logged}`?",
        cautions=tuple(text for part, rows in parts.items() for text in _sentences(part, rows)),
        sections=(
            Section(
                "Estimates and truth",
                plots=(Plot("ope", partial(_estimators_against_truth, done, parts)),),
                tables=tuple(_table(part, rows) for part, rows in parts.items()),
            ),
        ),
        places=partial(picture_places, done.folder),
    )


def _table(part: str, found: pd.DataFrame) -> TextTable:
    """Table of the estimators on a part of the log."""
    first = found.iloc[0]
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
    return bias_table(title, found, "estimator", ("estimator",), columns)


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
    few = rows[rows["effective"] < _FEW]
    if len(few):
        names = ", ".join(
            f"{name} {count:.3g}" for name, count in zip(few["estimator"], few["effective"], strict=True)
        )
        lines.append(
            f"{part}: estimates rest on few of the {first['slates']:.0f} slates ({names} effective slates), and so do "
            "their intervals. Log more arrivals, or an agent whose slates are more like the target's."
        )
    return lines


def _estimators_against_truth(done: Evaluation, parts: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot of estimates and true value, by log part."""
    names = list(dict.fromkeys(name for rows in parts.values() for name in rows["estimator"]))
    panels = []
    for part, found in parts.items():
        rows = found.set_index("estimator").reindex(names)
        truth = float(rows["truth"].mean())
        limits = (truth - _WIDEST * abs(truth), truth + _WIDEST * abs(truth))
        at_log = truth - float(rows["moved"].mean())
        panels.append(Panel(part, names, rows["estimate"], rows["width"], truth, at_log, limits))
    seeds = int(next(iter(parts.values()))["seeds"].iloc[0])
    return interval_panels(
        f"What {done.target} is worth, estimated from the log of {done.logged}",
        "Consumptions of a slate. Dots: mean estimates over seeds; bars: their mean 95% intervals. Line: the truth, "
        f"in the target's own world. Dotted: in the states of the log. Seeds: {seeds}.",
        panels,
    )
