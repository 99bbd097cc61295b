"""Report of a validation: conclusions, tables and plots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from math import isnan
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rimsim.errors import many
from rimsim.intensity.registry import mark_and_ground
from rimsim.market.agreement import ORACLE, RANDOM
from rimsim.market.consumers.false_truths import FALSE
from rimsim.market.consumers.truths import AUTO
from rimsim.market.fitness import Fitness
from rimsim.measures import FIT, UNFIT_VERDICT
from rimsim.scenarios.kinds.validate.checks import NEGATIVES, PAST, QUANTILES, rate_curves
from rimsim.scenarios.kinds.validate.clicks import click_plot, click_sentences, click_table
from rimsim.scenarios.kinds.validate.untested import untested_sentence
from rimsim.scenarios.report import charts, labels
from rimsim.scenarios.report.console import markdown, picture_places
from rimsim.scenarios.report.fitness import next_step, verdict_sentence, verdicts_of
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sentences import agreement_sentence, as_yaml, log_fact
from rimsim.scenarios.report.tables import pivoted, signed
from rimsim.scenarios.run import Run
from rimsim.scenarios.runs.store import RunFolder

BESTSELLERS = "popularity"  # name of the popularity baseline, which recommends the items that most users took
# λ counts as calibrated if the ratio of predicted to actual events lies in this interval.
_CALIBRATED = (0.8, 1.25)
_MISFIT = 0.1
"""Kolmogorov-Smirnov distance of session sizes from which a sentence says that they are not those of the log."""
_ACROSS = 2  # largest number of panels side by side
# Sentences on what may be concluded, and on what may not be concluded.
Sentences: TypeAlias = tuple[list[str], list[str]]


def validation_report(run: Run) -> Report:
    """Report of a validation."""
    config = run.settings
    table = run.validate
    answer, cautions = conclusions(run)
    answer_tables = () if run.observed is None else _known_answers(run.observed, config.observed.k)
    return Report(
        question="May one believe the market on this log?",
        setting=(
            log_fact(run, str(config.data.source)),
            many(config.draws, "draw"),
            many(len(config.models), "model"),
            f"slates of {config.slate}",
        ),
        answer=tuple(answer),
        cautions=tuple(cautions),
        headings=("What may be concluded:", "What may not:"),
        sections=(
            Section(
                "Real and simulated worth of models",
                "Precision of recommended items at users' held-out later sessions against expected consumptions of the "
                "same slates under a truth; bars: 95% intervals over users. Up and to the right together: the truth "
                "agrees.",
                plots=(Plot("agreement", partial(_agreement_plot, run)),),
                tables=(
                    _worth(run.intervals, config.draws),
                    _verdict_table(verdicts_of(run)),
                    _agreements(run.agreement),
                ),
            ),
            Section("Acceptance and distributions", tables=(_acceptance(table), _distributions(table))),
            Section(
                "Expected and logged events",
                "Each point is a tenth of the log's sessions, by λ.",
                plots=(Plot("calibration", partial(_calibration, table)),),
                tables=(_deciles(table),),
            ),
            Section(
                "Click rates of held-out impressions",
                "Each point is a tenth of the held-out impressions, by predicted click rate.",
                plots=(Plot("click-rates", partial(click_plot, run.click_rates)),),
                tables=(click_table(run.click_rates),),
            ),
            Section("Known answers", tables=answer_tables),
        ),
        settings=as_yaml(run.config["validate"]),
        places=partial(picture_places, run.folder),
    )


def readme(run: RunFolder, report: Report) -> str:
    """Page of the run folder: conclusions, pictures and tables."""
    log = run.config["log"]
    lines = [
        "# Is the market believable on this log?",
        f"{log['events']:,} events of {log['users']:,} users with {log['items']:,} items; made by",
        f"```sh\n{run.config['command']}\n```",
        "## What may be concluded",
        "\n".join(f"* {text}" for text in report.answer),
    ]
    if report.cautions:
        lines += ["## What may not", "\n".join(f"* {text}" for text in report.cautions)]
    pictures = sorted((run.folder / "pictures").glob("[!.]*.png"))
    lines += [f"![{path.stem}](pictures/{path.name})" for path in pictures]
    return "\n\n".join([*lines, "## Figures", markdown(report.tables)])


def conclusions(run: Run) -> Sentences:
    """Conclusions that the validation allows, and their limits."""
    agreed = figures_of(run.agreement)
    first = next(iter(agreed.values()))
    settled, pairs, users = (int(first[name]) for name in ("settled_pairs", "pairs", "users"))
    alike = (
        f" The other {pairs - settled} are too alike to be told apart on this log: no order of them may be concluded "
        "from a market either."
    )
    held = (
        f"A verdict compares a fixed list of recommenders. Of the models of this validation, held-out later sessions "
        f"of {users:,} users tell {settled} of {pairs} pairs apart: the 95% interval of the difference in precision "
        f"excludes 0.{alike if pairs > settled else ''}"
    )
    may = [*_verdicts(run), held]
    may_not: list[str] = []
    for truth, figures in agreed.items():
        may.append(f"{agreement_sentence(truth, figures)}.")
        if figures["settled_pairs"]:
            wrong_tastes = _listed(f"{signed(figures[bar])} with {name}" for bar, name in FALSE.items())
            may.append(
                f"With wrong tastes `{truth}` agrees {wrong_tastes}. Fitted to the past alone it agrees "
                f"{signed(figures[PAST])}."
            )
        wrong = run.pairs[
            (run.pairs["truth"] == truth) & run.pairs["settled"] & (run.pairs["simulated"] <= 0)
        ]
        if not wrong.empty:
            pair_texts = (f"`{a}` above `{b}`" for a, b in zip(wrong["other"], wrong["model"], strict=True))
            may_not.append(f"Under `{truth}` the market puts {_listed(pair_texts)}, against reality.")
    may_not += _flattered(run.intervals, agreed)
    may_not += filter(None, [untested_sentence(run.validate)])
    may_not += _session_sizes(run.validate)
    further_sentences = [
        _bestsellers(run.settings.serving, run.pairs[run.pairs["truth"] == next(iter(agreed))]),
        rate_sentences(run.validate),
        click_sentences(run.click_rates),
    ]
    if run.observed is not None and run.observed_pairs is not None:
        further_sentences.append(observed_sentences(run.observed, run.observed_pairs, run.config["observed"]))
    further_sentences.append(hidden_sentences(run.observed))
    for good, bad in further_sentences:
        may = [*may, *good]
        may_not = [*may_not, *bad]
    return may, may_not


def _verdicts(run: Run) -> Iterator[str]:
    """Verdict on each truth, with a next step."""
    verdicts = verdicts_of(run)
    fit_truths = [name for name, verdict in verdicts.items() if verdict.verdict == FIT]
    for name, verdict in verdicts.items():
        asked = AUTO if run.config.get("chosen") == name else name
        step = next_step(verdict, asked, run.settings.data)
        if step and fit_truths:
            step = f"Use `--set consumer.truth={fit_truths[0]}` instead."
        yield verdict_sentence(verdict, step)


def figures_of(agreement: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Nested mapping: truth → metric → value."""
    by_truth = agreement.groupby("truth", sort=False)
    return {str(truth): dict(zip(rows["metric"], rows["value"], strict=True)) for truth, rows in by_truth}


