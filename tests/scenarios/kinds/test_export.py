"""Logs in the formats of other programs: their keys, their figures, and the readers of those programs."""

import functools

import gymnasium
import numpy as np
import pandas as pd
import pytest
from kit import cases, refused
from kit.markets import small_run, small_scenario

from rimsim import scenarios
from rimsim.agents import Relevance, make_agent, market_for
from rimsim.config import ArrivalsConfig
from rimsim.errors import ConfigError, RunFolderError
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.export import env_spec, logged_arm

GREEDY = "epsilon-greedy(epsilon=0.5)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One round of 150 arrivals, of an agent that says its chances and one that does not."""
    config = small_scenario(rounds=1, slate=3, arrivals=ArrivalsConfig(per_round=150, max_visits=1))
    return small_run(tmp_path_factory.mktemp("export") / "run", [GREEDY, "relevance"], config, seeds=2)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A function that reads the arrays of a format, written once."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def read(kind, seed=0):
        out = folder / f"{kind}-{seed}.npz"
        place, said = scenarios.export(run.folder, kind, agent=GREEDY, seed=seed, out=out)
        return dict(np.load(place)), said

    return read


def test_obp_feedback_has_its_keys_and_passes_its_checks(exported):
    """Keys, lengths, contiguous slates, positions from 0, rewards 0 or 1 and pscores in (0, 1] are as OBP asks."""
    feedback, said = exported("obp", 1)
    n = int(feedback["n_rounds"])
    k = 3
    assert said.startswith(f"{n} slates of {GREEDY}, seed 1")
    chances = {"pscore", "pscore_cascade", "pscore_item_position"}
    columns = {"slate_id", "action", "position", "reward", *chances}
    assert set(feedback) == {"n_rounds", "n_unique_action", "context", "action_context", *columns}
    for name in columns:
        assert feedback[name].shape == (n * k,)
    assert feedback["context"].shape[0] == n
    assert feedback["action_context"].shape[0] == feedback["n_unique_action"]
    assert feedback["position"].tolist() == list(range(k)) * n
    assert np.array_equal(feedback["slate_id"], np.repeat(np.arange(n), k))
    assert feedback["action"].max() < feedback["n_unique_action"]
    assert set(feedback["reward"]) <= {0.0, 1.0}
    for name in chances:
        assert ((feedback[name] > 0) & (feedback[name] <= 1)).all()
    assert (feedback["pscore_cascade"] <= feedback["pscore_item_position"] * (1 + 1e-12)).all()
    assert np.array_equal(
        feedback["pscore"].reshape(n, k)[:, 0], feedback["pscore_cascade"].reshape(n, k)[:, -1]
    )


class Gaps(Relevance):
    """Relevance that leaves positions of some visitors empty, from one on."""

    name = "gaps"

    def __init__(self, first):
        self.first = first

    def act(self, arrivals):
        """Slates with empty positions for every third visitor."""
        slates = np.array(super().act(arrivals))
        slates[arrivals.user % 3 == 0, self.first :] = -1
        return slates


def test_an_export_without_chances_says_so_and_minari_has_whole_trajectories(run, tmp_path):
    """NaN propensities are in the message; arrivals without a whole slate are no steps to leave out (F2)."""
    said = scenarios.export(run.folder, "obp", agent="relevance", out=tmp_path / "obp.npz")[1]
    assert "relevance logs no propensities, so that every pscore is NaN; to load it: dict(numpy.load(" in said
    gaps = small_run(tmp_path / "gaps", [Gaps(0)], small_scenario(rounds=1))
    out = tmp_path / "sets"
    n_partial = int((gaps.arrivals["user"] % 3 == 0).sum())
    said = f"the first position is empty in {n_partial} slates of gaps"
    refused(ConfigError, said, scenarios.export, gaps.folder, "minari", out=out)
    assert f"; {n_partial} slates with an empty position left out" in scenarios.export(gaps.folder, "obp")[1]
    assert not out.exists()


@pytest.fixture(scope="module")
def evaluated(run):
    """What relevance would have shown (n, 3) where the logged agent showed its slates, and estimator → estimate."""
    market = market_for(make_agent("relevance"), run.scenario)
    target = make_agent("relevance")
    target.begin_round(market.round_view())
    rows = []
    while not market.done:
        arrivals = market.next_arrivals(50)  # all of them come once, in states that no slate has moved
        rows.append(np.asarray(target.act(arrivals)))
        market.serve(arrivals, rows[-1])
    evaluation = scenarios.ope(run.folder, "relevance", logged=GREEDY, seeds=[0], workers=1)
    table = evaluation.table[evaluation.table["part"] == "first visits"]
    return np.concatenate(rows), table.set_index("estimator")["estimate"]


