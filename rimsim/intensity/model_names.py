"""Names of shipped models, known without PyTorch."""

MARKS = (
    "popularity",
    "returning",
    "bag",
    "ease",
    "factors",
    "auto",
    "gru",
    "als",
    "bpr",
    "graph",
    "transformer",
)
"""Models of p(y|x)."""
GROUNDS = ("hawkes", "hp", "pop", "ema", "visits")
"""Ground intensities λ(x)."""
BUILT_IN = (*MARKS, *GROUNDS, *(f"{mark}-{ground}" for mark in MARKS for ground in GROUNDS))
"""All names, also of products such as ``gru-hp``."""
