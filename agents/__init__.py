"""Agents: policies that answer arrivals with slates.

Your own agent can use these functions. ``top_k`` and ``price_slates`` rank the items for a batch of arrivals.
``solved_prices`` solves prices on the states of the last round; ``joined_states`` and ``capacities`` unpack these
states. ``Delivery`` serves arrivals with prices that adapt to delivery (``Pacing``).
:mod:`rimsim.agents.arrival_arrays`, :mod:`rimsim.agents.pacing` and :mod:`rimsim.matching` have compiled functions for
your own compiled loops. The functions are imported on first use, so that a program that only lists agents does not load
torch.
"""

import lazy_loader

if __name__ != "rimsim.agents":
    raise ImportError(
        "the folder agents is installed as rimsim.agents. Write import rimsim.agents instead of import agents"
    )

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
