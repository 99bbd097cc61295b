"""Agents: what decides which slate answers an arrival; one file each.

For an agent of one's own: ``top_k`` and ``price_slates`` rank a batch, ``solved_prices`` solves the prices of last
round's states, ``joined_states`` and ``capacities`` take those states apart, ``Delivery`` serves
arrivals with prices that follow delivery, which ``Pacing`` says how. Kernels for compiled loops of one's own are in
:mod:`rimsim.agents.pacing` and :mod:`rimsim.matching`.
"""

from __future__ import annotations

if __name__ != "rimsim.agents":
    raise ImportError("import rimsim.agents, not agents: the folder is installed as rimsim.agents")

from rimsim.agents.contract import (
    Agent,
    LearningAgent,
    PricingAgent,
    RememberingAgent,
    StatingAgent,
    diagnostics_of,
)
from rimsim.agents.entropic_dual import EntropicDual
from rimsim.agents.epsilon_greedy import EpsilonGreedy
from rimsim.agents.fair_rec import FairRec
from rimsim.agents.hindsight import Hindsight
from rimsim.agents.lin_ucb import LinUCB
from rimsim.agents.offline_match import OfflineMatch
from rimsim.agents.oracle import Oracle
from rimsim.agents.p_mmf import PMMF
from rimsim.agents.pacing import Delivery, Pacing
from rimsim.agents.policy import PolicyAgent
from rimsim.agents.popularity import Popularity
from rimsim.agents.prices import States, capacities, joined_states, solved_prices
from rimsim.agents.random import Random
from rimsim.agents.registry import BUILT_IN, make_agent
from rimsim.agents.relevance import Relevance
from rimsim.agents.rim_dual import RimDual
from rimsim.agents.rim_feedback import RimFeedback
from rimsim.agents.rim_resolve import RimResolve
from rimsim.agents.rollout import Episode, closed_rounds, market_for, play_round, rollout
from rimsim.agents.undeliverable import Undeliverable, undeliverable
from rimsim.agents.user_rec import UserRec
from rimsim.matching import price_slates, top_k

__all__ = [
    "BUILT_IN",
    "PMMF",
    "Agent",
    "Delivery",
    "EntropicDual",
    "Episode",
    "EpsilonGreedy",
    "FairRec",
    "Hindsight",
    "LearningAgent",
    "LinUCB",
    "OfflineMatch",
    "Oracle",
    "Pacing",
    "PolicyAgent",
    "Popularity",
    "PricingAgent",
    "Random",
    "Relevance",
    "RememberingAgent",
    "RimDual",
    "RimFeedback",
    "RimResolve",
    "States",
    "StatingAgent",
    "Undeliverable",
    "UserRec",
    "capacities",
    "closed_rounds",
    "diagnostics_of",
    "joined_states",
    "make_agent",
    "market_for",
    "play_round",
    "price_slates",
    "rollout",
    "solved_prices",
    "top_k",
    "undeliverable",
]
