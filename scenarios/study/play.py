"""An arm is played: all its rounds, and the tables and event files that it leaves."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pandas as pd

from rimsim.agents import (
    LearningAgent,
    RememberingAgent,
    diagnostics_of,
    make_agent,
    market_for,
    play_round,
)
from rimsim.arrays import Ints
from rimsim.config import ScenarioConfig, Seeds
from rimsim.intensity.cache import cache_folder
from rimsim.loading import own_code
from rimsim.market import build_world
from rimsim.market.world import own_places, warm_model
from rimsim.measures import (
    MEASURES,
    late_means,
    measured,
    own_measures,
)
from rimsim.scenarios.execution.signals import errors_of_interrupts
from rimsim.scenarios.store.folders import FAILURES, STATES
from rimsim.scenarios.store.run_folder import read_table
from rimsim.scenarios.store.status import is_done
from rimsim.scenarios.store.write import disk_errors, write_table, write_text
from rimsim.scenarios.study.adoption import AdoptionCount
from rimsim.scenarios.study.checkpoint import ArmProgress, latest, mark_done, save
from rimsim.scenarios.study.controls import control_of
from rimsim.scenarios.study.hindsight_prices import HindsightPrices
from rimsim.scenarios.study.opening import opening_utilities
from rimsim.scenarios.study.round_facts import ArmFacts, certified
from rimsim.scenarios.study.round_tables import round_table, write_tables, write_undeliverable
from rimsim.threads import give_back
from rimsim.tracking import RoundRecord, Tracker

if TYPE_CHECKING:
    from rimsim.scenarios.execution.arm import Arm


_FINAL = ("utility", "examined_shortfall", "shortfall", "coverage", "perplexity")
"""Built-in measures in TensorBoard's table."""


def open_round(arm: Arm) -> int:
    """The round after the last that an arm has finished."""
    finished = arm.folder / "rounds" / f"{arm.part}.parquet"
    if not finished.is_file():
        return 0
    return int(pd.read_parquet(finished, columns=["round"])["round"].max()) + 1


def prepare(config: ScenarioConfig, seed: int) -> None:
    """Fit what the arms of a seed share, so that they find it in the cache.

    Raises:
        RimsimError: Whatever goes wrong, also in a model of the user's own, with the line in its file.
        RunFolderError: If the cache cannot be written to.
    """
    with disk_errors(cache_folder()), own_code(own_places(config)):
        build_world(config)
        warm_model(config, seed)


def value_opening(arm: Arm) -> None:
    """Write what the platform's model, bestsellers and the oracle are worth at the opening of an arm's seed.

    Raises:
        RimsimError: Whatever goes wrong, also in a user's own file.
        RunFolderError: If the folder cannot be written to.
    """
    place = arm.folder / "opening" / f"{arm.seed}.parquet"
    with disk_errors(arm.folder), own_code(own_places(arm.config)):
        if not place.is_file():
            write_table(place, opening_utilities(arm.config, arm.seed))


def run_arm(arm: Arm, report: Callable[[int], None], *, batch_size: int | None = None) -> None:
    """Play all rounds of an arm and write its tables and event files; go on where an interrupted run left it.

    If something goes wrong, the traceback is in ``failures/`` of the run folder.

    Args:
        arm: What to do.
        report: Called with numbers of arrivals served, for a progress bar.
        batch_size: Arrivals a batch at most; results do not depend on it.

    Raises:
        RimsimError: Whatever went wrong in the market, the model, the agent or a measure, with the line in a user's own
            file.
        RunFolderError: If the folder cannot be written to, such as on a full disk.
    """
    if is_done(arm.folder, arm.part):
        return
    trouble = arm.folder / FAILURES / f"{arm.part}.txt"
    with disk_errors(trouble):
        trouble.unlink(missing_ok=True)
    try:
        own = [arm.agent, *arm.measures, *own_places(arm.config)]
        with errors_of_interrupts(), disk_errors(arm.folder), own_code(own):
            _play_rounds(arm, report, batch_size)
    except Exception:
        with suppress(OSError):
            write_text(trouble, traceback.format_exc())
        raise


