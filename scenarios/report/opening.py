"""What a comparison says of the platform's model at the opening."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def opening_note(opening: pd.DataFrame) -> str:
    """One sentence on the serving model at the opening, with a warning where bestsellers are ahead of it.

    Args:
        opening: Columns agent, seed, utility: of ``relevance``, ``popularity`` and ``oracle``.
    """
    by_agent = opening.pivot(index="seed", columns="agent", values="utility")
    model, bestsellers, best = (
        float(by_agent[name].mean()) for name in ("relevance", "popularity", "oracle")
    )
    share = f", {100 * model / best:.0f} % of the oracle's {best:.3f}" if best > 0 else ""
    text = (
        f"round 0: slates of the platform's model have a utility of {model:.3f}{share}; bestsellers have "
        f"{bestsellers:.3f}"
    )
    beaten = int((by_agent["popularity"] > by_agent["relevance"]).sum())
    if not beaten:
        return text
    return (
        f"warning: {text}, more than the model at {beaten} of {len(by_agent)} seeds: what retraining does to this "
        "market is then that of a platform which begins worse than a list of bestsellers"
    )
