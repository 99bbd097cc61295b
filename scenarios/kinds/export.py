"""Export of an arm's log for another package."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec
from rich.console import Console

from rimsim import __version__
from rimsim.arrays import Array, Floats, Ints
from rimsim.config import ScenarioConfig, to_plain
from rimsim.config.reading import flat
from rimsim.envs import GROUND_BOUND
from rimsim.errors import ConfigError, RunFolderError, many, require_known
from rimsim.scenarios.runs.files import disk_errors, write_arrays
from rimsim.scenarios.runs.progress import bars
from rimsim.scenarios.runs.store import RunFolder, table_in
from rimsim.system import draft_file, draft_folder

if TYPE_CHECKING:
    import pandas as pd

FORMATS = {"csv": "ledger.csv", "obp": "obp.npz", "scope-rl": "scope-rl.npz", "minari": "minari"}
"""Name of a format → usual name of its file."""
CONTEXT = ("round_gone", "run_gone", "ground_intensity")
"""Names of the context's three numbers: the environment's ``clock`` (elapsed shares of the round and of the run), and
its ``ground_intensity`` λ(x)."""
# Number of rows of the CSV file between two steps of the progress bar.
_CHUNK = 50_000


def export(
    run: str | Path,
    to: str,
    *,
    agent: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
) -> tuple[Path, str]:
    """Write the log of an arm for another package.

    Args:
        run: Folder of a comparison that kept its ledger.
        to: One of :data:`FORMATS`. ``obp`` and ``scope-rl`` are NumPy archives of the package's keys, which
            ``dict(numpy.load(path))`` reads back; ``minari`` is a folder of data sets.
        agent: Name of an arm; None: the first arm.
        seed: Seed of the arm; None: the first seed.
        out: The file, or Minari's folder; None: within the run folder, below ``export/``.
        console: Console that shows progress bars; None: no bars.

    Returns:
        Path of the file, and a sentence on its content.

    Raises:
        ConfigError: If there is no such format, arm or seed, or the package for the format is missing.
        RunFolderError: If the file exists already.
        MissingTableError: If the run kept no ledger.
    """
    require_known("--to: {}", [to], FORMATS)
    logged_run = RunFolder.open(run, "comparison")
    require_known(
        "--agent: {} is not among the run's arms", [] if agent is None else [agent], logged_run.agents
    )
    if seed is not None and seed not in logged_run.seeds:
        raise ConfigError(f"--seed: {seed} is not a seed of the run. Use one of {logged_run.seeds}")
    place = Path(out) if out is not None else logged_run.folder / "export" / FORMATS[to]
    if to != "minari" and place.exists():
        raise RunFolderError(f"{place}: this file exists already. Name another file with --out")
    with disk_errors(place):
        if to == "csv":
            return place, _csv(logged_run, agent, seed, place, console)
        return place, _written(logged_run, to, agent, seed, place)


def _written(run: RunFolder, to: str, agent: str | None, seed: int | None, place: Path) -> str:
    """Write an arm for another package; return a summary."""
    arm = logged_arm(run, agent, seed, whole_slates=to != "minari")
    summary = f"{many(len(arm.item), 'slate')} of {arm.agent}, seed {arm.seed}"
    if to == "minari":
        if arm.left_out:  # each step of an episode must lead to the next, so no slate may be left out
            raise ConfigError(
                f"--to minari: the first position is empty in {many(arm.left_out, 'slate')} of {arm.agent}. "
                "Minari needs a trajectory without gaps. Export another agent, or use --to obp"
            )
        place.mkdir(parents=True, exist_ok=True)
        name = write_minari(arm, run.scenario, place, "rimsim")
        return f"{summary}; to load it: {_WHERE}={shlex.quote(str(place))} and minari.load_dataset({name!r})"
    if arm.left_out:
        summary += f"; {many(arm.left_out, 'slate')} with an empty position left out"
    if np.isnan(arm.position).all():
        summary += f"; {arm.agent} logs no propensities, so that every pscore is NaN"
    columns: dict[str, Any] = obp_feedback(arm) if to == "obp" else scope_rl_dataset(arm)
    plain = {
        name: value for name, value in columns.items() if value is not None and not isinstance(value, dict)
    }
    # Dictionaries are left out, because NumPy can write them only as pickles. A pickle runs code when it is read.
    write_arrays(place, {name: np.asarray(value) for name, value in plain.items()})
    return f"{summary}; to load it: dict(numpy.load({str(place)!r}))"


def _csv(run: RunFolder, agent: str | None, seed: int | None, place: Path, console: Console | None) -> str:
    """Write the ledger as CSV; return its size in words."""
    table = run.ledger
    table = table if agent is None else table[table["agent"] == agent]
    table = table if seed is None else table[table["seed"] == seed]
    items = run.catalogue.set_index("item")
    user_ids = table_in(run.folder, "users").set_index("log_user")["id"]
    # Column of numbers → new column → text of each number.
    texts = {"log_user": {"user_id": user_ids}, "item": {"item_id": items["id"]}}
    if "title" in items:
        texts["item"]["title"] = items["title"]
    with (
        draft_file(place) as draft,
        draft.open("w", encoding="utf-8", newline="") as file,
        bars(console) as bar,
    ):
        task = bar.add_task("exposures written", total=len(table))
        for begin in range(0, max(len(table), 1), _CHUNK):
            rows = _with_texts(table.iloc[begin : begin + _CHUNK], texts)
            rows.to_csv(file, index=False, header=begin == 0)
            bar.advance(task, len(rows))
    return many(len(table), "exposure")


def _with_texts(rows: pd.DataFrame, texts: Mapping[str, dict[str, pd.Series[Any]]]) -> pd.DataFrame:
    """Rows with ids and titles, safe for a spreadsheet.

    ``texts`` maps a column of numbers to new columns, and each new column to the text of each number.
    """
    rows = rows.copy()
    for number_column, new_columns in texts.items():
        # New columns stand after the column of their numbers, in order.
        for name, text_of_number in reversed(new_columns.items()):
            index = list(rows).index(number_column) + 1
            rows.insert(index, name, rows[number_column].map(text_of_number))
    for name in ("agent", "user_id", "item_id", "title"):
        if name in rows:
            rows[name] = rows[name].map(_without_formula)
    return rows


_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,]*$)")
"""Beginning of a text that a spreadsheet would take for a formula; a negative number is not a formula."""


def _without_formula(text: object) -> object:
    """Text behind an apostrophe where a spreadsheet would run it."""
    return f"'{text}" if isinstance(text, str) and _FORMULA.match(text) else text


@dataclass(frozen=True, eq=False)
class LoggedArm:
    """Full slates of an arm, in clock order."""

    agent: str
    seed: int
    n_items: int
    # (n, 3) context of each arrival: elapsed shares of the round and of the run, and λ(x) (see CONTEXT).
    context: Floats
    popularity: Floats  # (M,) log(1 + events in the warm-up log)
    item: Ints  # (n, k) items of the slates
    reward: Floats  # (n, k) 1 for consumed items, else 0
    position: Floats  # (n, k) probability of this item at this position; NaN if the agent does not state it
    prefix: Floats  # (n, k) probability of the slate's items from the first position to this one
    slate: Floats  # (n,) probability of the complete slate
    left_out: int  # number of slates that were left out because they have an empty position


def logged_arm(
    run: RunFolder, agent: str | None, seed: int | None, *, whole_slates: bool = True
) -> LoggedArm:
    """Log of an arm, by default of the first.

    Without ``whole_slates``, slates with an empty position are written too. An empty position repeats the slate's first
    item, because the environment takes a repeated item as an empty position. A slate whose first position is empty
    cannot be written.
    """
    name = agent or run.agents[0]
    chosen = run.seeds[0] if seed is None else seed
    exposures = run.ledger[(run.ledger["agent"] == name) & (run.ledger["seed"] == chosen)]
    arrivals = run.arrivals[(run.arrivals["agent"] == name) & (run.arrivals["seed"] == chosen)]
    arrivals = arrivals.sort_values(["round", "time", "arrival"], kind="stable").reset_index(drop=True)
    n = len(arrivals)
    k = run.scenario.slate
    exposures = exposures.merge(arrivals[["round", "arrival"]].rename_axis("row").reset_index())
    names = ("item", "consumed", "propensity_position", "propensity_prefix", "propensity_slate")
    # (names, n, k) values of each exposure, by arrival and position; NaN at empty positions.
    values = np.full((len(names), n, k), np.nan)
    values[:, exposures["row"], exposures["position"] - 1] = exposures[list(names)].to_numpy(np.float64).T
    if not whole_slates:
        first_item = values[0, :, :1]
        values[0] = np.where(np.isnan(values[0]), first_item, values[0])
    has_all_items = ~np.isnan(values[0]).any(1)
    item, reward, position, prefix, slate = values[:, has_all_items]
    by_round = arrivals.groupby("round")["time"]
    round_elapsed = (by_round.cumcount() / by_round.transform("size")).to_numpy(np.float64)
    run_elapsed = (arrivals["round"].to_numpy(np.float64) + round_elapsed) / run.scenario.rounds
    ground_intensity = arrivals["ground_intensity"].to_numpy(np.float64)
    context = np.column_stack([round_elapsed, run_elapsed, ground_intensity])[has_all_items]
    events = run.catalogue.sort_values("item")["events"].to_numpy(np.float64)
    return LoggedArm(
        agent=name,
        seed=chosen,
        n_items=len(events),
        context=context,
        popularity=np.log1p(events),
        item=item.astype(np.int64),
        reward=np.nan_to_num(reward),
        position=position,
        prefix=prefix,
        slate=slate[:, 0],  # all positions of a slate have its probability
        left_out=n - len(item),
    )


def obp_feedback(arm: LoggedArm) -> dict[str, int | Array]:
    """Slate feedback with the keys of the Open Bandit Pipeline.

    Columns of exposures have n·k entries: slate by slate, with positions from 0. ``expected_reward_factual`` is
    missing, as in real data.
    """
    n, k = arm.item.shape
    return {
        "n_rounds": n,
        "n_unique_action": arm.n_items,
        "slate_id": np.repeat(np.arange(n), k),
        "context": arm.context,
        "action_context": arm.popularity[:, None],
        "action": arm.item.reshape(-1),
        "position": np.tile(np.arange(k), n),
        "reward": arm.reward.reshape(-1),
        "pscore": np.repeat(arm.slate, k),
        "pscore_cascade": arm.prefix.reshape(-1),
        "pscore_item_position": arm.position.reshape(-1),
    }


def scope_rl_dataset(arm: LoggedArm) -> dict[str, Any]:
    """Logged data set with the keys of SCOPE-RL.

    A slate is a trajectory, and each of its positions is a step. The state is the context of the arrival, and the
    position. The action is the item, and ``pscore`` is the item's chance given the items above it in the slate. d3rlpy
    reads state, action, reward and terminal from the data set.
    """
    n, k = arm.item.shape
    state = np.column_stack([np.repeat(arm.context, k, axis=0), np.tile(np.arange(k), n)])
    # Chance of an item given the items above it: the probability of a prefix over that of the prefix before it.
    prefix_before = np.hstack([np.ones((n, 1)), arm.prefix[:, :-1]])
    pscore = np.divide(arm.prefix, prefix_before, out=np.zeros_like(arm.prefix), where=prefix_before > 0)
    is_last = np.tile(np.arange(k) == k - 1, n).astype(np.int64)
    return {
        "size": n * k,
        "n_trajectories": n,
        "step_per_trajectory": k,
        "action_type": "discrete",
        "n_actions": arm.n_items,
        "action_dim": arm.n_items,
        "action_keys": None,
        "action_meaning": np.arange(arm.n_items),
        "state_dim": state.shape[1],
        "state_keys": [*CONTEXT, "position"],
        "state": state,
        "action": arm.item.reshape(-1),
        "reward": arm.reward.reshape(-1),
        "done": is_last,
        "terminal": is_last,
        "info": {},
        "pscore": pscore.reshape(-1),
        "behavior_policy": arm.agent,
        "dataset_id": arm.seed,
    }


_ENV = "RIMMarket-v0"
_WHERE = "MINARI_DATASETS_PATH"
"""Environment variable with the folder in which Minari keeps its data sets."""
_KEYS = {"filter_keys": ["clock", "ground_intensity"]}
_SEEN = (
    WrapperSpec("FilterObservation", "gymnasium.wrappers:FilterObservation", _KEYS),
    WrapperSpec("FlattenObservation", "gymnasium.wrappers:FlattenObservation", {}),
)
"""Wrappers that turn the environment's observations into those of the data set: one vector, which d3rlpy needs."""
# d3rlpy asks for a largest number of steps. It is never reached, because an episode ends with its last round.
_NO_LIMIT = 1 << 24


