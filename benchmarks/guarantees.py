"""What guarantees deliver and cost over many rounds: ``python benchmarks/guarantees.py [--rounds N] [--seeds N] …``.

Prints a markdown table for each platform model, in the scenario closed-loop: what is undelivered in the worst and in
the last round, counted as examined and in positions, and expected consumptions a slate in the later half of the rounds
over those of ``relevance``. ``--bought`` prints instead, round by round, what an agent leaves of soft
guarantees, what the best slates for the same states leave at the same c, and by how much the certificate says that its
own are worth less than any. ``--rows`` prints what is undelivered of large hard campaigns, in the scenario campaigns.
``--guard`` compares hard guarantees, which the guard keeps, with soft guarantees at a high cost, in small markets.
Set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim import measures
from rimsim.agents import RimFeedback, closed_rounds, joined_states, make_agent, market_for
from rimsim.config import Seeds, find_scenario, override, scenario_from, to_plain
from rimsim.matching import certificate, solve_dual

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.config import ScenarioConfig
    from rimsim.market import ClosedRound, RoundView

ARMS = (
    ("relevance", "shown", False),
    ("rim-feedback", "shown", False),
    ("rim-feedback in order of λ − v", "shown", False),
    ("rim-feedback", "shown", True),
    ("rim-feedback", "examined", False),
    ("rim-feedback", "examined", True),
    ("rim-dual", "examined", False),
    ("hindsight", "examined", False),
    ("hindsight", "examined", True),
)


class ByValue(RimFeedback):
    """``rim-feedback`` whose slates stand in order of λ − v, whatever the unit."""

    def begin_round(self, view: RoundView) -> None:
        """Take positions to count alike, and to be examined."""
        super().begin_round(dataclasses.replace(view, unit="examined"))


def agent_of(name: str) -> Agent:
    """An agent of the table."""
    return ByValue() if name.endswith("λ − v") else make_agent(name)


def played(name: str, config: ScenarioConfig, seed: int) -> np.ndarray:
    """(rounds, 3) examined shortfall, shortfall in positions and expected consumptions a slate."""
    agent = agent_of(name)
    market = market_for(agent, config, seeds=Seeds.all(seed))
    weights = measures.position_weights(config.consumer.position_decay, config.slate)
    rows = []
    for closed in closed_rounds(market, agent):
        promised = closed.required / measures.mean_weight(closed.position_weights)
        examined = measures.weighted_exposure(closed.ledger.item, weights, market.n_items)
        rows.append(
            (
                measures.shortfall(examined, promised * measures.mean_weight(weights)),
                measures.shortfall(closed.ledger.exposure(market.n_items), promised),
                closed.ledger.probability.sum() / len(closed.ledger.item),
            )
        )
    return np.array(rows)


def bought(closed: ClosedRound, price: np.ndarray) -> list[float]:
    """Missing, missing at the optimum for the same states, c times the difference over D, and the certified gap, in %.

    Args:
        closed: A round with soft guarantees of items.
        price: (M,) item prices v at its end.
    """
    states = joined_states(closed.states, closed.ledger.item.shape[1])
    weights = closed.position_weights
    slates = closed.ledger.item.astype(np.int64)
    best = solve_dual(
        states.scores,
        states.capacity,
        closed.required,
        cost=closed.cost,
        position_weights=weights,
    )
    proof = min(
        (
            certificate(
                states.scores,
                slates,
                states.capacity,
                closed.required,
                v,
                closed.cost,
                position_weights=weights,
            )
            for v in (best.item_price, price)
        ),
        key=lambda certificate: certificate.bound,
    )
    required = float(closed.required.sum())
    dearer = closed.cost * (proof.shortfall - best.shortfall) / abs(proof.bound)
    return [100 * value for value in (proof.shortfall_share, best.shortfall / required, dearer, proof.gap)]


def table_of_bought(model: str, base: ScenarioConfig, seeds: int, name: str) -> None:
    """Print what c buys in every round, and what is delivered of it, mean of seeds."""
    config = dataclasses.replace(base, platform=dataclasses.replace(base.platform, model=model))
    figures = []
    for seed in range(seeds):
        agent = make_agent(name)
        market = market_for(agent, config, seeds=Seeds.all(seed))
        rows = []
        for closed in closed_rounds(market, agent):
            at_bound = measures.prices_at_bound(agent.item_price, closed.required, closed.cost)
            utility = 100 * closed.ledger.probability.sum() / len(closed.ledger.item)
            rows.append([*bought(closed, agent.item_price), 100 * at_bound, utility])
        figures.append(rows)
    mean = np.mean(figures, 0)
    worst = np.max(figures, 0)
    print(f"\n**{model}: `{name}`, soft, mean of {seeds} seeds, %**\n")
    print(
        "| round | missing | missing at the optimum | c·difference / D | certified gap | prices at c | utility |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for number, row in [*enumerate(mean), ("mean", mean.mean(0)), ("worst of all", worst.max(0))]:
        print(f"| {number} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)


def table(model: str, base: ScenarioConfig, seeds: int, forecast: float, pace: str, unit: str | None) -> None:
    """Print the table of a platform model."""
    print(f"\n**{model}: {base.rounds} rounds, {seeds} seeds, N̂ = {forecast:g} N, paced by {pace}**\n")
    print(
        "| agent | counted as | hard | examined, worst | last | positions, worst | last | utility, % of relevance |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|")
    plain = np.nan
    for name, counted, hard in ARMS:
        if unit not in {None, counted} and name != "relevance":
            continue
        exposure = dataclasses.replace(base.exposure, unit=counted, hard=hard, forecast=forecast, pace=pace)
        config = dataclasses.replace(
            base, exposure=exposure, platform=dataclasses.replace(base.platform, model=model)
        )
        runs = np.array([played(name, config, seed) for seed in range(seeds)])
        utility = runs[:, base.rounds // 2 :, 2].mean(1)
        plain = utility if name == "relevance" else plain
        cells = [f"{value:.4f}" for j in (0, 1) for value in (runs[:, :, j].max(), runs[:, -1, j].mean())]
        share = 100 * (utility / plain).mean()
        print(
            f"| `{name}` | {counted} | {'yes' if hard else 'no'} | {' | '.join(cells)} | {share:.1f} |",
            flush=True,
        )


LARGE = {
    "hard": True,
    "most": None,
    "campaigns": [
        {"name": "new releases", "items": "new", "exposures": 1800, "start": 10, "stop": 24}
        | {"audience": {"visits": "returning"}},
        {"name": "horror weekend", "items": {"genres": "Horror"}, "share": 0.5, "start": 19, "stop": 21},
        {"name": "western day", "items": {"genres": "Western"}, "share": 0.6, "start": 8, "stop": 9}
        | {"audience": {"share": 0.2}},
    ],
}
"""Campaigns that want half or more of their audience's positions, at the end of a round in which floors are due too."""
_WEEKEND = {"start": 19, "stop": 21}
RIVALS = {
    "hard": True,
    "most": None,
    "campaigns": [
        {"name": "horror", "items": {"genres": "Horror"}, "share": 0.5, "audience": {"visits": "returning"}}
        | _WEEKEND,
        {"name": "western", "items": {"genres": "Western"}, "share": 0.5, "audience": {"share": 0.4}}
        | _WEEKEND,
        {"name": "crime", "items": {"genres": "Crime"}, "share": 0.3} | _WEEKEND,
    ],
}
"""Campaigns of one weekend whose audiences overlap: returning visitors of the drawn users are wanted by all three, for
1.3 of their positions together, so that others must carry what they cannot."""


