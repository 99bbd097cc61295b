"""Recorder of an arm: tables, event files, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rimsim import agents as players
from rimsim import measures
from rimsim.arrays import Array, Ints
from rimsim.config import ScenarioConfig
from rimsim.market import ClosedRound, Market
from rimsim.requirements.campaigns import members_of
from rimsim.scenarios.report.happenings import markdown
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.arms import Arm
from rimsim.scenarios.runs.checkpoint import Checkpoint
from rimsim.scenarios.runs.files import read_table, write_table
from rimsim.scenarios.runs.progress import Report
from rimsim.scenarios.study.certificates import HindsightPrices, certified, prepare_certificate
from rimsim.scenarios.study.facts import AdoptionCount, facts_of, shared_facts
from rimsim.scenarios.study.round_tables import (
    GroupMembers,
    groups_table,
    happenings_columns,
    round_table,
    write_round,
    write_undeliverable,
)
from rimsim.system import give_back
from rimsim.tracking import RoundRecord, Tracker

_FINAL = ("utility", "examined_shortfall", "shortfall", "coverage", "perplexity")
"""Names of built-in measures in TensorBoard's table."""
MOST_GROUPS = 24
"""Largest number of groups of a column that TensorBoard shows, those with most items."""
CHARTED = ("exposures", "undelivered", "consumptions", "revenue")
"""Names of the metrics of groups that TensorBoard shows."""
_COUNTS = ("first", "served", "bound_price", "ticks", "items", "arrivals")
"""Names of the recorder's arrays in a checkpoint: exposures of round 0, number of arrivals served, last prices of the
bound, and the three arrays of :class:`rimsim.scenarios.study.facts.AdoptionCount`."""


class ArmRecorder:
    """Recorder of an arm's tables, event files and checkpoints."""

    tracker: Tracker

    def __init__(self, arm: Arm, agent: players.Agent, market: Market, report: Report) -> None:
        self._arm = arm
        self._agent = agent
        self.market = market
        self.served = report
        self.count = 0  # number of arrivals served so far
        self._own = {
            measure.name: measure for measure in measures.own_measures(arm.options.measures).values()
        }
        self.measures = {**measures.MEASURES, **self._own}
        self._shared = shared_facts(market.world, arm.config, arm.seed)
        self._adoption = AdoptionCount(market.world.release)
        self._figures: list[pd.DataFrame] = []  # table of the metrics of each finished round
        self._first: Ints | None = None  # (M,) exposures of round 0
        self._hindsight = HindsightPrices((arm.shared or arm.folder) / store.STATES / "hindsight")
        self._rounds = arm.folder / "rounds" / f"{arm.part}.parquet"
        items = market.world.log.items
        self._members: GroupMembers = {column: members_of(items, column) for column in arm.group_columns}
        self._chosen: set[tuple[str, str]] = set()  # column and name of each group that TensorBoard shows
        for column, groups in self._members.items():
            largest_first = sorted(groups, key=lambda group: -len(groups[group]))
            self._chosen |= {(column, group) for group in largest_first[:MOST_GROUPS]}

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
        # The table may have a round more than the checkpoint, which is then played again.
        table = read_table(self._rounds)
        self._figures = [table[table["round"] == number] for number in range(market.round)]
        self.served(self.count)

    def opened(self) -> None:
        """Write infeasible guarantees, and prepare the certificate."""
        if self._arm.config.exposure.hard:
            write_undeliverable(self._arm, self.market, self._shared.keywords["release"])
        if self._arm.options.certify:
            prepare_certificate(self.market, self._hindsight)

    def closed(self, closed: ClosedRound) -> None:
        """Write the tables, events and checkpoint of a round."""
        give_back()
        arm = self._arm
        market = self.market
        self.count += len(closed.ledger.schedule)
        exposure = closed.ledger.exposure(market.n_items)
        self._first = exposure if self._first is None else self._first
        price = self._agent.item_price if isinstance(self._agent, players.PricingAgent) else None
        certificate = certified(closed, self._hindsight) if arm.options.certify else None
        adoption = self._adoption
        adoption.enter(closed)
        facts = facts_of(self._shared, closed, self._first, adoption, certificate, price)
        values = measures.measured(facts, self.measures.values()) | players.diagnostics_of(self._agent)
        columns = {"metric": list(values), "value": list(values.values())}
        self._figures.append(round_table(arm, closed.number, columns))
        groups = groups_table(arm, self._members, closed, facts)
        write_round(arm, market, closed, facts, price, groups)
        write_table(self._rounds, pd.concat(self._figures, ignore_index=True))
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
                changes=markdown(happenings_columns(closed)) if closed.happenings else "",
            )
        )
        self._save()
        self.served(0)  # this reports that the complete round is on disk

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
        """Save a checkpoint, unless the arm is done."""
        agent = self._agent
        adoption = self._adoption
        price = self._hindsight.last
        # An agent that learns, but cannot save its memory, would forget what it learnt. So its run cannot be resumed in
        # the middle.
        can_resume = isinstance(agent, players.RememberingAgent) or not isinstance(
            agent, players.LearningAgent
        )
        if self.market.done or not can_resume or self._first is None:
            return
        counts: tuple[Array, ...] = (
            self._first,
            np.array(self.count, np.int64),
            np.zeros(0) if price is None else price,
            adoption.ticks,
            adoption.items,
            adoption.arrivals,
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
        # Swept fields identify the arms of a run, besides agent and seed. All other settings are in config.yaml.
        swept = {
            name: value if isinstance(value, float | int | str | bool) else str(value)
            for name, value in arm.labels
        }
        self.tracker.finish({"beta": arm.config.exposure.beta} | swept, finals)
        adopted = self._adoption.table(arm.name, arm.seed)
        if adopted is not None:
            write_table(arm.folder / "adoption" / f"{arm.part}.parquet", adopted)


def _tracked(values: Mapping[str, float | None], config: ScenarioConfig) -> dict[str, float | None]:
    """Metrics for TensorBoard, without providers' if there are none."""
    has_providers = config.providers.kind != "none"
    return {
        name: value
        for name, value in values.items()
        if has_providers or name not in measures.MEASURES or measures.MEASURES[name].group != "two_sides"
    }
