"""Mark models p(y|x) over the set of consumed items."""