def table_of_rows(title: str, promises: dict[str, object], seeds: int) -> None:
    """Print what is undelivered of hard floors, groups and campaigns, all rounds and seeds together, in %."""
    plain = to_plain(find_scenario("campaigns"))
    print(f"\n**{title}**\n")
    print("| agent | promised for | paced by | groups and campaigns | worst of one | floors | utility |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for pace, forecast in (("arrivals", 1.0), ("clock", 1.0), ("clock", 1.5)):
        changes = promises | {"pace": pace, "forecast": forecast}
        config = scenario_from(plain | {"exposure": plain["exposure"] | changes})
        for name in ("rim-feedback", "rim-resolve", "hindsight"):  # the last tells what nobody could deliver
            rows = []
            floors = []
            probability = []
            for seed in range(seeds):
                agent = make_agent(name)
                market = market_for(agent, config, seeds=Seeds.all(seed))
                for closed in closed_rounds(market, agent):
                    slates = closed.ledger.item
                    floor = closed.promises.min_exposure
                    exposure = measures.weighted_exposure(slates, closed.position_weights, market.n_items)
                    rows += list(zip(floor, np.maximum(floor - closed.delivered, 0.0), strict=True))
                    floors.append((closed.required.sum(), np.maximum(closed.required - exposure, 0.0).sum()))
                    probability.append(closed.ledger.probability.sum() / len(slates))
            asked = np.array([row for row in rows if row[0] > 0])
            items = np.array(floors)
            cells = (
                100 * asked[:, 1].sum() / asked[:, 0].sum(),
                100 * (asked[:, 1] / asked[:, 0]).max(),
                100 * items[:, 1].sum() / items[:, 0].sum(),
                float(np.mean(probability)),
            )
            values = " | ".join(f"{value:.2f}" for value in cells[:3])
            print(f"| `{name}` | {forecast:g} N | {pace} | {values} | {cells[3]:.3f} |", flush=True)


GUARDED = (("rim-feedback", True), ("rim-resolve", True), ("rim-resolve", False), ("rim-feedback", False))
"""Agents, and whether guarantees are hard, which needs the guard, or soft at a high cost."""
_HIGH_COST = 100.0  # c of soft guarantees, fifty times the default


def table_of_guard(seeds: int) -> None:
    """Print undelivered shares of hard guarantees, and of soft guarantees at a high cost."""
    size = {"arrivals.per_round": 500, "rounds": 3, "data.min_item_events": 60}
    print("| scenario | agent | guarantees | undelivered, mean | worst seed | rounds | consumptions |")
    print("|---|---|---|---:|---:|---:|---:|")
    for scenario, beta in (("closed-loop", 0.5), ("closed-loop", 0.8), ("campaigns", 0.5)):
        for name, is_hard in GUARDED:
            changes = {"exposure.beta": beta, "exposure.hard": is_hard}
            if not is_hard:
                changes["exposure.cost"] = _HIGH_COST
            config = override(find_scenario(scenario), size | changes)
            shares = []
            n_short = 0
            n_consumed = 0
            for seed in range(seeds):
                agent = make_agent(name)
                rounds = list(closed_rounds(market_for(agent, config, seeds=Seeds.all(seed)), agent))
                missing = np.array([missing_of(closed) for closed in rounds])
                shares.append(missing[:, 0].sum() / missing[:, 1].sum())
                n_short += int((missing[:, 0] > 1e-6).sum())
                n_consumed += sum(int(closed.ledger.consumed.sum()) for closed in rounds)
            kind = "hard" if is_hard else f"soft, c = {_HIGH_COST:g}"
            cells = (
                f"{np.mean(shares):.3%} | {np.max(shares):.3%} | {n_short} of {3 * seeds} | {n_consumed:,}"
            )
            print(f"| `{scenario}`, β = {beta:g} | `{name}` | {kind} | {cells} |", flush=True)


def missing_of(closed: ClosedRound) -> tuple[float, float]:
    """Missing and required exposures of a round's items, groups and campaigns."""
    exposure = measures.weighted_exposure(closed.ledger.item, closed.position_weights, len(closed.required))
    missing = np.maximum(closed.required - exposure, 0.0).sum()
    missing += np.maximum(closed.promises.min_exposure - closed.delivered, 0.0).sum()
    return float(missing), float(closed.required.sum() + closed.promises.min_exposure.sum())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--platforms", default="bag-visits,als-hp,gru-hp", help="models, split by commas")
    parser.add_argument("--forecast", type=float, default=1.0, help="arrivals expected over those that come")
    parser.add_argument("--pace", choices=("arrivals", "clock"), default="arrivals")
    parser.add_argument("--unit", choices=("examined", "shown"), help="arms that count in this unit alone")
    parser.add_argument("--bought", action="store_true", help="what c buys, round by round, and nothing else")
    parser.add_argument("--agent", default="rim-feedback", help="with --bought: an agent with prices")
    parser.add_argument("--rows", action="store_true", help="large hard campaigns, and nothing else")
    parser.add_argument("--guard", action="store_true", help="hard or soft at a high cost, and nothing else")
    args = parser.parse_args()
    if args.guard:
        table_of_guard(args.seeds)
        return
    if args.rows:
        table_of_rows("Large campaigns", LARGE, args.seeds)
        table_of_rows("Campaigns that want the same visitors", RIVALS, args.seeds)
        return
    base = dataclasses.replace(find_scenario("closed-loop"), rounds=args.rounds)
    for model in args.platforms.split(","):
        if args.bought:
            exposure = dataclasses.replace(base.exposure, forecast=args.forecast, pace=args.pace)
            table_of_bought(model, dataclasses.replace(base, exposure=exposure), args.seeds, args.agent)
        else:
            table(model, base, args.seeds, args.forecast, args.pace, args.unit)


if __name__ == "__main__":
    main()
