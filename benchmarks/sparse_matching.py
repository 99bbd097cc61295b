"""A matching of the shape of MovieLens 20M on one core: ``python benchmarks/sparse_matching.py``.

Every user (138,493) is shown one item at most, every item (26,744) to 30 users at most, and some 20 million pairs with
a rating in half stars may be served: the shape of DuaLip's public matching log. The ratings are made up, on the pairs
of a made-up log. Prints CPU seconds and peak memory of ``solve_dual``, and what ``certificate``, which shares no code
with the solver, makes of its slates. Set OMP_NUM_THREADS=1 for one core. Compilation is not counted: a small problem is
solved first.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
from cpu_and_memory import peak, timed
from scale_logs import Size, made_up
from scipy import sparse

from rimsim.matching import certificate, solve_dual

if TYPE_CHECKING:
    from rimsim.matching import DualSolution

_MOVIELENS = Size(20_000_000, 138_493, 26_744)
_SMALL = Size(2_000, 60, 40)
_CAP = 30


def ratings(size: Size) -> sparse.csr_array:
    """(users, items) half stars, .5 to 5, on a made-up log's pairs: an item's merit, a user's mood, and chance."""
    log = made_up(size)
    draw = np.random.default_rng(size.events)
    stars = 3.5 + 0.5 * draw.standard_normal(size.items)[log.item]
    stars += 0.4 * draw.standard_normal(size.users)[log.user]
    stars += 0.8 * draw.standard_normal(len(log.user))
    half = (np.clip(np.rint(2.0 * stars), 1.0, 10.0) / 2.0).astype(np.float32)
    return sparse.csr_array((half, (log.user, log.item)), (size.users, size.items))


def matched(scores: sparse.csr_array, tol: float) -> DualSolution:
    """One item a user, at most 30 users an item."""
    return solve_dual(scores, 1, max_exposure=_CAP, tol=tol)


def main() -> None:
    """Print one row of a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tol", type=float, default=1e-3)
    tol = parser.parse_args().tol
    matched(ratings(_SMALL), tol)
    scores = ratings(_MOVIELENS)
    before = peak()
    end, seconds = timed(lambda: matched(scores, tol))
    after = peak()
    proof = certificate(scores, end.slates, 1, 0, end.item_price, None, max_exposure=_CAP)
    excess = int(np.maximum(end.exposure - _CAP, 0).max())
    pairs = f"{scores.shape[0]:,} × {scores.shape[1]:,}, {scores.nnz:,} pairs"
    print(
        "| instance | tol | CPU s | certified gap | largest excess of a cap | V | peak GB, before | peak GB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    proven = f"{proof.gap:.2g} | {excess} | {proof.value:,.1f}"
    print(f"| {pairs} | {tol:g} | {seconds:.1f} | {proven} | {before:.1f} | {after:.1f} |")


if __name__ == "__main__":
    main()
