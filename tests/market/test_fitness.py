"""Fitness of truths: the test of orders by hand, one verdict everywhere, which turns with nothing but log and truth."""

import dataclasses
import importlib.util
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kit import cases, said_by
from kit.logs import log_of, shop_log
from kit.markets import small_run
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim.config import ConsumerConfig, DataConfig, ScenarioConfig
from rimsim.data import load_log
from rimsim.market import agreement
from rimsim.market import fitness as judge
from rimsim.market.consumers.false_truths import false_truths
from rimsim.market.fitness import RECOMMENDERS, Fitness, Rival, chosen_truth, fitness
from rimsim.market.fitted import kept_truth
from rimsim.measures import UNFIT, OrderTest, order_test, statistics
from rimsim.scenarios import ValidateConfig, validate
from rimsim.scenarios.report import html
from rimsim.scenarios.report.fitness import next_step, validate_command, verdict_sentence, with_verdict
from rimsim.scenarios.study.runner import _fitness_entry
from rimsim.tracking import about_folder

GAP = 1800.0


def _worth(means, spread=0.01, users=40, seed=0):
    """Worth of models for users, around their means."""
    return np.array(means)[:, None] + spread * np.random.default_rng(seed).normal(size=(len(means), users))


def test_an_order_test_by_hand():
    """Four models: five pairs in order, one reversed; a pair that simulation cannot tell apart counts half."""
    real = _worth([4.0, 3.0, 2.0, 1.0])
    result = order_test(real, _worth([40.0, 20.0, 30.0, 10.0], seed=1))
    assert (result.models, result.users, result.pairs, result.settled) == (4, 40, 6, 6)
    assert result.reversed == ((1, 2),)
    assert set(result.concordant) == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    assert result.agreement == pytest.approx((5 - 1) / 6)
    count = 6 * 9 / (2 * 4 + 5)
    share = (1 + result.agreement) / 2
    for end in (
        result.low,
        result.high,
    ):  # Wilson: the shares at a distance of 1.96 of their own standard errors
        p = (1 + end) / 2
        assert abs(share - p) == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(p * (1 - p) / count))
    tied = order_test(real, _worth([40.0, 20.0, 20.0, 10.0], spread=5.0, seed=1))
    assert (len(tied.concordant), tied.reversed) == (5, ())
    assert tied.agreement == pytest.approx(5 / 6)
    nothing = order_test(_worth([1.0, 1.0, 1.0], spread=1.0), real[:3])
    assert nothing.settled == 0
    assert nothing.agreement is nothing.low is nothing.high is None
    assert nothing.verdict() == "cannot tell"


@cases("n_right count", (9, 10), (0, 6), (13, 13), (7, 14))
def test_wilsons_interval_is_scipys(n_right, count):
    """Ends of the interval of a share agree with SciPy's."""
    expected = stats.binomtest(n_right, count).proportion_ci(0.95, method="wilson")
    assert statistics._wilson(n_right / count, count) == pytest.approx((expected.low, expected.high))


def _tested(n_concordant, n_reversed, n_settled, models=6):
    """Result of a test with numbers of pairs."""
    agreement = (n_concordant - n_reversed) / n_settled
    count = n_settled / statistics._pairs_per_independent_one(models)
    low, high = (2 * end - 1 for end in statistics._wilson((1 + agreement) / 2, count))
    pairs = tuple(itertools.combinations(range(models), 2))
    return OrderTest(
        agreement,
        low,
        high,
        models,
        100,
        15,
        n_settled,
        pairs[:n_concordant],
        pairs[n_concordant : n_concordant + n_reversed],
    )


