"""What things cost, as measured once: rates behind the estimate before a long run. docs/scale.md has their source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """CPU seconds of one thread on one kind of machine, and bytes."""

    truth: tuple[float, float] = (12.0, 3.1e-5)
    """Choosing and fitting a truth: once, and an event of the log."""
    agreement: tuple[float, float] = (10.0, 1.4e-5)
    """A truth beside held-out later sessions: once, and an event of the log."""
    imports: float = 4.0
    """A process loads its libraries and compiled code."""
    pictures: float = 12.0
    """Tables are joined and pictures drawn, of a run or a point of a sweep."""
    served: tuple[float, float] = (3e-4, 1e-8)
    """An arrival of an arm with its share of all that a round's end brings but certificates: once, and an item. What
    updates beyond those of `bag` cost is not in it."""
    certified: tuple[float, float] = (1e-4, 2.4e-7)
    """An arrival's share of a certificate: once, and an item, of as many arrivals as a round is solved on."""
    bounded: float = 1.2e-8
    """An arrival and an item of a round that is solved on some of its arrivals: the bound is taken over all of them."""
    pairs: float = 3e8
    """Most events times items that a fit grows with: its steps are bounded, whether they look at samples or not."""
    crossed: float = 1.6
    """What cross-fitted models cost beside the one that serves: so many times its fit in all."""
    judged: tuple[float, float] = (0.1, 1e-6)
    """A model's slates on a drawn cut of a log: once, and an event."""
    main: float = 3e8
    """Bytes of the first process beyond the others: it fits truths, judges them and draws."""
    process: float = 6e8
    """Bytes of a process with all libraries, before it reads a log."""
    event: float = 140.0
    """Bytes of an event, while a log is read and sorted."""
    cell: float = 40.0
    """Bytes of a user and an item, where a truth or a model looks at all of them at once: blocks are bounded."""
    cells: float = 2.0**25
    """Most users times items that are looked at at once."""
    state: float = 10.0
    """Bytes of an arrival and an item while prices are solved or a round is certified."""
    states: float = 2.0**26
    """Most arrivals times items that are looked at then; of more, some are drawn."""


RATES = Rates()

FITS: dict[str, tuple[float, float, float]] = {
    "popularity": (0.1, 1e-6, 0.0),
    "returning": (0.5, 1e-5, 0.0),
    "bag": (3.0, 6e-6, 1.8e-8),
    "ease": (0.2, 1e-6, 6e-9),
    "factors": (1.5, 2e-5, 0.0),
    "auto": (8.0, 1e-4, 5e-8),
    "als": (0.5, 1e-5, 0.0),
    "bpr": (0.5, 1e-5, 0.0),
    "graph": (1.0, 5e-5, 2e-7),
    "gru": (1.0, 1.3e-4, 1.7e-7),
    "transformer": (1.0, 5e-4, 3.5e-7),
}
"""Mark model → CPU seconds of a fit: once, an event, and a pair of an event and an item up to ``Rates.pairs``."""

UPDATES: dict[str, float] = {
    "ease": 0.7,
    "factors": 2.0,
    "als": 1.0,
    "bpr": 1.0,
    "graph": 3.7,
    "gru": 0.9,
    "transformer": 7.0,
}
"""Mark model → CPU seconds that updating it and those of its folds takes at a round's end, beyond what `bag` takes."""
