"""Plots of the closed loop, and effects of retraining."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rimsim import measures
from rimsim.errors import many
from rimsim.house_style import AMBER, BLUE, VERMILION
from rimsim.measures import MEASURES, Measure, late_means, late_of
from rimsim.scenarios.report import charts, labels, sentences, tables, titles
from rimsim.scenarios.report.items import exposures, mean_curve
from rimsim.scenarios.report.picture_tables import PictureTables
from rimsim.scenarios.report.tables import last_round, without_controls
from rimsim.scenarios.runs.arms import CHAIN, control_in, control_name, is_control

PARTS = ("retraining", "data", "selection", "feedback")
"""Names of the parts of an effect of retraining. Each is the difference of successive arms: frozen → organic (log) →
random (random slates) → static (frozen model) → agent."""
FEEDBACK = PARTS[-1]
LOOP = "loop"
"""Name of selection and feedback together, if no static control separates the two."""
OWN = "own-history"
"""Name of the difference between an agent and a control that retrains on events of another market of the same agent."""
ALL = "all"
"""Name of the sum of all parts, from the frozen arm to the agent itself."""
PART_LOOKS = {
    "retraining": charts.AgentStyle(AMBER, "s"),
    "data": charts.AgentStyle("#62b578", "^"),
    "selection": charts.AgentStyle(BLUE, "X"),
    FEEDBACK: charts.AgentStyle(VERMILION, "D"),
    LOOP: charts.AgentStyle(VERMILION, "D"),
    OWN: charts.AgentStyle("#949494", "*"),
    "retraining+data": charts.AgentStyle("#8e7563", "v"),
    "data+loop": charts.AgentStyle("#58ade4", "P"),
    ALL: charts.AgentStyle("#000000", "o"),
}
# Part of retraining → its name in a title. A title is about the first part that the controls of the run separate.
_WORDS = {
    FEEDBACK: "Feedback",
    LOOP: "The loop",
    ALL: "Retraining",
    "data+loop": "Retraining on its own market",
}
METRICS = ("coverage", "effective_items", "log_gini")
"""Names of the measures that show the feedback loop, drawn by round."""
_FEW = ("coverage", "effective_items", "utility")
"""Names of the metrics that are drawn if several agents have controls. For one agent, more metrics are drawn."""


@dataclass(frozen=True)
class Part:
    """Difference between two arms of one agent."""

    agent: str
    name: str
    """Name of the part: an element of :data:`PARTS`, ``all`` or ``own-history``. If a control is missing, it is
    ``loop``, or names of parts joined by ``+``."""
    arm: str
    """Name of the arm from which ``minus`` is subtracted."""
    minus: str

    @property
    def formula(self) -> str:
        """Difference in words; ``self`` is the agent's own arm."""
        arms = (self.arm, self.minus)
        return " − ".join(arm.removeprefix(f"{self.agent}-") if arm != self.agent else "self" for arm in arms)


def parts_of(arms: Sequence[str]) -> list[Part]:
    """Parts of retraining's effect that controls identify, by agent.

    If the agent has a frozen arm, the sum of all parts is added as one more part.
    """
    parts = []
    for agent in (name for name in arms if not is_control(name)):
        chain = [*(control_name(agent, control) for control in CHAIN), agent]
        present = [number for number, name in enumerate(chain) if name in arms]
        # Part number i lies between arms i and i + 1 of the chain. Without a control, its two parts are one.
        steps = list(pairwise(present))
        if len(steps) > 1 and present[0] == 0:
            steps.append((0, len(PARTS)))
        for low, high in steps:
            name = "+".join(PARTS[low:high]).replace(f"selection+{FEEDBACK}", LOOP)
            if (low, high) == (0, len(PARTS)):
                name = ALL
            parts.append(Part(agent=agent, name=name, arm=chain[high], minus=chain[low]))
        if (yoked := control_name(agent, "yoked")) in arms:
            parts.append(Part(agent=agent, name=OWN, arm=agent, minus=yoked))
    return parts


