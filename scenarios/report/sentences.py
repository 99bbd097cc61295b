"""Sentences of reports and captions of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rimsim.config.documents import written_yaml
from rimsim.data.session_logs import shown_name
from rimsim.errors import many
from rimsim.measures import FEW_SEEDS, MEASURES, late_means, late_of
from rimsim.scenarios.report import tables
from rimsim.scenarios.report.numbers import figure, per_cent
from rimsim.scenarios.runs.arms import control_in, is_control
from rimsim.scenarios.runs.status import shown_rounds
from rimsim.scenarios.runs.store import RunFolder

_MOST = 3  # largest number of agents for which each gets a sentence of its own
_NEGLIGIBLE = 0.005  # undelivered share up to which no note on causes is written
MISCALIBRATED = 1.5
"""Ratio between the calibrations of two types of visit above which a report warns."""
_UNCHANGED = 0.0005  # undelivered share below which a sentence is left out, because it would read 0%


def with_interval(
    metric: str, mean: float, low: float | None, high: float | None, *, difference: bool = False
) -> str:
    """Value of a metric with its interval; shares in %.

    Differences of shares are in percentage points. The interval of a share is limited to 0 and 1.
    """
    is_share = metric in MEASURES and MEASURES[metric].unit == "share"
    unit = ""
    if is_share:
        unit = " points" if difference else "%"
    scale = 100.0 if is_share else 1.0
    if low is None or high is None or not math.isfinite(low):
        return f"{figure(scale * mean)}{unit}"
    if is_share and not difference:
        low = max(low, 0.0)
        high = min(high, 1.0)
    return f"{figure(scale * mean)}{unit} ({figure(scale * low)} to {figure(scale * high)})"


def seeds_caption(table: pd.DataFrame, marks: str = "bands") -> str:
    """Explanation of what lines and ``marks`` show over seeds."""
    unit = "window" if "window" in table else "seed"
    count = int(table[unit].nunique())
    if count == 1:
        return f"One {unit}: no {marks}."
    if marks == "bands" and count < FEW_SEEDS:
        return f"Thick: mean of {count} {unit}s; thin: each {unit}."
    return f"Mean of {count} {unit}s; {marks}: 95% intervals (Student t)."


def n_items_of(run: RunFolder) -> int | None:
    """Number of items in a run's catalogue, if recorded."""
    items = (run.config.get("log") or {}).get("items")
    return None if items is None else int(items)


def comparison_sentences(
    rounds: pd.DataFrame,
    agents: Sequence[str],
    unit: str,
    own_metrics: Sequence[str] = (),
    n_items: int | None = None,
    *,
    with_undelivered: bool = True,
) -> list[str]:
    """Answer of a comparison: undelivered exposure, cost and gain.

    A difference is significant if it has a star in the table of differences, which includes ``own_metrics``.
    ``n_items`` is the size of the catalogue, which may be smaller than that of the log. Without ``with_undelivered``,
    other sentences report the undelivered shares.
    """
    unit = tables.reported_unit(rounds, unit)
    undelivered, _ = tables.shortfalls(unit)
    present = [name for name in agents if not is_control(name)]
    base = tables.baseline_of(present)
    compared = tables.compared_agents(base, present)
    metrics = (undelivered, "utility", "coverage", "effective_items")
    all_means = tables.summary(rounds, present, metrics).set_index(["agent", "metric"])
    is_said = (all_means.index.get_level_values("metric") != undelivered) | with_undelivered
    means = all_means[is_said]
    paired = tables.reported_differences(rounds, present, own_metrics).set_index(["agent", "metric"])
    sentences = [_guarantee(means, base, undelivered, late_of(rounds), alone=not compared)]
    best_delivery_first = sorted(compared, key=lambda name: _mean(all_means, name, undelivered))
    catalogue = "the catalogue" if n_items is None else f"the {n_items:,} items of the catalogue"
    sentences += [
        _against(name, base, means, paired, undelivered, catalogue) for name in best_delivery_first[:_MOST]
    ]
    return [sentence for sentence in sentences if sentence]


def _guarantee(means: pd.DataFrame, base: str, undelivered: str, late: str, *, alone: bool) -> str:
    """Share of the guaranteed exposure that the baseline leaves undelivered."""
    if (base, undelivered) not in means.index:
        return ""
    mean, low, high = _ends(means, base, undelivered)
    if mean < _UNCHANGED:
        return ""
    unit_words = "as examined" if undelivered == "examined_shortfall" else "in positions"
    share = with_interval(undelivered, mean, low, high)
    text = f"`{base}` leaves {share} of the guaranteed exposure undelivered, counted {unit_words} ({late}"
    has_intervals = bool(np.isfinite(means["low"]).any())
    return f"{text}; in brackets: 95% intervals over seeds)." if has_intervals and not alone else f"{text})."