@cases(
    "concordant reversed_pairs settled false_agreements verdict",
    (11, 0, 11, [-0.1, None], "fit"),
    (14, 0, 15, [0.2], "fit"),
    (8, 0, 8, [], "fit"),
    (7, 0, 7, [], "cannot tell"),  # all in order, but too few
    (10, 2, 13, [], "cannot tell"),  # at .62, with an interval that includes 0
    (11, 3, 14, [], "cannot tell"),  # below the bar, with an interval that includes it
    (14, 1, 15, [0.9], "cannot tell"),  # wrong tastes agree as well
    (11, 0, 11, [1.0], "fit"),  # there is no more to order
    (5, 6, 11, [], "unfit"),
    (4, 8, 12, [], "unfit"),
)
def test_a_verdict_is_fit_unfit_or_open(concordant, reversed_pairs, settled, false_agreements, verdict):
    """Fit: from the bar on, beyond chance and wrong tastes. Unfit: the interval below the bar. Else it is open."""
    assert _tested(concordant, reversed_pairs, settled).verdict(false_agreements) == verdict


@cases("false_agreement verdict", (0.7, "fit"), (0.8, "cannot tell"), (0.9, "cannot tell"))
def test_a_truth_must_agree_better_than_wrong_tastes(false_agreement, verdict):
    """A truth that agrees 0.8 is not fit if a truth with wrong tastes agrees as well."""
    tested = OrderTest(0.8, 0.2, 0.95, 6, 100, 15, 10, (), ())
    assert tested.verdict([None, false_agreement]) == verdict


def test_an_empty_position_is_no_hit():
    """A user with one admissible item has an empty position, although the user before took the last item."""
    admissible = np.array([[True, True, True], [True, False, False]])
    cut = SimpleNamespace(
        draw=0,
        known=np.ones(3, bool),
        later=SimpleNamespace(user=np.array([3, 4])),
        admissible=lambda start, stop: admissible[start:stop],
        taken_row=np.array([0, 1]),
        taken_item=np.array([2, 1]),
        taken=np.array([1, 1]),
        repeatable=False,
    )
    worth = agreement.judged(agreement.Uniform((2, 3)), cut, 2)
    assert worth.slates[1].tolist() == [0, -1]
    assert worth.precision[1] == 0.0


def test_the_fewest_pairs_of_a_verdict():
    """From ``needed`` pairs on, a perfect order is better than chance; with one pair less it is not."""
    for models in (3, 5, 6, 9):
        needed = _tested(2, 0, 2, models).needed
        assert _tested(needed, 0, needed, models).low > 0
        assert _tested(needed - 1, 0, needed - 1, models).low <= 1e-12


@pytest.fixture(scope="module")
def embedded():
    """The embedded log as a comparison reads it by default."""
    return load_log(ScenarioConfig().data)


@pytest.fixture(scope="module")
def popular():
    """The items of the embedded log with many events, which are quickly judged."""
    return load_log(DataConfig(min_item_events=120))


def test_the_truths_of_the_embedded_log_are_fit_and_false_ones_are_not():
    """Both candidates are fit; no taste, other users' and opposite tastes are not, nor is a truth of bestsellers."""
    log = load_log(DataConfig(min_item_events=30))
    for kind in ("factors", "bag"):
        judgement = fitness(log, gap=GAP, kind=kind)
        assert judgement.verdict == "fit"
        assert judgement.agreement > max(UNFIT, judgement.best_false)
        for false in false_truths({kind: kept_truth(log, gap=GAP, kind=kind)}, log).values():
            wrong = SimpleNamespace(
                kind=kind, expected=false.expected, preference=false.preference, trend=None
            )
            assert judge._judged(log, GAP, wrong, lambda _, wrong=wrong: wrong).verdict != "fit"
    assert fitness(log, gap=GAP, kind="popularity").verdict == "unfit"