def decomposition(
    values: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str], by: Sequence[str] = ()
) -> pd.DataFrame:
    """Effects of parts of retraining, with paired 95% intervals.

    Only seeds that all arms of an agent have are used. ``by`` are further columns to group by, such as the round.

    Returns:
        Table with the columns of :func:`tables.paired_table`, by agent, part, difference (in words), metric and ``by``.
    """
    rows = []
    for metric, part, complete in _compared(values, arms, metrics, by):
        groups = complete.groupby(list(by)) if by else [((), complete)]
        for key, group in groups:
            if len(group):
                label = (part.agent, part.name, part.formula, metric, *key)
                rows.append((*label, group[part.arm], group[part.minus]))
    return tables.paired_table(rows, ["agent", "part", "difference", "metric", *by])


def parts_by_seed(values: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Parts of retraining at each round and seed.

    Returns:
        Table with columns agent, part, metric, round, seed and value.
    """
    tables = [
        (complete[part.arm] - complete[part.minus])
        .rename("value")
        .reset_index()
        .assign(agent=part.agent, part=part.name, metric=metric)
        for metric, part, complete in _compared(values, arms, metrics, ["round"])
    ]
    columns = ["agent", "part", "metric", "round", "seed", "value"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _compared(
    values: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str], by: Sequence[str]
) -> Iterator[tuple[str, Part, pd.DataFrame]]:
    """Metric, part of retraining, and values (a column per arm)."""
    parts = parts_of(arms)
    arms_of_agent = {
        part.agent: [
            name for sibling in parts if sibling.agent == part.agent for name in (sibling.arm, sibling.minus)
        ]
        for part in parts
    }
    for metric in metrics:
        of_metric = values[values["metric"] == metric]
        wide = of_metric.pivot_table(index=[*by, "seed"], columns="agent", values="value", observed=True)
        for part in parts:
            needed_arms = list(dict.fromkeys(arms_of_agent[part.agent]))
            if set(needed_arms) <= set(wide.columns):
                yield metric, part, wide[needed_arms].dropna()


def front(data: PictureTables) -> Figure | None:
    """Utility against the spread of exposure, a point per agent."""
    rounds = without_controls(data.rounds)
    metrics = ("perplexity", "utility")
    means = tables.over_seeds(late_means(rounds), ["agent"], metrics, n_items=data.n_items)
    means = means.pivot(index="agent", columns="metric")
    means = means.reindex(columns=pd.MultiIndex.from_product((("mean", "low", "high"), metrics)))
    means = means.dropna(subset=[("mean", metric) for metric in metrics])
    styles = charts.styles(rounds["agent"].unique())
    looks = {name: look for name, look in styles.items() if name in means.index}
    if not looks:
        return None
    late = late_of(rounds)
    caption = f"{late[0].upper()}{late[1:]}. {sentences.seeds_caption(rounds, 'bars')} Up and to the right is better."
    figure = charts.frame(titles.diversity(rounds), caption, 5.0)
    ax = figure.subplots()
    for name, look in looks.items():
        charts.plot_means(ax, means.loc[[name]], "perplexity", "utility", look, size=9)
    ax.set_ylabel("utility (expected consumptions per slate)")
    charts.reach_zero(ax)
    spreads = means["mean", "perplexity"].astype(float)[list(looks)]
    # On a linear axis, agents with a small spread would overlap at the left edge.
    if len(spreads) > 1 and 0 < 10 * spreads.min() < spreads.max():
        ax.set_xscale("log")
        ax.set_xlim(spreads.min() / 2.2, spreads.max() * 1.8)
        charts.log_axis(ax.xaxis)
        ax.set_xlabel("exposure perplexity (items, log scale)")
    else:
        ax.set_xlim(left=0, right=ax.get_xlim()[1] * 1.12)
        ax.set_xlabel("exposure perplexity (items)")
    labels.label_means(ax, means.loc[list(looks)], "perplexity", "utility", looks)
    return figure


def lorenz_curves(data: PictureTables) -> Figure | None:
    """Lorenz curves of the last round, means over seeds."""
    number = last_round(data.rounds)
    counted = exposures(data, number)
    if not counted:
        return None
    looks = charts.styles(counted)
    curves = {
        name: mean_curve([measures.lorenz(counts) for counts in counted[name].values()]) for name in looks
    }
    gini = {
        name: float(np.mean([measures.gini(counts) for counts in counted[name].values()])) for name in looks
    }
    # Share of the exposure that the most shown tenth of the items gets.
    top_share = {
        name: 1 - float(np.interp(0.9, np.linspace(0, 1, len(curve)), curve))
        for name, curve in curves.items()
    }
    seeds = many(max(map(len, counted.values())), "seed")
    ordered = {name: looks[name] for name in sorted(looks, key=lambda name: gini[name])}
    figure, ax = charts.chart(
        titles.concentration(top_share),
        f"Lorenz curves of round {number}, mean of {seeds}.",
        5.6,
        ordered,
        {name: f"(Gini {gini[name]:.2f})" for name in ordered},
    )
    for name, curve in curves.items():
        share_of_items = np.linspace(0, 1, len(curve))
        marked_points = np.linspace(0, len(curve) - 1, 9).astype(int)[1:-1].tolist()  # seven, evenly spaced
        look = looks[name]
        ax.plot(
            share_of_items,
            curve,
            color=look.colour,
            linewidth=2,
            marker=look.marker,
            markevery=marked_points,
            clip_on=False,
        )
    charts.diagonal(ax, 0, 1)
    ax.annotate(
        "all items alike",
        (0.45, 0.47),
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="bottom",
        color=charts.GREY,
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol="%"))
    ax.set_xlabel("share of the catalogue, least shown items first")
    ax.set_ylabel("share of the exposure")
    return figure


def decomposed(data: PictureTables) -> Figure | None:
    """Parts of retraining by round, with paired 95% intervals."""
    rounds = data.rounds
    arms = list(rounds["agent"].unique())
    candidates = (
        "utility",
        "coverage",
        "effective_items",
        "log_gini",
        *tables.shortfalls(data.unit),
        *data.own,
    )
    parts = parts_by_seed(rounds, arms, candidates)
    if parts.empty:
        return None
    agents = list(charts.styles(parts["agent"].unique()))
    if len(agents) > 1:
        candidates = (*_FEW, *data.own)
    metrics = [metric for metric in candidates if (parts["metric"] == metric).any()]
    late = reported_parts(rounds, arms, data.own)
    formulas = {part.name: part.formula for part in parts_of(arms)}
    names = set(parts["part"])
    looks = {name: look for name, look in PART_LOOKS.items() if name in names}
    explanation = "Differences between arms of an agent at the same round and seed, which add up."
    if len(looks) == 1:
        formula = formulas[next(iter(looks))]
        explanation = f"Difference at the same round and seed: {formula}; self is the retrained agent."
    panels = [(agent, metric) for agent in agents for metric in metrics]
    figure, axes = charts.panels(
        effect_of_retraining(late, late_of(rounds), data.measures),
        f"{explanation} {sentences.seeds_caption(parts)}",
        len(panels),
        {f"{name} ({formulas[name]})": look for name, look in looks.items()} if len(looks) > 1 else {},
        marks=data.marks,
    )
    for ax, (agent, metric) in zip(axes, panels, strict=True):
        of_panel = parts[(parts["agent"] == agent) & (parts["metric"] == metric)]
        ax.axhline(0, color=charts.GREY, linewidth=1.2)
        charts.plot_bands(ax, of_panel.assign(agent=of_panel["part"]), "round", looks)
        charts.metric_axis(ax, data.measures[metric], difference=True)
        if len(agents) > 1:
            ax.set_title(f"{agent}\n{data.measures[metric].title}", loc="left")
        charts.integer_rounds(ax)
    return figure


_ARMS = {
    "frozen": "`frozen` is never retrained.",
    "organic": "`organic` is retrained on events of the log.",
    "random": "`random` is retrained on consumptions under random slates.",
    "static": "`static` is retrained on consumptions under slates of the model that is never retrained.",
    "yoked": "`yoked` is retrained on consumptions from another market of the same agent.",
}
"""Kind of control → its retraining."""


def words_of_arms(arms: Sequence[str]) -> str:
    """Explanation of the arms that a run has."""
    kinds = {control_in(name) for name in arms}
    sentences_of_arms = [words for kind, words in _ARMS.items() if kind in kinds]
    if "random" in kinds:
        sentences_of_arms.append(
            "`self` minus `random` is the effect of learning from slates that a model chose: selection and the "
            "feedback loop."
        )
    return " ".join([*sentences_of_arms, "`self` is retrained on consumptions from its own slates."])


def reported_parts(
    rounds: pd.DataFrame, arms: Sequence[str], own_metrics: Sequence[str] = ()
) -> pd.DataFrame:
    """Parts of retraining that a comparison reports.

    Sentences and titles take their claims from this table. ``own_metrics`` are your own metrics; without them, they
    are those of ``rounds`` that rimsim does not measure.
    """
    own_metrics = own_metrics or [str(name) for name in rounds["metric"].unique() if tables.is_own(str(name))]
    return decomposition(late_means(rounds), arms, (*tables.EFFECTS, *own_metrics))


def effect_of_retraining(parts: pd.DataFrame, late: str, measured: Mapping[str, Measure] = MEASURES) -> str:
    """Title on an effect of retraining in late rounds.

    It claims what the table of ``parts`` claims. The title is about ``relevance``, if this agent has controls.
    """
    present = list(parts["metric"].unique())
    metric = next((name for name in METRICS if name in present), present[0])
    agents = list(parts["agent"].unique())
    agent = tables.REFERENCE if tables.REFERENCE in agents else tables.subject(agents)
    agent_parts = parts[(parts["agent"] == agent) & (parts["metric"] == metric)].set_index("part")
    part = next((name for name in _WORDS if name in agent_parts.index), None)
    if part is None:
        return f"What retraining does to {agent}, in parts"
    measure = measured[metric]
    measure_title = measure.title.lower()
    effects = {str(row["part"]): row for row in agent_parts.reset_index().to_dict("records")}
    row = effects[part]
    n_seeds = int(row["n"])
    mean = float(row["mean"])
    scale, unit = (100, "points") if measure.unit == "share" else (1, measure.unit)
    size = scale * abs(mean)
    decimals = max(0, 1 - math.floor(math.log10(size))) if size > 0 else 0  # two significant digits
    doubt = None if row["significant"] else tables.cannot_tell(n_seeds)
    if n_seeds > 1 and not row["significant"]:
        difference = f"{scale * mean:+.{decimals}f}".replace("-", "−") if size > 0 else "0"
        remark = (
            f"; {difference} {unit}, {tables.the_same(n_seeds)}, which allows no test" if row["equal"] else ""
        )
        if doubt is not None:
            subject = f"{_WORDS[part][0].lower()}{_WORDS[part][1:]}"
            return (
                f"{doubt.capitalize()} if {subject} changes the {measure_title} of {agent} ({late}; "
                f"{difference} {unit})"
            )
        return f"{_WORDS[part]} has no significant effect on the {measure_title} of {agent} ({late}{remark})"
    # The sentence gives the size of the effect without its sign, and so the ends of its interval.
    near_end, far_end = sorted((abs(row["low"]), abs(row["high"])))
    interval = f"95% interval {scale * near_end:.{decimals}f} to {scale * far_end:.{decimals}f}"
    if n_seeds < 2:
        interval = f"{doubt} if this is chance"
    text = f"{_costs_or_gives(part, mean)} {agent} {size:.{decimals}f} {unit} of {measure_title} ({late}; {interval})"
    if part in {FEEDBACK, LOOP} and ALL in effects:
        sum_of_parts = float(effects[ALL]["mean"])
        if n_seeds < 2 or effects[ALL]["significant"]:
            text += f"; {_costs_or_gives(ALL, sum_of_parts).lower()} it {scale * abs(sum_of_parts):.{decimals}f} in all"
        elif (doubt := tables.cannot_tell(n_seeds)) is not None:
            text += f"; {doubt} if all of retraining has an effect"
        else:
            text += "; the effect of all of retraining is not significant"
    return text


def _costs_or_gives(part: str, mean: float) -> str:
    """Subject and verb of a sentence on an effect."""
    return f"{_WORDS[part]} {'costs' if mean < 0 else 'gives'}"
