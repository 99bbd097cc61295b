"""Agents: policies that answer arrivals with slates.

For your own agent: ``top_k`` and ``price_slates`` rank a batch, ``solved_prices`` solves the prices of last round's
states, ``joined_states`` and ``capacities`` unpack those states, and ``Delivery`` serves arrivals with prices that
follow delivery, as ``Pacing`` says. :mod:`rimsim.agents.pacing` and :mod:`rimsim.matching` have kernels for your own
compiled loops. Names are imported on first use, so that reading the registry loads no torch.
"""

import lazy_loader

if __name__ != "rimsim.agents":
    raise ImportError(
        "the folder agents is installed as rimsim.agents. Write import rimsim.agents instead of import agents"
    )

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