@pytest.mark.thorough
def test_the_verdict_on_a_shop_does_not_turn(tmp_path, monkeypatch):
    """Slates, draws, models and optional packages leave it the same; another item threshold at most leaves it open."""
    log = shop_log(min_item_events=30)
    assert (log.n_users, log.n_items, len(log)) == (2_998, 266, 32_458)
    data = DataConfig(source=str(tmp_path / "shop.csv"), min_item_events=30)
    verdicts = []
    for slate, decay in ((8, 0.85), (5, 0.7)):
        consumer = ConsumerConfig(truth="bag", position_decay=decay)
        config = ScenarioConfig(slate=slate, consumer=consumer, data=data)
        verdicts.append(_fitness_entry(log, config, np.zeros(log.n_items)))
        # As if nothing optional were installed.
        monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert verdicts[0] == verdicts[1]
    assert verdicts[0]["verdict"] == "fit"
    monkeypatch.undo()
    lines = [
        f"{user},{item},{time:.0f}" for user, item, time in zip(log.user, log.item, log.time, strict=True)
    ]
    Path(data.source).write_text("\n".join(["user,item,time", *lines]), encoding="utf-8")
    settings = ValidateConfig(
        data, ("popularity", "returning", "random"), (), ("bag",), 1, slate=5, resamples=100
    )
    validation = validate(settings, out=tmp_path / "valid")
    assert validation.described["fitness"]["bag"]["verdict"] == "fit"
    assert fitness(shop_log(min_item_events=60), gap=GAP, kind="bag").verdict in {"fit", "cannot tell"}


def test_the_verdict_is_on_the_truth_that_saw_the_past_only(popular):
    """A truth that is right only if it sees the whole log is not fit; both agreements are told."""
    right = kept_truth(popular, gap=GAP, kind="bag")
    (wrong,) = (
        law for law in false_truths({"bag": right}, popular).values() if law.wrong == "false_opposite"
    )
    opposite = SimpleNamespace(kind="bag", expected=wrong.expected, preference=wrong.preference, trend=None)
    pasts = []
    blind = judge._judged(popular, GAP, right, lambda past: pasts.append(len(past)) or opposite)
    seeing = judge._judged(popular, GAP, opposite, lambda past: kept_truth(past, gap=GAP, kind="bag"))
    assert len(pasts) == blind.draws
    assert max(pasts) < len(popular)
    assert blind.verdict != "fit"
    assert blind.played > UNFIT > blind.agreement
    assert seeing.agreement > UNFIT > seeing.played


def test_the_share_of_untested_events_is_told():
    """Repeats are not tested where they are history; the sentence has their share."""
    log = log_of([0, 0, 0, 1], [0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0])
    assert judge.untested_share(log) == 0.25
    assert judge.untested_share(dataclasses.replace(log, repeatable=True)) == 0.0
    assert judge.untested_share(log.rows(slice(0, 0))) == 0.0
    sentence = verdict_sentence(_verdict(untested=0.25))
    assert sentence.endswith(
        "asks nothing about 25% of the log's events, because they repeat an item of their user."
    )
    assert "asks nothing" not in verdict_sentence(_verdict(untested=0.001))


def test_no_recommender_of_a_verdict_needs_an_optional_package():
    """The judged set is rimsim's own: without ALS and BPR, which the package implicit computes."""
    assert not {"als", "bpr"} & {name.partition("(")[0] for name in RECOMMENDERS}


def test_a_large_catalogue_is_judged_without_ease(popular, monkeypatch):
    """``ease`` inverts a matrix over the catalogue, so that the size of the log decides, and nothing else."""
    assert fitness(popular, gap=GAP, kind="popularity").recommenders == RECOMMENDERS
    monkeypatch.setattr(judge, "_EASE", popular.n_items - 1)
    judgement = fitness(popular, gap=GAP, kind="popularity")
    assert judgement.recommenders == tuple(name for name in RECOMMENDERS if name != "ease")


