"""Choice between models and of personal weights."""
