"""Every table of this version beside those of another: ``python benchmarks/same_tables.py [REVISION | CHECKOUT]``.

Both versions play the same small jobs through the command line, each with fits and compiled code of its own: every
built-in scenario with every agent that can act in it, in batches and on workers that the other version need not have;
delays, caps and models that no built-in scenario has; a run that is killed and resumed; a sweep; a back-test. What the
first version could not do is played by this one alone, in batches, on workers and killed, and compared with itself.
Tables are compared by digests of their sorted content. Ends with status 1 if one differs and ``CHANGED`` does not say
why; that is asked of the first version alone.

The other version's digests are kept in the temporary folder, so that a second comparison plays this version alone.
``--only campaigns,hard`` plays these kinds alone. ``--speed N`` compares CPU seconds instead: a whole comparison of
both versions, N times each, taking turns.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

_MARKET = (
    "sessions arrive with their past, truths are chosen on later sessions, the platform is bag-visits and learns from "
    "what it showed, c is fixed at the opening, guarantees and prices count what is examined (CHANGELOG.md)"
)
_LEDGER = "ledgers have propensities of positions, beginnings and slates"
CHANGED: dict[str, str] = {
    "*/catalogue": "catalogue.parquet counts the events before the market opened",
    **dict.fromkeys(
        ("*/arrivals", "*/prices", "*/required", "*/adoption", "*/rounds:*", "*/sweep:*"), _MARKET
    ),
    "*/ledger": f"{_LEDGER}; {_MARKET}",
}
"""``job/table`` or ``job/table:metric``, with ``*`` for any text → the rule that was changed on purpose since
:data:`FIRST`. Beside any other version every difference counts."""

HERE = Path(__file__).resolve().parent.parent
FIRST = "2f66025"
WAYS = ((1, 1000), (1, 1), (2, 13))
"""(workers, arrivals a batch); the other version plays the first of them."""
QUICK_WAYS = ((1, 1000),)
AUDIENCE = ("offline-match", "user-rec")
AGENTS = (
    "random,popularity,relevance,rim-dual,rim-feedback,rim-resolve,entropic-dual,p-mmf,fair-rec,epsilon-greedy,oracle,"
    "hindsight"
)
CLONES = ("closed-loop", "closed-loop-full-log", "cold-start", "no-retrain")
BROADCASTS = ("offline-match", "user-rec")
VARIANTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "delay": ("closed-loop", "relevance,rim-feedback,oracle", ("consumer.delay=1d",)),
    "user-cap": ("closed-loop", "relevance,rim-feedback,hindsight", ("user_cap=15",)),
    "no-history": (
        "cold-start",
        "relevance,rim-dual",
        (
            "arrivals.history=none",
            "arrivals.weight=sessions",
            "consumer.delay=6h",
            "platform.retrain_ground=true",
        ),
    ),
    "guarantee": (
        "closed-loop",
        "rim-resolve,entropic-dual,p-mmf",
        (
            "exposure.items=15",
            "exposure.each=9",
            "platform.calibration=seen",
            "platform.model=transformer-hp",
        ),
    ),
    "broadcast-delay": ("offline-match", "offline-match,rim-feedback", ("consumer.delay=2d", "slate=3")),
    "replay-horizon": (
        "online-match",
        "relevance,rim-feedback",
        ("consumer.horizon=3d", "consumer.delay=1h", "rounds=2", "arrivals.per_round=70", "user_cap=12"),
    ),
    "hawkes": (
        "closed-loop",
        "relevance,rim-dual",
        ("platform.model=popularity-hawkes", "arrivals.max_visits=3"),
    ),
    "mark-alone": ("cold-start", "relevance,rim-feedback", ("platform.model=gru",)),
    "graph": ("no-retrain", "relevance", ("platform.model=graph-ema", "platform.retrain=true")),
}
"""Name → scenario, agents, settings."""
_BOTH = "relevance,rim-feedback,lin-ucb"
NEWER: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "two-sided": ("two-sided", _BOTH, ("providers.options.start=1.5",)),
    "users-return": ("users-return", _BOTH, ()),
    "campaigns": ("campaigns", _BOTH, ("rounds=3", "data.min_item_events=60", "arrivals.per_round=300")),
    "hard": ("closed-loop", "rim-feedback,rim-resolve", ("exposure.hard=true",)),
    "logit": (
        "closed-loop",
        _BOTH,
        ("consumer.kind=logit", "consumer.dynamics.satiation=0.5", "consumer.dynamics.conformity=0.3"),
    ),
    "cascade": (
        "closed-loop",
        _BOTH,
        ("consumer.kind=cascade", "consumer.options={stop: 0.5}", "consumer.dynamics.drift=0.5"),
    ),
}
"""The same, of what :data:`FIRST` could not do."""
QUICK = ("closed-loop", "cold-start", "online-match", "user-rec", "delay", "killed")
SPEED = ("relevance", "rim-dual", "rim-feedback", "random")

_KILLED = '''"""An agent whose process is killed as its round 1 begins, where KILL is set."""

import os
import signal

from rimsim.agents import make_agent


class Killed:
    """As rim-feedback."""

    def __init__(self):
        self._agent = make_agent("rim-feedback")
        self.name = "killed"

    def __getattr__(self, name):
        return getattr(self._agent, name)

    def begin_round(self, view):
        if view.round == 1 and os.environ.get("KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._agent.begin_round(view)

    def act(self, *arguments):
        return self._agent.act(*arguments)
'''

_PLAY = '''"""Play the jobs of jobs.json with one version of rimsim; its digests go to digests.json."""

import hashlib
import json
import os
import resource
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np

TABLES = """
rounds ledger arrivals required prices reliability adoption catalogue users sweep backtest learnt opening providers
promises undeliverable
""".split()


def content(table):
    """A digest of a table's rows, whatever their order and that of the columns."""
    keys = {}
    for name in sorted(table.columns):
        column = table[name]
        plain = column.to_numpy()
        keys[name] = plain if plain.dtype.kind in "biuf" else column.astype(str).to_numpy(str)
    order = np.lexsort(list(keys.values())) if len(table) else []
    whole = hashlib.sha256()
    for name, values in keys.items():
        whole.update(f"{name} {values.dtype.kind}{values.dtype.itemsize if values.dtype.kind != 'U' else ''}".encode())
        whole.update("\\0".join(values[order]).encode() if values.dtype.kind == "U" else values[order].tobytes())
    return whole.hexdigest()[:16]