def _flattered(intervals: pd.DataFrame, truths: Iterable[str]) -> list[str]:
    """Sentence on how a truth flatters models of its class."""
    worth = intervals[intervals["metric"] == "utility"].set_index(["truth", "model"])["mean"]
    texts = [
        f"{100 * worth[truth, truth] / worth[truth, ORACLE]:.0f}% under `{truth}`"
        for truth in truths
        if (truth, truth) in worth.index and worth[truth, ORACLE] > 0
    ]
    text = (
        f"A truth flatters the model of its own class, which reaches, of the oracle's utility, {_listed(texts)}; how "
        "far a model is from the best possible is therefore no finding."
    )
    return [text] if texts else []


def _session_sizes(table: pd.DataFrame) -> list[str]:
    """Sentences on session sizes that the log does not have."""
    plain = table[table["model"] == ""]
    means = plain.groupby(["truth", "metric"])["value"].mean()
    names = [f"session_size_q{100 * share:.0f}" for share in (QUANTILES[0], QUANTILES[-1])]
    texts = []
    distances = plain[plain["metric"] == "session_size_ks"].groupby("truth", sort=False)["value"].mean()
    for name, distance in zip(distances.index.astype(str), distances.tolist(), strict=True):
        if distance < _MISFIT:
            continue
        ends = ((f"{means.get((key, size), np.nan):.3g}" for size in names) for key in (name, ""))
        simulated, logged = (" to ".join(of_sizes) for of_sizes in ends)
        texts.append(
            f"Session sizes are not those of the log: under `{name}` they are Poisson, and 80% of them are {simulated} "
            f"events; of the log's sessions, 80% have {logged} (Kolmogorov-Smirnov distance {distance:.2f})."
        )
    return texts