def _against(
    name: str, base: str, means: pd.DataFrame, paired: pd.DataFrame, undelivered: str, catalogue: str
) -> str:
    """Sentence on an agent against the baseline."""
    parts = []
    if (name, undelivered) in means.index:
        parts.append(f"leaves {with_interval(undelivered, *_ends(means, name, undelivered))} undelivered")
    if (name, "utility") in paired.index and (base, "utility") in means.index:
        row = paired.loc[[(name, "utility")]].iloc[0]
        parts.append(_utility_against(row, base, _mean(means, base, "utility")))
    if (name, "coverage") in means.index and (base, "coverage") in means.index:
        parts.append(
            f"shows {with_interval('coverage', *_ends(means, name, 'coverage'))} of {catalogue}, `{base}` "
            f"{figure(100 * _mean(means, base, 'coverage'))}%"
        )
    return f"`{name}` {'; it '.join(parts)}." if parts else ""


def _utility_against(row: pd.Series[Any], base: str, of_base: float) -> str:
    """Clause on the difference in utility, by the table's test."""
    mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
    is_significant = bool(row["significant"])
    count = int(row["n"])
    if not is_significant and tables.cannot_tell(count) is None:
        difference = with_interval("utility", mean, low, high)
        if row["equal"]:
            remark = f", {tables.the_same(count)}, which allows no test"
        elif low <= 0 <= high:
            remark = ""
        else:
            remark = "; not significant among all comparisons of the table"
        return (
            f"has a utility that does not differ significantly from that of `{base}` ("
            f"difference {difference} consumptions per slate{remark})"
        )
    relative = f" ({figure(100 * abs(mean) / of_base)}%)" if of_base > 0 else ""
    doubt = tables.by_chance(count, is_significant=is_significant)
    if mean == 0:
        return f"brings as many consumptions per slate as `{base}`{doubt}"
    if mean < 0:
        amount = with_interval("utility", -mean, -high, -low)
        return f"brings {amount} consumptions per slate less than `{base}`{relative}{doubt}"
    amount = with_interval("utility", mean, low, high)
    return f"brings {amount} consumptions per slate more than `{base}`{relative}{doubt}"


def _mean(table: pd.DataFrame, name: str, metric: str) -> float:
    """Mean of an agent's metric; infinite if missing."""
    if (name, metric) not in table.index:
        return math.inf
    mean, _, _ = _ends(table, name, metric)
    return mean


def _ends(table: pd.DataFrame, name: str, metric: str) -> tuple[float, float, float]:
    """Mean of an agent's metric, and ends of its interval."""
    row = table.loc[[(name, metric)]]
    mean, low, high = row[["mean", "low", "high"]].to_numpy(np.float64)[0]
    return float(mean), float(low), float(high)


def agreement_sentence(truth: str, figures: Mapping[str, Any]) -> str:
    """Agreement of a truth with the models' real order."""
    settled = figures["settled_pairs"]
    pairs = figures["pairs"]
    chosen = ", which the log's own later sessions choose," if figures.get("chosen") else ""
    if not settled:
        return (
            f"Held-out later sessions tell none of {pairs:.0f} pairs of models apart, so these models cannot check the "
            f"truth `{truth}` on this log"
        )
    return (
        f"Fitted to the whole log, the truth `{truth}`{chosen} puts {figures['concordant_pairs']:.0f} of "
        f"{settled:.0f} significant pairs of "
        f"these models in the order of held-out later sessions (agreement {tables.signed(figures['kendall_settled'])}; "
        f"τ = {tables.signed(figures['kendall'])} over all models, 95% interval "
        f"{tables.signed(figures['kendall_low'])} to {tables.signed(figures['kendall_high'])})"
    )


def notes_of(runs: Sequence[RunFolder]) -> list[str]:
    """Warnings about the log, and notes that all runs have."""
    log = runs[0].config.get("log", {})
    notes = [run.config.get("notes", ()) for run in runs]
    warnings = [f"warning: {text}" for text in log.get("warnings", ())]
    return warnings + [f"note: {text}" for text in notes[0] if all(text in run_notes for run_notes in notes)]


