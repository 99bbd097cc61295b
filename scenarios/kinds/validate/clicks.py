"""Predicted against observed click rates on held-out impressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rimsim.arrays import ALWAYS, Bools, Floats, Ints
from rimsim.config import PlatformConfig
from rimsim.data import EventLog, LoggedImpressions
from rimsim.intensity import registry
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.impression_factors import FactorFit, Grouping, fit_by_turns
from rimsim.intensity.impressions import Impressions
from rimsim.market.fitted import fitted_to
from rimsim.market.histories import RepeatRule
from rimsim.market.logged_impressions import ScoreTerms, logged_scores, logged_shown, logged_states
from rimsim.market.past_round import fold_of
from rimsim.market.platform import first_fits, impressions_of, prior_of
from rimsim.market.scores.past import FoldModels, always
from rimsim.market.scores.scorer import device_of
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.scenarios.report import charts
from rimsim.scenarios.report.record import TextTable

COLUMNS: Final = ("predictor", "decile", "impressions", "predicted", "observed", "log_loss")
"""Columns of the table ``click_rates``."""
HELD: Final = 0.2
"""Share of the impressions, the last ones, that are held out."""
MOST: Final = 262_144
"""Largest number of earlier impressions to which the layer is fitted; these are the latest ones."""
LAYER: Final = "layer"
FULL: Final = "layer, policy, position, user"
"""Name of the predictor with the factors of policies, positions and users; ``LAYER`` names the layer alone."""
CLOSE: Final = (0.9, 1.1)
"""Ratios of predicted to observed clicks between which a decile counts as right."""
ENOUGH: Final = 8
"""Number of right deciles from which predicted click rates count as right."""
FEWEST: Final = 1000
"""Fewest impressions of a log whose click rates are checked; with fewer, deciles are noise."""
_SEED: Final = 0
"""Seed of the folds of users."""


@dataclass(frozen=True, eq=False)
class HeldImpressions:
    """Log of the earlier part, and impressions before and after."""

    past: EventLog
    """Events before the first held-out impression."""
    earlier: LoggedImpressions
    """Impressions to which the layer and the factors are fitted."""
    held: LoggedImpressions
    """Held-out impressions, the last ones."""


def held_impressions(log: EventLog) -> HeldImpressions | None:
    """Log cut before its last impressions; None with too few."""
    shown = log.impressions
    if shown is None or len(shown) < FEWEST:
        return None
    cut = float(shown.time[int((1 - HELD) * len(shown))])
    past = log.before(cut)
    earlier = shown.before(cut)
    held = shown.rows(slice(len(earlier), len(shown)))
    if not len(past) or not earlier.taken.any():
        return None
    return HeldImpressions(past, earlier.rows(slice(max(0, len(earlier) - MOST), len(earlier))), held)


def click_rates(
    log: EventLog, *, serving: str, gap: str, device: str, show: Callable[[str], None]
) -> pd.DataFrame | None:
    """Predicted and observed click rates by decile; None without impressions.

    The layer is the platform's: it is fitted to earlier impressions, with scores of models that are blind to the
    answers of their fold of users. The first predictor is the layer alone. The second has factors of policies,
    positions and users in addition.

    Args:
        log: Log with impressions.
        serving: Model whose λ(x,y) the layer corrects.
        gap: Gap between events that starts a new session.
        device: Device of the model.
        show: Function that gets lines of progress.
    """
    cut = held_impressions(log)
    if cut is None:
        return None
    show(f"click rates: {len(cut.held):,} held-out impressions, {len(cut.earlier):,} before")

    def fitted(part: EventLog) -> IntensityModel:
        """Model of the platform, fitted to a log."""
        return fitted_to(part, registry.make(serving, seed=0, device=device, gap=gap), serving)

    past = cut.past.rows(slice(None))  # models do not read impressions
    fold = fold_of(_SEED, past.user)

    @lru_cache(maxsize=1)
    def blind() -> tuple[IntensityModel, ...]:
        return tuple(fitted(past.rows(fold != number)) for number in (0, 1))

    serving_model = fitted(past)
    earlier = _scored(cut.earlier, past, blind, serving_model)
    held = _scored(cut.held, past, always(serving_model), serving_model)
    learning = PlatformConfig().learning
    first_fit = first_fits(prior_of(learning), np.bincount(past.item, minlength=past.n_items))[0]
    tables = []
    for name, groupings in ((LAYER, {}), (FULL, _groupings(cut.earlier))):
        fit = fit_by_turns(first_fit, earlier, groupings, prior_of(learning))
        chance = predicted_chance(fit, held, _groups(cut.held, groupings))
        tables.append(_deciles(name, chance, held.taken))
    return pd.concat(tables, ignore_index=True)


def _scored(
    impressions: LoggedImpressions, past: EventLog, models: FoldModels, serving_model: IntensityModel
) -> Impressions:
    """Impressions with λ(x,y) of given models, at examination 1."""
    # A log of impressions may show an item again, so all items stay admissible.
    on_offer = TimesOnOffer.endless(np.full(past.n_items, ALWAYS))
    terms = ScoreTerms(on_offer, device_of(serving_model), _SEED, RepeatRule(gap=0))
    states = logged_scores(impressions, past, models, terms)
    shown = logged_shown(impressions, logged_states(impressions, past).lengths).scored(states)
    return impressions_of(shown, np.ones(shown.item.shape[1]))


def _groupings(impressions: LoggedImpressions) -> dict[str, Grouping]:
    """Groupings by known policies, positions and users."""
    groupings = {"user": Grouping(impressions.visitor, len(impressions.visitors))}
    if impressions.policy is not None:
        groupings["policy"] = Grouping(impressions.policy, len(impressions.policies), is_centred=True)
    if impressions.position is not None:
        # Position 0 is an unknown one, and becomes the group −1.
        group = impressions.position - 1
        groupings["position"] = Grouping(group, int(group.max(initial=0)) + 1, is_centred=True)
    return groupings


def _groups(impressions: LoggedImpressions, groupings: Mapping[str, Grouping]) -> dict[str, Ints]:
    """Group of each impression; −1 for groups that the fit lacks."""
    groups = {name: grouping.group for name, grouping in _groupings(impressions).items() if name in groupings}
    return {name: np.where(group < groupings[name].n_groups, group, -1) for name, group in groups.items()}


def predicted_chance(fit: FactorFit, shown: Impressions, groups: Mapping[str, Ints]) -> Floats:
    """(m,) predicted chance that each impression is taken.

    The factor of a user is uncertain. The chance is its mean over the gamma posterior, which is 1 − (1 + μ/s)^(−s) for
    a posterior of mean rate μ and shape s.
    """
    rate = fit.rate(shown, groups)
    if "user" not in groups:
        return np.asarray(-np.expm1(-rate), np.float64)
    shape = fit.factors["user"].shape_at(groups["user"])
    return np.asarray(-np.expm1(-shape * np.log1p(rate / shape)), np.float64)


def _deciles(name: str, chance: Floats, taken: Bools) -> pd.DataFrame:
    """Row for each tenth of the impressions, by predicted chance."""
    losses = -np.where(taken, np.log(np.maximum(chance, 1e-12)), np.log1p(-np.minimum(chance, 1 - 1e-12)))
    rows = [
        (
            name,
            number,
            len(tenth),
            float(chance[tenth].mean()),
            float(taken[tenth].mean()),
            float(losses[tenth].mean()),
        )
        for number, tenth in enumerate(np.array_split(np.argsort(chance, kind="stable"), 10), 1)
        if len(tenth)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ratios(table: pd.DataFrame, predictor: str) -> pd.Series:
    """Ratio of predicted to observed clicks in each decile."""
    rows = table[table["predictor"] == predictor].set_index("decile")
    return rows["predicted"] / rows["observed"]


def right_deciles(table: pd.DataFrame, predictor: str) -> int:
    """Number of deciles whose predicted rate is within a tenth."""
    return int(ratios(table, predictor).between(*CLOSE).sum())


def click_sentences(table: pd.DataFrame | None) -> tuple[list[str], list[str]]:
    """Favourable and unfavourable sentences on predicted click rates."""
    if table is None:
        return [], []
    n_right = right_deciles(table, FULL)
    rows = table[table["predictor"] == FULL]
    n_deciles = len(rows)
    n_impressions = int(rows["impressions"].sum())
    text = (
        f"On {n_impressions:,} held-out impressions, predicted click rates are within 10% of the observed ones in "
        f"{n_right} of {n_deciles} deciles (layer with factors of policy, position and user; the layer alone: "
        f"{right_deciles(table, LAYER)})."
    )
    return ([text], []) if n_right >= ENOUGH else ([], [text])


def click_table(table: pd.DataFrame | None) -> TextTable:
    """Predicted and observed click rates by decile."""
    title = "Click rates of held-out impressions by decile of the prediction; log loss per impression"
    columns = ("share taken", *map(str, range(1, 11)), "log loss")
    return TextTable(title, columns, () if table is None else tuple(_click_rows(table)))


def _click_rows(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Three rows for each predictor."""
    for name, rows in table.groupby("predictor", sort=False):
        empty = [""] * (10 - len(rows))
        loss = np.average(rows["log_loss"], weights=rows["impressions"])
        yield (f"{name}: predicted", *(f"{value:.3f}" for value in rows["predicted"]), *empty, f"{loss:.4f}")
        yield (f"{name}: observed", *(f"{value:.3f}" for value in rows["observed"]), *empty, "")
        yield (f"{name}: ratio", *(f"{value:.2f}" for value in ratios(table, str(name))), *empty, "")


