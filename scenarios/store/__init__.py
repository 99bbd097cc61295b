"""A run on disk: its folder, its config and what is kept beside the results."""
