"""Exposure requirements of a scenario, for each round."""
