"""What a validation says: its tables and sentences, for the terminal and for the page in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.scenarios.report.console import markdown, picture_places, print_report
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.tables import pivoted, signed
from rimsim.scenarios.validating.acceptance import NEGATIVES
from rimsim.scenarios.validating.conclusions import Conclusions, conclusions
from rimsim.scenarios.validating.distributions import QUANTILES
from rimsim.scenarios.validating.observed_results import observed_sentences, observed_tables
from rimsim.scenarios.validating.rates import rate_curves

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios.validating.run import Validation


_REAL = ("precision", "ndcg", "log_likelihood")


def print_results(validation: Validation, console: Console) -> None:
    """Print the tables of a validation and what may be concluded, and say where everything is."""
    found = concluded(validation)
    notes = ["What may be concluded:", *(f"  {text}" for text in found.may)]
    notes += ["", "What may not:", *(f"  {text}" for text in found.may_not), ""] if found.may_not else [""]
    print_report(result_tables(validation), notes, picture_places(validation.folder), console)


def page(validation: Validation) -> str:
    """``README.md``: what may be concluded, what not, the pictures and the tables."""
    found, described = concluded(validation), validation.described
    log = described["log"]
    parts = [
        "# Is the market believable on this log?",
        f"{log['events']:,} events of {log['users']:,} users with {log['items']:,} items; made by",
        f"```sh\n{described['command']}\n```",
        "## What may be concluded",
        "\n".join(f"* {text}" for text in found.may),
    ]
    if found.may_not:
        parts += ["## What may not", "\n".join(f"* {text}" for text in found.may_not)]
    pictures = sorted((validation.folder / "pictures").glob("[!.]*.png"))
    parts += [f"![{path.stem}](pictures/{path.name})" for path in pictures]
    return "\n\n".join([*parts, "## Figures", markdown(result_tables(validation))])


def concluded(validation: Validation) -> Conclusions:
    """What may be concluded from the market on the log, and what not, in sentences."""
    found = conclusions(
        validation.config, validation.agreement, validation.pairs, validation.intervals, validation.table
    )
    table, pairs = validation.observed, validation.observed_pairs
    if table is None or pairs is None:
        return found
    good, bad = observed_sentences(table, pairs, validation.described["observed"])
    return Conclusions((*found.may, *good), (*found.may_not, *bad))


def result_tables(validation: Validation) -> list[TextTable]:
    """Every table that a validation prints, without those that would be empty."""
    table = validation.table
    tables = [
        _worth(validation),
        _agreements(validation.agreement),
        _acceptance(table),
        _distributions(table),
        _deciles(table),
    ]
    tables += [] if validation.observed is None else observed_tables(validation.observed, validation.config)
    return [table for table in tables if table.rows]


def _worth(validation: Validation) -> TextTable:
    """Every model's real worth and its utility under every truth, best first."""
    intervals = validation.intervals
    real = intervals[intervals["truth"] == ""]
    simulated = intervals[intervals["truth"] != ""]
    named = pd.concat([real, simulated.assign(metric="utility, " + simulated["truth"])])
    rank = real[real["metric"] == "precision"].set_index("model")["mean"].rank(ascending=False)
    order = named["model"].map(rank).fillna(np.inf).to_numpy()
    means = named.iloc[np.argsort(order, kind="stable")]
    users, draws = int(real["users"].max()), validation.config.draws
    title = (
        f"Real worth at {users:,} users' later sessions, and utility under each truth; {draws} draws, ± half a 95 % "
        "interval over users"
    )
    columns = (*_REAL, *dict.fromkeys(named["metric"].iloc[len(real) :]))
    return pivoted(title, means, ["model"], columns, significant=True)


