"""Experiments on one market: naive estimates and total effects."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from rimsim import agents as players
from rimsim.agents import Agent, Capabilities, LearningAgent, PacingAgent, make_agent
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.config import ScenarioConfig, Seeds, to_plain
from rimsim.config.fields import duration_seconds
from rimsim.data.session_logs import LogSource
from rimsim.errors import ConfigError, many, require_known
from rimsim.evaluation.designs import DESIGNS, Assignment, NaiveEstimate, Outcome, contrast
from rimsim.evaluation.off_policy import apart
from rimsim.intensity.contract import BLOCK
from rimsim.market import Arrivals, Feedback, Market, Needs, RoundView, Slates, build_world
from rimsim.market.histories import Histories
from rimsim.market.ledger import Ledger
from rimsim.market.past_round import PastRound
from rimsim.market.records import as_slates
from rimsim.market.slates import count_items, within_capacity
from rimsim.market.world import expected_arrivals, own_places
from rimsim.measures import equivalence, mean_interval, paired_difference, significant
from rimsim.measures.loop import late_rounds
from rimsim.plugs import own_code
from rimsim.scenarios.kinds import results
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.report.console import picture_places
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sentences import as_yaml
from rimsim.scenarios.report.tables import the_same
from rimsim.scenarios.runs.arms import chosen_seeds
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.job import Job, all_or_nothing, make_run
from rimsim.scenarios.runs.locks import folder_for
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.study.checks import LogArguments, resolved

TRAINING = ("shared", "diverted")
PRICES = ("shared", "split")
METRICS = {
    "utility": "consumptions of a slate",
    "tail_exposure": "share of a slate that goes to items beyond the most consumed tenth of the warm-up log",
}
"""Metric → meaning, per arrival."""
MARGIN = 0.2
"""Largest bias, as a share of the total effect, that counts as none."""
_NO_EFFECT = 1e-12  # a total effect that is the same in all seeds and not larger is 0
_HEAD = 0.1  # share of the items that are no tail
_LABELS = ("design", "training", "prices")

Setting: TypeAlias = tuple[str, str, str]  # design, training and prices


class Experiment(results.RunResult):
    """Experiment on disk, with the tables ``experiment`` (attribute ``table``) and ``arrivals``."""

    @property
    def agents(self) -> tuple[str, str]:
        """Texts of agents A and B."""
        first, second = map(str, self.described["experiment"]["agents"])
        return first, second


@dataclass(frozen=True)
class ExperimentOptions:
    """Designs of an experiment, and its market."""

    design: Sequence[str] = ("user",)
    """Some of :data:`rimsim.evaluation.designs.DESIGNS`."""
    training: Sequence[str] = ("shared",)
    """``shared``: one model learns from all; ``diverted``: each arm's model from its own arrivals."""
    prices: Sequence[str] = ("shared",)
    """``shared``: floors are one budget, which both arms deliver; ``split``: each arm has half of every floor."""
    interval: str = "1d"
    """Length of a block of a switchback, a duration."""
    scenario: str | Path | ScenarioConfig = "closed-loop"
    """Name, path of a YAML file, or a record."""
    rounds: int | None = None
    """Number of rounds, instead of the scenario's; figures are of the late rounds."""
    seeds: int | Sequence[int] = (0, 1)
    """Number of seeds, from 0, or a list."""
    data: LogSource | None = None
    """Name or path of a log, a data frame, or an ``EventLog``; None: the scenario's log."""
    columns: str | None = None
    """Columns of the log, such as ``user=uid,item=sku,time=at``."""
    separator: str | None = None
    """Separator of a text log."""
    encoding: str | None = None
    """Encoding of a text log."""
    time_unit: str | None = None
    """Unit of times that are numbers, such as ``ms`` or ``min``."""
    skip_bad_rows: bool | None = None
    """Leave bad rows of the log out, and count them."""
    min_item_events: int | None = None
    """Minimum number of events per item."""
    items: str | Path | None = None
    """Table of items, a CSV or Parquet file."""
    settings: Mapping[str, object] | None = None
    """Other fields to replace, by dotted name."""

    @property
    def log(self) -> LogArguments:
        """Log and its reading."""
        names = (field.name for field in dataclasses.fields(LogArguments))
        return LogArguments(**{name: getattr(self, name) for name in names})

    @property
    def seconds(self) -> float:
        """Length of the interval in seconds."""
        try:
            return duration_seconds(self.interval)
        except ValueError as error:
            raise ConfigError(f"--interval: {error}") from None

    @property
    def played(self) -> tuple[Setting, ...]:
        """Design, training and prices of every experiment."""
        for name, allowed in (("design", DESIGNS), ("training", TRAINING), ("prices", PRICES)):
            require_known(f"--{name}: {{}}", getattr(self, name), allowed)
        found: list[Setting] = []
        for one, learns in product(self.design, self.training):
            if one == "item" and learns == "diverted":
                continue  # arrivals have no arm: there is nothing to divert by
            # An item's floor is that of its own arm already.
            floors = ("split",) if one == "budget-split" else self.prices
            alone = one in {"item", "two-sided"}
            found += [(one, learns, floor) for floor in floors if not (alone and floor == "split")]
        if not found:
            raise ConfigError(
                "--design item assigns no arrivals to arms, so --training diverted and --prices split "
                "cannot be used. Set both to shared"
            )
        return tuple(dict.fromkeys(found))


