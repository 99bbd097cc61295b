"""Choice of a model and of weights of personal scores."""