def _agreements(agreement: pd.DataFrame) -> TextTable:
    wide = agreement.pivot(index="truth", columns="metric", values="value")
    rows = []
    for truth in dict.fromkeys(agreement["truth"]):
        of_truth = wide.loc[truth]
        marks = (" (chosen)" if of_truth["chosen"] else "") + (" (unfit)" if of_truth["unfit"] else "")
        rows.append(
            (
                f"{truth}{marks}",
                _range(of_truth, "kendall"),
                signed(of_truth["spearman"]),
                f"{of_truth['settled_pairs']:.0f} of {of_truth['pairs']:.0f}",
                f"{of_truth['concordant_pairs']:.0f}",
                f"{of_truth['discordant_pairs']:.0f}",
                _range(of_truth, "kendall_settled"),
            )
        )
    columns = ("truth", "Kendall τ", "Spearman", "settled", "in order", "reversed", "τ of settled")
    return TextTable(
        "Does a truth put models in the order of reality? 95 % intervals over users", columns, tuple(rows)
    )


def _range(row: pd.Series[float], metric: str) -> str:
    if np.isnan(row[metric]):
        return "–"
    return f"{row[metric]:.2f} ({row[f'{metric}_low']:.2f} to {row[f'{metric}_high']:.2f})"


def _acceptance(table: pd.DataFrame) -> TextTable:
    means = (
        table[table["metric"].str.startswith("acceptance_")]
        .groupby(["truth", "metric"], sort=False)["value"]
        .mean()
    )
    rows = []
    for truth in dict.fromkeys(means.index.get_level_values("truth")):
        for negatives in NEGATIVES:
            names = [f"acceptance_{name}_{negatives}" for name in ("accuracy", "f1", "auc")]
            if (truth, names[0]) in means.index:
                rows.append((str(truth), f"1:{negatives}", *(f"{means[truth, name]:.3f}" for name in names)))
    return TextTable(
        "Acceptance of held-out positives among negatives; truths fitted to the past",
        ("truth", "positives to negatives", "accuracy", "F1", "AUC"),
        tuple(rows),
    )


def _distributions(table: pd.DataFrame) -> TextTable:
    """Means over draws of the distributions' figures: logged, then each truth."""
    plain = table[table["model"] == ""]
    means = plain.groupby(["truth", "metric"], sort=False)["value"].mean()
    quantiles = [f"q{100 * share:.0f}" for share in QUANTILES]
    rows = []
    for metric, distance in (("session_size", "session_size_ks"), ("popularity", "popularity_ks")):
        for truth in dict.fromkeys(plain["truth"]):
            values = [means.get((truth, f"{metric}_{name}")) for name in quantiles]
            if values[0] is None:
                continue
            far = means.get((truth, distance))
            label = f"{metric.replace('_', ' ')}, {truth or 'logged'}"
            rows.append(
                (label, *(f"{value:.4g}" for value in values), "" if far is None else f"KS {far:.3f}")
            )
    rows += [
        (f"genres, {truth}", *[""] * len(quantiles), f"TV {means[truth, 'genre_tv']:.3f}")
        for truth in dict.fromkeys(plain["truth"])
        if (truth, "genre_tv") in means.index
    ]
    columns = ("of sessions", *(f"{100 * share:.0f} %" for share in QUANTILES), "distance")
    return TextTable(
        "Distributions, simulated against logged; quantiles, means over draws", columns, tuple(rows)
    )


def _deciles(table: pd.DataFrame) -> TextTable:
    """λ by decile against what came, means over draws."""
    rows = []
    for name, figures in rate_curves(table).items():
        totals = [
            signed(figures[metric])
            for metric in ("rate_ratio_first", "rate_ratio_later", "rate_rank_correlation")
        ]
        for what, last in (("expected", totals), ("logged", ["", "", ""])):
            metric = "rate_predicted" if what == "expected" else "rate_realised"
            tenths = (figures.get(f"{metric}_{number}") for number in range(1, 11))
            cells = ("" if value is None else f"{value:.1f}" for value in tenths)
            rows.append((f"{name}: {what}", *cells, *last))
    columns = (
        "by decile of λ",
        *(str(number) for number in range(1, 11)),
        "first",
        "later",
        "rank correlation",
    )
    title = "Events a session, expected and logged, λ not being fitted to them; Σλ / Σ events of first and later ones"
    return TextTable(title, columns, tuple(rows))
