"""Layer of the platform, learned from logged impressions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from rimsim.arrays import Ints, ticks
from rimsim.config import ScenarioConfig
from rimsim.data.impressions import LoggedImpressions
from rimsim.data.log import EventLog
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.impression_factors import Grouping, fit_by_turns
from rimsim.intensity.impressions import Impressions, LayerFit
from rimsim.intensity.states import UserStates
from rimsim.market.consumers.contract import Consumer, World
from rimsim.market.examination import Examined
from rimsim.market.histories import RepeatRule
from rimsim.market.past_round import Shown
from rimsim.market.platform import blind_models, excluded_by, first_fits, impressions_of, prior_of
from rimsim.market.scores.past import FoldModels, PastStates, StateScores
from rimsim.market.scores.scorer import device_of
from rimsim.market.world import examination_of
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.on_offer import TimesOnOffer

MOST_IMPRESSIONS = 65_536
"""Largest number of impressions from which the platform learns, the latest ones before the opening."""
MOST_POSITIONS = 50
"""Number of positions that are told apart; a deeper position counts as the last of these."""


def known_impressions(world: World) -> LoggedImpressions | None:
    """Last impressions before the opening; None without any.

    Impressions of items that come later in the market are left out, because the platform does not know these items.
    """
    logged = world.log.impressions
    if logged is None:
        return None
    known = logged.before(world.opening)
    known = known.rows(world.release[known.item] <= ticks(known.time))
    known = known.rows(slice(max(0, len(known) - MOST_IMPRESSIONS), len(known)))
    return known if len(known) else None


def logged_states(impressions: LoggedImpressions, log: EventLog) -> UserStates:
    """State of each visitor when an item was shown."""
    # A visitor without events has an empty state, like that of any user before all times.
    is_user = impressions.user >= 0
    users = np.where(is_user, impressions.user, 0)
    states = UserStates.of(log, users, np.where(is_user, impressions.time, -np.inf))
    return dataclasses.replace(states, now=impressions.time)


def logged_shown(impressions: LoggedImpressions, history: Ints) -> Shown:
    """Impressions as slates that are filled at one position each.

    Args:
        impressions: The impressions.
        history: (m,) number of events in the state of each visitor.
    """
    m = len(impressions)
    rows = np.arange(m)
    place = np.zeros(m, np.int64)
    if impressions.position is not None:
        place = np.clip(impressions.position - 1, 0, MOST_POSITIONS - 1)
    shape = (m, int(place.max(initial=0)) + 1)
    item = np.full(shape, -1, np.int32)
    item[rows, place] = impressions.item
    taken = np.zeros(shape, bool)
    taken[rows, place] = impressions.taken
    undefined = np.full(shape, np.nan, np.float32)
    return Shown(
        item=item,
        taken=taken,
        propensity=undefined,
        score=undefined,
        settled=np.zeros(m, np.int64),
        history=history,
    )


@dataclass(frozen=True)
class ScoreTerms:
    """Terms on which logged states are scored."""

    times: TimesOnOffer
    """Times at which items are on offer."""
    device: torch.device
    """Device of the scores."""
    seed: int
    """Model seed, which decides the folds."""
    rule: RepeatRule
    """Rule by which visitors may take an item again."""


def logged_scores(
    impressions: LoggedImpressions, log: EventLog, models: FoldModels, terms: ScoreTerms
) -> StateScores:
    """Scores of visitors' states when items were shown.

    Args:
        impressions: The impressions.
        log: Log of the visitors' events.
        models: Models of the folds of users, blind to the answers.
        terms: Times on offer, device, seed and rule of repeats.
    """
    tick = ticks(impressions.time)
    user = np.maximum(impressions.user, 0)

    def states_of(rows: Ints) -> UserStates:
        """States at chosen impressions."""
        return logged_states(impressions.rows(rows), log)

    visits = RoundVisits(
        tick, user, impressions.user < 0, start=int(tick.min(initial=0)), stop=int(tick.max(initial=0)) + 1
    )
    past = PastStates(
        id=np.arange(len(impressions)),
        tick=tick,
        user=user,
        states=lambda rows: (states_of(rows), rows),
        visits=visits,
        excluded=excluded_by(terms.rule, states_of),
    )
    return StateScores(past, models, terms.times, terms.device, terms.seed)


def policy_grouping(impressions: LoggedImpressions) -> dict[str, Grouping]:
    """Grouping by policy, if several policies chose items."""
    if impressions.policy is None or len(np.unique(impressions.policy)) < 2:
        return {}
    return {"policy": Grouping(impressions.policy, len(impressions.policies), is_centred=True)}


def logged_fits(
    config: ScenarioConfig, world: World, consumer: Consumer, model: IntensityModel, seed: int
) -> tuple[LayerFit, ...]:
    """Layer fits to impressions before the opening; empty without any.

    The fits are those of a round with the same impressions, except that each policy of the log has a factor. The factor
    multiplies the examination of its impressions, with mean 1. Items that a visitor had consumed are left out, because
    the market does not show them again.
    """
    impressions = known_impressions(world)
    if config.platform.learning.data != "impressions" or impressions is None:
        return ()
    past = world.past
    models = blind_models(config, past, float(impressions.time[0]), model, seed)
    terms = ScoreTerms(world.times, device_of(model), seed, world.rule)
    states = logged_scores(impressions, past, models, terms)
    shown = logged_shown(impressions, logged_states(impressions, past).lengths).scored(states)
    decay = Examined.nothing(config.slate).decay(config)
    examination = examination_of(config, consumer, decay, shown.item.shape[1])
    is_admissible = np.nansum(shown.score, axis=1) > 0
    evidence: Impressions = impressions_of(shown.rows(np.flatnonzero(is_admissible)), examination)
    prior = prior_of(config.platform.learning)
    fits = first_fits(prior, np.bincount(past.item, minlength=past.n_items))
    groupings = policy_grouping(impressions.rows(is_admissible))
    # Without earlier evidence, the memory of a fit does not matter, so one fit serves for all.
    fit = fit_by_turns(fits[0], evidence, groupings, prior).layer_fit
    return tuple(
        dataclasses.replace(fit, memory=other.memory, item_memory=other.item_memory) for other in fits
    )
