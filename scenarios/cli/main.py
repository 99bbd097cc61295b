"""The command ``rimsim``."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from rimsim import __version__
from rimsim.config import find_scenario, scenario_names
from rimsim.errors import ArmsError, ConfigError, RimsimError, RunFolderError, reason
from rimsim.scenarios.cli import backtest as backtest_command
from rimsim.scenarios.cli import sweep as sweep_command
from rimsim.scenarios.cli.parsing import (
    Parser,
    add_log_options,
    log_options,
    parsed_seeds,
    positive,
    read_value,
)
from rimsim.scenarios.execution.signals import stopping_on_request
from rimsim.scenarios.study.resume_options import require_same

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from rimsim.scenarios.cli.parsing import Commands
    from rimsim.scenarios.store.run_folder import Run

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rimsim", description="Simulate a recommendation market with guaranteed exposure.")
    parser.add_argument("--version", action="version", version=f"rimsim {__version__}")
    commands = parser.add_subparsers(dest="job", required=True, metavar="COMMAND", parser_class=Parser)

    compare = commands.add_parser("compare", help="compare agents in the closed loop: the main job")
    compare.add_argument(
        "scenario", nargs="?", help="name (rimsim scenarios) or YAML file (default: closed-loop)"
    )
    _compare_options(compare)

    sweep = commands.add_parser("sweep", help="compare agents over a grid of settings: the front")
    sweep.add_argument("scenario", nargs="?", help="as in compare")
    sweep.add_argument("--beta", metavar="VALUES", help="values of exposure.beta: 0,0.3,0.7,1")
    sweep.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="FIELD=VALUES",
        help="values of any field: exposure.cost=1,2,4; several fields make a grid (default: β from 0 to 1)",
    )
    _run_options(sweep)
    sweep.add_argument("--ledger", action="store_true", help="write the ledgers of all points")

    demo = commands.add_parser(
        "demo", help="the main job and the replay on the embedded data, in some minutes"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder of the runs; replaced if it is a demo"
    )

    report = commands.add_parser("report", help="print the tables of a run and draw its pictures again")
    report.add_argument("run", type=Path, help="run folder")
    alone = report.add_mutually_exclusive_group()
    alone.add_argument(
        "--digest", action="store_true", help="print a digest of the tables' content and nothing else"
    )
    alone.add_argument(
        "--markdown", action="store_true", help="print the tables as Markdown and nothing else"
    )

    backtest_command.add_parser(commands)
    _data_parser(commands)
    commands.add_parser("scenarios", help="list the built-in scenarios")
    return parser


def _data_parser(commands: Commands[Parser]) -> None:
    jobs = commands.add_parser("data", help="list, check or download logs").add_subparsers(
        dest="data_job", required=True, metavar="JOB", parser_class=Parser
    )
    jobs.add_parser("list", help="the logs that can be had by name")
    check = jobs.add_parser("check", help="describe a log and say what can be done with it")
    check.add_argument("path", help="name, folder, zip, CSV, TSV or Parquet file")
    add_log_options(check)
    check.add_argument("--picture", type=Path, help="draw the log into this PNG file")
    download = jobs.add_parser("download", help="fetch a log, with its checksum")
    download.add_argument("name", help="a name of rimsim data list")
    download.add_argument("--folder", type=Path, help="where to (default: the data folder)")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    _run_options(parser)
    parser.add_argument(
        "--frozen", help="agents that also get an arm without retraining ('none' for no such arm)"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="RUN", help="repeat a run and say whether it is equal"
    )
    parser.add_argument("--no-ledger", action="store_true", help="do not write the ledger")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agents", help="comma-separated names, or file.py:Class, with options in brackets")
    parser.add_argument(
        "--measures", help="measures of your own beside the built-in ones: file.py:name, parted by commas"
    )
    parser.add_argument("--rounds", type=positive, help="rounds, in place of the scenario's")
    parser.add_argument("--seeds", help="how many seeds, or which: 0,3,7 (default: 2)")
    parser.add_argument("--data", help="name, folder, zip, CSV or Parquet file, in place of the scenario's")
    parser.add_argument("--columns", help="columns of the log: user=uid,item=sku,time=at")
    parser.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows of the log out, counted")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="another field: exposure.beta=0.3"
    )
    parser.add_argument("--out", type=Path, help="folder (default: runs/<scenario>-<time>)")
    parser.add_argument("--resume", action="store_true", help="go on with what was interrupted in --out")
    parser.add_argument("--batch-size", type=positive, help="arrivals a batch at most; changes no result")
    parser.add_argument(
        "--workers", type=positive, help="arms at once (default: one a core); changes no result"
    )
    parser.add_argument(
        "--backend",
        default="local",
        metavar="NAME",
        help="local: processes here (default); ray: tasks on Ray, with the extra rimsim[ray]; changes no result",
    )
    parser.add_argument(
        "--address", help="Ray cluster: auto or host:port (default: one started here for the run)"
    )
    parser.add_argument("--no-certificate", action="store_true", help="do not compute V, D(w) and the gap")


def _split(text: str) -> list[str]:
    """Comma-separated parts; commas within brackets do not count."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _settings(pairs: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set: {pair!r}; allowed: FIELD=VALUE, such as exposure.beta=0.3")
        found[field.strip()] = read_value(value, f"--set: {pair!r}")
    return found


