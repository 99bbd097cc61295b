"""Tables of run folders: places, columns, order of rows. ``docs/tables.md`` is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Description of a table that a run folder may hold."""

    made_by: str
    """Command that writes it."""
    what: str
    """Meaning of a row."""
    columns: Mapping[str, str]
    """Name → content, in order."""
    parts: bool = False
    """A folder of Parquet files, one per arm and round, instead of one file."""
    when: str = ""
    """Condition of its presence; empty: always."""
    more: str = ""
    """Further columns."""
    order: tuple[str, ...] = ()
    """Columns that rows are sorted by before a digest is taken; empty: as they are."""
    optional: bool = False
    """Reading it gives None where it is missing; else an error."""

    def place(self, name: str) -> str:
        """Path or pattern of its files in a run folder."""
        return f"{name}/*.parquet" if self.parts else f"{name}.parquet"


_ARM = {
    "agent": "name of the arm; a control's ends in -frozen, -organic or -random",
    "seed": "seed of the run",
}
_ROUND = {**_ARM, "round": "number of the round, from 0"}
_ROUNDS = ("agent", "seed", "round")
_VALUE = {"metric": "name of the measure (docs/measures.md)", "value": "its value"}
_ENDS = {"low": "lower end of the 95 % interval", "high": "upper end"}

