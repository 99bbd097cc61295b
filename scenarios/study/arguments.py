"""Keyword arguments that comparisons and sweeps share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict, TypeVar, cast

from rich.console import Console

from rimsim.data.session_logs import LogSource
from rimsim.errors import require_known
from rimsim.scenarios.runs.arms import StudyOptions
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.progress import bar_console
from rimsim.scenarios.study import checks
from rimsim.session import session_places

Function = TypeVar("Function", bound=Callable[..., object])


class StudyArguments(TypedDict, total=False):
    """Arguments of a study: log, arms, files and execution.

    Args:
        data: Replaces ``data.source``: a name, a path, a data frame (pandas, Polars, Arrow) with columns user, item and
            time, or an ``EventLog``.
        columns: Columns of the log, such as ``user=uid,item=sku,time=at``; None: the scenario's, or the usual names.
        separator: Separator of a text log; None: the scenario's, or detected.
        encoding: Encoding of a text log; None: the scenario's, or UTF-8.
        time_unit: Unit of times that are numbers, such as ``ms`` or ``min``; None: the scenario's, or found.
        skip_bad_rows: Leave bad rows of the log out, and count them; None: as the scenario says.
        drop_returns: Leave rows with a negative quantity out, and count them; None: as the scenario says.
        min_item_events: Minimum number of events per item; None: the scenario's.
        items: Table of items, a CSV or Parquet file; None: the scenario's, or the log's own.
        settings: Other fields to replace, by dotted name; a model may be an object of this session, with one worker. A
            sweep replaces them at every point.
        groups: Columns whose groups are reported without a guarantee, or a single column.
        measures: Your own measures in addition to the built-in ones, such as ``my_measure.py:freshness``. Objects of
            this session are also possible, with one worker.
        frozen: Agents that also get controls. Scenarios that retrain default to ``relevance`` or the first agent.
        certify: Compute certificates (value V, bound D(w), gap) of every round.
        ledger: Write the ledger, or the ledgers of all points of a sweep.
        reveal: ``truth`` writes the true worth of each exposure, which agents never see.
        out: The run folder; None: ``runs/<scenario>-<time>``, or ``runs/<scenario>-sweep-<time>``. Each point of a
            sweep has a run folder of its own below ``points/``.
        batch_size: Largest number of arrivals per batch; results do not depend on it.
        workers: Number of parallel arms; None: one per core. Results do not depend on the number of workers.
        backend: ``local`` uses processes of this machine; ``ray`` (an extra) uses tasks on Ray, with equal results.
        address: Address of a Ray cluster, ``auto`` or ``host:port``; None: a local cluster is started for the run.
        command: The command line, to be recorded.
        progress: Show progress bars; None: in an interactive terminal or a notebook.
        console: Console of the progress bars; None: the standard output.
    """

    data: LogSource | None
    columns: str | None
    separator: str | None
    encoding: str | None
    time_unit: str | None
    skip_bad_rows: bool | None
    drop_returns: bool | None
    min_item_events: int | None
    items: str | Path | None
    settings: Mapping[str, object] | None
    groups: str | Sequence[str]
    measures: object
    frozen: Sequence[str] | None
    certify: bool
    ledger: bool
    reveal: Sequence[str]
    out: str | Path | None
    batch_size: int | None
    workers: int | None
    backend: str
    address: str | None
    command: str | None
    progress: bool | None
    console: Console | None


_DEFAULTS: Final[StudyArguments] = {
    "groups": (),
    "measures": (),
    "certify": True,
    "reveal": (),
    "backend": "local",
}
"""Defaults other than None."""


def study_arguments(*, ledger: bool) -> Callable[[Function], Function]:
    """Decorator that shows a study's arguments in signature and help.

    The function collects these arguments in ``**options``. Type checkers and editors know them from
    ``Unpack[StudyArguments]``. Without this decorator, ``inspect.signature`` and ``help`` would show ``options`` alone.

    Args:
        ledger: Default of the argument ``ledger``.
    """
    defaults: Mapping[str, object] = {**_DEFAULTS, "ledger": ledger}
    named = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=kind.__forward_arg__
        )
        for name, kind in StudyArguments.__annotations__.items()
    ]
    entries = (StudyArguments.__doc__ or "").partition("Args:\n")[2].rstrip()

    def shown(function: Function) -> Function:
        """Give a function the signature and the help."""
        signature = inspect.signature(function)
        explicit = [part for part in signature.parameters.values() if part.kind is not part.VAR_KEYWORD]
        vars(function)["__signature__"] = signature.replace(parameters=[*explicit, *named])
        if function.__doc__:  # there are no docstrings under the option -OO of Python
            function.__doc__ = re.sub(r" *\*\*options: .*", lambda _: entries, function.__doc__)
        return function

    return shown


def completed(function: Callable[..., object], options: StudyArguments) -> StudyArguments:
    """Options of a call, with defaults of all others.

    Raises:
        ConfigError: If the function has no argument of such a name; the message offers the nearest name.
    """
    parameters = inspect.signature(function).parameters
    require_known(f"{function.__name__}: {{}} is not an argument", options, parameters)
    defaults = {name: parameters[name].default for name in StudyArguments.__annotations__}
    return cast("StudyArguments", {**defaults, **options})


def arms_of(
    arguments: StudyArguments,
    agents: object | None,
    seeds: int | Sequence[int],
    control: Sequence[str] | None,
) -> StudyOptions:
    """Options of arms; places name objects of this session."""
    return StudyOptions(
        agents=None if agents is None else session_places(agents),
        frozen=arguments["frozen"],
        control=control,
        seeds=seeds,
        certify=arguments["certify"],
        ledger=arguments["ledger"],
        reveal=arguments["reveal"],
        measures=session_places(arguments["measures"], copied=False),
        groups=checks.listed(arguments["groups"]),
    )


def log_of(arguments: StudyArguments) -> checks.LogArguments:
    """Arguments that describe the log."""
    return checks.LogArguments(
        data=arguments["data"],
        columns=arguments["columns"],
        separator=arguments["separator"],
        encoding=arguments["encoding"],
        time_unit=arguments["time_unit"],
        skip_bad_rows=arguments["skip_bad_rows"],
        drop_returns=arguments["drop_returns"],
        min_item_events=arguments["min_item_events"],
        items=arguments["items"],
    )


def execution_of(arguments: StudyArguments, places: Sequence[str]) -> Execution:
    """Options of execution; session objects need a single worker.

    ``places`` are those of the study's agents, measures and models.
    """
    backend = arguments["backend"]
    return Execution(
        batch_size=arguments["batch_size"],
        workers=checks.session_workers(places, arguments["workers"], backend),
        backend=backend,
        address=arguments["address"],
        console=bar_console(arguments["console"], show=arguments["progress"]),
    )
