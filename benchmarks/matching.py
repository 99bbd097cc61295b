"""CPU seconds, certified gap and memory of the price solver: ``python benchmarks/matching.py [PART …] [--repeats N]``.

Prints the tables of docs/matching.md. Parts: ``skewed`` (6,040 × 3,706, floors 30, at three tolerances, cold and from
last round's prices), ``demo`` (2,000 × 848 with masks and clones), ``highs`` (beside SciPy's linear programme),
``serve`` (one arrival), ``frozen`` (what fixed prices deliver), ``weighted`` (positions that count γ^(r−1)), ``large``
(200,000 × 20,000 as factors of rank 32; minutes). Set OMP_NUM_THREADS=1 for one core. Compilation is not counted: a
small problem is solved first.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

import numpy as np
from cpu_and_memory import cpu, median_timed, peak, timed
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from rimsim.matching import FactorScores, certificate, price_slates, solve_dual


def skewed(population: int = 0, drift: float = 0.0) -> NDArray[np.float32]:
    """(6040, 3706) scores with skewed popularity, largest about 1; another population, or the same one moved a bit."""
    draw = np.random.default_rng(0)
    users = draw.standard_normal((6040, 16)) * 0.5
    items = draw.standard_normal((3706, 16)) * 0.5
    item_offset = draw.standard_normal(3706)
    user_offset = draw.standard_normal(6040) * 0.7
    largest = float(np.exp(users @ items.T + item_offset + user_offset[:, None]).max())
    if population:
        population_draw = np.random.default_rng(population)
        users = population_draw.standard_normal((6040, 16)) * 0.5
        user_offset = population_draw.standard_normal(6040) * 0.7
    users = users + drift * np.random.default_rng(1).standard_normal(users.shape)
    return (np.exp(users @ items.T + item_offset + user_offset[:, None]) / largest).astype(np.float32)


def demo(clones: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """(2000, 848) intensities λ(x)·p(y|x), what is admissible (85%), and twice the median tenth score."""
    draw = np.random.default_rng(0)
    popularity = draw.standard_normal(848) * 2.2
    logit = draw.standard_normal((2000, 16)) @ draw.standard_normal((848, 16)).T * 0.3 + popularity
    marks = np.exp(logit - logit.max(axis=1, keepdims=True))
    marks /= marks.sum(axis=1, keepdims=True)
    ground = np.exp(draw.standard_normal(2000))
    marks[:clones] = marks[0]
    ground[:clones] = ground[0]
    admissible = draw.random((2000, 848)) < 0.85
    admissible[:clones] = True
    scores = (ground[:, None] * marks).astype(np.float32)
    return scores, admissible, 2.0 * float(np.median(np.partition(scores, 838, axis=1)[:, 838]))


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def part_skewed(repeats: int) -> None:
    """Cold and warm at three tolerances."""
    last = skewed()
    moved = skewed(drift=0.05)
    other_population = skewed(population=1)
    before = peak()
    row("scores", "tol", "start", "CPU s", "certified gap", "items met", "value")
    for tol in (1e-3, 1e-4, 1e-5):
        old = solve_dual(last, 37, 30, tol=tol).item_price
        for name, scores in (
            ("last round's", last),
            ("users moved", moved),
            ("other users", other_population),
        ):
            for start, prices in (("cold", None), ("warm", old)):
                end, seconds = median_timed(
                    lambda s=scores, p=prices, t=tol: solve_dual(s, 37, 30, prices=p, tol=t), repeats
                )
                proof = certificate(scores, end.slates, 37, 30, end.item_price, None)
                row(
                    name,
                    tol,
                    start,
                    seconds,
                    proof.gap,
                    f"{proof.items_met}/{proof.items_required}",
                    f"{proof.value:.3f}",
                )
    for clones in (600, 2000):
        scores = last.copy()
        scores[:clones] = scores[0]
        end, seconds = median_timed(lambda s=scores: solve_dual(s, 37, 30), repeats)
        proof = certificate(scores, end.slates, 37, 30, end.item_price, None)
        met = f"{proof.items_met}/{proof.items_required}"
        distinct = len(np.unique(end.slates[:clones], axis=0))
        row(
            f"{clones} identical users, {distinct} slates",
            1e-3,
            "cold",
            seconds,
            proof.gap,
            met,
            f"{proof.value:.3f}",
        )
    print(
        f"\npeak memory above the interpreter with its scores: {(peak() - before) * 1e3:.0f} MB; scores are 90 MB"
    )


def part_demo(repeats: int) -> None:
    """The size of one round of the demo, with many identical rows."""
    row("identical rows", "cost", "CPU s", "certified gap", "shortfall", "items met")
    for clones in (0, 600, 2000):
        scores, admissible, cost = demo(clones)
        for price in (cost, None):
            end, seconds = median_timed(
                lambda s=scores, a=admissible, c=price: solve_dual(s, 10, 12, admissible=a, cost=c), repeats
            )
            proof = certificate(scores, end.slates, 10, 12, end.item_price, price, admissible=admissible)
            row(
                clones,
                "none" if price is None else price,
                seconds,
                proof.gap,
                proof.shortfall,
                proof.items_met,
            )


def highs(scores: NDArray[np.float32], k: int, floor: int) -> tuple[float, float]:
    """The optimum by HiGHS, and its CPU seconds."""
    n, m = scores.shape
    users = sparse.kron(sparse.eye(n), np.ones((1, m)))
    items = sparse.kron(np.ones((1, n)), sparse.eye(m))
    result, seconds = timed(
        lambda: linprog(
            -scores.astype(np.float64).ravel(),
            A_ub=sparse.vstack([users, -items]).tocsr(),
            b_ub=np.concatenate([np.full(n, k), np.full(m, -floor)]),
            bounds=(0, 1),
            method="highs",
        )
    )
    return -result.fun, seconds


def part_highs(repeats: int) -> None:
    """Leading rows and columns of two recipes, beside the linear programme."""
    draw = np.random.default_rng(0)
    users, items = (draw.standard_normal((size, 16), dtype=np.float32) for size in (6040, 3706))
    plain = np.exp(users @ items.T / 4)
    sizes = (
        (plain, "plain", 600, 370, 4, 3),
        (plain, "plain", 1510, 926, 10, 8),
        (plain, "plain", 2400, 1480, 15, 12),
        (skewed(), "skewed", 1510, 926, 9, 7),
    )
    row(
        "scores",
        "size",
        "k, floor",
        "HiGHS CPU s",
        "optimum",
        "rimsim CPU s",
        "V",
        "1 − V/optimum",
        "certified gap",
    )
    for scores, name, n, m, k, floor in sizes:
        part = np.ascontiguousarray(scores[:n, :m])
        optimum, slow = highs(part, k, floor)
        end, fast = median_timed(lambda s=part, k=k, b=floor: solve_dual(s, k, b, tol=1e-6), repeats)
        row(
            name,
            f"{n} × {m}",
            f"{k}, {floor}",
            slow,
            f"{optimum:.3f}",
            fast,
            f"{end.primal:.3f}",
            1 - end.primal / optimum,
            end.gap,
        )


def part_serve(repeats: int) -> None:
    """One arrival at 3,706 items, beside a plain top-k."""
    scores = skewed()[:2000]
    price = solve_dual(scores, 37, 10).item_price
    calls = {
        "price_slates, one row": lambda i: price_slates(scores[i : i + 1], price, 37, row_keys=[i]),
        "argpartition and sort": lambda i: (t := np.argpartition(-scores[i], 37)[:37])[
            np.argsort(-scores[i][t])
        ],
    }
    row("call", "µs an arrival")
    for name, call in calls.items():
        _, seconds = median_timed(lambda call=call: [call(i) for i in range(2000)], repeats)
        row(name, seconds / 2000 * 1e6)
    row("price_slates, 2,000 rows", cpu(lambda: price_slates(scores, price, 37)) / 2000 * 1e6)


def part_frozen(_: int) -> None:
    """What fixed prices deliver by top-k of s − v, on the states they were solved on and on others."""
    row("states", "tol of the prices", "tie width", "shortfall, share of Σb", "items met", "gap")
    for tol in (1e-3, 1e-5):
        end = solve_dual(skewed(), 37, 30, tol=tol)
        for name, scores in (("the same", skewed()), ("other users", skewed(population=1))):
            for width in (0.0, end.resolution):
                slates = price_slates(scores, end.item_price, 37, tie_width=width)
                cost = float(-end.item_price.min())
                proof = certificate(scores, slates, 37, 30, end.item_price, cost)
                row(name, tol, width, proof.shortfall_share, proof.items_met, proof.gap)


def part_weighted(repeats: int) -> None:
    """Positions that count γ^(r−1), beside the auction where all count alike: sizes of embedded log and demo."""
    draw = np.random.default_rng(1)
    row(
        "states",
        "γ",
        "β",
        "floors",
        "auction, CPU s",
        "weighted, cold",
        "gap",
        "warm, scores moved by 10%",
        "gap",
        "missing",
    )
    for states in (671, 2000):
        scores, admissible, cost = (part[:states] if np.ndim(part) else part for part in demo())
        moved = (scores * np.exp(0.1 * draw.standard_normal(scores.shape))).astype(np.float32)
        for gamma, beta, charge in ((0.9, 0.5, cost), (0.9, 1.0, cost), (0.7, 0.5, cost), (0.9, 0.5, None)):
            weights = np.round(gamma ** np.arange(10) * 2**20) / 2**20
            floor = beta * states * 10 / 848
            _, plain = median_timed(
                lambda s=scores, a=admissible, b=int(floor), c=charge: solve_dual(
                    s, 10, b, admissible=a, cost=c
                ),
                repeats,
            )
            call = functools.partial(
                solve_dual,
                capacity=10,
                min_exposure=floor * weights.mean(),
                admissible=admissible,
                cost=charge,
                position_weights=weights,
            )
            cold, first = median_timed(functools.partial(call, scores), repeats)
            warm, then = median_timed(functools.partial(call, moved, prices=cold.item_price), repeats)
            row(
                states,
                gamma,
                beta,
                "hard" if charge is None else "for sale",
                plain,
                first,
                cold.gap,
                then,
                warm.gap,
                cold.shortfall,
            )


def part_large(_: int) -> None:
    """Four thousand million scores that are never held at once."""
    draw = np.random.default_rng(0)
    users = draw.standard_normal((200_000, 32), dtype=np.float32) / np.float32(32**0.5)
    items = draw.standard_normal((20_000, 32), dtype=np.float32)
    scores = FactorScores(users, items)
    end, seconds = median_timed(lambda: solve_dual(scores, 10, 50), 1)
    memory = peak()
    proof = certificate(scores, end.slates, 10, 50, end.item_price, None)
    row("size", "k, floor", "CPU s", "certified gap", "items met", "peak GB")
    row("200,000 × 20,000", "10, 50", seconds, proof.gap, f"{proof.items_met}/{proof.items_required}", memory)


PARTS: dict[str, Callable[[int], None]] = {
    "skewed": part_skewed,
    "demo": part_demo,
    "highs": part_highs,
    "serve": part_serve,
    "frozen": part_frozen,
    "weighted": part_weighted,
    "large": part_large,
}


def main() -> None:
    """Run the chosen parts, all but ``large`` by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    for kind in (np.float32, np.float64):
        solve_dual(np.random.default_rng(0).random((40, 20)).astype(kind), 3, 2)
    for name in chosen.parts or [part for part in PARTS if part != "large"]:
        print(f"\n## {name}\n")
        PARTS[name](chosen.repeats)


if __name__ == "__main__":
    main()
