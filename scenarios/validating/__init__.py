"""Validation: is the market believable on a log? Held-out later sessions beside what the truths make of them."""