def test_a_slate_ips_on_the_export_is_that_of_ope(exported, evaluated):
    """Ten lines of IPS over the exported dictionary, for relevance, come to the figure of ``rimsim ope``."""
    log = exported("obp")[0]
    wanted, estimate = evaluated
    weight = (log["action"].reshape(-1, 3) == wanted).all(1) / log["pscore"].reshape(-1, 3)[:, 0]
    sips = float((weight * log["reward"].reshape(-1, 3).sum(1)).mean())
    assert estimate["slate"] == pytest.approx(sips, rel=1e-12)


def test_obp_itself_accepts_the_feedback_and_values_it_as_ope_does(exported, evaluated):
    """With OBP installed, its estimators check the dictionary, and SIPS, IIPS and RIPS are those of ``rimsim ope``."""
    obp = pytest.importorskip("obp.ope")
    log = exported("obp")[0]
    wanted, estimate = evaluated
    is_wanted = log["action"].reshape(-1, 3) == wanted
    prefix = np.logical_and.accumulate(is_wanted, axis=1)
    estimators = (obp.SlateStandardIPS, obp.SlateIndependentIPS, obp.SlateRewardInteractionIPS)
    values = obp.SlateOffPolicyEvaluation(
        log, [estimator(len_list=3) for estimator in estimators]
    ).estimate_policy_values(
        evaluation_policy_pscore=np.repeat(is_wanted.all(1), 3).astype(float),
        evaluation_policy_pscore_item_position=is_wanted.reshape(-1).astype(float),
        evaluation_policy_pscore_cascade=prefix.reshape(-1).astype(float),
    )
    expected = {"sips": estimate["slate"], "iips": estimate["item-position"], "rips": estimate["cascade"]}
    assert values == pytest.approx(expected, rel=1e-12)


def test_scope_rl_has_its_keys_and_chances_multiply(exported):
    """Trajectories are slates of equal length; the product of a slate's chances is that of the slate."""
    dataset = exported("scope-rl")[0]
    n = int(dataset["n_trajectories"])
    k = int(dataset["step_per_trajectory"])
    assert dataset["size"] == n * k
    assert dataset["state"].shape == (n * k, dataset["state_dim"])
    for name in ("action", "reward", "done", "terminal", "pscore"):
        assert dataset[name].shape == (n * k,)
    assert dataset["done"].reshape(n, k).tolist() == [[0, 0, 1]] * n
    slate_chances = exported("obp")[0]["pscore"].reshape(n, k)[:, 0]
    np.testing.assert_allclose(dataset["pscore"].reshape(n, k).prod(1), slate_chances, rtol=1e-10)


def test_scope_rl_itself_accepts_the_data_set_and_values_it_as_ope_does(exported, evaluated):
    """With SCOPE-RL installed, it finds its keys, and its TIS and PDIS are slate and cascade of ``rimsim ope``."""
    utils = pytest.importorskip("scope_rl.utils")
    discrete = pytest.importorskip("scope_rl.ope.discrete")
    dataset = exported("scope-rl")[0]
    wanted, estimate = evaluated
    utils.check_logged_dataset(dataset)
    log = {name: dataset[name] for name in ("action", "reward", "pscore")}
    log["step_per_trajectory"] = int(dataset["step_per_trajectory"])
    log["evaluation_policy_action_dist"] = np.eye(int(dataset["n_actions"]))[wanted.reshape(-1)]
    for kind, name in (("TrajectoryWise", "slate"), ("PerDecision", "cascade")):
        value = getattr(discrete, f"{kind}ImportanceSampling")().estimate_policy_value(**log)
        assert value == pytest.approx(estimate[name], rel=1e-9)


def test_csv_is_the_ledger_with_ids_and_titles(run, tmp_path, capsys):
    """Every exposure of the arms is a row with the ledger's columns, and ids and titles stand behind numbers."""
    out = tmp_path / "ledger.csv"
    assert main(["export", str(run.folder), "--to", "csv", "--agent", "relevance", "--out", str(out)]) == 0
    exposures = pd.read_csv(out, dtype={"user_id": str, "item_id": str})
    columns = list(exposures.columns)
    assert columns[columns.index("log_user") :][:5] == ["log_user", "user_id", "position", "item", "item_id"]
    assert columns[columns.index("item_id") + 1] == "title"
    ledger = run.ledger[run.ledger["agent"] == "relevance"].reset_index(drop=True)
    assert list(exposures.drop(columns=["user_id", "item_id", "title"])) == list(ledger.columns)
    for number, table, names in (
        ("item", run.catalogue, {"item_id": "id", "title": "title"}),
        ("log_user", run.users, {"user_id": "id"}),
    ):
        assert exposures[number].tolist() == ledger[number].tolist()
        for mine, theirs in names.items():
            assert exposures[mine].tolist() == table.set_index(number)[theirs].loc[ledger[number]].tolist()
    assert "exposures" in capsys.readouterr().out


