"""Exports: the keys, shapes and ranges of each format, and figures computed from them by hand."""

import functools

import gymnasium
import numpy as np
import pandas as pd
import pytest
from kit import refused
from small_markets import small_run, small_scenario

from rimsim import scenarios
from rimsim.agents import make_agent, market_for
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
    found, said = exported("obp", 1)
    n, k = int(found["n_rounds"]), 3
    assert said.startswith(f"{n} slates of {GREEDY}, seed 1")
    chances = {"pscore", "pscore_cascade", "pscore_item_position"}
    columns = {"slate_id", "action", "position", "reward", *chances}
    assert set(found) == {"n_rounds", "n_unique_action", "context", "action_context", *columns}
    for name in columns:
        assert found[name].shape == (n * k,)
    assert found["context"].shape[0] == n
    assert found["action_context"].shape[0] == found["n_unique_action"]
    assert found["position"].tolist() == list(range(k)) * n
    assert np.array_equal(found["slate_id"], np.repeat(np.arange(n), k))
    assert found["action"].max() < found["n_unique_action"]
    assert set(found["reward"]) <= {0.0, 1.0}
    for name in chances:
        assert ((found[name] > 0) & (found[name] <= 1)).all()
    assert (found["pscore_cascade"] <= found["pscore_item_position"] * (1 + 1e-12)).all()
    assert np.array_equal(found["pscore"].reshape(n, k)[:, 0], found["pscore_cascade"].reshape(n, k)[:, -1])


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
    done = scenarios.ope(run.folder, "relevance", logged=GREEDY, seeds=[0], workers=1)
    table = done.table[done.table["part"] == "first visits"]
    return np.concatenate(rows), table.set_index("estimator")["estimate"]


def test_a_slate_ips_on_the_export_is_that_of_ope(exported, evaluated):
    """Ten lines of IPS over the exported dictionary, for relevance, come to the figure of ``rimsim ope``."""
    log, (wanted, estimate) = exported("obp")[0], evaluated
    weight = (log["action"].reshape(-1, 3) == wanted).all(1) / log["pscore"].reshape(-1, 3)[:, 0]
    sips = float((weight * log["reward"].reshape(-1, 3).sum(1)).mean())
    assert estimate["slate"] == pytest.approx(sips, rel=1e-12)


def test_obp_itself_accepts_the_feedback_and_values_it_as_ope_does(exported, evaluated):
    """With OBP installed, its estimators check the dictionary, and SIPS, IIPS and RIPS are those of ``rimsim ope``."""
    obp = pytest.importorskip("obp.ope")
    log, (wanted, estimate) = exported("obp")[0], evaluated
    same = log["action"].reshape(-1, 3) == wanted
    prefix = np.logical_and.accumulate(same, axis=1)
    estimators = (obp.SlateStandardIPS, obp.SlateIndependentIPS, obp.SlateRewardInteractionIPS)
    found = obp.SlateOffPolicyEvaluation(log, [one(len_list=3) for one in estimators]).estimate_policy_values(
        evaluation_policy_pscore=np.repeat(same.all(1), 3).astype(float),
        evaluation_policy_pscore_item_position=same.reshape(-1).astype(float),
        evaluation_policy_pscore_cascade=prefix.reshape(-1).astype(float),
    )
    expected = {"sips": estimate["slate"], "iips": estimate["item-position"], "rips": estimate["cascade"]}
    assert found == pytest.approx(expected, rel=1e-12)


def test_scope_rl_has_its_keys_and_chances_multiply(exported):
    """Trajectories are slates of equal length; the product of a slate's chances is that of the slate."""
    found = exported("scope-rl")[0]
    n, k = int(found["n_trajectories"]), int(found["step_per_trajectory"])
    assert found["size"] == n * k
    assert found["state"].shape == (n * k, found["state_dim"])
    for name in ("action", "reward", "done", "terminal", "pscore"):
        assert found[name].shape == (n * k,)
    assert found["done"].reshape(n, k).tolist() == [[0, 0, 1]] * n
    whole = exported("obp")[0]["pscore"].reshape(n, k)[:, 0]
    np.testing.assert_allclose(found["pscore"].reshape(n, k).prod(1), whole, rtol=1e-10)


def test_scope_rl_itself_accepts_the_data_set_and_values_it_as_ope_does(exported, evaluated):
    """With SCOPE-RL installed, it finds its keys, and its TIS and PDIS are slate and cascade of ``rimsim ope``."""
    utils = pytest.importorskip("scope_rl.utils")
    discrete = pytest.importorskip("scope_rl.ope.discrete")
    found, (wanted, estimate) = exported("scope-rl")[0], evaluated
    utils.check_logged_dataset(found)
    log = {name: found[name] for name in ("action", "reward", "pscore")}
    log["step_per_trajectory"] = int(found["step_per_trajectory"])
    log["evaluation_policy_action_dist"] = np.eye(int(found["n_actions"]))[wanted.reshape(-1)]
    for kind, name in (("TrajectoryWise", "slate"), ("PerDecision", "cascade")):
        value = getattr(discrete, f"{kind}ImportanceSampling")().estimate_policy_value(**log)
        assert value == pytest.approx(estimate[name], rel=1e-9)


def test_csv_is_the_ledger(run, tmp_path, capsys):
    """Every exposure of the arms is a row with the ledger's columns; what is not there, or is there, is named."""
    out = tmp_path / "ledger.csv"
    assert main(["export", str(run.folder), "--to", "csv", "--agent", "relevance", "--out", str(out)]) == 0
    found = pd.read_csv(out)
    assert list(found.columns) == list(run.ledger.columns)
    assert len(found) == (run.ledger["agent"] == "relevance").sum()
    assert "exposures" in capsys.readouterr().out
    for error, told, kind, words in (
        (RunFolderError, "exists already", "csv", {"out": out}),
        (ConfigError, "--to: 'opb'. Did you mean 'obp'|--to: 'opb'", "opb", {}),
        (ConfigError, "--agent: 'nobody'", "obp", {"agent": "nobody"}),
        (ConfigError, "--seed: 9", "obp", {"seed": 9}),
    ):
        refused(error, told, scenarios.export, run.folder, kind, **words)


def test_the_environment_of_a_data_set_plays_its_log_again(run):
    """Made from the spec, the market shows the log's context, and the log's slates are consumed as they were."""
    arm = logged_arm(run, GREEDY, 1)
    environment = gymnasium.make(env_spec(run.scenario, 1))
    seen, _ = environment.reset(seed=1)
    assert environment.observation_space.contains(seen)
    for context, slate, taken in zip(arm.context, arm.item, arm.reward, strict=True):
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
    dataset = minari.load_dataset(said.rsplit(" ", 1)[1])
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
    slates, _ = d3rlpy.datasets.get_minari(said.rsplit(" ", 1)[1])
    assert (slates.transition_count, slates.episodes[0].actions.shape) == (150, (150, 3))
    found = exported("scope-rl")[0]
    columns = (found[name] for name in ("action", "reward", "terminal"))
    about = {"action_space": d3rlpy.ActionSpace.DISCRETE, "action_size": int(found["n_actions"])}
    positions = d3rlpy.dataset.MDPDataset(found["state"].astype(np.float32), *columns, **about)
    assert len(positions.episodes) == 150
    learner = d3rlpy.algos.DiscreteCQLConfig(batch_size=32).create()
    silent = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}
    learner.fit(positions, n_steps=20, n_steps_per_epoch=20, **silent)
    chosen = learner.predict(found["state"].astype(np.float32))
    assert ((chosen >= 0) & (chosen < found["n_actions"])).all()