@all_or_nothing()
def experiment(
    control: str,
    treatment: str,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    console: Console | None = None,
    **options: Any,
) -> Experiment:
    """Compare two agents by A/B tests on one market.

    The result also has the total effect: the difference between two complete markets.

    Args:
        control: Agent A, as a text that :func:`rimsim.agents.make_agent` understands.
        treatment: Agent B, as a text for :func:`rimsim.agents.make_agent`.
        out: The folder; None: ``runs/experiment-<time>``.
        workers: Number of parallel seeds; None: one per core.
        command: The command line, to be recorded.
        console: Console that shows progress bars; None: no bars.
        **options: Fields of :class:`ExperimentOptions`.

    Raises:
        ConfigError: If a design, an agent, a scenario or the seeds are not valid.
        RunFolderError: If the folder is in use or is not empty.
    """
    asked = ExperimentOptions(**options)
    config = resolved(asked.scenario, asked.rounds, asked.log, asked.settings)
    numbers = chosen_seeds(asked.seeds)
    agents = (control, treatment)
    played = asked.played
    interval = asked.seconds
    with own_code([*agents, *own_places(config)]):
        for text in agents:
            make_agent(text)
        build_world(config)
    words = {name: list(getattr(asked, name)) for name in ("design", "training", "prices")}
    described = {
        "experiment": {"agents": list(agents), **words, "interval": asked.interval},
        "seeds": list(numbers),
        "scenario": to_plain(config),
    }
    markets = 2 + sum(1 + (learns == "diverted") for _, learns, _ in played)
    total = markets * len(numbers) * expected_arrivals(config)
    play = partial(_play, config, agents, played, interval)
    job = Job(described, numbers, play, _draw, bar="arrivals served", total=total)
    execution = Execution(workers=workers, console=console)
    run = make_run(job, folder_for(out, "experiment"), command or "rimsim.scenarios.experiment", execution)
    return Experiment(run.folder)


def _draw(run: RunFolder) -> None:
    """Write the pictures of the report."""
    draw(experiment_report(run).plots, run.folder / "pictures")


def load_experiment(path: str | Path) -> Experiment:
    """Open the folder of an experiment."""
    return Experiment(RunFolder.open(path, "experiment").folder)


def _play(
    config: ScenarioConfig,
    agents: tuple[str, str],
    settings: Sequence[Setting],
    interval: float,
    seed: int,
    report: results.Count,
) -> dict[str, pd.DataFrame]:
    """Tables of the markets and experiments at a seed."""
    with own_code([*agents, *own_places(config)]):
        world = build_world(config)
        tail = tail_of(np.bincount(world.past.item, minlength=world.log.n_items))
        effects = total_effects([play_world(config, seed, agent, report) for agent in agents], tail)
        rows = []
        arrivals = []
        for design, training, prices in settings:
            assignment = Assignment(design, seed, interval)
            arms = {"diverted": training == "diverted", "shared": prices == "shared"}
            rounds = play_experiment(config, seed, agents, assignment, **arms, report=report)
            keys = {"design": design, "training": training, "prices": prices, "seed": seed}
            for metric, found in estimates(rounds, assignment, tail).items():
                rows.append({**keys, "metric": metric, **found._asdict(), "total_effect": effects[metric]})
            table = arrivals_table(rounds, assignment, tail, seed)
            arrivals.append(table.assign(training=training, prices=prices))
    return {"experiment": pd.DataFrame(rows), "arrivals": pd.concat(arrivals, ignore_index=True)}


