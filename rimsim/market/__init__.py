"""The market: who arrives, what is consumed, how the platform learns, and the ledger of it all."""

from rimsim.market.market import ClosedRound, Market
from rimsim.market.records import Arrivals, Feedback, RoundView, ScoredStates, SlateLike, Slates
from rimsim.market.state import MarketState
from rimsim.market.world import World, build_world, initial_model

__all__ = [
    "Arrivals",
    "ClosedRound",
    "Feedback",
    "Market",
    "MarketState",
    "RoundView",
    "ScoredStates",
    "SlateLike",
    "Slates",
    "World",
    "build_world",
    "initial_model",
]
