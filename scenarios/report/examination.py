"""How the platform of a comparison knew what positions are worth, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.scenarios.runs.status import shown_rounds

if TYPE_CHECKING:
    from rimsim.scenarios.runs.store import Run


_FROM = {"random": "uniform slates", "harvested": "all slates, as items stood at different positions"}


def examination_note(run: Run) -> str | None:
    """What each arm's platform took for γ in the end, beside the truth; None where the platform is told γ."""
    exposure, truth = run.scenario.exposure, run.scenario.consumer.position_decay
    if exposure.examination == "known":
        return None
    begins = (
        f"γ, the decay of examination, is {exposure.prior_decay:.3g} in round 0 and then estimated from "
        f"{_FROM[exposure.examination]} (exposure.examination: {exposure.examination})"
    )
    rounds = shown_rounds(run)
    last = rounds[rounds["round"] == rounds["round"].max()] if len(rounds) else rounds
    by_metric = last.pivot_table(index="agent", columns="metric", values="value", sort=False, observed=True)
    if "estimated_decay" not in by_metric:
        return f"{begins}; nothing told of it, and {exposure.prior_decay:.3g} stayed"
    found = ", ".join(
        f"{agent} {row['estimated_decay']:.3f} ± {row['decay_error']:.3f}"
        for agent, row in by_metric.dropna(subset=["estimated_decay"]).iterrows()
    )
    return f"{begins}; after the last round, with half the 95 % interval of sampling: {found}; the truth is {truth:.3g}"