def tail_of(events: Ints) -> Bools:
    """Items outside the most consumed tenth of the warm-up log."""
    order = np.argsort(-events, kind="stable")
    tail = np.ones(len(events), bool)
    tail[order[: max(1, round(_HEAD * len(events)))]] = False
    return tail


def _values(metric: str, came: Floats, item: Ints, tail: Bools) -> Floats:
    """(n, k) value of each position under a metric."""
    if metric == "utility":
        return came
    return np.asarray(((item >= 0) & tail[np.maximum(item, 0)]) / item.shape[1], np.float64)


def _late(rounds: Sequence[WorldRound]) -> tuple[list[WorldRound], Ints]:
    """Late rounds, and the items of all their slates."""
    numbers = late_rounds(len(rounds))
    late = [one for one in rounds if one.number in numbers]
    return late, np.concatenate([one.item for one in late])


def estimates(rounds: Sequence[WorldRound], assignment: Assignment, tail: Bools) -> dict[str, NaiveEstimate]:
    """Naive estimate of each metric, over the late rounds."""
    late, item = _late(rounds)
    treated = np.concatenate([assignment.arrivals(one.user, one.time, one.number) for one in late])
    units = apart([one.user for one in late])
    if assignment.design == "switchback":
        units = np.concatenate([assignment.block(one.time) for one in late])
    came = np.concatenate([one.consumed for one in late]).astype(np.float64)
    of_units = units, treated, assignment.items(len(tail))
    outcomes = {name: Outcome(_values(name, came, item, tail), item, *of_units) for name in METRICS}
    return {name: contrast(assignment.design, outcome) for name, outcome in outcomes.items()}


def total_effects(worlds: Sequence[Sequence[WorldRound]], tail: Bools) -> dict[str, float]:
    """Mean in agent B's market minus A's, over late rounds.

    Consumptions count with their true probability, which removes random noise.
    """
    means: list[dict[str, float]] = []
    for rounds in worlds:
        late, item = _late(rounds)
        came = np.concatenate([one.probability for one in late])
        means.append({name: float(_values(name, came, item, tail).sum(1).mean()) for name in METRICS})
    return {name: means[1][name] - means[0][name] for name in METRICS}


