"""Run of an arm, round by round."""

from __future__ import annotations

import dataclasses
import traceback
from contextlib import suppress

import numpy as np
import pandas as pd

from rimsim import agents as players
from rimsim.agents.play import play
from rimsim.config import ScenarioConfig, Seeds
from rimsim.market import Market, Needs, build_world
from rimsim.market.consumers.contract import true_intensity_of
from rimsim.market.opening import LayerTrial, opening_model
from rimsim.market.slates import within_capacity
from rimsim.market.world import own_places
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.arms import Arm, is_done
from rimsim.scenarios.runs.checkpoint import mark_done
from rimsim.scenarios.runs.files import disk_errors, write_table, write_text
from rimsim.scenarios.runs.process import errors_of_interrupts
from rimsim.scenarios.runs.progress import Report
from rimsim.scenarios.study.controls import control_of
from rimsim.scenarios.study.recorder import ArmRecorder
from rimsim.system import cache_folder
from rimsim.tracking import Tracker
from rimsim.user_code import own_code

AT_OPENING = ("relevance", "popularity", "oracle")
"""Names of agents whose utility at the opening is computed: the best by the model, bestsellers, and the best by the
truth."""


def prepare(arm: Arm, report: Report) -> None:
    """Fit a seed's models, and write tables of the opening."""
    table_file = arm.folder / "opening" / f"{arm.seed}.parquet"
    plug_places = own_places(arm.config)
    with disk_errors(cache_folder()), own_code(plug_places):
        build_world(arm.config)
        trial = opening_model(arm.config, arm.seed).trial
    with disk_errors(arm.folder), own_code(plug_places):
        if trial is not None:
            write_table(arm.folder / "layer_trial" / f"{arm.seed}.parquet", trial_table(trial, arm.seed))
        if not table_file.is_file():
            write_table(table_file, opening_utilities(arm.config, arm.seed))
    report(1)


def trial_table(trial: LayerTrial, seed: int) -> pd.DataFrame:
    """Table ``layer_trial`` of a seed, with one row."""
    figures = dataclasses.asdict(trial)
    return pd.DataFrame([{"seed": np.int64(seed), **figures, "serves": not trial.is_worse}])


def opening_utilities(config: ScenarioConfig, seed: int) -> pd.DataFrame:
    """Utility of round 0 at the opening, by agent.

    Utility is the expected number of consumptions per slate, as if nothing was consumed earlier in the round.
    """
    market = Market(config, seeds=Seeds.all(seed), needs=Needs(future=True))
    view = market.round_view()
    agents = [players.make_agent(name) for name in AT_OPENING]
    for agent in agents:
        agent.begin_round(view)
    consumptions = np.zeros(len(agents))  # expected sum over the slates of each agent
    n_visits = 0
    assert view.audience is not None  # noqa: S101  # the market was made with the need for future arrivals
    for states in view.audience:
        visits = market.open.visits(states.row)
        true_intensity = true_intensity_of(market.consumer, visits, market.n_items).to(market.device)
        # The agent `oracle` ranks by the true intensity, which other agents ignore.
        revealed = dataclasses.replace(states, true_intensity=true_intensity)
        for number, agent in enumerate(agents):
            slates = within_capacity(np.asarray(agent.act(revealed)), states.capacity)
            consumptions[number] += market.open.respond(visits, slates).probability.sum()
        n_visits += len(states)
    return pd.DataFrame(
        {"agent": AT_OPENING, "seed": np.int64(seed), "utility": consumptions / max(n_visits, 1)}
    )


def run_arm(arm: Arm, report: Report, *, batch_size: int | None = None) -> None:
    """Run the remaining rounds of an arm.

    After an error, the traceback is in ``failures/`` of the run folder. ``report`` is called with numbers of arrivals
    served; results do not depend on the batch size.
    """
    if is_done(arm.folder, arm.part):
        return
    traceback_file = arm.folder / store.FAILURES / f"{arm.part}.txt"
    with disk_errors(traceback_file):
        traceback_file.unlink(missing_ok=True)
    try:
        plug_places = [arm.agent, *arm.options.measures, *own_places(arm.config)]
        with errors_of_interrupts(), disk_errors(arm.folder), own_code(plug_places):
            _play_rounds(arm, report, batch_size)
    except Exception:
        with suppress(OSError):
            write_text(traceback_file, traceback.format_exc())
        raise


def _play_rounds(arm: Arm, report: Report, batch_size: int | None) -> None:
    """Play the remaining rounds of an arm, and record them."""
    agent = players.make_agent(arm.agent)
    market = players.market_for(
        agent,
        arm.config,
        seeds=Seeds.all(arm.seed),
        retrain=False if arm.control == "frozen" else None,  # None leaves it to the scenario
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