TABLES: dict[str, Table] = {
    "rounds": Table(
        "compare", "a measure of an arm in a round", {**_ROUND, **_VALUE}, order=(*_ROUNDS, "metric")
    ),
    "ledger": Table(
        "compare",
        "an exposure: an item at a position of a slate",
        {
            **_ROUND,
            "arrival": "id of the arrival; joins `arrivals`",
            "time": "seconds on the market's clock",
            "user": "visitor: the market's user",
            "log_user": "number of the user of the log behind the visitor; joins `users`",
            "position": "in the slate, from 1",
            "item": "number of the item; joins `catalogue`",
            "intensity": "λ(x,y) by the platform's model at the decision",
            "price": "v(y) at the decision; empty for agents without prices",
            "propensity": "chance that the item was in the slate; empty for deterministic agents",
            "propensity_position": "chance of the item at its position, given those before it; likewise",
            "propensity_prefix": "chance of the slate up to this position; likewise",
            "propensity_slate": "chance of the whole slate; likewise",
            "consumed": "whether it was consumed",
        },
        parts=True,
        when="without --no-ledger",
        order=(*_ROUNDS, "time", "arrival", "position"),
    ),
    "truth": Table(
        "compare",
        "an exposure, and what only the market knows of it",
        {
            **_ROUND,
            "arrival": "id of the arrival; joins `ledger` with the position",
            "position": "in the slate, from 1",
            "item": "number of the item; joins `catalogue`",
            "probability": "true chance that it was consumed: its expected reward",
            "true_intensity": "λ\\*(x)·p\\*(y|x)",
        },
        parts=True,
        when="with --reveal truth",
        order=(*_ROUNDS, "arrival", "position"),
    ),
    "arrivals": Table(
        "compare",
        "an arrival, shown something or not",
        {
            **_ROUND,
            "arrival": "id: the visitor's number, then the number of the visit",
            "time": "seconds on the market's clock",
            "user": "visitor: the market's user; clones of one user of the log are several",
            "log_user": "number of the user of the log behind the visitor; joins `users`",
            "ground_intensity": "λ(x) by the platform's model",
        },
        parts=True,
        order=(*_ROUNDS, "time", "arrival"),
    ),
    "catalogue": Table(
        "compare",
        "an item, as the log knows it",
        {
            "item": "its number in all tables",
            "events": "events of it before the market opened",
            "id": "its id in the log, as text",
            "title": "its title; empty where unknown",
            "genres": "its genres, joined by |; empty where unknown",
            "year": "year of release; empty where unknown",
            "release": "when it comes, seconds since the epoch; 0: always there",
        },
        more="what else the log's item table holds, such as `provider`",
    ),
    "users": Table(
        "compare",
        "a user of the log",
        {"log_user": "its number in `arrivals`", "id": "its id in the log, as text"},
    ),
    "required": Table(
        "compare",
        "an item that is guaranteed exposure in a round, with a first column `agent` where arms may owe other things",
        {
            "seed": _ARM["seed"],
            "round": _ROUND["round"],
            "item": "number of the item",
            "required": "positions that it is guaranteed",
        },
        parts=True,
        order=("seed", "round", "item"),
    ),
    "prices": Table(
        "compare",
        "an item's price at the end of a round",
        {
            **_ROUND,
            "item": "number of the item",
            "price": "v(y); at most 0 for a bonus",
            "cost": "c, of a missing exposure",
        },
        parts=True,
        when="of agents with prices",
        order=(*_ROUNDS, "item"),
    ),
    "learnt": Table(
        "compare",
        "a round of an arm",
        {**_ROUND, "events": "events that its platform can learn from"},
        parts=True,
        order=_ROUNDS,
    ),
    "reliability": Table(
        "compare",
        "a tenth of a round's exposures, by predicted consumption",
        {
            **_ROUND,
            "decile": "1: least predicted",
            "exposures": "exposures in it",
            "predicted": "consumptions that the platform's model predicts",
            "consumed": "consumptions",
        },
        parts=True,
        order=(*_ROUNDS, "decile"),
    ),
    "opening": Table(
        "compare",
        "a recommender at the opening",
        {**_ARM, "utility": "expected consumptions a slate: of `relevance`, `popularity` and `oracle`"},
        parts=True,
        optional=True,
    ),
    "adoption": Table(
        "compare",
        "an item that is released on the way",
        {
            **_ARM,
            "item": "number of the item",
            "duration": "arrivals until its first consumption",
            "observed": "whether it came",
        },
        parts=True,
        when="with releases",
    ),
    "providers": Table(
        "compare",
        "a provider that left or came at the end of a round",
        {
            **_ROUND,
            "provider": "its name: a value of `providers.options.column`, or the id of its only item",
            "event": "`left` or `came`",
            "items": "how many items it has",
            "satisfaction": "X, by which it left; of those that came, that of the opening",
        },
        parts=True,
        when="with `providers.kind: viability`, where one left or came",
        order=(*_ROUNDS, "provider"),
        optional=True,
    ),
    "promises": Table(
        "compare",
        "a group, campaign or cap in a round",
        {
            **_ROUND,
            "name": "of the promise",
            "begin": "seconds on the market's clock",
            "end": "likewise",
            "arrivals": "arrivals of its audience",
            "due": "exposures that the round adds to what is promised",
            "least": "what the round asks for, with what rounds before it left undelivered",
            "most": "cap; empty: none",
            "delivered": "exposures that count",
        },
        parts=True,
        when="with groups, campaigns or caps",
        order=(*_ROUNDS, "name"),
        optional=True,
    ),
    "undeliverable": Table(
        "compare",
        "what no agent could deliver, known before the round",
        {
            **_ROUND,
            "why": "what stands in the way",
            "items": "how many items",
            "required": "exposures that they are guaranteed",
            "reachable": "exposures that they could get",
            "text": "the same in a sentence",
        },
        parts=True,
        when="with hard guarantees that are too much",
        order=(*_ROUNDS, "why"),
        optional=True,
    ),
    "sweep": Table(
        "sweep",
        "a measure of an arm at a point, mean of late rounds",
        {**_ARM, **_VALUE},
        more="the swept fields, after `seed`",
    ),
    "matrix": Table(
        "sweep",
        "a difference at a point, with what may be claimed of it",
        {
            "contrast": "which two arms",
            "metric": "name of the measure",
            "agent": "whose difference it is",
            "minus": "what it is taken from",
            "mean": "the difference",
            "low": "lower end of the 95 % interval",
            "high": "upper end",
            "n": "pairs",
            "p": "p value of the single comparison",
            "adjusted": "p value over all that is compared",
            "sign": "of what may be claimed",
        },
        when="where more than one number moves",
        more="the swept fields, before the others",
        optional=True,
    ),
    "experiment": Table(
        "experiment",
        "a figure of a design of experiments at a seed",
        {
            "design": "name of the design",
            "training": "what the platform learns from",
            "prices": "whose prices",
            "seed": "seed of the run",
            "metric": "name of the measure",
            "naive": "what the experiment says",
            "low": "lower end of its 95 % interval",
            "high": "upper end",
            "total_effect": "the truth in the same world",
        },
    ),
    "ope": Table(
        "ope",
        "an estimate of what another agent's slates would have been worth",
        {
            "estimator": "name of the estimator",
            "target": "the other agent",
            "seed": "seed of the run",
            "estimate": "its estimate",
            "low": "lower end of its 95 % interval",
            "high": "upper end",
            "truth": "the worth in the same world",
        },
        more="diagnostics of the estimate",
    ),
    "backtest": Table(
        "backtest",
        "a metric of a model in a task",
        {
            "task": "`item-rec`, `user-rec` or `online`",
            "model": "name of the model",
            "beta": "floor β; empty: none",
            "cap": "cap; empty: none",
            "seed": _ARM["seed"],
            **_VALUE,
        },
    ),
    "calibration": Table(
        "backtest",
        "a figure of a fit against what test states did",
        {"seed": _ARM["seed"], "part": "mark model or ground intensity", **_VALUE},
    ),
    "fits": Table(
        "backtest",
        "a fit",
        {
            "seed": _ARM["seed"],
            "part": "mark model or ground intensity",
            "fold": "−1: the serving model",
            "seconds": "CPU seconds",
            "cached": "whether it was read from the cache",
        },
    ),
    "validate": Table(
        "validate",
        "a metric of a model or truth in a draw",
        {
            "model": "name; empty: of no model",
            "truth": "name; empty: real",
            "draw": "number of the draw",
            **_VALUE,
        },
    ),
    "agreement": Table("validate", "a figure of a truth against reality", {"truth": "name", **_VALUE}),
    "intervals": Table(
        "validate",
        "a metric of a model, means over draws",
        {
            "model": "name",
            "truth": "name; empty: real",
            "metric": "name",
            "mean": "its mean",
            **_ENDS,
            "users": "how many",
        },
    ),
    "pairs": Table(
        "validate",
        "two models under a truth",
        {
            "truth": "name",
            "model": "name",
            "other": "name",
            "difference": "of real precision",
            **_ENDS,
            "settled": "whether the interval leaves out 0",
            "simulated": "difference of utility under the truth",
        },
    ),
    "observed": Table(
        "validate",
        "a figure judged on known answers",
        {"truth": "name", "model": "name", **_VALUE, **_ENDS},
        when="with known answers",
        optional=True,
    ),
    "observed_pairs": Table(
        "validate",
        "two judges on known answers",
        {
            "truth": "name",
            "model": "name",
            "other_truth": "name",
            "other_model": "name",
            "metric": "name",
            "difference": "of the metric",
            **_ENDS,
            "settled": "whether the interval leaves out 0",
        },
        when="with known answers",
        optional=True,
    ),
}
"""Name of a table, of its file or folder and of the attribute of a :class:`Run` → its description."""


def markdown_tables() -> str:
    """Sections of docs/tables.md, one per table."""
    parts = []
    for name, table in TABLES.items():
        there = f"; there {table.when}" if table.when else ""
        lines = [
            f"## `{table.place(name)}`",
            "",
            f"Of `rimsim {table.made_by}`; a row is {table.what}{there}.",
            "",
        ]
        lines += ["| column | what it holds |", "|---|---|"]
        lines += [f"| `{column}` | {held} |" for column, held in table.columns.items()]
        if table.more:
            lines += ["", f"Further columns: {table.more}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