def _bestsellers(serving_model: str, pairs: pd.DataFrame) -> Sentences:
    """Sentences that compare models with a list of bestsellers."""
    wins = pairs[(pairs["other"] == BESTSELLERS) & pairs["settled"]]
    losses = pairs[(pairs["model"] == BESTSELLERS) & pairs["settled"]]
    better = _listed(f"`{name}`" for name in wins["model"])
    worse = _listed(f"`{name}`" for name in losses["other"])
    comparison = "than a list of bestsellers, beyond the interval:"
    good = [f"More precise {comparison} {better}."] if better else []
    bad = [f"Less precise {comparison} {worse}."] if worse else []
    mark, _ = mark_and_ground(serving_model)
    mark_words = f"`{mark}`, the mark model of the platform `{serving_model}`,"
    # The better model of a pair is `model`, so the pair of the mark model and bestsellers has one of two orders.
    mark_is_better = (pairs["model"] == mark) & (pairs["other"] == BESTSELLERS)
    mark_is_worse = (pairs["model"] == BESTSELLERS) & (pairs["other"] == mark)
    for row in pairs[mark_is_better | mark_is_worse].to_dict("records"):
        sign = 1 if row["model"] == mark else -1
        half = (float(row["high"]) - float(row["low"])) / 2
        text = f"precision differs by {signed(sign * float(row['difference']), 3)} ±{signed(half, 3)}"
        if sign > 0 and row["settled"]:
            good.append(f"{mark_words} beats bestsellers: {text}.")
        elif row["settled"]:
            bad.append(
                f"Bestsellers beat {mark_words} {text}. What a market says of an agent that ranks by this model is "
                "said of a platform that nobody would run."
            )
        else:
            bad.append(f"Whether {mark_words} beats bestsellers is not significant: {text}.")
    return good, bad


def rate_sentences(table: pd.DataFrame) -> Sentences:
    """Sentences on λ as a prediction of held-out sessions' events."""
    good: list[str] = []
    bad: list[str] = []
    low, high = _CALIBRATED
    for name, figures in rate_curves(table).items():
        ratios = [figures[metric] for metric in ("rate_ratio", "rate_ratio_first", "rate_ratio_later")]
        # A ratio is NaN if the log has no first sessions, or no later sessions.
        is_calibrated = all(low <= ratio <= high for ratio in ratios if not isnan(ratio))
        text = (
            f"{name} expects {signed(figures['rate_ratio'])} times the events of sessions that it was not fitted to "
            f"(first ones {signed(figures['rate_ratio_first'])}, later ones {signed(figures['rate_ratio_later'])}; "
            f"rank correlation {signed(figures['rate_rank_correlation'])})"
        )
        if is_calibrated:
            good.append(f"{text}.")
        else:
            bad.append(f"{text}: it is no count of them.")
    return good, bad


