"""``rimsim sweep``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from rimsim.scenarios.run_folder import Run

__all__ = ["parsed_grid", "print_sweep"]


def parsed_grid(pairs: Sequence[str], betas: str | None) -> dict[str, list[object]]:
    """The grid that options say.

    Args:
        pairs: ``FIELD=VALUE,VALUE,…`` as given to ``--grid``.
        betas: ``VALUE,VALUE,…`` as given to ``--beta``.

    Raises:
        ConfigError: If one has no field, no value, or a field that another has.
    """
    import yaml  # noqa: PLC0415  # the command line starts without it

    texts = [*pairs, *([f"exposure.beta={betas}"] if betas else [])]
    grid: dict[str, list[object]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        field = field.strip()
        parts = [part for part in values.split(",") if part.strip()]
        if not equals or not field or not parts or field in grid:
            raise ConfigError(
                f"--grid: {text!r}; allowed: FIELD=VALUE,VALUE,… once a field, such as exposure.cost=1,2,4"
            )
        grid[field] = [yaml.safe_load(part) for part in parts]
    return grid


def print_sweep(run: Run, console: Console) -> None:
    """Print the table of a sweep and say where everything is."""
    from rimsim.scenarios.results import on_few_seeds, results_table  # noqa: PLC0415  # loads only for work
    from rimsim.scenarios.sweep_picture import front_table, not_drawn, swept_fields  # noqa: PLC0415

    table = run.sweep
    fields = swept_fields(table)
    metrics = ("utility", "precision", "perplexity", "coverage", "shortfall", "gap")
    means = front_table(table, fields, metrics)
    points = [" ".join(f"{n}={v}" for n, v in row.items()) for row in means[fields].to_dict("records")]
    labelled = means.assign(agent=[f"{name} {at}" for name, at in zip(means["agent"], points, strict=True)])
    seeds = table["seed"].nunique()
    spread = f"{seeds} seeds, ± half a 95 % interval" if seeds > 1 else "1 seed, no interval"
    console.print()
    console.print(results_table(labelled, f"{run.scenario.name}: means over the late rounds, {spread}"))
    note = on_few_seeds(seeds)
    if note is not None:
        console.print(note, soft_wrap=True, highlight=False)
    why_not = not_drawn(table)
    for name, where in (
        ("table", f"{run.folder}/sweep.parquet"),
        ("pictures", f"{run.folder}/pictures/ (front.png)" if why_not is None else f"none: {why_not}"),
        ("points", f"{run.folder}/points/"),
        ("events", f"tensorboard --logdir {run.folder}/points"),
    ):
        console.print(f"{name:10} {where}", soft_wrap=True, highlight=False)
