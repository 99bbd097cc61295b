"""Models and agents from a user's file: slips with their line, resumed runs and edited files."""

import pytest
import torch
from kit import MODEL, cases, refused
from kit.markets import small_run, small_scenario, stopped_after_a_round

from rimsim.agents import make_agent
from rimsim.config import PlatformConfig
from rimsim.errors import ArmsError, ConfigError, ModelError, nearest
from rimsim.market import Market
from rimsim.market.opening import opening_model
from rimsim.scenarios import load_run
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.compare import resume


def _compare(out, agents=("random",), model="popularity-hp", rounds=1, **options):
    config = small_scenario(rounds=rounds, platform=PlatformConfig(model=model))
    return small_run(out, agents, config, **options)


@cases(
    "text slip message",
    ("= log.n_items", "= log.items_n", r"^mine.py:10: AttributeError: .*items_n"),
    ("torch.ones(len(states)", "torch.ones(len(state)", r"mine.py:16: NameError: .*'state'"),
    ("torch.ones(len(states), self.n_items)", "3", r"'int' object has no attribute.*, with mine.py:Mine"),
    ("        return self\n", "", r"fit returned None. Expected the fitted model"),
)
def test_a_slip_in_a_model_is_told_with_its_line(write, tmp_path, text, slip, message):
    """A model of one's own that raises when it is fitted or asked is an error of ours that names the line."""
    write(MODEL.replace(text, slip))
    refused((ModelError, ArmsError), message, _compare, tmp_path / "run", model="mine.py:Mine")


def test_a_failed_arm_is_told_in_a_line_of_its_own_with_the_line_of_the_slip(write, tmp_path):
    """Each failed arm has a line, which ends in the place within the user's file; then comes where tracebacks are."""
    write(
        "from rimsim.agents import Random\n\n\nclass One(Random):\n    name = 'one'\n\n"
        "    def act(self, arrivals):\n        return arrivals.relevence\n\n\n"
        "class Two(One):\n    name = 'two'\n"
    )
    with pytest.raises(ArmsError) as caught:
        _compare(tmp_path / "run", ("random", "mine.py:One", "mine.py:Two"))
    first, first_arm, second_arm, last = str(caught.value).splitlines()
    assert first == "2 of 3 arms failed:"
    assert first_arm.startswith("  one, seed 0: agent 'one' raised AttributeError in round 0, at arrival ")
    assert second_arm.startswith("  two, seed 0: ")
    assert first_arm.endswith("(mine.py:8)")
    assert last == f"tracebacks: {tmp_path / 'run'}/failures/"
    assert caught.value.folder == str(tmp_path / "run")
    assert len(list((tmp_path / "run" / "failures").iterdir())) == 2


def test_a_model_made_from_a_seed_is_fitted_again_where_the_cache_cannot_give_it_back(write, tmp_path):
    """A subclass of a built-in model with a constructor of its own plays twice, and alike."""
    write(
        "from rimsim.intensity import Popularity\n\n\nclass Mine(Popularity):\n"
        "    def __init__(self, seed, device):\n        super().__init__()\n"
    )
    digests = []
    for name in ("first", "second"):
        opening_model.cache_clear()
        digests.append(digest(_compare(tmp_path / name, model="mine.py:Mine")))
    assert digests[0] == digests[1]


MARK = """\
import torch
from rimsim.intensity import HawkesPoisson, RIM


class Parity:
    # p(y|x) is even, but for odd items, which are thrice as likely once fitted twice
    fits = 0

    def fit(self, log):
        odd = torch.arange(log.n_items) % 2
        self.weight, self.fits = 1.0 + 2.0 * odd * self.fits, self.fits + 1
        return self

    update = fit

    def encode(self, states):
        return (torch.zeros(len(states)),)

    def step(self, hidden, items, times):
        return hidden

    def score_hidden(self, hidden, now):
        return (self.weight / self.weight.sum()).repeat(len(now), 1)

    def score(self, states):
        return self.score_hidden(self.encode(states), states.now)


def product(seed, device):
    return RIM(mark=Parity(), ground=HawkesPoisson())
"""
STORED_MARK = """\
from rimsim.intensity import HawkesPoisson, Popularity, RIM


class Flattened(Popularity):
    def score_hidden(self, hidden, now):
        flat = super().score_hidden(hidden, now).sqrt()
        return flat / flat.sum(1, keepdim=True)


def product(seed, device):
    return RIM(mark=Flattened(), ground=HawkesPoisson())
"""