def _listed(names: Iterable[str]) -> str:
    """Names with commas, and "and" before the last."""
    texts = [str(name) for name in names]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def observed_sentences(table: pd.DataFrame, pairs: pd.DataFrame, facts: Mapping[str, Any]) -> Sentences:
    """Favourable and unfavourable sentences on known answers."""
    of_auc = table[table["metric"] == "auc"]
    # Random scores predict the share of yes answers for every answer.
    minus_random = pairs[(pairs["metric"] == "log_likelihood") & (pairs["other_model"] == RANDOM)]
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
        truth = row["truth"]
        gain = minus_random[minus_random["truth"] == truth].to_dict("records")[0]
        text = (
            f"the truth `{truth}` puts {row['value']:.3f} of the pairs of a user's answers in order (95% interval "
            f"{row['low']:.3f} to {row['high']:.3f}, chance .5)"
        )
        upper = text[0].upper() + text[1:]
        if row["low"] > 0.5 and gain["settled"] and gain["difference"] > 0:
            good.append(f"Of answers without selection, {text}." if facts["shown_at_random"] else f"{upper}.")
        else:
            bad.append(
                f"{upper}, and its calibrated likelihood is {gain['difference']:+.4f} nats an answer from that "
                "of a coin with the right share: it says nothing sure of what users do not choose."
            )
    # Pairs of a truth and a model.
    auc_pairs = pairs[(pairs["metric"] == "auc") & (pairs["truth"] != "") & (pairs["other_truth"] == "")]
    is_worse = auc_pairs["settled"] & (auc_pairs["difference"] < 0) & (auc_pairs["other_model"] != RANDOM)
    for truth, of_truth in auc_pairs[is_worse].groupby("truth", sort=False):
        models = ", ".join(f"`{name}`" for name in of_truth["other_model"])
        bad.append(
            f"The truth `{truth!s}` orders known answers worse than {models}, beyond the paired interval."
        )
    return good, bad


def hidden_sentences(table: pd.DataFrame | None) -> Sentences:
    """Sentence on the hidden quality of items."""
    rows = {} if table is None else {row["metric"]: row for row in table.to_dict("records")}
    blind = (
        "Agreement sees neither levels of utility, nor the strength of tastes within a factor of two, nor the hidden "
        "worth of items. "
        "This log alone cannot tell an item that few like from one that few were shown: any `consumer.hidden.rho` "
        "agrees with it."
    )
    if "hidden_rho" not in rows:
        return [], [f"{blind} Answers to items shown at random (`--observed`) can."]
    rho, sd = (
        f"{signed(row['value'])} (95% interval {signed(row['low'])} to {signed(row['high'])})"
        for row in (rows["hidden_rho"], rows["hidden_sd"])
    )
    text = (
        f"Shown at random, items are worth what the log's popularity says with a correlation of {rho}, and their log "
        f"worth has a standard deviation of {sd}; `consumer.hidden.rho` and `consumer.hidden.sd` take both."
    )
    return [text], [f"{blind} The estimate is of the items and users that were asked."]


def _known_answers(table: pd.DataFrame, k: int) -> tuple[TextTable, TextTable]:
    """Metrics of all truths and models; calibration of truths."""
    metrics = ("auc", "precision", "log_likelihood", "calibration_error")
    judged = zip(table["truth"].astype(str).tolist(), table["model"].astype(str).tolist(), strict=True)
    judges = [f"truth {truth}" if truth else model for truth, model in judged]
    named = table.assign(judge=judges).rename(columns={"value": "mean"})
    order = named[named["metric"] == "auc"].sort_values("mean", ascending=False, kind="stable")["judge"]
    rank = {judge: number for number, judge in enumerate(order)}
    figures = named[named["metric"].isin(metrics)]
    figures = figures.iloc[figures["judge"].map(rank).argsort(kind="stable")]
    title = (
        f"Known answers: pairs of a user's answers in order (auc), share of a yes among the {k} best "
        "of what was asked (precision), calibrated likelihood; ± half a 95% interval over users"
    )
    rows = []
    for judge in dict.fromkeys(named.loc[named["truth"] != "", "judge"]):
        means = named[named["judge"] == judge].set_index("metric")["mean"]
        rows += [
            (f"{judge}: {share}", *_tenths(means, f"decile_{{}}_{share}", 3))
            for share in ("predicted", "taken")
        ]
    columns = ("by decile of the calibrated probability", *map(str, range(1, 11)))
    deciles = "Known answers: calibrated probability against the share of a yes"
    answered = pivoted(title, figures, ["judge"], metrics, significant=True)
    return answered, TextTable(deciles, columns, tuple(rows))