def opening_note(opening: pd.DataFrame) -> str:
    """Utility of the platform's model in round 0, against bestsellers."""
    by_agent = opening.pivot(index="seed", columns="agent", values="utility")
    model = float(by_agent["relevance"].mean())
    bestsellers = float(by_agent["popularity"].mean())
    oracle = float(by_agent["oracle"].mean())
    share = f", {100 * model / oracle:.0f}% of the oracle's {oracle:.3f}" if oracle > 0 else ""
    text = (
        f"round 0: slates of the platform's model have a utility of {model:.3f}{share}; bestsellers have "
        f"{bestsellers:.3f}"
    )
    n_beaten = int((by_agent["popularity"] > by_agent["relevance"]).sum())
    if not n_beaten:
        return text
    return (
        f"warning: {text}, more than the model at {n_beaten} of {len(by_agent)} seeds. So the effects of retraining "
        "are those of a platform that begins worse than a list of bestsellers"
    )


def layer_note(trials: pd.DataFrame) -> str:
    """Reason why a layer from logged impressions serves or not."""
    means = trials[["with_layer", "without_layer", "taken"]].mean()
    n_seeds = len(trials)
    n_rejected = int((~trials["serves"].astype(bool)).sum())
    figures = (
        f"with a layer learnt from the log's impressions, of which {100 * means['taken']:.0f}% were taken, a slate "
        f"holds {means['with_layer']:.3f} items of a held-out session; without the layer, it holds "
        f"{means['without_layer']:.3f}"
    )
    if not n_rejected:
        return f"round 0: {figures}. So the layer serves round 0 (platform.learning.logged)"
    return (
        f"note: {figures}. These impressions mirror the choices of the log's recommender. So the platform opens "
        f"without the layer at {n_rejected} of {many(n_seeds, 'seed')} (platform.learning.logged)"
    )


_SOURCES = {"random": "uniform slates", "harvested": "all slates, as items stood at different positions"}
"""Value of ``exposure.examination`` → events from which an arm estimates γ, in words."""


def examination_note(run: RunFolder) -> str | None:
    """Each arm's estimate of γ (decay), unless γ is known."""
    exposure = run.scenario.exposure
    truth = run.scenario.consumer.position_decay
    if exposure.examination == "known":
        return None
    begins = (
        f"γ, the decay of examination, is {exposure.prior_decay:.3g} in round 0 and then estimated from "
        f"{_SOURCES[exposure.examination]} (exposure.examination: {exposure.examination})"
    )
    rounds = shown_rounds(run)
    last = rounds[rounds["round"] == rounds["round"].max()] if len(rounds) else rounds
    by_metric = last.pivot_table(index="agent", columns="metric", values="value", sort=False, observed=True)
    if "estimated_decay" not in by_metric:
        return f"{begins}; there was no evidence, so it stayed {exposure.prior_decay:.3g}"
    estimates = ", ".join(
        f"{agent} {row['estimated_decay']:.3f} ± {row['decay_error']:.3f}"
        for agent, row in by_metric.dropna(subset=["estimated_decay"]).iterrows()
    )
    return (
        f"{begins}; after the last round, with half the 95% interval of sampling: {estimates}; "
        f"the truth is {truth:.3g}"
    )


def undelivered_notes(run: RunFolder) -> list[str]:
    """Sentences on causes of undelivered guarantees, infeasibility first.

    The sentences name arms that leave exposure undelivered in late rounds.
    """
    rounds = shown_rounds(run)
    if rounds.empty:
        return []
    exposure = run.scenario.exposure
    unit = tables.reported_unit(rounds, exposure.unit)
    undelivered, _ = tables.shortfalls(unit)
    guarantees_items = exposure.beta > 0 or exposure.each is not None
    means = late_means(rounds).groupby(["agent", "metric"], observed=True)["value"].mean()
    notes = [] if run.undeliverable is None else [_infeasible(run.undeliverable)]
    for name in run.agents:
        missing = float(means.get((name, undelivered), 0.0))
        # An agent without prices ignores guarantees, so prices are not the cause of undelivered exposures.
        bound = means.get((name, "prices_at_bound"))
        # The remedies are about prices of items.
        if bound is None or missing <= _NEGLIGIBLE or not guarantees_items:
            continue
        at_bound = (rounds["agent"] == name) & (rounds["metric"] == "prices_at_bound") & (rounds["value"] > 0)
        since = int(rounds.loc[at_bound, "round"].min()) if at_bound.any() else None
        notes.append(undelivered_sentence(name, missing, float(bound), since, unit=unit, hard=exposure.hard))
    return notes


def calibration_by_visit(rounds: pd.DataFrame) -> pd.DataFrame:
    """Mean calibration in late rounds, by agent and visit type."""
    return _by_visit(late_means(rounds))


