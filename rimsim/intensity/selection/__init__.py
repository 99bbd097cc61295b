"""Choice between models, and of the weight of a personal score."""