def _all_settings(options: argparse.Namespace) -> dict[str, object]:
    settings = _settings(options.set)
    if options.columns:
        settings["data.columns"] = options.columns
    if options.skip_bad_rows:
        settings["data.skip_bad_rows"] = True
    return settings


def _require_same(options: argparse.Namespace, run: Run) -> None:
    """Refuse options that differ from what a run folder holds."""
    grid = None
    if run.kind == "sweep" and (options.grid or options.beta is not None):
        grid = sweep_command.parsed_grid(options.grid, options.beta)
    entries = {
        "agents": None if options.agents is None else _split(options.agents),
        "measures": None if options.measures is None else _split(options.measures),
        "seeds": None if options.seeds is None else parsed_seeds(options.seeds),
        "frozen": _frozen(options),
        "sweep": grid,
    }
    require_same(run, options, _all_settings(options), entries)


def _frozen(options: argparse.Namespace) -> list[str] | None:
    text = getattr(options, "frozen", None)
    return None if text is None else [] if text == "none" else _split(text)


def _folder_to_resume(options: argparse.Namespace) -> Path:
    """The folder that --resume goes on with: --out, or the one word that is given."""
    if options.out is None and options.scenario is not None and Path(options.scenario).is_dir():
        options.out, options.scenario = Path(options.scenario), None
    if options.out is None or getattr(options, "source", None) is not None:
        raise ConfigError("--resume goes on with the run in --out; allowed: --out RUN, and no --from")
    return Path(options.out)


def _compare(options: argparse.Namespace, console: Console) -> None:
    if options.resume:
        _resume(options, console)
    elif options.source is not None:
        _repeat(options, console)
    else:
        _compare_anew(options, console)


def _compare_anew(options: argparse.Namespace, console: Console) -> None:
    from rimsim.scenarios.report.comparison import print_results  # noqa: PLC0415
    from rimsim.scenarios.study.compare import compare  # noqa: PLC0415  # torch loads only for work

    run = compare(
        options.scenario or "closed-loop",
        agents=None if options.agents is None else _split(options.agents),
        rounds=options.rounds,
        seeds=parsed_seeds(options.seeds or "2"),
        data=options.data,
        settings=_all_settings(options),
        measures=_split(options.measures or ""),
        frozen=_frozen(options),
        out=options.out,
        batch_size=options.batch_size,
        workers=options.workers,
        backend=options.backend,
        address=options.address,
        certify=not options.no_certificate,
        ledger=not options.no_ledger,
        command=_command(),
        console=console,
    )
    print_results(run, console)


def _resume(options: argparse.Namespace, console: Console) -> None:
    from rimsim.scenarios.report.comparison import print_results  # noqa: PLC0415
    from rimsim.scenarios.store.run_folder import load_run  # noqa: PLC0415
    from rimsim.scenarios.study.run import resume  # noqa: PLC0415  # torch loads only for work

    folder = _folder_to_resume(options)
    _require_same(options, load_run(folder, "comparison"))
    run = resume(
        folder,
        batch_size=options.batch_size,
        workers=options.workers,
        backend=options.backend,
        address=options.address,
        console=console,
    )
    print_results(run, console)


def _repeat(options: argparse.Namespace, console: Console) -> None:
    """Run again what a run folder describes, and compare the content of the tables."""
    from rimsim.scenarios.report.comparison import print_results  # noqa: PLC0415
    from rimsim.scenarios.store.digest import different_tables, digest  # noqa: PLC0415
    from rimsim.scenarios.store.run_folder import load_run  # noqa: PLC0415
    from rimsim.scenarios.study.changes import changes  # noqa: PLC0415
    from rimsim.scenarios.study.compare import compare  # noqa: PLC0415  # torch loads only for work

    source = load_run(options.source, "comparison")
    _require_same(options, source)
    changed = changes(source)
    for line in changed:
        console.print(f"note: {source.folder}: {line}", soft_wrap=True, highlight=False, markup=False)
    run = compare(
        source.scenario,
        agents=source.config["agents"],
        seeds=source.seeds,
        measures=list(source.own_measures),
        frozen=source.config["frozen"],
        out=options.out,
        batch_size=options.batch_size,
        workers=options.workers,
        backend=options.backend,
        address=options.address,
        certify=source.config["certify"],
        ledger=source.config["ledger"],
        command=_command(),
        console=console,
    )
    print_results(run, console)
    one, other = digest(source), digest(run)
    if one != other:
        raise RunFolderError(
            f"{run.folder} differs from {source.folder} in {', '.join(different_tables(source, run))} (digests {other} "
            f"and {one}); {'; '.join(changed) or 'log, files, versions and config are the same'}"
        )
    console.print(f"equal to {options.source}: {one}", highlight=False, soft_wrap=True)