def arrivals_table(
    rounds: Sequence[WorldRound], assignment: Assignment, tail: Bools, seed: int
) -> pd.DataFrame:
    """Table of an experiment's arrivals, for other packages.

    Visitors are named ROUND-USER, dates follow the market's clock, and ``target`` is the number of consumptions.
    """
    parts = []
    for one in rounds:
        treated = assignment.arrivals(one.user, one.time, one.number)
        exposed = _values("tail_exposure", one.consumed.astype(float), one.item, tail)
        columns = {
            "seed": seed,
            "design": assignment.design,
            "round": one.number,
            "arrival": one.arrival,
            "user": [f"{one.number}-{user}" for user in one.user.tolist()],
            "date": pd.to_datetime(one.time, unit="s"),
            "block": assignment.block(one.time),
            "treatment": np.where(treated, "B", "A"),
            "target": one.consumed.sum(1).astype(np.float64),
            "tail_exposure": exposed.sum(1),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates of designs over seeds, with bias by :func:`bias_over_seeds`.

    ``coverage`` is the share of seeds whose interval includes the total effect. ``power`` is the share of seeds whose
    interval excludes 0. ``sign`` is the share of seeds whose naive estimate has the sign of the mean total effect.
    ``relative`` is the bias as a share of the total effect, with half its 95% interval, and ``within`` says if this
    share is shown to be smaller than ``MARGIN``. These figures exist only where the total effect differs from 0.
    """
    mean_total = table.groupby("metric")["total_effect"].transform("mean")
    holds = (table["low"] <= table["total_effect"]) & (table["total_effect"] <= table["high"])
    known = table["low"].notna()  # an arm of one unit has no interval
    work = table.assign(
        coverage=holds.astype(float).where(known),
        power=((table["low"] > 0) | (table["high"] < 0)).astype(float).where(known),
        sign=(np.sign(table["naive"]) == np.sign(mean_total)).astype(float).where(table["naive"].notna()),
    )
    shares = ("coverage", "power", "sign")
    keys = [*_LABELS, "metric"]
    found = results.bias_over_seeds(work, keys, ("naive", "total_effect"), shares)
    by_key = {key: _relative_bias(group) for key, group in table.groupby(keys, sort=False)}
    relative = [by_key[tuple(key)] for key in found[keys].to_numpy().tolist()]
    found[["relative", "relative_half"]] = [row[:2] for row in relative]
    found["within"] = [row[2] for row in relative]
    found["significant"] = significant(found["p"].to_numpy())
    return found.assign(sign=found["sign"].where(found["relative"].notna()))


def _relative_bias(seeds: pd.DataFrame) -> tuple[float, float, bool]:
    """Bias over the total effect, half-interval, equivalence to 0.

    The last value is true if the bias is shown to be within the margin.
    The interval is that of a ratio of means, linearised: of r + (bias − r·effect) / mean effect over seeds.
    """
    effects = mean_interval(seeds["total_effect"])
    has_sign = effects.low is not None and effects.high is not None and effects.low * effects.high > 0
    seeds = seeds[seeds["naive"].notna()]
    effect = float(seeds["total_effect"].mean())
    if not len(seeds) or not (has_sign or (effects.equal and abs(effect) > _NO_EFFECT)):
        return np.nan, np.nan, False
    bias = seeds["naive"] - seeds["total_effect"]
    ratio = float(bias.mean()) / effect
    if paired_difference(seeds["naive"], seeds["total_effect"]).equal:
        return ratio, np.nan, False
    shares = (ratio + (bias - ratio * seeds["total_effect"]) / effect).to_numpy()
    return ratio, mean_interval(shares).half, equivalence(shares, np.zeros(len(shares)), MARGIN).holds


def experiment_report(run: RunFolder) -> Report:
    """Report of an experiment."""
    agents = Experiment(run.folder).agents
    config = run.scenario
    found = summary(run.experiment)
    return Report(
        question=f"What does `{agents[1]}` bring beside `{agents[0]}`, and would an experiment on one market have "
        "found it?",
        setting=(
            config.name,
            many(config.rounds, "round"),
            many(len(run.seeds), "seed"),
            f"slates of {config.slate}",
        ),
        answer=tuple(_sentences(found)),
        sections=(
            Section(
                "Naive estimates and total effects",
                plots=(Plot("experiment", partial(_designs_against_total, found, agents)),),
                tables=tuple(_table(metric, found[found["metric"] == metric], agents) for metric in METRICS),
            ),
        ),
        settings=as_yaml(run.config["scenario"]),
        places=partial(picture_places, run.folder),
    )


def _sentences(found: pd.DataFrame) -> list[str]:
    """Sentences on the bias of designs, by metric.

    A bias is claimed by Holm's method over all designs and metrics. Its absence is claimed only if its interval is
    within the margin.
    """
    tested = found[(found["seeds"] > 1)]
    biased = tested["significant"]
    absent = ~biased & tested["within"]
    groups = (
        (tested[biased], "biased beyond chance over these seeds"),
        (
            tested[absent],
            f"no bias found: it is within {MARGIN:.0%} of the total effect (two one-sided tests at 5%)",
        ),
        (
            tested[~biased & ~absent],
            f"these seeds cannot tell if there is a bias of {MARGIN:.0%} of the total effect or more",
        ),
    )
    lines = []
    for metric, (rows, words) in product(METRICS, groups):
        labels = [_design_words(row) for row in rows[rows["metric"] == metric].to_dict("records")]
        if labels:
            lines.append(f"{metric}: {words}: {'; '.join(labels)}.")
    few = (
        "fewer than two seeds have an estimate, which cannot separate bias from chance. Use --seeds 2 or more"
    )
    return lines or [f"{few}, and in a switchback a shorter --interval"]


def _design_words(row: Mapping[Hashable, Any]) -> str:
    """Design and its bias in percent of the effect."""
    name = f"{row['design']} ({row['training']} training, {row['prices']} prices)"
    if np.isnan(row["relative"]):
        return f"{name}, whose total effect does not differ from 0"
    half = row["relative_half"]
    spread = the_same(row["seeds"]) if np.isnan(half) else f"95% CI ±{half:.0%}"
    return f"{name}, bias {row['relative']:+.0%} of the total effect ({spread})".replace("-", "−")


def _table(metric: str, found: pd.DataFrame, agents: tuple[str, str]) -> TextTable:
    """Table of a metric, a row per design."""
    title = (
        f"{agents[1]} − {agents[0]}: {metric} ({METRICS[metric]}); {many(int(found['seeds'].iloc[0]), 'seed')}, ± half "
        "a 95% interval"
    )
    columns = {
        "naive": ("naive", "+.4f"),
        "± within a seed": ("around", ".4f"),
        "total effect": ("total_effect", "+.4f"),
        "bias": ("bias", "+.4f"),
        "bias / effect": ("relative", "+.0%"),
        "effect in interval": ("coverage", ".1%"),
        "power": ("power", ".1%"),
        "right sign": ("sign", ".1%"),
    }
    return results.bias_table(title, found, "design, training, prices", _LABELS, columns)


def _designs_against_total(found: pd.DataFrame, agents: tuple[str, str]) -> Figure:
    """Plot of designs' naive estimates against the total effect."""
    panels = []
    for metric in METRICS:
        rows = found[found["metric"] == metric]
        labels = [", ".join(row) for row in rows[list(_LABELS)].to_numpy().tolist()]
        total = float(rows["total_effect"].mean())
        title = metric.replace("_", " ")
        panels.append(results.Panel(title, labels, rows["naive"], rows["width"], total, 0.0))
    return results.interval_panels(
        f"What {agents[1]} brings beside {agents[0]}: experiments on one market against two whole worlds",
        f"Dots: mean naive estimates over {int(found['seeds'].iloc[0])} seeds; bars: their mean 95% intervals. "
        "Line: total effect. Dotted: none.",
        panels,
    )


# -- markets ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class WorldRound:
    """Round of n arrivals, their slates and consumptions."""

    number: int
    arrival: Ints  # (n,) ids
    user: Ints  # (n,) visitors
    time: Floats  # (n,) seconds
    item: Ints  # (n, k) items; −1 for an empty position
    consumed: Bools  # (n, k)
    probability: Floats  # (n, k) true probability of each consumption

    @classmethod
    def of(cls, number: int, ledger: Ledger) -> WorldRound:
        """Record of the round that a ledger describes."""
        schedule = ledger.schedule
        came = schedule.id, schedule.user[schedule.slot], seconds(schedule.tick)
        return cls(number, *came, ledger.item.astype(np.int64), ledger.consumed, ledger.probability)


def play_world(config: ScenarioConfig, seed: int, agent: str, report: results.Count) -> list[WorldRound]:
    """Rounds of a market in which one agent answers everyone."""
    actor = make_agent(agent)
    market = players.market_for(actor, config, seeds=Seeds.all(seed))
    rounds = players.closed_rounds(market, actor, report)
    return [WorldRound.of(closed.number, closed.ledger) for closed in rounds]


def play_experiment(
    config: ScenarioConfig,
    seed: int,
    agents: tuple[str, str],
    assignment: Assignment,
    *,
    diverted: bool,
    shared: bool,
    report: results.Count,
) -> list[WorldRound]:
    """Rounds of a market that two agents share.

    With diverted training, there are two copies of the market with the same visitors, slates and consumptions, but two
    models. Each model learns from its own arm and scores the states for its own agent.
    """
    actors = [make_agent(text) for text in agents]
    controls = [Diverted(assignment, treated=arm) for arm in (False, True)] if diverted else [None]
    seeds = Seeds.all(seed)
    needs = Needs.of(*actors)
    markets = [Market(config, seeds=seeds, control=control, needs=needs) for control in controls]
    split = TwoArms(actors, assignment, shared=shared, n_items=markets[0].n_items)
    learns = any(isinstance(one, LearningAgent) for one in actors)
    rounds = []
    while not markets[0].done:
        number = markets[0].round
        views = [market.round_view() for market in markets]
        split.begin([views[0], views[-1]])
        while markets[0].round == number and not markets[0].done:
            waves = split.order_free and not learns
            batches = [
                market.next_arrivals(BLOCK, in_waves=waves, barrier_every=split.barrier_every)
                for market in markets
            ]
            slates = split.answer([batches[0], batches[-1]])
            feedback = [
                market.serve(arrivals, slates) for market, arrivals in zip(markets, batches, strict=True)
            ]
            if learns:
                split.learn(feedback[0])
            report(len(batches[0]) * len(markets))
        closed = [market.closed.pop() for market in markets]
        rounds.append(WorldRound.of(number, closed[0].ledger))
    return rounds


class TwoArms:
    """Pair of agents that answer the arrivals of their arms.

    Items may also be assigned to arms. With ``shared`` prices, both agents deliver the same guarantees, and each counts
    the deliveries of the other. Without ``shared``, each agent has half of every guarantee, and ignores the other
    agent's deliveries.

    Raises:
        ConfigError: If an agent cannot count the deliveries of another agent.
    """

    def __init__(
        self, agents: Sequence[Agent], assignment: Assignment, *, shared: bool, n_items: int
    ) -> None:
        self._agents = tuple(agents)
        self._assignment = assignment
        self._shared = shared
        self._treated_item = assignment.items(n_items)
        self.name = "|".join(agent.name for agent in agents)
        pacing = [agent for agent in agents if not agent.order_free]
        tells = shared or assignment.by_item
        for agent in pacing:
            if tells and Capabilities.of(agent).moves_prices and not isinstance(agent, PacingAgent):
                raise ConfigError(
                    f"experiment: {agent.name!r} adapts its prices to its own deliveries, but here the other agent "
                    "delivers too. Use --prices split with a design other than item, or an agent with the "
                    "method note_delivery (rim-feedback, entropic-dual)"
                )
        self.order_free = not pacing
        self._one_by_one = bool(pacing) and tells
        every = {agent.barrier_every for agent in agents} - {None}
        self.barrier_every = min(every) if every else None  # type: ignore[type-var]  # no None is left

    def begin(self, views: Sequence[RoundView]) -> None:
        """Begin a round; each agent gets its own market's view."""
        self._round = views[0].round
        self._weights = np.ascontiguousarray(views[0].position_weights, np.float64)
        for agent, view in zip(self._agents, views, strict=True):
            if not self._shared and self._assignment.by_arrival:
                view = dataclasses.replace(  # noqa: PLW2901  # half a world
                    view, required=view.required / 2, arrivals=max(1, round(view.arrivals / 2))
                )
            agent.begin_round(view)

    def treated(self, arrivals: Arrivals) -> Bools:
        """(n,) mask of the arrivals of arm B."""
        return self._assignment.arrivals(arrivals.user, arrivals.time, self._round)

    def answer(self, arrivals: Sequence[Arrivals]) -> Slates:
        """Slates of arrivals, given each model's view of the arrivals."""
        n = len(arrivals[0])
        if not self._one_by_one:
            return self._batch(arrivals)
        rows = [self._batch([one.rows(slice(row, row + 1)) for one in arrivals]) for row in range(n)]
        price = [one.price for one in rows if one.price is not None]
        items = np.concatenate([one.items for one in rows])
        return Slates(items, np.concatenate(price) if len(price) == n else None)

    def _batch(self, arrivals: Sequence[Arrivals]) -> Slates:
        treated = self.treated(arrivals[0])
        items = np.full((len(treated), len(self._weights)), -1)
        price = np.full(items.shape, np.nan, np.float32)
        alone = [~treated, treated]
        nobody = np.zeros_like(treated)
        if self._assignment.by_item:  # control visitors of a two-sided design see A alone
            alone = [~treated if self._assignment.by_arrival else nobody, nobody]
        for arm, rows in enumerate(alone):
            if rows.any():
                some = arrivals[arm].rows(np.flatnonzero(rows))
                answer = as_slates(self._agents[arm].act(some))
                items[rows] = answer.items
                price[rows] = np.nan if answer.price is None else answer.price
                other = self._agents[1 - arm]
                if self._one_by_one and isinstance(other, PacingAgent):
                    other.note_delivery(self._counted(answer.items), some)
        both = ~(alone[0] | alone[1])
        if both.any():
            each = [one.rows(np.flatnonzero(both)) for one in arrivals]
            ranked = [as_slates(agent.act(one)).items for agent, one in zip(self._agents, each, strict=True)]
            joined = merged(ranked[0], ranked[1], self._treated_item)
            items[both] = within_capacity(joined, each[0].capacity)
            for agent, own in zip(self._agents, ranked, strict=True):
                if isinstance(agent, PacingAgent):  # it has counted its own slate
                    agent.note_delivery(self._counted(items[both]) - self._counted(own), None)
        return Slates(items, price)

    def _counted(self, items: Ints) -> Floats:
        exposure = np.zeros(len(self._treated_item))
        count_items(items, self._weights, exposure)
        return exposure

    def learn(self, feedback: Feedback) -> None:
        """Let agents learn from their own arrivals, or from all."""
        treated = self.treated(feedback.arrivals)
        for arm, agent in enumerate(self._agents):
            rows = np.flatnonzero((treated == bool(arm)) | (not self._assignment.by_arrival))
            if isinstance(agent, LearningAgent) and len(rows):
                for row in rows:
                    one = slice(int(row), int(row) + 1)
                    shown = feedback.arrivals.rows(one), feedback.slates[one], feedback.consumed[one]
                    agent.learn(type(feedback)(*shown))


def merged(control: Ints, treatment: Ints, treated_item: Bools) -> Ints:
    """Slates merged from the slates of both arms.

    Items of arm A keep their rank in A's slate, and items of arm B keep their rank in B's slate. Of equal ranks, arm A
    is first in even rows, and arm B in odd rows. Positions that stay empty are filled from A's slate, then from B's.
    """
    n, k = control.shape
    slates = np.full((n, k), -1)
    for row in range(n):
        ranked = [
            (place, arm != row % 2, int(item))
            for arm, slate in enumerate((control[row], treatment[row]))
            for place, item in enumerate(slate)
            if item >= 0 and treated_item[item] == bool(arm)
        ]
        chosen = [item for _, _, item in sorted(ranked)]
        spare = [int(item) for item in (*control[row], *treatment[row]) if item >= 0]
        chosen = list(dict.fromkeys([*chosen, *spare]))[:k]
        slates[row, : len(chosen)] = chosen
    return slates


class Diverted:
    """Control whose platform learns from its own arm alone."""

    def __init__(self, assignment: Assignment, *, treated: bool) -> None:
        self._assignment = assignment
        self._treated = treated

    def learnt(self, own: PastRound) -> PastRound:
        """Round without events and impressions of the other arm."""
        schedule = own.schedule
        slot, tick, item = own.histories.all_events()
        # An event becomes known at least one tick after its visit, within the visit's block unless it ends just then.
        kept = self._mine(schedule.user[slot], tick - 1, own.number)
        histories = Histories(schedule, own.histories.past)
        order = np.lexsort((tick[kept], slot[kept]))
        histories.append(slot[kept][order], tick[kept][order], item[kept][order])
        shown = own.shown
        if shown is not None:
            rows = self._mine(schedule.user[schedule.slot], schedule.tick, own.number)[:, None]
            shown = dataclasses.replace(
                shown, item=np.where(rows, shown.item, -1).astype(np.int32), taken=shown.taken & rows
            )
        return PastRound(own.number, schedule, histories, shown)

    def _mine(self, user: Ints, tick: Ints, number: int) -> Bools:
        return np.asarray(self._assignment.arrivals(user, seconds(tick), number) == self._treated)
