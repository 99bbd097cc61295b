"""Exposure requirements of a scenario, round by round."""
