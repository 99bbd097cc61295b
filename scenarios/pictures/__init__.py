"""The pictures of a run and what they draw."""
