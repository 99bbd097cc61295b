"""What a validation says of known answers: tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.tables import pivoted
from rimsim.scenarios.validating.config import RANDOM

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.validating.config import ValidateConfig


_METRICS = ("auc", "precision", "log_likelihood", "calibration_error")


def observed_tables(table: pd.DataFrame, config: ValidateConfig) -> list[TextTable]:
    """The figures of all judges, best first, and the calibration of the truths.

    Args:
        table: Columns truth, model, metric, value, low, high.
        config: The validation's.
    """
    named = table.assign(judge=_judges(table["truth"], table["model"])).rename(columns={"value": "mean"})
    order = named[named["metric"] == "auc"].sort_values("mean", ascending=False, kind="stable")["judge"]
    place = {judge: number for number, judge in enumerate(order)}
    figures = named[named["metric"].isin(_METRICS)]
    figures = figures.iloc[figures["judge"].map(place).argsort(kind="stable")]
    title = (
        f"Known answers: pairs of a user's answers in order (auc), share of a yes among the {config.observed.k} best "
        "of what was asked (precision), calibrated likelihood; ± half a 95 % interval over users"
    )
    rows = []
    for judge in dict.fromkeys(named.loc[named["truth"] != "", "judge"]):
        of_judge = named[named["judge"] == judge].set_index("metric")["mean"]
        for what in ("predicted", "taken"):
            tenths = (of_judge.get(f"decile_{number}_{what}") for number in range(1, 11))
            rows.append((f"{judge}: {what}", *("" if value is None else f"{value:.3f}" for value in tenths)))
    columns = ("by decile of the calibrated probability", *(str(number) for number in range(1, 11)))
    deciles = TextTable(
        "Known answers: calibrated probability against the share of a yes", columns, tuple(rows)
    )
    return [pivoted(title, figures, ["judge"], _METRICS, significant=True), deciles]


def observed_sentences(
    table: pd.DataFrame, pairs: pd.DataFrame, facts: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """What may be concluded from known answers, and what not.

    Args:
        table: Columns truth, model, metric, value, low, high.
        pairs: Columns truth, model, other_truth, other_model, metric, difference, low, high, settled.
        facts: Of the answers, as :meth:`rimsim.scenarios.validating.held_answers.HeldAnswers.facts` has them.
    """
    of_auc = table[table["metric"] == "auc"]
    against = pairs[(pairs["metric"] == "log_likelihood") & (pairs["other_model"] == RANDOM)]
    good = [
        (
            f"{facts['answers']:,} answers of {facts['users']:,} users in `{facts['source']}`, to items that they do "
            f"not meet in the log, are known; {facts['taken'] / facts['answers']:.1%} are a yes."
        )
    ]
    bad = []
    if not facts["shown_at_random"]:
        bad.append(
            f"The answers of `{facts['source']}` may be about items that were chosen by or for their users: what is "
            "said of them shares the selection of the log."
        )
    for row in of_auc[of_auc["truth"] != ""].to_dict("records"):
        truth, gain = row["truth"], against[against["truth"] == row["truth"]].to_dict("records")[0]
        text = (
            f"the truth `{truth}` puts {row['value']:.3f} of the pairs of a user's answers in order (95 % interval "
            f"{row['low']:.3f} to {row['high']:.3f}, chance .5)"
        )
        if row["low"] > 0.5 and gain["settled"] and gain["difference"] > 0:
            good.append(
                f"Of answers without selection, {text}." if facts["shown_at_random"] else f"{_upper(text)}."
            )
        else:
            bad.append(
                f"{_upper(text)}, and its calibrated likelihood is {gain['difference']:+.4f} nats an answer from that "
                "of a coin with the right share: it says nothing sure of what users do not choose."
            )
    return good, [*bad, *_behind(pairs)]


def _behind(pairs: pd.DataFrame) -> list[str]:
    """Truths that order known answers worse than a model does, beyond the interval."""
    rows = pairs[
        (pairs["metric"] == "auc") & (pairs["truth"] != "") & (pairs["other_truth"] == "") & pairs["settled"]
    ]
    worse = rows[(rows["difference"] < 0) & (rows["other_model"] != RANDOM)]
    texts = []
    for truth, of_truth in worse.groupby("truth", sort=False):
        models = ", ".join(f"`{name}`" for name in of_truth["other_model"])
        texts.append(
            f"The truth `{truth}` orders known answers worse than {models}, beyond the paired interval."
        )
    return texts


def _judges(truths: pd.Series[str], models: pd.Series[str]) -> list[str]:
    return [f"truth {truth}" if truth else model for truth, model in zip(truths, models, strict=True)]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
