"""Mark models p(y|x) over the set of items that a user has consumed, in no order."""
