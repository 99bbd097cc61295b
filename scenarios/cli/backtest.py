"""``rimsim backtest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimsim.errors import ConfigError
from rimsim.scenarios.cli.parsing import add_log_options, log_options, number, parsed_seeds, positive

if TYPE_CHECKING:
    import argparse

    from rich.console import Console


__all__ = ["add_parser", "run"]

_EMBEDDED_LEAST = 10
"""Events that an item of the embedded log needs, as in the default config."""


_OPTIONS = {
    "data.min_item_events": "--min-item-events",
    "data.min_user_events": "--min-user-events",
    "data.min_value": "--min-value",
    "data.start": "--start",
    "data.stop": "--stop",
    "models": "--models",
    "beta": "--beta",
    "cap": "--caps",
    "seeds": "--seeds",
    "split.horizon": "--horizon",
    "split.recent": "--recent",
    "split.users": "--users",
    "tol": "--tol",
    "dither": "--dither",
}
"""Field → the option that stands for it."""


def add_parser(commands: Any) -> None:
    """Add the command and its options; ``commands`` is what ``add_subparsers`` returned."""
    parser = commands.add_parser("backtest", help="compare intensity models on what users did next")
    parser.add_argument("--data", help="name, folder, zip, CSV or Parquet file (default: the embedded log)")
    add_log_options(parser)
    parser.add_argument("--models", help="comma-separated names, such as transformer-hp,gru-hp,hp,popularity")
    parser.add_argument("--beta", help="floors of online matching (default: 0,0.3,0.7,1), or none")
    parser.add_argument("--caps", help="caps of online matching (default: 3,10,200), or none")
    parser.add_argument("--seeds", help="how many seeds, or which: 0,3,7 (default: 3)")
    parser.add_argument("--split", choices=("user-relative", "calendar"), help="how the log is cut")
    parser.add_argument("--horizon", help="what has to be foreseen: a duration, such as 30min or 14d")
    parser.add_argument("--recent", type=number, help="user-relative: share of each user's last events kept")
    parser.add_argument("--users", type=positive, help="calendar: at most so many users are tested")
    parser.add_argument("--recipe", choices=("thorough", "quick"), help="how sequence models are fitted")
    parser.add_argument(
        "--prices", choices=("cross-fitted", "seen"), help="by which models past states are scored"
    )
    parser.add_argument("--tol", type=number, help="certified gap at which the price solver stops")
    parser.add_argument(
        "--dither", type=number, help="share of a position's mean value within which items tie"
    )
    parser.add_argument("--device", help="auto, cpu, cuda, …")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/backtest-<time>)")


def _numbers(option: str, text: str) -> list[float]:
    if text == "none":
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option}: {text!r}; allowed: comma-separated numbers, or none") from None


def _given(options: argparse.Namespace, names: dict[str, str]) -> dict[str, object]:
    """Config field → value of those options that were given."""
    return {field: value for name, field in names.items() if (value := getattr(options, name)) is not None}


def _plain(options: argparse.Namespace) -> dict[str, object]:
    """The config that the options describe, as nested mappings; what was not given is left out."""
    data = _given(options, {"data": "source"}) | log_options(options)
    if data:
        data.setdefault("min_item_events", _EMBEDDED_LEAST if options.data is None else 1)
    split = _given(options, {"split": "kind", "horizon": "horizon", "recent": "recent", "users": "users"})
    plain = _given(
        options,
        {"recipe": "recipe", "prices": "prices", "tol": "tol", "dither": "dither", "device": "device"},
    )
    plain |= {name: part for name, part in (("data", data), ("split", split)) if part}
    if options.models is not None:
        plain["models"] = [part.strip() for part in options.models.split(",") if part.strip()]
    for option, field in (("beta", "beta"), ("caps", "cap")):
        if (text := getattr(options, option)) is not None:
            plain[field] = _numbers(f"--{option}", text)
    if options.seeds is not None:
        plain["seeds"] = parsed_seeds(options.seeds)
    return plain


def run(options: argparse.Namespace, console: Console, command: str) -> None:
    """Do a back-test as the options say and print what it found."""
    from rimsim.scenarios.backtesting.config import backtest_from  # noqa: PLC0415
    from rimsim.scenarios.backtesting.results import print_results  # noqa: PLC0415
    from rimsim.scenarios.backtesting.run import backtest  # noqa: PLC0415  # torch loads only for work

    config = backtest_from(_plain(options), origin="backtest", options=_OPTIONS)
    done = backtest(
        config,
        out=options.out,
        command=command,
        report=lambda line: console.print(line, highlight=False, soft_wrap=True, markup=False),
    )
    print_results(done, console)
