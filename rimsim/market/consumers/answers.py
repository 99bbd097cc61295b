"""What consumers answer, checked before the market goes by it: an error names the consumer's method."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.errors import MarketError
from rimsim.market.consumers.contract import NOTHING, Organic, Response

if TYPE_CHECKING:
    from rimsim.market.consumers.contract import Consumer, Visits


_BLOCK = 1024
"""Visits whose true intensities are held at once."""


def response_of(consumer: Consumer, visits: Visits, slates: Ints) -> Response:
    """What visits make of slates (n, k).

    Raises:
        MarketError: If it is no response, not one for each position, no probability or intensity, or consumes what is
            not shown.
    """
    response = consumer.respond(visits, slates)
    if not isinstance(response, Response):
        raise MarketError(
            f"{type(consumer).__name__}.respond: found a {type(response).__name__}; allowed: a Response"
        )
    consumed, probability, intensity = response.consumed, response.probability, response.intensity
    if (
        consumed.dtype != np.bool_
        or probability.dtype.kind != "f"
        or intensity.dtype.kind != "f"
        or not consumed.shape == probability.shape == intensity.shape == slates.shape
    ):
        raise MarketError(
            f"{type(consumer).__name__}.respond: found consumed {consumed.dtype} {consumed.shape}, "
            f"probability {probability.dtype} {probability.shape}, intensity {intensity.dtype} {intensity.shape}; "
            f"allowed: bool, float and float, and {slates.shape} for each, a number a position"
        )
    place = _first_wrong(slates, consumed, probability, intensity)
    if place >= 0:
        row, position = divmod(place, slates.shape[1])
        raise MarketError(
            f"{type(consumer).__name__}.respond: found item {int(slates[row, position])} at position {position + 1} "
            f"{'consumed' if consumed[row, position] else 'not consumed'} with probability "
            f"{probability[row, position]} and intensity {intensity[row, position]}; allowed: items that are shown, "
            "probabilities from 0 to 1, finite intensities from 0 up"
        )
    return response


@compiled
def _first_wrong(slates: Ints, consumed: Bools, probability: Floats, intensity: Floats) -> int:
    """The first place, row after row, of what is no answer; −1 where all are."""
    n, k = slates.shape
    for row in range(n):
        for position in range(k):
            ghost = consumed[row, position] and slates[row, position] < 0
            chance, worth = probability[row, position], intensity[row, position]
            if ghost or not 0.0 <= chance <= 1.0 or not 0.0 <= worth < np.inf:
                return int(row * k + position)
    return -1


def organic_of(consumer: Consumer, visits: Visits, n_items: int) -> Organic:
    """What visitors do by themselves, of a catalogue of so many items.

    Raises:
        MarketError: If it is nothing of the kind, not of these visits, not of the catalogue, or before they come.
    """
    organic = consumer.organic(visits)
    if organic is NOTHING:  # most often
        return organic
    name = f"{type(consumer).__name__}.organic"
    if not isinstance(organic, tuple) or len(organic) != len(Organic._fields):
        raise MarketError(
            f"{name}: found a {type(organic).__name__}; allowed: an Organic, NOTHING where nobody does anything"
        )
    row, tick, item = organic
    if not len(row) and not len(tick) and not len(item):
        return Organic(row, tick, item)
    if (
        not len(row) == len(tick) == len(item)
        or not np.isin(row, visits.row).all()
        or not ((item >= 0) & (item < n_items)).all()
        or not (tick >= visits.schedule.tick[row]).all()
    ):
        raise MarketError(
            f"{name}: found {len(row)} rows, {len(tick)} ticks, {len(item)} items; allowed: as many of each, rows of "
            f"the visits, items from 0 to {n_items - 1}, ticks not before the visit"
        )
    return Organic(row, tick, item)


def true_intensity_of(consumer: Consumer, visits: Visits, n_items: int) -> torch.Tensor:
    """(n, M) true intensities of visits.

    Raises:
        MarketError: If they are no tensor of that shape, or one is no finite number from 0 up.
    """
    found, name = consumer.true_intensity(visits), f"{type(consumer).__name__}.true_intensity"
    shape = (len(visits), n_items)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != shape:
        what = f"a {type(found).__name__} of shape {tuple(np.shape(found))}"
        raise MarketError(f"{name}: found {what}; allowed: a tensor of shape {shape}")
    if found.numel() and not (bool(found.amin() >= 0) and bool(found.amax() < np.inf)):
        raise MarketError(
            f"{name}: found a number that is negative, infinite or none; allowed: finite ones from 0 up"
        )
    return found


def relevant_items(consumer: Consumer, visits: Visits, n_items: int) -> Floats:
    """(n,) how many of so many items each visit would consume of a catalogue shown whole.

    A consumer that does not say it is asked for its true intensities at the round's end, when what was consumed in the
    round counts no more.

    Raises:
        MarketError: If it is not one finite number from 0 up for each visit.
    """
    counted = getattr(consumer, "relevant", None)
    if counted is None:
        parts = [
            true_intensity_of(
                consumer, dataclasses.replace(visits, row=visits.row[first : first + _BLOCK]), n_items
            )
            for first in range(0, len(visits), _BLOCK)
        ]
        return np.concatenate([part.double().sum(1).cpu().numpy() for part in parts] or [np.zeros(0)])
    found = np.asarray(counted(visits), np.float64)
    if found.shape != (len(visits),) or not ((found >= 0) & (found < np.inf)).all():
        raise MarketError(
            f"{type(consumer).__name__}.relevant: found shape {found.shape}, or a number that is negative, infinite or "
            f"none; allowed: ({len(visits)},) finite ones from 0 up"
        )
    return found
