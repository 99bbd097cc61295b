"""Prices of rounds in hindsight, which arms of a run whose rounds are the same problem share."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from rimsim.arrays import Floats
from rimsim.matching import DualPrices
from rimsim.scenarios.runs.store import write_arrays


@dataclasses.dataclass(eq=False)
class HindsightPrices:
    """Solves the rounds of an arm one after the other, each from the prices of the one before.

    What it comes to hangs on the rounds alone, not on the arm's own prices. So where arms have the same rounds, as in a
    replay whose states hang on no slate, one solution serves all.
    """

    folder: Path | None = None
    """Where solutions are kept for other arms, until the run is over; None: nowhere."""
    last: Floats | None = None
    """(M,) prices of the last round that was solved; None: none was."""

    def of(self, solve: partial[DualPrices]) -> DualPrices:
        """The prices of a round.

        Args:
            solve: :func:`~rimsim.matching.solve_prices` and what it is called with, prices to start from apart.
        """
        whole = partial(solve, prices=self.last)
        found = whole() if self.folder is None else _kept(self.folder, whole)
        self.last = found.item_price
        return found


def _kept(folder: Path, solve: partial[DualPrices]) -> DualPrices:
    """The solution in the folder of the same problem; where there is none, it is solved and kept."""
    place = folder / f"{_digest(solve)}.npz"
    if not place.is_file():
        found = solve()
        write_arrays(place, {name: np.asarray(value) for name, value in found._asdict().items()})
        return found
    with np.load(place, allow_pickle=False) as arrays:
        return DualPrices(
            arrays["item_price"], arrays["row_price"], float(arrays["dual"]), float(arrays["resolution"])
        )


def _digest(call: partial[DualPrices]) -> str:
    """A digest of all that a function is called with."""
    digest = hashlib.sha256()  # half the time of BLAKE2 where the processor knows it
    waiting: list[object] = [*call.args, *sorted(call.keywords.items())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            waiting.extend(value)
        elif dataclasses.is_dataclass(value):
            waiting.extend((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        elif isinstance(value, np.ndarray):
            digest.update(repr((value.dtype.str, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()