def test_many_users_are_drawn_once(popular, monkeypatch):
    """One cut of each of many users, and two where users are few."""
    drawn = []
    for threshold in (10, 10_000):
        monkeypatch.setattr(judge, "_MANY_USERS", threshold)
        versions = [str(threshold)]  # so that it is not read from the cache
        monkeypatch.setattr(judge, "_versions", lambda versions=versions: versions)
        drawn.append(fitness(popular, gap=GAP, kind="popularity").draws)
    assert drawn == [1, 2]


def test_a_log_without_later_sessions_cannot_be_judged():
    """One session a user: the verdict is open, and the sentence says why."""
    log = log_of([0, 0, 1, 1], [0, 1, 1, 2], [1.0, 2.0, 3.0, 4.0], 2, 3)
    table = log.items.assign(release=np.nan, genres="")
    judgement = fitness(dataclasses.replace(log, items=table), gap=GAP, kind="popularity")
    assert (judgement.verdict, judgement.users, judgement.settled) == ("cannot tell", 0, 0)
    assert "fewer than two users have a later session" in verdict_sentence(judgement)


def test_a_cached_verdict_notices_whatever_it_depends_on(popular, tmp_path, monkeypatch):
    """Log, truth, source and versions each have a verdict of their own; a damaged entry is made again."""
    judged = []
    judgement = Fitness("bag", "fit", 1.0, 0.3, 1.0, 15, 11, 8, 11, (), 0.0, 9, 1, RECOMMENDERS)
    monkeypatch.setattr(
        judge, "_judged", lambda log, gap, truth, of_past: judged.append(truth.kind) or judgement
    )
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path))

    def is_new(log=popular, **words):
        before = len(judged)
        assert fitness(log, gap=GAP, **{"kind": "popularity"} | words).verdict == "fit"
        return len(judged) > before

    assert is_new()
    assert not is_new()
    assert is_new(popular.rows(np.arange(len(popular)) % 7 > 0))
    assert is_new(kind="returning")
    assert is_new(item_bias=np.ones(popular.n_items))
    assert not is_new(item_bias=np.zeros(popular.n_items))
    assert is_new(bootstrap=3)
    for entry in (tmp_path / "fitness").glob("*/fitness.json"):
        entry.write_text("{")
    assert is_new()
    monkeypatch.setattr(judge, "_versions", lambda: ["another"])
    assert is_new()
    monkeypatch.setattr(judge, "_code", lambda: "another")
    assert is_new()


