"""Agents: what decides which slate answers an arrival; one file each."""

from __future__ import annotations

if __name__ != "rimsim.agents":
    raise ImportError("import rimsim.agents, not agents: the folder is installed as rimsim.agents")

from rimsim.agents.contract import Agent, LearningAgent, PricingAgent, top_k
from rimsim.agents.epsilon_greedy import EpsilonGreedy
from rimsim.agents.oracle import Oracle
from rimsim.agents.popularity import Popularity
from rimsim.agents.random import Random
from rimsim.agents.registry import BUILT_IN, make_agent
from rimsim.agents.relevance import Relevance
from rimsim.agents.rim_dual import RimDual
from rimsim.agents.rim_feedback import RimFeedback
from rimsim.agents.rollout import Episode, play_round, rollout

__all__ = [
    "BUILT_IN",
    "Agent",
    "Episode",
    "EpsilonGreedy",
    "LearningAgent",
    "Oracle",
    "Popularity",
    "PricingAgent",
    "Random",
    "Relevance",
    "RimDual",
    "RimFeedback",
    "make_agent",
    "play_round",
    "rollout",
    "top_k",
]
