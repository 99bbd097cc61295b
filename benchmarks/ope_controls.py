"""Controls of off-policy evaluation, as docs/ope.md has them: ``python benchmarks/ope_controls.py [--seeds N]``.

Uniform logs, for which the pseudo-inverse has a closed form; logs of prices that move from arrival to arrival; visitors
who come again and again, and consume much. Where prices move, all positions are looked at alike (γ = 1), so that
``ips``, by the chance of being in the slate, is right whatever order prices bring about.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kept_runs import kept

from rimsim import scenarios
from rimsim.agents import make_agent
from rimsim.config import find_scenario, override
from rimsim.market.records import as_slates
from rimsim.scenarios.kinds.evaluate import summary

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.market import Arrivals, RoundView, Slates

_SMALL = {
    "rounds": 1,
    "slate": 3,
    "data.min_item_events": 120,
    "arrivals.per_round": 400,
    "arrivals.max_visits": 3,
    "arrivals.draw": "users",
    "platform.model": "popularity-hp",
}
_GAIN = 1.0
FROZEN, MOVING = (f"entropic-dual(temperature=0.2,gain={gain})" for gain in (0.0, _GAIN))
SLOW = "entropic-dual(temperature=0.2,gain=0.1)"
GREEDY = "epsilon-greedy(epsilon=0.5)"


class Stale:
    """Moves its prices, and states the chances that its slates had with those of the round's beginning."""

    name = "stale chances"
    order_free = False
    barrier_every = None

    def __init__(self) -> None:
        self._moving = make_agent(MOVING)
        self._frozen = make_agent(FROZEN)

    def begin_round(self, view: RoundView) -> None:
        """Both set their prices."""
        self._moving.begin_round(view)
        self._frozen.begin_round(view)

    def act(self, arrivals: Arrivals) -> Slates:
        """Slates of prices that move, with chances of others."""
        slates = as_slates(self._moving.act(arrivals))
        return dataclasses.replace(slates, chances=self._frozen.chance_of(slates.items, arrivals))  # type: ignore[attr-defined]


STALE = f"{Path(__file__).resolve()}:Stale"


@dataclass(frozen=True)
class Control:
    """Logs and a target in one market."""

    name: str
    settings: dict[str, object]
    logged: tuple[str, ...]
    target: str
    parts: tuple[str, ...] = ("first visits",)


CONTROLS = (
    Control("uniform", {"data.min_item_events": 220}, ("random",), "relevance"),
    Control("prices", {"consumer.position_decay": 1.0}, (FROZEN, SLOW, MOVING, STALE), FROZEN),
    Control("target", {}, (GREEDY,), "rim-feedback"),
    Control(
        "visits",
        {"consumer.attraction": 5.0, "arrivals.per_round": 1200, "arrivals.max_visits": 6},
        (GREEDY,),
        "relevance",
        ("first visits", "later visits"),
    ),
)


def main() -> None:
    """Play each control and print what estimators say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200)
    names = [control.name for control in CONTROLS]
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument("--out", type=Path, default=Path("runs/ope-controls"))
    options = parser.parse_args()
    for control in (control for control in CONTROLS if control.name in options.only):
        config = override(find_scenario("closed-loop"), _SMALL | control.settings, origin="settings")
        folder = options.out / control.name
        if kept(folder) is None:
            scenarios.compare(config, list(control.logged), seeds=1, frozen=[], certify=False, out=folder)
        for logged in control.logged:
            evaluation = scenarios.ope(folder, control.target, logged=logged, seeds=options.seeds, workers=1)
            figures = summary(evaluation.table)
            for part in control.parts:
                print("\n".join(_lines_of_part(control.name, figures[figures["part"] == part])), flush=True)


def _lines_of_part(name: str, figures: pd.DataFrame) -> list[str]:
    """What is said of a part of a log, and a row an estimator."""
    first = figures.iloc[0]
    said = (
        f"{name}, {first['part']}: {first['target']} from the log of {first['logged']}; truth {first['truth']:.3f}, "
        f"own world − states of the log {first['moved']:+.4f}, support {first['support']:.1%}"
    )
    rows = (
        f"| `{row['estimator']}` | {row['bias']:+.3f} ±{row['half']:.3f} | {row['rmse']:.3f} | {row['coverage']:.1%} | "
        f"{row['effective']:.0f} |"
        for row in figures.to_dict("records")
    )
    return [said, *rows]


if __name__ == "__main__":
    main()