def _tenths(figures: Mapping[str, float] | pd.Series[float], name: str, decimals: int) -> list[str]:
    """Table cells of a metric's tenths; missing tenths are empty.

    ``name`` has braces in place of the number of the tenth.
    """
    values = (figures.get(name.format(number)) for number in range(1, 11))
    return ["" if value is None else f"{value:.{decimals}f}" for value in values]


def _worth(intervals: pd.DataFrame, draws: int) -> TextTable:
    """Models' real metrics and utility under every truth, best first."""
    real = intervals[intervals["truth"] == ""]
    simulated = intervals[intervals["truth"] != ""]
    named = pd.concat([real, simulated.assign(metric="utility, " + simulated["truth"])])
    rank = real[real["metric"] == "precision"].set_index("model")["mean"].rank(ascending=False)
    order = named["model"].map(rank).fillna(np.inf).to_numpy()
    title = (
        f"Real worth at {int(real['users'].max()):,} users' later sessions, and utility under each truth; {draws} "
        "draws, ± half a 95% interval over users"
    )
    split = [name for name in ("precision_new", "precision_repeat") if (real["metric"] == name).any()]
    of_truths = dict.fromkeys(named["metric"].iloc[len(real) :])
    columns = ("precision", *split, "ndcg", "log_likelihood", *of_truths)
    return pivoted(title, named.iloc[np.argsort(order, kind="stable")], ["model"], columns, significant=True)


def _verdict_table(verdicts: Mapping[str, Fitness]) -> TextTable:
    """Verdict on each truth, with the agreement behind it."""
    rows = []
    for truth, verdict in verdicts.items():
        ends = {"agreement": verdict.agreement, "agreement_low": verdict.low, "agreement_high": verdict.high}
        figures = {name: float("nan") if value is None else value for name, value in ends.items()}
        of_whole_log = "–" if verdict.played is None else signed(verdict.played)
        counts = (f"{verdict.settled} of {verdict.pairs}", str(verdict.concordant))
        rows.append((truth, verdict.verdict, *counts, _with_ends(figures, "agreement"), of_whole_log))
    title = (
        "Verdicts. They compare a fixed list of recommenders, whatever the models of this validation, under truths "
        "fitted to the past alone. In brackets: 95% intervals. Last column: agreement if fitted to the whole log"
    )
    columns = ("truth", "verdict", "significant", "in order", "agreement", "whole log")
    return TextTable(title, columns, tuple(rows), labels=2)


def _agreements(agreement: pd.DataFrame) -> TextTable:
    """Agreement of each truth with reality, on the validation's models."""
    rows = []
    for truth, row in figures_of(agreement).items():
        tau = _with_ends(row, "kendall")
        of_settled = _with_ends(row, "kendall_settled")
        settled = f"{row['settled_pairs']:.0f} of {row['pairs']:.0f}"
        pairs = (f"{row[name]:.0f}" for name in ("concordant_pairs", "discordant_pairs"))
        bars = (signed(row[bar]) for bar in (PAST, *FALSE))
        label = f"{truth}{' (chosen)' if row['chosen'] else ''}"
        rows.append((label, settled, *pairs, of_settled, tau, signed(row["spearman"]), *bars))
    figures = ("significant", "in order", "reversed", "agreement", "τ", "ρ")
    title = (
        "Does a truth put the models of this validation in the order of reality, fitted to the whole log? The verdict "
        "rests on other recommenders. In brackets: 95% intervals. Last four columns: "
        "agreement if fitted to the past alone, or with wrong tastes: popularity alone, other users', opposite"
    )
    return TextTable(
        title, ("truth", *figures, "past", "popular", "others", "opposite"), tuple(rows), labels=1
    )


def _with_ends(figures: Mapping[str, float], name: str) -> str:
    """Figure with its interval in brackets; a dash without figure."""
    if isnan(figures[name]):
        return "–"
    return f"{figures[name]:.2f} ({figures[f'{name}_low']:.2f} to {figures[f'{name}_high']:.2f})"