def click_plot(table: pd.DataFrame | None) -> Figure | None:
    """Predicted against observed click rates by decile."""
    if table is None:
        return None
    names = list(dict.fromkeys(table["predictor"]))
    looks = charts.styles(names)
    message = f"Predicted click rates are within 10% in {right_deciles(table, FULL)} of 10 deciles"
    caption = (
        "Each point is a tenth of the held-out impressions, by predicted click rate. On the line, the prediction is "
        "the share of impressions that were taken. Grey: within 10%."
    )
    figure, ax = charts.chart(message, caption, 4.6, looks)
    high = 1.05 * float(table[["predicted", "observed"]].to_numpy().max())
    ends = np.array([0.0, high])
    low_ratio, high_ratio = CLOSE
    ax.fill_between(ends, ends / high_ratio, ends / low_ratio, color="#eeeeee", zorder=0)
    ax.plot(ends, ends, color="#999999", linewidth=1, linestyle="--", zorder=1)
    for name, look in looks.items():
        rows = table[table["predictor"] == name]
        x = rows["predicted"].to_numpy()
        y = rows["observed"].to_numpy()
        ax.plot(x, y, color=look.colour, marker=look.marker, ms=7, markeredgecolor="white", linewidth=1.5)
    ax.set_xlim(0, high)
    ax.set_ylim(0, high)
    ax.set(xlabel="predicted click rate", ylabel="observed click rate")
    return figure
