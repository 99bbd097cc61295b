"""Mark models p(y|x) over the sequence of items that a user has consumed."""
