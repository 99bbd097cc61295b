"""Scores of arrivals and of past states under a model."""