class _Spaces(gymnasium.Env[Any, Any]):
    """Spaces and specification of an environment that is never made."""

    def __init__(self, spec: Any, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.spec = spec
        self.observation_space = observation
        self.action_space = action


def env_spec(config: ScenarioConfig, seed: int) -> Any:
    """Specification for ``gymnasium.make`` to make an arm's market.

    The spec is plain data that fits into JSON. The observations are the context of a :class:`LoggedArm`. After
    ``reset(seed=…)`` with the arm's seed, the arm's slates have the same consumptions as in the log.
    """
    kwargs = {"scenario": "closed-loop", "settings": flat(to_plain(config)), "model_seed": seed}
    spec = dataclasses.replace(gymnasium.spec(_ENV), kwargs=kwargs, additional_wrappers=_SEEN)
    return dataclasses.replace(spec, max_episode_steps=_NO_LIMIT)


def write_minari(arm: LoggedArm, config: ScenarioConfig, folder: Path, author: str) -> str:
    """Write an arm's log below a folder, as one episode.

    Each step is an arrival: its action is the slate, and its reward the number of consumptions. Observations are
    contexts, and infos contain propensities. Nothing is fitted. Returns the id of the data set.
    """
    try:
        import minari  # noqa: PLC0415  # an optional package
        from minari.data_collector import EpisodeBuffer  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "--to minari: the package Minari is not installed. Install it: pip install 'rimsim[minari]'"
        ) from None
    dataset_id = f"rimsim/{_in_id(config.name)}/{_in_id(arm.agent)}-seed{arm.seed}-v0"
    place = folder / dataset_id
    if place.exists():
        raise RunFolderError(f"{place}: this folder exists already. Name another folder with --out")
    n, k = arm.item.shape
    high = np.array([1.0, 1.0, GROUND_BOUND], np.float32)  # largest value of each number of the context
    slates = spaces.MultiDiscrete(np.full(k, arm.n_items))
    market = _Spaces(env_spec(config, arm.seed), spaces.Box(0 * high, high), slates)
    # In the environment's last observation, the run is over, and no arrival waits.
    last = np.array([[1.0, 1.0, 0.0]])
    observed = np.vstack([arm.context, last]).astype(np.float32)
    # Minari 0.5.4 cannot read a one-dimensional info, so it gets a second dimension.
    chances = np.append(arm.slate, 0.0)[:, None]
    is_end = np.arange(n) == n - 1
    episode = EpisodeBuffer(
        id=0,
        seed=arm.seed,
        observations=np.minimum(observed, high),
        actions=arm.item,
        rewards=arm.reward.sum(1).tolist(),
        terminations=is_end.tolist(),
        truncations=np.zeros(n, bool).tolist(),
        infos={"propensity_slate": chances},
    )
    with draft_folder(place, existing="refuse") as draft, _datasets_at(draft):
        minari.create_dataset_from_buffers(
            dataset_id,
            [episode],
            env=market,
            eval_env=market,
            algorithm_name=arm.agent,
            author=author,
            author_email=author,
            code_permalink="https://pypi.org/project/rimsim/",
            description=f"Slates of {arm.agent} in the scenario {config.name}; rewards are consumptions of a slate.",
            requirements=[f"rimsim=={__version__}"],
            data_format="arrow",
        )
        _lift_data(draft, dataset_id, folder)
    return dataset_id


def _in_id(name: str) -> str:
    """Name as part of an id of a data set."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name).strip("-")


def _lift_data(draft: Path, dataset_id: str, folder: Path) -> None:
    """Make the draft the data set itself, without Minari's folders.

    Minari's notes on the namespace go to ``folder``, because all data sets of the namespace share them.
    """
    (draft / dataset_id / "data").rename(draft / "data")
    for note in draft.rglob("namespace_metadata.json"):
        outside = folder / note.relative_to(draft)
        if not outside.exists():
            note.replace(outside)
    shutil.rmtree(draft / dataset_id.partition("/")[0])


@contextmanager
def _datasets_at(folder: Path) -> Iterator[None]:
    """Let Minari keep its data sets in a folder."""
    folder_before = os.environ.get(_WHERE)
    os.environ[_WHERE] = str(folder.absolute())  # Minari would join a relative path to the folder twice
    try:
        yield
    finally:
        if folder_before is None:
            os.environ.pop(_WHERE, None)
        else:
            os.environ[_WHERE] = folder_before