def _acceptance(table: pd.DataFrame) -> TextTable:
    """Acceptance by truth and share of positives."""
    accepted = table[table["metric"].str.startswith("acceptance_")]
    means = accepted.groupby(["truth", "metric"], sort=False)["value"].mean()
    rows = []
    for truth, negatives in product(dict.fromkeys(means.index.get_level_values("truth")), NEGATIVES):
        names = [f"acceptance_{name}_{negatives}" for name in ("accuracy", "f1", "auc")]
        if (truth, names[0]) in means.index:
            rows.append((str(truth), f"1:{negatives}", *(f"{means[truth, name]:.3f}" for name in names)))
    title = "Acceptance of held-out positives among negatives; truths fitted to the past"
    return TextTable(title, ("truth", "positives to negatives", "accuracy", "F1", "AUC"), tuple(rows))


def _distributions(table: pd.DataFrame) -> TextTable:
    """Table of distributions, logged and under each truth."""
    plain = table[table["model"] == ""]
    means = plain.groupby(["truth", "metric"], sort=False)["value"].mean()
    quantiles = [f"q{100 * share:.0f}" for share in QUANTILES]
    truths = dict.fromkeys(plain["truth"])
    rows = []
    for metric, truth in product(("session_size", "popularity"), truths):
        values = [means.get((truth, f"{metric}_{name}")) for name in quantiles]
        if values[0] is not None:
            distance = means.get((truth, f"{metric}_ks"))
            distance_text = "" if distance is None else f"KS {distance:.3f}"
            label = f"{metric.replace('_', ' ')}, {truth or 'logged'}"
            rows.append((label, *(f"{value:.4g}" for value in values), distance_text))
    rows += [
        (f"genres, {truth}", *[""] * len(quantiles), f"TV {means[truth, 'genre_tv']:.3f}")
        for truth in truths
        if (truth, "genre_tv") in means.index
    ]
    columns = ("of sessions", *(f"{100 * share:.0f}%" for share in QUANTILES), "distance")
    title = "Distributions, simulated against logged; quantiles, means over draws"
    return TextTable(title, columns, tuple(rows))


def _deciles(table: pd.DataFrame) -> TextTable:
    """Predicted λ by decile, against realised events."""
    rows = []
    for name, figures in rate_curves(table).items():
        totals = (figures[f"rate_{metric}"] for metric in ("ratio_first", "ratio_later", "rank_correlation"))
        rows.append((f"{name}: expected", *_tenths(figures, "rate_predicted_{}", 1), *map(signed, totals)))
        rows.append((f"{name}: logged", *_tenths(figures, "rate_realised_{}", 1), "", "", ""))
    columns = ("by decile of λ", *map(str, range(1, 11)), "first", "later", "rank correlation")
    title = "Events a session, expected and logged, λ not being fitted to them; Σλ / Σ events of first and later ones"
    return TextTable(title, columns, tuple(rows))


def _agreement_plot(run: RunFolder) -> Figure | None:
    """Picture ``agreement`` of a run."""
    return real_against_simulated(run.intervals, run.agreement, verdicts_of(run))