def _sweep(options: argparse.Namespace, console: Console) -> None:
    from rimsim.scenarios.report.sweep import print_results  # noqa: PLC0415
    from rimsim.scenarios.store.run_folder import load_run  # noqa: PLC0415
    from rimsim.scenarios.study.run import resume  # noqa: PLC0415
    from rimsim.scenarios.study.sweep import sweep  # noqa: PLC0415

    if options.resume:
        folder = _folder_to_resume(options)
        _require_same(options, load_run(folder, "sweep"))
        run = resume(
            folder,
            batch_size=options.batch_size,
            workers=options.workers,
            backend=options.backend,
            address=options.address,
            console=console,
        )
    else:
        run = sweep(
            options.scenario or "closed-loop",
            sweep_command.parsed_grid(options.grid, options.beta) or None,
            None if options.agents is None else _split(options.agents),
            options.rounds,
            parsed_seeds(options.seeds or "2"),
            data=options.data,
            settings=_all_settings(options),
            measures=_split(options.measures or ""),
            out=options.out,
            batch_size=options.batch_size,
            workers=options.workers,
            backend=options.backend,
            address=options.address,
            certify=not options.no_certificate,
            ledger=options.ledger,
            command=_command(),
            console=console,
        )
    print_results(run, console)


def _command() -> str:
    return "rimsim " + shlex.join(sys.argv[1:])


def _demo(options: argparse.Namespace, console: Console) -> None:
    from rimsim.scenarios.cli.demo import demo  # noqa: PLC0415  # torch loads only for work

    demo(options.out, console)


def _report(options: argparse.Namespace, console: Console) -> None:
    from rimsim.scenarios.cli.report import report  # noqa: PLC0415  # torch loads only for work

    report(options.run, console, digest=options.digest, markdown=options.markdown)


def _data(options: argparse.Namespace, console: Console) -> None:
    from rimsim.data import catalogue, check, download, require_usable  # noqa: PLC0415  # pandas loads only for work

    if options.data_job == "list":
        for entry in catalogue():
            console.print(entry.text(), highlight=False, soft_wrap=True)
    elif options.data_job == "check":
        described = check(options.path, **log_options(options))
        console.print(described.text(), highlight=False, soft_wrap=True, markup=False)
        if options.picture is not None:
            described.picture(options.picture)
            console.print(f"picture     {options.picture}", highlight=False, soft_wrap=True)
        require_usable(described.log)
    else:
        with _bytes_shown(options.name, console) as progress:
            path = download(options.name, options.folder, progress=progress)
        console.print(f"saved to {path}", highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _bytes_shown(name: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """What to call with bytes so far and bytes in all; the bar appears with the first of them."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=None, visible=False)
        yield lambda have, whole: bar.update(task, completed=have, total=whole, visible=True)


def _scenarios(console: Console) -> None:
    for name in scenario_names():
        console.print(f"{name:22} {find_scenario(name).description}", highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, or 2 for an error of ours, told in one sentence."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a file or a pipe: wide enough for the tables
    try:
        with stopping_on_request():
            _do(options, console)
    except ArmsError as error:
        _print_complete(Path(error.folder), console)
        _complain(str(error))
        return 2
    except RimsimError as error:
        _complain(str(error))
        return 2
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # such as a full disk
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{reason(error)}; what was finished is kept")
        return 2
    except KeyboardInterrupt:
        _complain(
            "interrupted; finished rounds are in the run folder, and compare --resume --out RUN goes on"
        )
        return 130
    return 0


def _print_complete(folder: Path, console: Console) -> None:
    """Print the tables of the arms that went well beside others that failed."""
    from rimsim.scenarios.report import comparison, sweep  # noqa: PLC0415  # torch loads only for work
    from rimsim.scenarios.store.run_folder import load_run  # noqa: PLC0415
    from rimsim.scenarios.store.status import status_of  # noqa: PLC0415

    run = load_run(folder)
    if run.kind == "sweep":
        with suppress(RunFolderError):  # no arm is complete
            sweep.print_results(run, console)
    elif status_of(run).complete:
        comparison.print_results(run, console)


def _do(options: argparse.Namespace, console: Console) -> None:
    if options.job == "compare":
        _compare(options, console)
    elif options.job == "backtest":
        backtest_command.run(options, console, _command())
    elif options.job == "sweep":
        _sweep(options, console)
    elif options.job == "demo":
        _demo(options, console)
    elif options.job == "data":
        _data(options, console)
    elif options.job == "report":
        _report(options, console)
    else:
        _scenarios(console)


def _complain(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"rimsim: {text}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