def _by_visit(values: pd.DataFrame) -> pd.DataFrame:
    """Mean calibration by agent and visit type, where both exist."""
    means = values.groupby(["agent", "metric"], observed=True)["value"].mean().unstack()
    return means.reindex(columns=["calibration_first", "calibration_returning"]).dropna()


def calibration_notes(rounds: pd.DataFrame) -> list[str]:
    """Warnings about platforms that overvalue one type of visit."""
    if rounds.empty:
        return []
    has_later_rounds = tables.last_round(rounds) > 0
    late = calibration_by_visit(rounds)
    # Other controls are not judged. They learn from slates of several models, and no prices depend on their platforms.
    is_judged = [control_in(str(name)) in {None, "frozen", "organic"} for name in late.index]
    notes = [
        _miscalibration(f"the platform of {name}", first, returning, "late rounds")
        for name, (first, returning) in late[is_judged].iterrows()
        if has_later_rounds
    ]
    opening = _by_visit(rounds[rounds["round"] == 0])
    if len(opening):  # all arms have the same model in round 0, so one of them is named
        name = tables.REFERENCE if tables.REFERENCE in opening.index else opening.index[0]
        first, returning = opening.loc[[name]].to_numpy(np.float64)[0]
        notes.append(_miscalibration(f"the opening model, as served by {name},", first, returning, "round 0"))
    return [note for note in notes if note is not None]


def _miscalibration(predictor: str, first: float, returning: float, period: str) -> str | None:
    """Warning about two calibrations; None if they are close."""
    if max(first, returning) <= MISCALIBRATED * min(first, returning):
        return None
    return (
        f"warning: for each actual consumption, {predictor} predicted {figure(first)} on first visits and "
        f"{figure(returning)} on returning visits ({period}). Prices compare both, so part of a guarantee's cost is "
        "an error of calibration"
    )


def undelivered_sentence(
    agent: str, missing: float, at_bound: float, since: int | None, *, unit: str, hard: bool
) -> str:
    """Undelivered guarantees of an agent with prices, and a remedy.

    ``missing`` is the undelivered share in late rounds. ``at_bound`` is the share of prices that reach their limit, and
    ``since`` the first round with such prices.
    """
    text = (
        f"{agent} leaves {per_cent(missing)} of the guaranteed exposure undelivered (late rounds, as {unit})"
    )
    if hard:
        return f"{text}, although the guarantees are hard"
    if agent.startswith("flat-budget"):  # its prices are far from −c, but a multiple of c
        return f"{text}. Its bonus is too small: raise the option `bonus`, or `exposure.cost`"
    if since is None or at_bound < _NEGLIGIBLE:
        return (
            f"{text}. Few prices are at their limit −c, so a higher `exposure.cost` would not help. The picture "
            "delivery shows when exposures fell behind, because arrivals differed from those that prices were set for"
        )
    return (
        f"{text}. The prices of {per_cent(at_bound)} of the items are at their limit −c (some since round {since}), "
        "because delivery would cost more than c. Raise `exposure.cost`, lower `exposure.beta`, or set "
        "`exposure.hard: true`"
    )


def _infeasible(table: pd.DataFrame) -> str:
    """Warning about guarantees that no agent could deliver."""
    first = table.iloc[0]
    rounds = len(table[["agent", "seed", "round"]].drop_duplicates())
    first_arm = f"{first['agent']}, seed {first['seed']}, round {first['round']}"
    return (
        f"warning: in {rounds} rounds of arms, some guarantees could not be delivered by any agent. {first_arm}: "
        f"{first['text']} (all: undeliverable/)"
    )


def as_sentence(note: str) -> str:
    """Note with a capital letter and a full stop."""
    # Other notes may begin with a name, such as γ or that of an agent, which stays as it is.
    first_letter = note[0].upper() if note.startswith(("round ", "warning")) else note[0]
    full_stop = "" if note.endswith(".") else "."
    return f"{first_letter}{note[1:]}{full_stop}"


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, in their order."""
    return written_yaml(dict(settings), width=100)


def log_fact(run: RunFolder, source: str) -> str:
    """Name and sizes of the log of a run."""
    log = run.config.get("log") or {}
    sizes = [f"{log[name]:,} {name}" for name in ("events", "users", "items") if name in log]
    repeats = "; users may take items again" if log.get("repeats") == "consume" else ""
    return f"log `{shown_name(source)}`" + (f": {', '.join(sizes)}{repeats}" if sizes else "")