def tables(folder):
    """Name of each table, and of each metric of a long one, of a run and of the runs inside it -> digest."""
    from rimsim.errors import RunFolderError
    from rimsim.scenarios import load_run

    found = {}
    for config in sorted(Path(folder).rglob("config.yaml")):
        run, inside = load_run(config.parent), config.parent.relative_to(folder)
        for name in TABLES:
            try:
                table = getattr(run, name)
            except (RunFolderError, AttributeError):  # the version may not know it
                continue
            if table is None:
                continue
            parts = dict(list(table.groupby("metric"))) if "metric" in table else {"": table}
            for metric, part in parts.items():
                found[(inside / name).as_posix() + (f":{metric}" if metric else "")] = content(part)
    return found


def cpu():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def rimsim(arguments):
    """The command line; 0 if all went well."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    place, _, name = project["scripts"]["rimsim"].partition(":")
    sys.argv = ["rimsim", *arguments]
    try:
        return getattr(import_module(place), name)() or 0
    except SystemExit as end:
        return end.code or 0


if __name__ == "__main__":
    place, checkout = Path(sys.argv[1]), Path(sys.argv[2])
    import rimsim as package

    assert Path(package.__file__).parent.parent == checkout, package.__file__
    for job, lines in json.loads((place / "jobs.json").read_text()).items():
        start = cpu()
        out = place / job
        for line in lines:
            if line[0] != "killed":
                if status := rimsim([*line, "--out", str(out)]):
                    sys.exit(f"{job}: rimsim {' '.join(line)} ended with {status}")
            elif (child := os.fork()) == 0:
                os.environ["KILL"] = "1"
                rimsim([*line[1:], "--out", str(out)])
                os._exit(0)
            else:
                assert os.waitpid(child, 0)[1] == 9, "the run was not killed"
        told = {"job": job, "seconds": cpu() - start, "tables": tables(out)}
        with (place / "digests.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\\n")
        print(f"{checkout.name}: {job}: {told['seconds']:.0f} CPU s", file=sys.stderr, flush=True)
'''


Lines: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Played:
    """What a version made of a job."""

    seconds: float
    """CPU, fits and compiled code included."""
    tables: dict[str, str]
    """Table, or table:metric → digest."""


@dataclass(frozen=True)
class Job:
    """Command lines that fill one run folder."""

    name: str
    lines: Lines
    same_as: str
    """The job of the other version whose tables these must be."""
    alone: bool = False
    """The job is of this version: the other one need not be able to play it."""


def _compare(
    scenario: str, agents: str, settings: tuple[str, ...], workers: int, batch: int
) -> tuple[str, ...]:
    """A comparison of at most two rounds, some hundred items and arrivals; all else as in the scenario."""
    if scenario != "online-match":
        small = ("rounds=2", "data.min_item_events=100", "arrivals.per_round=120")
    else:
        small = ("rounds=1", "data.min_item_events=100", "arrivals.warmup_share=0.9")
    sets = [word for setting in (*small, *settings) for word in ("--set", setting)]
    size = ("--workers", str(workers), "--batch-size", str(batch))
    return ("compare", scenario, "--agents", agents, "--seeds", "1", *sets, *size)


def jobs(*, quick: bool) -> list[Job]:
    """What is played."""
    found = []
    for scenario in (*CLONES, *BROADCASTS, "online-match"):
        agents = AGENTS + (f",{','.join(AUDIENCE)}" if scenario in BROADCASTS else "")
        for workers, batch in QUICK_WAYS if quick else WAYS:
            line = _compare(scenario, agents, (), workers, batch)
            found.append(Job(f"{scenario}, {workers} x {batch}", (line,), f"{scenario}, 1 x 1000"))
    for name, (scenario, agents, settings) in VARIANTS.items():
        for batch in (1000, 13):
            line = _compare(scenario, agents, settings, 1, batch)
            found.append(Job(f"{name}, 1 x {batch}", (line,), f"{name}, 1 x 1000"))
    for name, (scenario, agents, settings) in NEWER.items():
        for workers, batch in WAYS:
            line = _compare(scenario, agents, settings, workers, batch)
            found.append(Job(f"{name}, {workers} x {batch}", (line,), f"{name}, 1 x 1000", alone=True))
        killed = f"{agents},killed.py:Killed"
        for kill in (False, True):
            line = _compare(scenario, killed, settings, 1, 50)
            lines = (("killed", *line), ("compare", "--resume")) if kill else (line,)
            how = "killed, resumed" if kill else "not killed"
            found.append(Job(f"{name}, {how}", lines, f"{name}, not killed", alone=True))
    line = _compare("closed-loop", "relevance,killed.py:Killed", (), 1, 50)
    found.append(Job("killed, resumed", (("killed", *line), ("compare", "--resume")), "killed, resumed"))
    small = ("--set", "data.min_item_events=100", "--set", "arrivals.per_round=120", "--workers", "2")
    grid = ("--beta", "0.2,0.8", "--grid", "platform.model=popularity-hp,gru-hp")
    line = (
        "sweep",
        "closed-loop",
        "--agents",
        AGENTS,
        "--rounds",
        "2",
        "--seeds",
        "2",
        *grid,
        *small,
        "--ledger",
    )
    found.append(Job("sweep", (line,), "sweep"))
    words = "--models gru-hp,hp,popularity --recipe quick --min-item-events 60 --seeds 2 --beta 0,0.7 --caps 3,200"
    found.append(Job("back-test", (("backtest", *words.split()),), "back-test"))
    if not quick:
        return found
    return [job for job in found if job.name.partition(",")[0] in QUICK]


@contextmanager
def checkout_of(revision: str) -> Iterator[Path]:
    """A folder that holds a revision of this repository, as long as the block."""
    with tempfile.TemporaryDirectory(prefix="same-tables-") as folder:
        place = Path(folder) / revision
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(place), revision], check=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


def play(checkout: Path, wanted: dict[str, Lines], place: Path) -> dict[str, Played]:
    """Job → what the code of a checkout makes of its command lines.

    Args:
        checkout: The root of a version of this repository.
        wanted: Job → command lines.
        place: A folder that does not exist yet, for run folders and fits.
    """
    place.mkdir(parents=True)
    for name, text in (("play.py", _PLAY), ("killed.py", _KILLED), ("jobs.json", json.dumps(wanted))):
        (place / name).write_text(text, encoding="utf-8")
    own = {"PYTHONPATH": str(checkout), "RIMSIM_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "play.py", str(place), str(checkout)],
        cwd=place,
        env=os.environ | own,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = map(json.loads, (place / "digests.jsonl").read_text(encoding="utf-8").splitlines())
    return {told["job"]: Played(told["seconds"], told["tables"]) for told in lines}


def kept(revision: str, wanted: dict[str, Lines], place: Path) -> dict[str, Played]:
    """As :func:`play` for a revision, or a folder; digests of a revision are kept for the next time."""
    if Path(revision).is_dir():
        return play(Path(revision).resolve(), wanted, place)
    git = ["git", "-C", str(HERE), "rev-parse", "--short=12", f"{revision}^{{commit}}"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    store = Path(tempfile.gettempdir()) / f"same-tables-{commit}.json"
    known = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    keys = {
        job: hashlib.sha256(json.dumps([lines, _PLAY, _KILLED]).encode()).hexdigest()
        for job, lines in wanted.items()
    }
    lacking = {job: lines for job, lines in wanted.items() if keys[job] not in known}
    if lacking:
        with checkout_of(commit) as checkout:
            for job, played in play(checkout, lacking, place).items():
                known[keys[job]] = asdict(played)
        draft = store.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(store)
    return {job: Played(**known[key]) for job, key in keys.items()}


def compare(revision: str, wanted: list[Job]) -> bool:
    """Print a line for each job; whether no table differs but for a rule that was changed."""
    with tempfile.TemporaryDirectory(prefix="same-tables-") as folder:
        there = kept(
            revision,
            {job.name: job.lines for job in wanted if job.name == job.same_as and not job.alone},
            Path(folder) / "there",
        )
        here = play(HERE, {job.name: job.lines for job in wanted}, Path(folder) / "here")
    reasons: set[str] = set()
    count, unexplained = 0, 0
    for job in wanted:
        ours, theirs = here[job.name].tables, (here if job.alone else there)[job.same_as].tables
        compared = ours | theirs if job.alone else theirs  # what is new is not there
        differ = sorted(name for name in compared if ours.get(name) != theirs.get(name))
        excused = revision == FIRST and not job.alone
        why = {name: rule(f"{job.same_as.partition(',')[0]}/{name}") if excused else None for name in differ}
        names = {name.partition(":")[0] for name in ours}
        count, unexplained = count + len(names), unexplained + sum(text is None for text in why.values())
        print(
            f"{job.name:32} {len(names):3} tables  {'differs: ' + ', '.join(differ) if differ else 'equal'}"
        )
        reasons |= {text for text in why.values() if text is not None}
        if None in why.values():
            print("\n".join(f"    rimsim {shlex.join(line)}" for line in job.lines))
    for text in sorted(reasons):
        print(f"rule changed: {text}")
    for version, played in ((revision, there), ("here", here)):
        print(f"{version}: {sum(one.seconds for one in played.values()):.0f} CPU s, {len(played)} jobs")
    but = " but for the rules above" if reasons else ""
    print("differs" if unexplained else f"equal{but}: {count} tables of {len(wanted)} jobs")
    return not unexplained


def rule(name: str) -> str | None:
    """The rule that explains why a table differs, if one does."""
    return next((why for pattern, why in CHANGED.items() if fnmatch.fnmatch(name, pattern)), None)


def speed(revision: str, turns: int) -> None:
    """Print CPU seconds of a comparison that is played a second time in its process, here and there."""
    line = ("compare", "closed-loop", "--agents", SPEED, "--seeds", "1", "--workers", "1")
    wanted = {"fits and compiles": (line,), "timed": (line,)}
    found: dict[str, list[float]] = {"there": [], "here": []}
    with (
        checkout_of(revision)
        if not Path(revision).is_dir()
        else nullcontext(Path(revision).resolve()) as checkout
    ):
        for turn in range(turns):
            for name, root in (("there", checkout), ("here", HERE)):
                with tempfile.TemporaryDirectory(prefix="same-tables-") as folder:
                    found[name].append(play(root, wanted, Path(folder) / name)["timed"].seconds)
                print(f"turn {turn + 1}, {name}: {found[name][-1]:.1f} CPU s", flush=True)
    print(f"there / here: {statistics.median(found['there']) / statistics.median(found['here']):.2f}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "other", nargs="?", default=FIRST, help=f"a revision or the folder of a checkout (default: {FIRST})"
    )
    parser.add_argument("--quick", action="store_true", help="some scenarios, two ways each")
    parser.add_argument("--only", metavar="KINDS", help="jobs whose name begins so, parted by commas")
    parser.add_argument(
        "--speed", type=int, metavar="N", help="compare CPU seconds, N turns, in place of tables"
    )
    given = parser.parse_args()
    if given.speed:
        speed(given.other, given.speed)
    else:
        chosen = jobs(quick=given.quick)
        if given.only:
            kinds = given.only.split(",")
            chosen = [job for job in chosen if job.name.partition(",")[0] in kinds]
        sys.exit(not compare(given.other, chosen))


if __name__ == "__main__":
    main()
