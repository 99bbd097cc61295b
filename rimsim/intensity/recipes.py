"""Named recipes of the mark models: how to fit one where the fit has to last, rather than be made again each round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.intensity.graph_convolution import GraphConvolutionConfig
from rimsim.intensity.gru import GRUConfig
from rimsim.intensity.transformer import TransformerConfig

if TYPE_CHECKING:
    from rimsim.intensity.sequence_model import SequenceConfig

__all__ = ["thorough"]

_AHEAD = 10
"""Some events more than are told apart by time: most of MovieLens' neighbours are ties, or a minute apart."""
_SAMPLED = 0.5
"""Labels of neighbouring positions overlap, so half of the positions say nearly as much as all."""


def thorough(part: str) -> SequenceConfig | None:
    """The config of a mark model that is fitted once, to foresee what a user takes within a horizon of many events.

    p is fitted to the next ten events instead of one. That is what a horizon asks for, λ(x,y) being the expected
    interactions within it; the price is a higher loss of the very next event.

    Args:
        part: Name of a mark model.

    Returns:
        Its config; None for a model that has no such recipe.
    """
    recipes: dict[str, SequenceConfig] = {
        "gru": GRUConfig(width=128, learning_rate=0.01, ahead=_AHEAD, sampled=_SAMPLED),
        "transformer": TransformerConfig(epochs=16, dropout=0.2, ahead=_AHEAD, sampled=_SAMPLED),
        "graph": GraphConvolutionConfig(ahead=_AHEAD, sampled=_SAMPLED),
    }
    return recipes.get(part)
