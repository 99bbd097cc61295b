"""Whether a truth orders recommenders as reality does, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rimsim.measures import UNFIT

if TYPE_CHECKING:
    from rimsim.scenarios.runs.store import Run


def agreement_sentence(truth: str, figures: Mapping[str, Any]) -> str:
    """One sentence: how many settled pairs a truth puts in the order of reality, and τ.

    Args:
        truth: Its name.
        figures: As :attr:`rimsim.measures.Agreement.figures`; ``chosen`` where it is known.
    """
    settled, pairs = figures["settled_pairs"], figures["pairs"]
    chosen = ", which the log's own later sessions choose," if figures.get("chosen") else ""
    if not settled:
        return (
            f"Held-out later sessions settle none of {pairs:.0f} pairs of models: nothing is known of the truth "
            f"`{truth}` on this log"
        )
    return (
        f"The truth `{truth}`{chosen} puts {figures['concordant_pairs']:.0f} of {settled:.0f} settled pairs of models "
        f"in the order of held-out later sessions (agreement {signed(figures['kendall_settled'])}, unfit below "
        f"{short(UNFIT)}; τ = {signed(figures['kendall'])} over all models, 95 % interval "
        f"{signed(figures['kendall_low'])} to {signed(figures['kendall_high'])})"
    )


def unfit_sentence(truth: str, figures: Mapping[str, Any]) -> str | None:
    """Say that a truth is unfit for its log; None where it is not.

    Args:
        truth: Its name.
        figures: As for :func:`agreement_sentence`.
    """
    if not figures["unfit"]:
        return None
    return (
        f"The truth `{truth}` is unfit for this log: its agreement over settled pairs is "
        f"{signed(figures['kendall_settled'])}, below {short(UNFIT)}; no order of recommenders under it says "
        "anything of reality"
    )


def agreement_note(run: Run) -> str | None:
    """The sentence of a comparison, a warning where its truth is unfit; None where its config says nothing of it.

    Args:
        run: The comparison, or a point of a sweep.
    """
    record = run.config.get("agreement")
    if record is None:
        return None
    truth = str(record["truth"])
    unfit = unfit_sentence(truth, record)
    return agreement_sentence(truth, record) if unfit is None else f"warning: {unfit}"


def short(value: float, decimals: int = 2) -> str:
    """A number without a zero before its point, and without zeros at its end where it is one of ours."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("0") if text.startswith("0.") else text


def signed(value: float | None, decimals: int = 2) -> str:
    """As :func:`short`, with a sign where it is negative; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"−{short(-value, decimals)}" if round(value, decimals) < 0 else short(abs(value), decimals)
