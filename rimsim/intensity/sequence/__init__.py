"""Mark models p(y|x) over the sequence of consumed items."""
