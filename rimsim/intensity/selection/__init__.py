"""Which model, and how much of it: chosen by what held-out users took."""