@cases(
    "words message",
    ("--to csv --agent relevnce", "'relevnce' is not among the run's arms. Did you mean 'relevance'?"),
    ("--to csv --seed 9", "--seed: 9 is not a seed of the run"),
    ("--to csv", "there.csv: this file exists already. Name another file with --out"),
    ("--to opb", "--to: 'opb'. Did you mean 'obp'?"),
    ("--to obp --agent nobody", "--agent: 'nobody' is not among the run's arms."),
)
def test_slips_of_an_export_are_told_before_anything_else(run, tmp_path, words, message, capsys):
    """A wrong name comes before a file that exists, and no progress is printed (F14)."""
    existing = tmp_path / "there.csv"
    existing.write_text("mine")
    assert main(["export", str(run.folder), "--out", str(existing), *words.split()]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert existing.read_text() == "mine"


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """Two rounds of an agent that fills two positions of five for a third of its visitors."""
    return small_run(tmp_path_factory.mktemp("gaps") / "run", [Gaps(2)], small_scenario(rounds=2), seeds=2)


@pytest.mark.parametrize("name", ["run", "gaps"])
def test_the_environment_of_a_data_set_plays_its_log_again(name, request):
    """Made from the spec, the market shows the log's context, and the log's slates are consumed as they were (F2)."""
    run = request.getfixturevalue(name)
    arm = logged_arm(run, None, 1, whole_slates=False)
    logged = run.arrivals.query(f"seed == 1 and agent == '{arm.agent}'")
    assert (len(arm.item), arm.left_out) == (len(logged), 0)
    assert (len(logged_arm(run, None, 1).item) < len(arm.item)) == (name == "gaps")
    environment = gymnasium.make(env_spec(run.scenario, 1))
    seen, _ = environment.reset(seed=1)
    assert environment.observation_space.contains(seen)
    for context, slate, taken in zip(arm.context, arm.item, arm.reward, strict=True):
        assert environment.action_space.contains(slate)
        np.testing.assert_allclose(seen, context, rtol=1e-6)
        seen, _, ended, _, info = environment.step(slate)
        assert info["market"]["taken"] == tuple(taken == 1)
    assert ended
    assert seen.tolist() == [1, 1, 0]


def test_minari_reads_its_data_set_back(run, tmp_path, monkeypatch):
    """With Minari installed, its reader finds the steps, spaces and the spec of an environment that can be made."""
    minari = pytest.importorskip("minari")
    monkeypatch.chdir(tmp_path)
    folder = run.folder.absolute()
    place, said = scenarios.export(folder, "minari", agent=GREEDY, out="sets")  # a relative place
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place.absolute()))
    dataset = minari.load_dataset(said.split("'")[-2])
    episode = dataset[0]
    assert len(episode.rewards) + 1 == len(episode.observations)
    assert all(dataset.observation_space.contains(seen) for seen in episode.observations)
    assert episode.actions.shape == (dataset.total_steps, 3)
    ledger = run.ledger[(run.ledger["agent"] == GREEDY) & (run.ledger["seed"] == 0)]
    assert episode.rewards.sum() == ledger["consumed"].sum()
    assert dataset.spec.env_spec == env_spec(run.scenario, 0)
    assert dataset.recover_environment().observation_space == dataset.observation_space
    assert dataset.action_space.shape == (3,)
    refused(RunFolderError, "exists already", scenarios.export, folder, "minari", agent=GREEDY, out="sets")


def test_d3rlpy_reads_slates_and_learns_from_their_positions(run, exported, tmp_path, monkeypatch):
    """Its reader takes the Minari data set with its environment; discrete CQL learns from SCOPE-RL's transitions."""
    pytest.importorskip("minari")
    d3rlpy = pytest.importorskip("d3rlpy")
    place, said = scenarios.export(run.folder, "minari", agent=GREEDY, out=tmp_path / "sets")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place))
    slates, _ = d3rlpy.datasets.get_minari(said.split("'")[-2])
    assert (slates.transition_count, slates.episodes[0].actions.shape) == (150, (150, 3))
    dataset = exported("scope-rl")[0]
    columns = (dataset[name] for name in ("action", "reward", "terminal"))
    about = {"action_space": d3rlpy.ActionSpace.DISCRETE, "action_size": int(dataset["n_actions"])}
    positions = d3rlpy.dataset.MDPDataset(dataset["state"].astype(np.float32), *columns, **about)
    assert len(positions.episodes) == 150
    learner = d3rlpy.algos.DiscreteCQLConfig(batch_size=32).create()
    silent = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}
    learner.fit(positions, n_steps=20, n_steps_per_epoch=20, **silent)
    chosen = learner.predict(dataset["state"].astype(np.float32))
    assert ((chosen >= 0) & (chosen < dataset["n_actions"])).all()
