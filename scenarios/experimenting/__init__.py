"""Experiments on one market: two agents share visitors, items, a log and a budget, beside two whole worlds."""
