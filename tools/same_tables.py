"""Compare every table of this version with another version's: ``python tools/same_tables.py [REVISION]``.

Both versions run the same small jobs through the command line, each with its own fits and compiled code: every
built-in scenario with every agent that can act in it, variants that no scenario has, all kinds of analysis, and runs
that are killed and resumed. This version also runs the comparisons in other batches and on two workers. A table is
every Parquet file of a run folder, and every exported file; its digest covers the sorted rows, the order of columns and
their types. The script ends with status 1 if a table differs and ``CHANGED`` names no reason, or if one of the
schema's tables was never made.

The other version's digests are cached in the temporary folder. ``--quick`` runs a job per kind, ``--only ope,sweep``
runs these kinds, ``--folder DIR`` keeps the run folders. ``--model ease-visits`` lets this model serve all comparisons
and leaves the other kinds out: fits of the default model have moved since :data:`FIRST`.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).resolve().parent.parent
FIRST = "ba3cc4b"
_FITS = (
    "a full fit of bag, gru, transformer is a sampled fit with all items: scores move by 5e-7 relative, with "
    "transformer by 2e-5, and so do choices where two items nearly tie"
)
_ROWS = "a floor is a requirement row with one item: prices of groups, campaigns and caps are solved with the floors"
CHANGED: dict[str, str] = {"campaigns*": _ROWS, "*": _FITS}
"""``job/table`` with ``*`` for any text → the reason why a table differs from that of :data:`FIRST`."""

AGENTS = (
    "random,popularity,relevance,rim-dual,rim-feedback,rim-resolve,entropic-dual,p-mmf,fair-rec,epsilon-greedy,oracle,"
    "hindsight,lin-ucb"
)
FEW = "relevance,rim-feedback"
SMALL = ("rounds=2", "data.min_item_events=100", "arrivals.per_round=120")
REPLAY = ("rounds=1", "data.min_item_events=100", "arrivals.warmup_share=0.9")
SCENARIOS: dict[str, tuple[str, tuple[str, ...]]] = {
    "closed-loop": (AGENTS, SMALL),
    "closed-loop-full-log": (AGENTS, SMALL),
    "cold-start": (AGENTS, SMALL),
    "no-retrain": (AGENTS, SMALL),
    "offline-match": (f"{AGENTS},offline-match,user-rec", SMALL),
    "user-rec": (f"{AGENTS},offline-match,user-rec", SMALL),
    "online-match": (AGENTS, REPLAY),
    "two-sided": (f"{FEW},lin-ucb", (*SMALL, "providers.options.start=1.5")),
    "users-return": (f"{FEW},lin-ucb", SMALL),
    "campaigns": (f"{FEW},lin-ucb", ("rounds=3", "data.min_item_events=60", "arrivals.per_round=300")),
}
"""Scenario → agents and settings."""
VARIANTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "delay": ("closed-loop", f"{FEW},oracle", (*SMALL, "consumer.delay=1d")),
    "user-cap": ("closed-loop", f"{FEW},hindsight", (*SMALL, "user_cap=15")),
    "no-history": (
        "cold-start",
        "relevance,rim-dual",
        (
            *SMALL,
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
            *SMALL,
            "exposure.items=15",
            "exposure.each=9",
            "platform.calibration=seen",
            "platform.model=transformer-hp",
        ),
    ),
    "broadcast-delay": (
        "offline-match",
        "offline-match,rim-feedback",
        (*SMALL, "consumer.delay=2d", "slate=3"),
    ),
    "replay-horizon": (
        "online-match",
        FEW,
        (
            *REPLAY,
            "consumer.horizon=3d",
            "consumer.delay=1h",
            "rounds=2",
            "arrivals.per_round=70",
            "user_cap=12",
        ),
    ),
    "hawkes": (
        "closed-loop",
        "relevance,rim-dual",
        (*SMALL, "platform.model=popularity-hawkes", "arrivals.max_visits=3"),
    ),
    "mark-alone": ("cold-start", FEW, (*SMALL, "platform.model=gru")),
    "ease": ("closed-loop", FEW, (*SMALL, "platform.model=ease-visits")),
    "als": ("closed-loop", FEW, (*SMALL, "platform.model=als-hp")),
    "factors": ("closed-loop", FEW, (*SMALL, "platform.model=factors-visits")),
    "bag-truth": ("closed-loop", FEW, (*SMALL, "consumer.truth=bag")),
    "hard": ("closed-loop", "rim-feedback,rim-resolve", (*SMALL, "exposure.hard=true")),
    "too-hard": (
        "cold-start",
        "rim-feedback",
        (*SMALL, "exposure.hard=true", "exposure.items=30", "exposure.each=100"),
    ),
    "shown": ("closed-loop", "rim-dual,rim-feedback", (*SMALL, "exposure.unit=shown")),
    "logit": (
        "closed-loop",
        FEW,
        (
            *SMALL,
            "consumer.kind=logit",
            "consumer.dynamics.satiation=0.5",
            "consumer.dynamics.conformity=0.3",
        ),
    ),
    "cascade": (
        "closed-loop",
        FEW,
        (*SMALL, "consumer.kind=cascade", "consumer.options={stop: 0.5}", "consumer.dynamics.drift=0.5"),
    ),
}
"""Name → scenario, agents, settings."""
WAYS = ((1, 1000), (1, 13), (2, 50))
"""Workers and arrivals per batch; the other version runs the first."""

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

_PLAY = '''"""Run the jobs of jobs.json with one version of rimsim; its digests go to digests.jsonl."""

import hashlib
import json
import os
import resource
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

TIMED = {"fits": ["seconds", "cached"]}


def content(name, table):
    """A digest of a table: names and types of its columns in order, and its sorted rows."""
    table = table.drop(columns=TIMED.get(name, []))
    keys = []
    for column in table.columns:
        plain = table[column].to_numpy()
        keys.append(plain if plain.dtype.kind in "biuf" else table[column].astype(str).to_numpy(str))
    order = np.lexsort(keys[::-1]) if len(table) and keys else []
    whole = hashlib.sha256(" ".join(f"{c}:{t}" for c, t in table.dtypes.astype(str).items()).encode())
    for values in keys:
        values = values[order]
        whole.update("\\0".join(values).encode() if values.dtype.kind == "U" else values.tobytes())
    return whole.hexdigest()[:16]


def tables(folder):
    """Name of each table of a run and of the runs inside it, and of each exported file -> digest."""
    found, parts = {}, {}
    for path in sorted(Path(folder).rglob("*.parquet")):
        if (path.parent / "config.yaml").is_file():
            parts[path.with_suffix("")] = [path]
        else:
            parts.setdefault(path.parent, []).append(path)
    for place, files in parts.items():
        read = [pd.read_parquet(file) for file in files]
        kept = [table for table in read if len(table)] or read[:1]
        found[place.relative_to(folder).as_posix()] = content(place.name, pd.concat(kept, ignore_index=True))
    for path in sorted(Path(folder).rglob("export/**/*")):
        if path.is_file() and path.suffix in {".csv", ".npz", ".npy"}:
            if path.suffix == ".csv":
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            else:
                loaded = np.load(path, allow_pickle=False)
                arrays = {"": loaded} if path.suffix == ".npy" else {key: loaded[key] for key in loaded.files}
                whole = hashlib.sha256()
                for key, value in sorted(arrays.items()):
                    whole.update(f"{key} {value.dtype} {value.shape}".encode() + value.tobytes())
                digest = whole.hexdigest()[:16]
            found[path.relative_to(folder).as_posix()] = digest
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


def answers():
    """Answers of some users to items that chance chose, for jobs with known answers."""
    import rimsim

    log = rimsim.load(min_item_events=100)
    ids = [table["id"].to_numpy() for table in (log.users, log.items)]
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"user": np.repeat(draw.choice(ids[0], 80, replace=False), 12)})
    rows["item"] = np.concatenate([draw.choice(ids[1], 12, replace=False) for _ in range(80)])
    rows["value"] = draw.integers(0, 2, len(rows))
    rows.to_csv("answers.csv", index=False)


if __name__ == "__main__":
    place, checkout = Path(sys.argv[1]), Path(sys.argv[2])
    import rimsim as package

    assert Path(package.__file__).parent.parent == checkout, package.__file__
    answers()
    for job, lines in json.loads((place / "jobs.json").read_text()).items():
        start = cpu()
        out = place / job
        for line in lines:
            line = [str(out) if word == "RUN" else word for word in line]
            if line[0] == "killed":
                if (child := os.fork()) == 0:
                    os.environ["KILL"] = "1"
                    rimsim([*line[1:], "--out", str(out)])
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 9, "the run was not killed"
            else:
                if line[0] not in {"ope", "export"}:
                    line = [*line, "--out", str(out)]
                if status := rimsim(line):
                    sys.exit(f"{job}: rimsim {' '.join(line)} ended with {status}")
        made = {"job": job, "seconds": cpu() - start, "tables": tables(out)}
        with (place / "digests.jsonl").open("a") as file:
            file.write(json.dumps(made) + "\\n")
        print(f"{checkout.name}: {job}: {made['seconds']:.0f} CPU s", file=sys.stderr, flush=True)
'''

Lines: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Job:
    """Command lines that fill one run folder."""

    name: str
    lines: Lines
    same_as: str
    """Job of the other version whose tables these must be."""


def _compare(
    scenario: str, agents: str, settings: tuple[str, ...], workers: int = 1, batch: int = 1000
) -> tuple[str, ...]:
    # The command refuses a field that is set twice. A variant's own value comes after that of its base.
    latest = {setting.partition("=")[0]: setting for setting in settings}
    sets = [word for setting in latest.values() for word in ("--set", setting)]
    size = ("--workers", str(workers), "--batch-size", str(batch))
    return ("compare", scenario, "--agents", agents, "--seeds", "1", *sets, *size)


def _analyses() -> dict[str, Lines]:
    """Jobs of the other kinds of run, by name."""
    small = [word for setting in SMALL for word in ("--set", setting)]
    one_worker = ("--workers", "1")
    grid = ("--beta", "0.2,0.8", "--grid", "platform.model=popularity-hp,bag-visits")
    sweep = (
        "sweep",
        "closed-loop",
        "--agents",
        f"{FEW},rim-dual",
        "--seeds",
        "2",
        *grid,
        *small,
    )
    test = "--models gru-hp,popularity,bag-visits --recipe quick --min-item-events 60 --seeds 2 --beta 0,0.7 --caps 9"
    by_time = (
        "--models hp,popularity --min-item-events 60 --seeds 1 --beta 0.5 --caps 10 --split time --users 100"
    )
    judge = "--models popularity,bag-visits,hp --min-item-events 100 --draws 2 --resamples 100"
    designs = "user,item,two-sided,switchback,budget-split"
    ab = ("experiment", "relevance", "rim-feedback", "--seeds", "2", *small, *one_worker)
    log = (*_compare("closed-loop", "epsilon-greedy,entropic-dual,relevance", SMALL), "--reveal", "truth")
    export = tuple(("export", "RUN", "--to", to) for to in ("csv", "obp", "scope-rl"))
    with_answers = (*SMALL, "consumer.kind=observed", "consumer.options={table: answers.csv}")
    return {
        "sweep": ((*sweep, *one_worker, "--ledger"),),
        "sweep, 2 workers": ((*sweep, "--workers", "2", "--ledger"),),
        "back-test": (("backtest", *test.split()),),
        "back-test by calendar": (("backtest", *by_time.split()),),
        "validate": (("validate", *judge.split()),),
        "validate on answers": (("validate", *judge.split(), "--observed", "answers.csv"),),
        "experiment": ((*ab, "--design", designs),),
        "experiment, diverted": (
            (*ab, "--design", "user", "--training", "shared,diverted", "--prices", "shared,split"),
        ),
        "ope": (log, ("ope", "RUN", "--target", "random"), *export),
        "observed": (_compare("closed-loop", FEW, with_answers),),
    }


def jobs() -> list[Job]:
    """All jobs, those of the other version first."""
    uninterrupted = []
    killed = []
    played = {name: (name, *market) for name, market in SCENARIOS.items()} | VARIANTS
    for name, (scenario, agents, settings) in played.items():
        for workers, batch in WAYS if name in SCENARIOS else WAYS[:2]:
            line = _compare(scenario, agents, settings, workers, batch)
            uninterrupted.append(Job(f"{name}, {workers} x {batch}", (line,), f"{name}, 1 x 1000"))
        if name in {"closed-loop", "cold-start", "campaigns", "users-return", "two-sided", "hard", "delay"}:
            line = _compare(scenario, "relevance,killed.py:Killed", settings, 1, 50)
            undisturbed = f"{name}, not killed"
            killed.append(Job(undisturbed, (line,), undisturbed))
            killed.append(
                Job(f"{name}, killed and resumed", (("killed", *line), ("compare", "--resume")), undisturbed)
            )
    for name, lines in _analyses().items():
        uninterrupted.append(Job(name, lines, name.partition(", 2")[0]))
    return [*uninterrupted, *killed]


QUICK = (
    "closed-loop, 1 x 1000", "closed-loop, 2 x 50", "cold-start, 1 x 13", "online-match, 1 x 1000", "sweep",
    "user-rec, 1 x 1000", "campaigns, 1 x 1000", "two-sided, 1 x 13", "users-return, 1 x 13", "too-hard, 1 x 1000",
    "bag-truth, 1 x 1000", "back-test", "validate", "validate on answers", "experiment, diverted", "ope", "observed",
    "campaigns, not killed", "campaigns, killed and resumed",
)  # fmt: skip


@contextmanager
def checkout_of(revision: str) -> Iterator[Path]:
    """A folder that holds a revision of this repository for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="same-tables-") as folder:
        place = Path(folder) / revision
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(place), revision], check=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