def test_a_key_has_every_file_that_a_verdict_depends_on(monkeypatch):
    """Cuts, recommenders, slates, truths and the test itself are in the digest of the source."""
    read = set()
    plainly = Path.read_bytes

    def reading(path):
        read.add("/".join(path.parts[-2:]))
        return plainly(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    judge._code.__wrapped__()
    files = {
        "market/agreement.py",
        "market/fitness.py",
        "data/log.py",
        "measures/statistics.py",
        "rimsim/rng.py",
    }
    files |= {"sets/ease.py", "intensity/scores.py", "consumers/truths.py", "consumers/false_truths.py"}
    assert files <= read


ALL_TRIED = ["auto", "factors+habits", "bag", "bag+habits", "ease", "gru"]
"""Truths that ``auto`` tries where ``factors`` is its first choice."""


@cases(
    "first settled alternatives chosen tried",
    (("fit", 0.9), 11, {}, "auto", ["auto"]),
    (("cannot tell", 0.7), 15, {}, "auto", ["auto"]),  # at the bar, with a wide interval
    (("cannot tell", 0.9), 7, {}, "auto", ["auto"]),  # too few pairs to show any truth to be fit
    (("unfit", 0.1), 11, {"factors+habits": ("fit", 1.0)}, "factors+habits", ALL_TRIED[:2]),
    (("unfit", 0.1), 11, {"bag": ("fit", 1.0)}, "bag", ALL_TRIED[:3]),
    (("unfit", 0.1), 11, {"bag": ("unfit", 0.2), "gru": ("fit", 0.8)}, "gru", ALL_TRIED),
    (("cannot tell", 0.5), 11, {"ease": ("cannot tell", 0.5)}, "auto", ALL_TRIED),
    (("cannot tell", 0.5), 11, {"ease": ("cannot tell", 0.6)}, "ease", ALL_TRIED),
)
def test_auto_tries_other_truths_where_its_choice_is_not_fit(
    first, settled, alternatives, chosen, tried, popular, monkeypatch
):
    """The first fit truth is taken, or else that of highest agreement; a verdict without evidence tries nothing."""
    kinds = []

    def verdict(log, gap, kind, rank, *_):
        kinds.append(kind)
        named, agreement = first if kind == "auto" else alternatives.get(kind, ("unfit", -0.5))
        truth = "factors" if kind == "auto" else kind
        return Fitness(
            truth, named, agreement, 0.0, 1.0, 15, settled, 8, settled, (), 0.0, 9, 1, RECOMMENDERS
        )

    monkeypatch.setattr(judge, "_kept_fitness", verdict)
    monkeypatch.setattr(judge, "kept_truth", lambda log, *, kind, **_: kind)
    assert chosen_truth(popular, gap=GAP) == chosen
    assert kinds == tried
    judgement = fitness(popular, gap=GAP)
    assert judgement.truth == ("factors" if chosen == "auto" else chosen)
    assert {rival.truth for rival in judgement.rivals} == {
        "factors" if kind == "auto" else kind for kind in tried if kind != chosen
    }


def test_auto_has_habits_where_items_are_taken_again(popular, monkeypatch):
    """On a log of repeated consumption, every truth that ``auto`` tries knows repetition."""
    kinds = []

    def unfit(log, gap, kind, rank, *_):
        kinds.append(kind)
        truth = "factors+habits" if kind.startswith("auto") else kind
        return Fitness(truth, "unfit", 0.0, -0.5, 0.5, 15, 11, 8, 0, (), 0.0, 9, 1, RECOMMENDERS)

    monkeypatch.setattr(judge, "_kept_fitness", unfit)
    fitness(dataclasses.replace(popular, repeatable=True), gap=GAP)
    assert kinds == ["auto+habits", "bag+habits", "ease+habits", "gru+habits", "auto+habits"]


def test_auto_tries_only_truths_that_are_quickly_fitted(popular, monkeypatch):
    """A fit that would take longer than the budget is left out; so is ``ease`` over a large catalogue."""
    kinds = []

    def unfit(log, gap, kind, rank, *_):
        kinds.append(kind)
        return Fitness(
            "factors" if kind == "auto" else kind,
            "unfit",
            0.0,
            -0.5,
            0.5,
            15,
            11,
            8,
            0,
            (),
            0.0,
            9,
            1,
            RECOMMENDERS,
        )

    monkeypatch.setattr(judge, "_kept_fitness", unfit)
    monkeypatch.setattr(judge, "_MOST_SECONDS", 2e-4 * len(popular))
    fitness(popular, gap=GAP)
    assert "gru" not in kinds
    assert "ease" in kinds
    kinds.clear()
    monkeypatch.setattr(judge, "_EASE", popular.n_items - 1)
    fitness(popular, gap=GAP)
    assert "ease" not in kinds


def _verdict(verdict="fit", agreement=1.0, low=0.3, settled=11, **changes):
    """A verdict with figures of a usual log."""
    judgement = Fitness(
        "bag", verdict, agreement, low, 1.0, 15, settled, 8, settled, (), 0.0, 285, 2, RECOMMENDERS
    )
    return dataclasses.replace(judgement, **changes)


@cases(
    "verdict words",
    (_verdict(), "is fit for this log: it orders 11 of 11 pairs"),
    (_verdict(played=0.85), "fit from 0.6 on; fitted to the whole log, 0.85)."),
    (_verdict("unfit", -0.1, -0.7), "is unfit for this log, so do not use it to compare recommenders"),
    (
        _verdict("cannot tell", settled=5),
        "tell only 5 of 15 pairs of recommenders apart, and a verdict needs 8",
    ),
    (_verdict("cannot tell", 0.5), "and its interval includes 0.6"),
    (_verdict("cannot tell", 0.7, -0.1), "and its interval includes 0, the agreement of chance"),
    (_verdict("cannot tell", 0.9, best_false=0.9), "the same truth with wrong tastes agrees as well (0.90)"),
    (
        _verdict("unfit", reversed=(("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("i", "j"))),
        "Against these sessions it puts `b` above `a`, `d` above `c`, `f` above `e` and 2 more.",
    ),
)
def test_a_sentence_has_the_verdict_and_its_reason(verdict, words):
    """Each verdict has its words, its figures, and the reversed pairs by name."""
    assert words in verdict_sentence(verdict)


def test_the_next_step_names_exact_options():
    """A truth of one's own choice leads to ``auto``, ``auto`` to slower truths, and few pairs to more events."""
    data = DataConfig(source="my log.csv", min_item_events=5, session_gap="2h")
    command = "rimsim validate --data 'my log.csv' --min-item-events 5 --set data.session_gap=2h --truths "
    assert next_step(_verdict(), "bag", data) == ""
    step = next_step(_verdict("unfit"), "bag", data)
    assert "--set consumer.truth=auto" in step
    assert f"`{command}bag,factors,ease,gru`" in step
    tried = _verdict("unfit", rivals=(Rival("factors", "unfit", 0.1), Rival("gru", "unfit", 0.2)))
    step = next_step(tried, "auto", data)
    assert "`auto` has tried `bag`, `factors`, `gru`." in step
    assert validate_command(data, ["bag+habits", "transformer"]) in step
    assert "data.min_item_events" in next_step(_verdict("cannot tell", settled=3), "auto", data)


def test_a_verdict_that_is_not_fit_stands_before_the_answer():
    """Nobody reads an answer without it; a fit truth is told after the answer; older runs have none."""

    def run(verdict):
        config = {} if verdict is None else {"fitness": judge.READER.dump_python(verdict, mode="json")}
        return SimpleNamespace(config=config, scenario=ScenarioConfig())

    assert with_verdict(["Answer."], [run(None)]) == ["Answer."]
    first, second = with_verdict(["Answer."], [run(_verdict())])
    assert first == "Answer."
    assert "is fit" in second
    first, second = with_verdict(["Answer."], [run(_verdict("unfit")), run(_verdict("unfit"))])
    assert "is unfit" in first
    assert second == "Answer."


def test_every_place_that_shows_an_answer_shows_the_verdict(tmp_path, capsys):
    """Console, Markdown, page and TensorBoard have the answer's sentences, of retraining and of fitness too."""
    run = small_run(tmp_path / "one", ["relevance", "random"], rounds=2, frozen=["relevance"])
    record = run.config["fitness"]
    assert record["truth"] == run.config["truth"]["kind"]
    report = run.report()
    (verdict,) = (text for text in report.answer if f"`{record['truth']}`" in text)
    (retraining,) = (text for text in report.answer if text.startswith("Retraining"))
    printed = " ".join(said_by(capsys, f"report {run.folder}").out.split())
    assert verdict.replace("`", "") in printed
    assert verdict in said_by(capsys, f"report {run.folder} --markdown").out
    assert verdict.replace(f"`{record['truth']}`", f"<code>{record['truth']}</code>")[:60] in html.html(
        report, run
    )
    events = EventAccumulator(str(about_folder(run.folder))).Reload()
    (tag,) = (tag for tag in events.Tags()["tensors"] if tag.startswith("about/answer"))
    answer = events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
    assert verdict in answer
    assert retraining in answer
    repeated = small_run(tmp_path / "two", ["relevance", "random"], rounds=2, frozen=["relevance"])
    assert repeated.config["fitness"] == record