def _play_rounds(arm: Arm, report: Callable[[int], None], batch_size: int | None) -> None:
    config, folder, part = arm.config, arm.folder, arm.part
    agent = make_agent(arm.agent)
    market = market_for(
        agent,
        config,
        seeds=Seeds.all(arm.seed),
        retrain=False if arm.control == "frozen" else None,
        control=control_of(arm, report),
    )
    shared = ArmFacts.of(market.world, config, arm.seed)
    own = {measure.name: measure for measure in own_measures(arm.measures).values()}
    measures = {**MEASURES, **own}
    adoption = AdoptionCount(market.world.release)
    figures: list[pd.DataFrame] = []
    first: Ints | None = None
    hindsight = HindsightPrices((arm.shared or folder) / STATES / "hindsight")
    served = 0
    # An agent that learns and does not say what it remembers begins anew where its run is resumed.
    can_go_on = isinstance(agent, RememberingAgent) or not isinstance(agent, LearningAgent)
    if (left := latest(folder, part, market.world.release)) is not None:
        market.load_state(left.market)
        first, adoption, served, hindsight.last = left.first, left.adoption, left.served, left.bound_price
        if isinstance(agent, RememberingAgent):
            agent.load_state(left.agent)
        before = read_table(folder / "rounds" / f"{part}.parquet")
        figures = [before[before["round"] == number] for number in range(market.round)]
        report(served)
    with Tracker(
        folder, arm.name, arm.seed, first_round=market.round, first_arrival=served, measures=measures
    ) as tracker:
        while not market.done:
            if config.exposure.hard:
                write_undeliverable(arm, market, shared.release)
            play_round(market, agent, batch_size, report)
            give_back()
            closed = market.closed.pop()
            served += len(closed.ledger.schedule)
            exposure = closed.ledger.exposure(market.n_items)
            first = exposure if first is None else first
            price = getattr(agent, "item_price", None)
            proof = certified(closed, hindsight) if arm.certify else None
            adoption.enter(closed)
            facts = shared.round(closed, first, adoption.times(), proof, price, adoption.sold())
            values = measured(facts, measures.values()) | diagnostics_of(agent)
            figures.append(
                round_table(arm, closed.number, {"metric": list(values), "value": list(values.values())})
            )
            write_tables(arm, market, closed, facts, price)
            write_table(folder / "rounds" / f"{part}.parquet", pd.concat(figures, ignore_index=True))
            tracker.round(
                RoundRecord(
                    round=closed.number,
                    arrivals=served,
                    metrics=values
                    | {
                        "platform/rescale": closed.rescale,
                        "platform/cost": closed.cost,
                        "platform/learnt_events": closed.learnt_events,
                    },
                    item_price=price,
                    exposure=facts.delivered,
                    required=closed.required,
                )
            )
            if not market.done and can_go_on:
                remembered = agent.state if isinstance(agent, RememberingAgent) else {}
                save(
                    folder,
                    part,
                    ArmProgress(market.state, first, adoption, served, hindsight.last, remembered),
                )
            report(0)  # the round is on disk, all of it
        tracker.finish(_hyperparameters(config, arm.labels), _finals(figures, (*_FINAL, *own)))
    adopted = adoption.table(arm.name, arm.seed)
    if adopted is not None:
        write_table(folder / "adoption" / f"{part}.parquet", adopted)
    mark_done(folder, part)


def _hyperparameters(
    config: ScenarioConfig, labels: tuple[tuple[str, object], ...]
) -> dict[str, float | str | bool]:
    """What tells the arms of a run apart, beside agent and seed: the rest is in ``config.yaml``."""
    swept = {
        name: value if isinstance(value, float | int | str | bool) else str(value) for name, value in labels
    }
    return {"beta": config.exposure.beta} | swept


def _finals(figures: list[pd.DataFrame], metrics: tuple[str, ...]) -> dict[str, float | None]:
    """Means over the late rounds, for the table of hyperparameters; None for a metric without values."""
    means = late_means(pd.concat(figures, ignore_index=True)).set_index("metric")["value"]
    return {name: float(means[name]) if name in means else None for name in metrics}