def play(checkout: Path, wanted: dict[str, Lines], place: Path) -> dict[str, dict[str, str]]:
    """Digests of the tables that a checkout makes of each job, run in an empty folder."""
    place.mkdir(parents=True)
    for name, text in (("play.py", _PLAY), ("killed.py", _KILLED), ("jobs.json", json.dumps(wanted))):
        (place / name).write_text(text, encoding="utf-8")
    environment = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    environment["RIMSIM_CACHE"] = os.environ.get("SAME_TABLES_CACHE", str(place / "cache"))
    command = [sys.executable, "play.py", str(place), str(checkout)]
    subprocess.run(command, cwd=place, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    lines = map(json.loads, (place / "digests.jsonl").read_text(encoding="utf-8").splitlines())
    return {made["job"]: made["tables"] for made in lines}


def cached(revision: str, wanted: dict[str, Lines], place: Path) -> dict[str, dict[str, str]]:
    """Digests of a revision's tables; those of earlier calls are read from the temporary folder."""
    git = ["git", "-C", str(HERE), "rev-parse", "--short=12", f"{revision}^{{commit}}"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    store = Path(tempfile.gettempdir()) / f"same-tables-{commit}.json"
    digests = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    keys = {
        job: hashlib.sha256(json.dumps([lines, _PLAY, _KILLED]).encode()).hexdigest()
        for job, lines in wanted.items()
    }
    absent = {job: lines for job, lines in wanted.items() if keys[job] not in digests}
    if absent:
        with checkout_of(commit) as checkout:
            for job, tables in play(checkout, absent, place).items():
                digests[keys[job]] = tables
        draft = store.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(digests), encoding="utf-8")
        draft.replace(store)
    return {job: digests[key] for job, key in keys.items()}


def served_by(model: str, job: Job) -> Job:
    """The same comparison with another model of the platform."""
    lines = tuple(
        (*line, "--set", f"platform.model={model}") if "--set" in line else line for line in job.lines
    )
    return Job(job.name, lines, job.same_as)


def compare(
    revision: str, wanted: list[Job], lines: dict[str, Lines], folder: Path, changed: dict[str, str]
) -> bool:
    """Print a line per job; whether every table is equal or ``changed`` names the reason."""
    other_digests = cached(revision, {job.same_as: lines[job.same_as] for job in wanted}, folder / "there")
    here = play(HERE, {job.name: job.lines for job in wanted}, folder / "here")
    reasons: set[str] = set()
    count = 0
    unexplained = 0
    for job in wanted:
        ours = here[job.name]
        theirs = other_digests[job.same_as]
        differ = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        kind = job.same_as.partition(", ")[0]
        why = {name: reason(f"{kind}/{name}", changed) for name in differ}
        count = count + len(ours)
        unexplained = unexplained + sum(text is None for text in why.values())
        print(f"{job.name:32} {len(ours):3} tables  {'differs: ' + ', '.join(differ) if differ else 'equal'}")
        reasons |= {text for text in why.values() if text is not None}
        if None in why.values():
            print("\n".join(f"    rimsim {shlex.join(line)}" for line in job.lines))
    for text in sorted(reasons):
        print(f"changed: {text}")
    but = " but for the changes above" if reasons else ""
    print("differs" if unexplained else f"equal{but}: {count} tables of {len(wanted)} jobs")
    return not unexplained


def unmade(folder: Path) -> set[str]:
    """Tables of the schema that no job of this version made."""
    names = re.findall(
        r"^## `(\w+)[/.]", (HERE / "docs" / "tables.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return set(names) - {part for path in folder.rglob("*.parquet") for part in (path.stem, path.parent.name)}


def reason(name: str, changed: dict[str, str]) -> str | None:
    """The reason why a table differs, if there is one."""
    return next((why for pattern, why in changed.items() if fnmatch.fnmatch(name, pattern)), None)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", nargs="?", default=FIRST, help=f"a revision (default: {FIRST})")
    parser.add_argument("--quick", action="store_true", help="one job per kind")
    parser.add_argument("--only", metavar="KINDS", help="jobs whose names begin so, parted by commas")
    parser.add_argument("--model", help="serve all comparisons by this model, and leave other kinds out")
    parser.add_argument("--folder", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    all_jobs = jobs()
    changed = CHANGED if options.other == FIRST else {}
    if options.model:
        all_jobs = [served_by(options.model, job) for job in all_jobs if job.lines[-1][0] == "compare"]
        changed = {name: why for name, why in changed.items() if why == _ROWS}
    chosen = [job for job in all_jobs if not options.quick or job.name in QUICK]
    if options.only:
        chosen = [job for job in chosen if job.name.startswith(tuple(options.only.split(",")))]
    with tempfile.TemporaryDirectory(prefix="same-tables-") as temporary:
        folder = options.folder or Path(temporary)
        equal = compare(options.other, chosen, {job.name: job.lines for job in all_jobs}, folder, changed)
        lacks = set() if options.only or options.model else unmade(folder / "here")
    if lacks:
        print(f"never made: {', '.join(sorted(lacks))}")
    sys.exit(not equal or bool(lacks))


if __name__ == "__main__":
    main()