@pytest.mark.parametrize("text", [MARK, STORED_MARK], ids=["begin again", "resumed"])
def test_a_run_with_a_mark_of_ones_own_resumes_to_the_same_content(write, tmp_path, monkeypatch, text):
    """An interrupted arm goes on with a mark that can be read back, and begins anew with one that cannot.

    Joined with a ground intensity, both play in a product, which retraining changes.
    """
    write(text)
    options = {"model": "mine.py:product", "rounds": 2, "frozen": ["relevance"]}
    uninterrupted = _compare(tmp_path / "whole", ["relevance"], **options)
    rows = uninterrupted.ledger.sort_values(["arrival", "position"]).groupby(["agent", "round"])["item"]
    shown = rows.agg(list)
    assert shown["relevance", 0] == shown["relevance-frozen", 0]
    assert shown["relevance", 1] != shown["relevance-frozen", 1]
    with stopped_after_a_round(monkeypatch):
        refused(ArmsError, "enough", _compare, tmp_path / "part", ["relevance"], **options)
    assert bool(list((tmp_path / "part").rglob("round-0001"))) is (text is STORED_MARK)
    assert digest(resume(tmp_path / "part", workers=1)) == digest(uninterrupted)


def test_a_model_of_an_edited_file_is_not_taken_from_the_cache(write):
    """A stored model of one's own is fitted again once its file has changed, also within one process."""
    config = small_scenario(platform=PlatformConfig(model="mine.py:product"))
    scores = []
    for text in (STORED_MARK, STORED_MARK.replace(".sqrt()", ".square()")):
        write(text)
        opening_model.cache_clear()
        market = Market(config)
        scores.append(market.next_arrivals(4).relevance)
    assert not torch.equal(*scores)


NO_NUMBERS = (
    MODEL.replace("        pass", "        self.fits = 0")
    .replace("        return self", "        self.fits += 1\n        return self")
    .replace("torch.ones(len", "torch.full((1, 1), torch.nan if self.fits > 1 else 1.0).expand(len")
)
"""A model that gives none once it is fitted twice."""


def test_a_model_that_stops_giving_numbers_is_named_and_frozen_arms_are_kept(write, tmp_path):
    """NaN after the first refit fails the arm with agent, seed, round and arrival; its frozen arm is complete."""
    write(NO_NUMBERS)
    message = r"1 of 2 arms failed:\n  relevance, seed 3: agent 'relevance' in round 0: .*arrival \d+. Expected finite"
    options = {"seeds": [3], "frozen": ["relevance"]}
    out = tmp_path / "run"
    refused(ArmsError, message, _compare, out, ["relevance"], "mine.py:Mine", 2, **options)
    n_rounds = load_run(out).rounds.groupby("agent")["round"].nunique()
    assert n_rounds.to_dict()["relevance-frozen"] == 2


def test_what_a_users_code_says_in_several_lines_is_told_in_one(write, tmp_path):
    """The text of an exception that has line breaks is folded, wherever a user's code raised it."""
    write(MODEL.replace("self.n_items = log.n_items", "raise ValueError('one\\ntwo')"))
    message = r"^mine.py:10: ValueError: one two$"
    refused(ModelError, message, _compare, tmp_path / "run", model="mine.py:Mine")
    write("raise ValueError('one\\ntwo')")
    refused(ConfigError, r"cannot import 'mine.py': ValueError: one two$", make_agent, "mine.py:Mine")


def test_a_file_that_imports_the_one_beside_it_is_told_how(write):
    """The folder of a file is not searched, and the message says how it is; of another module it says nothing."""
    write("K = 1", "shared.py")
    write("from shared import K")
    message = r"No module named 'shared'; shared.py lies .*put PYTHONPATH=\. before"
    refused(ConfigError, message, make_agent, "mine.py:Mine")
    write("import shaded")
    refused(ConfigError, r"No module named 'shaded'$", make_agent, "mine.py:Mine")


@cases(
    "agent message",
    ("mine.py", "agent 'mine.py' is a file. Add a name in it: mine.py:Mine$"),
    ("mien.py", "no such file. Did you mean 'mine.py'"),
    ("mine.py:Fresh", "has no 'Fresh'. Use one of Mine.$"),
    ("nowhere/mine.py:Mine", "There is no folder 'nowhere'"),
)
def test_a_misspelt_place_of_an_agent_is_told_with_what_there_is(write, agent, message):
    """A file without a class, a misspelt file and a misspelt class name what there is, without what is imported."""
    write(MODEL)
    refused(ConfigError, message, make_agent, agent)


def test_names_are_cut_to_the_likest():
    """At most ten are told, those most like what was found; no name is said in words."""
    message = nearest("exposre", [*(f"zz{number}" for number in range(20)), "exposure"])
    assert "Did you mean 'exposure'?" in message
    assert message.count(",") == 9
    assert message.endswith("and 11 more.")
    assert nearest("x", []) == " There are none."