def real_against_simulated(
    intervals: pd.DataFrame, agreement: pd.DataFrame, verdicts: Mapping[str, Fitness]
) -> Figure | None:
    """Real precision of models against utility, a panel per truth."""
    ends = ["mean", "low", "high"]
    # A model without an interval is drawn without an error bar.
    intervals = intervals.assign(**{end: intervals[end].fillna(intervals["mean"]) for end in ends})
    real = intervals[(intervals["truth"] == "") & (intervals["metric"] == "precision")].set_index("model")
    of_truths = figures_of(agreement)
    n_columns = charts.columns(min(len(of_truths), _ACROSS), 4.0)
    n_rows = -(-len(of_truths) // n_columns)
    figure = charts.frame(
        _message(of_truths, verdicts),
        "Precision of recommended items at users' held-out later sessions against expected consumptions of the "
        "same slates under a truth. Bars: 95% intervals over users. Up and to the right together: the truth agrees.",
        4.9 * n_rows,
    )
    looks = charts.styles(real.index)
    grid = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False)).tolist()
    for spare in grid[len(of_truths) :]:
        spare.remove()
    for ax, (truth, figures) in zip(grid, of_truths.items(), strict=False):
        worth = intervals[(intervals["truth"] == truth) & (intervals["model"] != ORACLE)].set_index("model")
        worths = pd.concat({"real": real[ends], "simulated": worth.loc[real.index, ends]}, axis=1)
        means = worths.swaplevel(axis=1)  # columns (mean, real), (low, real) and so on, as plot_means expects
        for name, look in looks.items():
            charts.plot_means(ax, means.loc[[name]], "real", "simulated", look, line="none", size=8)
        ax.set_xlim(0, 1.12 * (float(means["high", "real"].max()) or 1.0))
        ax.set_ylim(0, 1.1 * (float(means["high", "simulated"].max()) or 1.0))
        ax.set(xlabel="real: precision", ylabel="simulated: utility (consumptions per slate)")
        labels.label_means(ax, means, "real", "simulated", looks)
        marks = f"{', chosen' if figures['chosen'] else ''}{_mark(verdicts.get(truth))}"
        ax.set_title(f"Truth {truth}{marks}: τ = {signed(figures['kendall'])}", loc="left")
    return figure


def _mark(verdict: Fitness | None) -> str:
    """Verdict for a title; empty for a fit truth."""
    if verdict is None or verdict.verdict == FIT:
        return ""
    return f", {verdict.verdict}" if verdict.verdict == UNFIT_VERDICT else ", fitness unknown"


def _message(agreement: Mapping[str, Mapping[str, float]], verdicts: Mapping[str, Fitness]) -> str:
    """Title on significant pairs of models under one truth."""
    taus = {name: row["kendall_settled"] for name, row in agreement.items()}
    best = max(taus, key=lambda name: -np.inf if np.isnan(taus[name]) else taus[name])
    truth = next((name for name, row in agreement.items() if row["chosen"]), best)
    figures = agreement[truth]
    settled = int(figures["settled_pairs"])
    concordant = int(figures["concordant_pairs"])
    if not settled:
        return "No pair of models differs significantly in held-out later sessions"
    is_unfit = truth in verdicts and verdicts[truth].verdict == UNFIT_VERDICT
    verb = "puts only" if is_unfit else "puts"
    return (
        f"The truth {truth} {verb} {concordant} of {settled} significant pairs of models in the order of "
        "held-out later sessions"
    )


def _calibration(table: pd.DataFrame) -> Figure | None:
    """Mean λ of each tenth of held-out sessions against events."""
    curves = rate_curves(table)
    if not curves:
        return None
    parts = (f"{name} expects {signed(figures['rate_ratio'])}" for name, figures in curves.items())
    caption = (
        "Each point is a tenth of the log's sessions, by λ, fitted without them. On the line, λ is the mean number of "
        "events that occurred."
    )
    looks = charts.styles(curves)
    message = f"{', '.join(parts)} times the events that occurred"
    figure, ax = charts.chart(message, caption, 4.6, looks)
    ends: list[float] = []
    for name, look in looks.items():
        mean = curves[name]
        tenths = [number for number in range(1, 11) if f"rate_predicted_{number}" in mean]
        x = [mean[f"rate_predicted_{number}"] for number in tenths]
        y = [mean[f"rate_realised_{number}"] for number in tenths]
        ax.plot(x, y, color=look.colour, marker=look.marker, ms=7, markeredgecolor="white", linewidth=1.5)
        ends += [*x, *y]
    low = min(ends) / 1.2
    high = max(ends) * 1.2
    ax.plot([low, high], [low, high], color="#999999", linewidth=1, linestyle="--", zorder=0)
    ax.set(xscale="log", yscale="log")
    for axis, limits in ((ax.xaxis, ax.set_xlim), (ax.yaxis, ax.set_ylim)):
        charts.log_axis(axis)
        limits(low, high)
    ax.set(xlabel="expected events a session, λ", ylabel="events that occurred")
    return figure
