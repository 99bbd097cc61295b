"""Event files: their series and layout, what resuming leaves of them, and what TensorBoard serves."""

import dataclasses
import itertools
import json
import re
import sys
from subprocess import Popen
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from kit import DOCS, refused, until
from kit.logs import rounds_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from rimsim import tracking
from rimsim.errors import ConfigError, RunFolderError
from rimsim.measures import MEASURES, Measure, mean_interval

PNG = bytes.fromhex(  # a picture of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
ADDRESS = re.compile(r"http://localhost:\d+/")
GROUPS = sorted({measure.group for measure in MEASURES.values()})


def _record(number: int, value: float = 0.5, per_round: int = 200) -> tracking.RoundRecord:
    metrics = {"shortfall": value + number, "value_model": 1e9 + number / 8, "agent/step": 3.0}
    items = np.array([-0.5, -0.25, 0.0, 0.0]), np.array([4, 0, 2, 9]), np.array([3, 2, 2, 0])
    names = ("item_price", "exposure", "required")
    arrays = dict(zip(names, items, strict=True))
    return tracking.RoundRecord(number, (number + 1) * per_round, metrics, **arrays)


def _write(run, rounds, **resume) -> tracking.Tracker:
    with tracking.Tracker(run, "rim-dual", 7, **resume) as tracker:
        for number in rounds:
            tracker.round(_record(number))
    return tracker


def _events(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}).Reload()


def test_measures_delivery_and_prices_come_back_by_round_and_by_arrivals(tmp_path):
    """Each is a series over rounds, measures over arrivals too; prices and exposures are histograms."""
    folder = _write(tmp_path, range(3)).folder
    assert folder == tracking.event_folder(tmp_path, "rim-dual", 7)
    scalars = tracking.read_scalars(folder)
    assert scalars["guarantee/shortfall"] == [(0, 0.5), (1, 1.5), (2, 2.5)]
    assert scalars["zz_by_arrivals/guarantee/shortfall"] == [(200, 0.5), (400, 1.5), (600, 2.5)]
    assert scalars["agent/step"] == [(0, 3.0), (1, 3.0), (2, 3.0)]
    assert (scalars["delivery/required"][0], scalars["delivery/delivered"][0]) == ((0, 7), (0, 5))
    assert (scalars["prices/lowest"][0], scalars["prices/share_bonus"][0]) == ((0, -0.5), (0, 0.5))
    events = _events(folder)
    for name, low, high, total in (("item_price", -0.5, 0.0, -0.75), ("exposure", 0.0, 9.0, 15.0)):
        histograms = events.Histograms(f"histograms/{name}")
        assert [event.step for event in histograms] == [0, 1, 2]
        value = histograms[0].histogram_value
        assert (value.min, value.max, value.sum, value.num) == (low, high, total, 4)
        assert sum(value.bucket) == 4


def test_a_measure_without_value_gets_no_point(tmp_path):
    """None and NaN leave a gap; an agent without prices leaves no price series."""
    with tracking.Tracker(tmp_path, "random", 0) as tracker:
        for number, value in enumerate([0.5, None, float("nan"), 0.25]):
            tracker.round(tracking.RoundRecord(number, number + 1, {"adoption_median": value}))
    scalars = tracking.read_scalars(tracker.folder)
    assert scalars["loop/adoption_median"] == [(0, 0.5), (3, 0.25)]
    assert not [name for name in scalars if name.startswith(("prices/", "delivery/"))]


def test_a_round_is_on_disk_when_it_ends_until_a_new_run_replaces_it(tmp_path):
    """A finished round can be read while the tracker is open; a new run leaves no point of an earlier one."""
    _write(tmp_path, range(4))
    with tracking.Tracker(tmp_path, "rim-dual", 7) as tracker:
        for number in range(2):
            tracker.round(_record(number))
            assert len(tracking.read_scalars(tracker.folder)["guarantee/shortfall"]) == number + 1


def test_a_resumed_run_reads_like_an_uninterrupted_one(tmp_path):
    """Points after the round of resumption are dropped, earlier ones stay, in every series."""
    uninterrupted = tracking.read_scalars(_write(tmp_path / "whole", range(5)).folder)
    run = tmp_path / "cut"
    with tracking.Tracker(run, "rim-dual", 7) as tracker:
        for number in range(2):
            tracker.round(_record(number))
        tracker.round(_record(2, value=99.0))
        tracker.round(_record(3, value=99.0))
    folder = _write(run, range(2, 5), first_round=2, first_arrival=400).folder
    assert tracking.read_scalars(folder) == uninterrupted
    steps = [event.step for event in _events(folder).Histograms("histograms/exposure")]
    assert (steps, len(list(folder.iterdir()))) == ([0, 1, 2, 3, 4], 1)


def test_resuming_survives_a_torn_file_and_tells_tensorboard_to_purge(tmp_path):
    """A record cut short is passed over; of an old file left beside the new one only the new points are shown."""
    folder = _write(tmp_path, range(3)).folder
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    _write(tmp_path, [2], first_round=2, first_arrival=400)
    scalars = tracking.read_scalars(folder)
    assert scalars["guarantee/shortfall"] == [(0, 0.5), (1, 1.5), (2, 2.5)]
    assert [point.step for point in scalars["zz_by_arrivals/guarantee/shortfall"]] == [200, 400, 600]
    folder = _write(tmp_path, range(4)).folder
    (old,) = folder.iterdir()
    old_bytes = old.read_bytes()
    _write(tmp_path, [2], first_round=2, first_arrival=400)
    (new,) = folder.iterdir()
    new.rename(folder / "events.out.tfevents.2")
    (folder / "events.out.tfevents.1").write_bytes(old_bytes)
    scalars = tracking.read_scalars(folder)
    assert [point.step for point in scalars["guarantee/shortfall"]] == [0, 1, 2]
    assert [point.step for point in scalars["zz_by_arrivals/guarantee/shortfall"]] == [200, 400, 600]


def test_layout_has_bands_of_three_tags_and_known_tags(tmp_path):
    """The custom-scalar page is in the file; bands have three tags, lines are tags that get written."""
    folder = _write(tmp_path, range(1)).folder
    (event,) = _events(folder).Tensors("custom_scalars__config__")
    page = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in page.category] == list(tracking.layout())
    written = set(tracking.read_scalars(folder)) | {measure.tag for measure in MEASURES.values()}
    for category in page.category:
        for chart in category.chart:
            if chart.HasField("margin"):
                (series,) = chart.margin.series
                name = series.value.split("/")[1]
                assert name in MEASURES
                assert series.lower == f"zz_bands/{name}/low"
                assert series.upper == f"zz_bands/{name}/high"
            else:
                assert {tag.removesuffix("$") for tag in chart.multiline.tag} <= written
                assert all(tag.endswith("$") for tag in chart.multiline.tag)


def test_a_measure_of_ones_own_has_series_band_and_column(tmp_path):
    """A measure that is given has its tag, its band and a column in the table of hyperparameters."""
    mine = Measure("freshness", "share", "new / all", lambda _: None, title="New items")
    measures = {**MEASURES, "freshness": mine}
    with tracking.Tracker(tmp_path, "rim-dual", 7, measures=measures) as tracker:
        tracker.round(tracking.RoundRecord(0, 9, {"freshness": 0.25}))
        tracker.finish({}, {"freshness": 0.5})
    scalars = tracking.read_scalars(tracker.folder)
    assert (scalars["own/freshness"], scalars["final/freshness"]) == ([(0, 0.25)], [(0, 0.5)])
    content = _events(tracker.folder).PluginTagToContent("hparams")
    columns = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG]).metric_infos
    assert {column.name.tag: column.display_name for column in columns}["final/freshness"] == "New items"
    (event,) = _events(tracker.folder).Tensors("custom_scalars__config__")
    bands = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0]).category[0].chart
    assert bands[0].title == "New items (share)"  # shown last: TensorBoard reverses a category
    rows = [{"agent": "a", "seed": 0, "round": 0, "metric": "freshness", "value": 0.25}]
    (folder,) = tracking.write_summary(tmp_path, pd.DataFrame(rows), measures=measures)
    assert tracking.read_scalars(folder)["zz_bands/freshness/mid"] == [(0, 0.25)]


def test_hyperparameters_and_final_figures_are_one_row(tmp_path):
    """One start, one end, and the figures found as columns, with no point for one that has no value."""
    with tracking.Tracker(tmp_path, "rim-dual", 7) as tracker:
        tracker.round(_record(0))
        tracker.finish({"beta": 0.5, "k": 10, "history": True}, {"shortfall": 0.25, "adoption_median": None})
    events = _events(tracker.folder)
    content = events.PluginTagToContent("hparams")
    tags = {metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG}
    assert set(content) == tags
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    names = ["agent", "seed", "beta", "k", "history"]
    assert [info.name for info in experiment.hparam_infos] == names
    columns = [column.name.tag for column in experiment.metric_infos]
    assert columns == ["final/shortfall", "final/adoption_median"]
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["agent"].string_value == "rim-dual"
    assert (start.hparams["seed"].number_value, start.hparams["beta"].number_value) == (7, 0.5)
    assert start.hparams["history"].bool_value
    scalars = tracking.read_scalars(tracker.folder)
    assert scalars["final/shortfall"] == [(0, 0.25)]
    assert "final/adoption_median" not in scalars


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a TensorBoard server with its own fast loader, over two agents, and the run's folder."""
    pytest.importorskip("tensorboard_data_server", reason="TensorBoard's fast loader is not there")
    run = tmp_path_factory.mktemp("run")
    for agent, seed in (("relevance", 0), ("rim-dual", 7)):
        with tracking.Tracker(run, agent, seed) as tracker:
            record = dataclasses.replace(_record(0), metrics=dict.fromkeys(MEASURES, 0.5))
            tracker.round(record)
            tracker.finish({"beta": 0.5}, {"utility": 0.75, "shortfall": 0.25, "adoption_median": None})
    rounds = _rounds({"relevance": [0.5], "rim-dual": [0.25]})
    rows = [(part, metric) for part in ("data", "loop", "all") for metric in tracking.RETRAINED]
    parts = pd.DataFrame(rows, columns=["part", "metric"])
    parts = parts.assign(agent="relevance", round=0, seed=0, value=0.125)
    tracking.write_summary(run, rounds, parts=parts)
    picture = run / "round.png"
    picture.write_bytes(PNG)
    about = {"command": "rimsim compare", "answer": "`relevance` leaves **half**"}
    tracking.write_about(run, about, [picture])
    command = [sys.executable, "-m", "tensorboard.main", "--load_fast", "true", "--port", "0"]
    output = run / "output.txt"
    # In a process of its own: TensorBoard's gRPC in this process could keep Ray's tests waiting.
    with (
        output.open("w") as file,
        Popen([*command, "--logdir", run / "events"], stdout=file, stderr=file) as server,
    ):
        try:
            until(lambda: ADDRESS.search(output.read_text()))
            address = ADDRESS.search(output.read_text())[0]
            # It loads while it already answers.
            until(lambda: len(_asked(address, "scalars/tags")) >= 4 and _asked(address, "text/tags"))
            yield address, run
        finally:
            server.terminate()


def _asked(address, route, body=None, **query):
    data = None if body is None else json.dumps(body).encode()
    url = f"{address}data/plugin/{route}?{urlencode(query)}"
    request = Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - our own server
    with urlopen(request, timeout=20) as answer:  # noqa: S310 - the same
        return json.load(answer)


def test_tensorboard_itself_serves_scalars_pictures_words_and_columns(served):
    """All tags of the files, images bit for bit, pages of text, and few hyperparameters: what differs between runs."""
    address, run = served
    listed = _asked(address, "scalars/tags")
    arms = {"relevance/seed-0", "rim-dual/seed-7"}
    assert set(listed) == {*arms, "bands/relevance", "bands/rim-dual"}
    for name, tags in listed.items():
        assert set(tags) == set(tracking.read_scalars(run / "events" / name))
        assert name not in arms or {"allocation/value_model", "zz_by_arrivals/allocation/bound"} <= set(tags)
    (image,) = _asked(address, "images/images", run="about", tag="pictures/round", sample=0)
    with urlopen(f"{address}data/plugin/images/individualImage?{image['query']}", timeout=20) as answer:  # noqa: S310
        assert answer.read() == PNG
    assert set(_asked(address, "text/tags")["about"]) == {"about/command", "about/answer", "about/tags"}
    (page,) = _asked(address, "text/text", run="about", tag="about/answer")
    assert "<strong>half</strong>" in page["text"]
    (table,) = _asked(address, "text/text", run="about", tag="about/tags")
    assert all(f"<code>{measure.tag}</code>" in table["text"] for measure in MEASURES.values())
    columns = _asked(address, "hparams/experiment", {"experimentName": "", "hparamsLimit": 1000})
    assert [column["name"] for column in columns["hparamInfos"]] == ["agent", "beta", "seed"]
    titles = [column["displayName"] for column in columns["metricInfos"]]
    assert titles == [MEASURES[name].title for name in ("utility", "shortfall", "adoption_median")]


def test_each_chart_that_tensorboard_serves_draws_its_tags_alone_and_the_loop_is_first(served):
    """No chart of lines is empty, and none draws a tag that merely begins like one of its own.

    Charts are reversed, so the loop is served last; its band has points, as has the line in the first group.
    """
    address, _ = served
    page = _asked(address, "custom_scalars/layout")
    assert page["category"][0]["title"] == "Retraining and its parts"
    charts = [chart for category in page["category"] for chart in category["chart"]]
    lines = [chart["multiline"]["tag"] for chart in charts if "multiline" in chart]
    assert len(lines) == 5
    for pattern in itertools.chain.from_iterable(lines):
        drawn = _asked(address, "custom_scalars/scalars", run="rim-dual/seed-7", tag=pattern)
        assert list(drawn["tag_to_events"]) == [pattern.removesuffix("$")]
    charts = page["category"][0]["chart"]
    titles = [chart["title"].partition(" (")[0] for chart in reversed(charts)]
    assert titles[0] == "Catalogue coverage: the loop"
    assert titles[4] == "Catalogue coverage: all of retraining, agent − frozen"
    band = charts[-1]["margin"]["series"][0]
    for tag in (*band.values(), "1_retraining/coverage/loop", "1_retraining/coverage/agent_minus_frozen"):
        (point,) = _asked(address, "scalars/scalars", run="bands/relevance", tag=tag)
        assert point[1:] == [0, 0.125]
    tags = [tag for listed in _asked(address, "scalars/tags").values() for tag in listed]
    groups = sorted({tag.partition("/")[0] for tag in tags})
    assert (groups[0], groups[-2:]) == ("1_retraining", ["zz_bands", "zz_by_arrivals"])


def _rounds(values):
    """A table of round 0: agent → utility by seed, and a figure that is not built in."""
    own_figure = rounds_of({("a", 0): [1.0]}, "own figure")
    return pd.concat([rounds_of({(agent, 0): seeds for agent, seeds in values.items()}), own_figure])


def test_bands_are_the_intervals_over_seeds(tmp_path):
    """An agent's bands hold mid, low and high of a measure, below four seeds the lowest and the highest."""
    values = {"a": [1.0, 2.0, 4.0, 3.0], "b": [5.0], "c": [2.0, 1.0, 4.5]}
    for _ in range(2):
        folders = tracking.write_summary(tmp_path, _rounds(values))
    assert folders == [tracking.summary_folder(tmp_path, agent) for agent in "abc"]
    band = mean_interval(values["a"])
    ends = {"a": (band.low, band.mean, band.high), "b": (5.0, 5.0, 5.0), "c": (1.0, 2.5, 4.5)}
    for agent, folder in zip("abc", folders, strict=True):
        scalars = tracking.read_scalars(folder)
        assert set(scalars) == {f"zz_bands/utility/{end}" for end in ("mid", "low", "high")}
        read = [scalars[f"zz_bands/utility/{end}"][0].value for end in ("low", "mid", "high")]
        assert read == pytest.approx(ends[agent])


def test_wrong_use_is_named(tmp_path):
    """An unknown metric, with the nearest, a negative round, a list, an empty folder and a file in the way."""
    with tracking.Tracker(tmp_path, "random", 0) as tracker:
        wrong = tracking.RoundRecord(0, 5, {"utility": 1.0, "shortfal": 0.5})
        refused(ConfigError, "Did you mean 'shortfall'", tracker.round, wrong)
        refused(ConfigError, "unknown", tracker.finish, {}, {"utilty": 1.0})
        refused(ConfigError, "'betas' is a list", tracker.finish, {"betas": [1, 2]}, {})
    assert tracking.read_scalars(tracker.folder) == {}
    refused(ConfigError, "first_round -1", tracking.Tracker, tmp_path, "a", 0, first_round=-1)
    refused(RunFolderError, "no event files", tracking.read_scalars, tmp_path)
    (tmp_path / "file").write_text("")
    refused(RunFolderError, "cannot be written", tracking.Tracker, tmp_path / "file", "a", 0)


@pytest.mark.parametrize("agent", ["", "..", "a/b", "bands", "about", "a\nb", "c:"])
def test_agent_names_that_cannot_be_folders_are_refused(tmp_path, agent):
    """A name that would leave the run folder or clash with the summaries is an error."""
    refused(ConfigError, "its name cannot be the name of a folder", tracking.Tracker, tmp_path, agent, 0)
    assert not list(tmp_path.iterdir())


def test_every_tag_is_documented_and_documented_lines_run(tmp_path, monkeypatch):
    """docs/tracking.md names groups of tags and all that are no measures; its lines leave files that can be read."""
    page = (DOCS / "tracking.md").read_text(encoding="utf-8")
    with tracking.Tracker(tmp_path, "rim-dual", 7) as tracker:
        tracker.round(dataclasses.replace(_record(0), metrics=dict.fromkeys(MEASURES, 0.5)))
    written = tracking.read_scalars(tracker.folder)
    unmeasured = {name for name in written if name.startswith(("prices/", "delivery/"))}
    assert unmeasured == {name for name in written if name.split("/")[0] not in {*GROUPS, "zz_by_arrivals"}}
    assert [name for name in unmeasured if f"`{name}`" not in page] == []
    assert [group for group in GROUPS if f"`{group}/…`" not in page] == []
    monkeypatch.chdir(tmp_path)
    lines = page.split("```python\n")[1].split("```")[0]
    exec(lines, {})  # noqa: S102 - the documentation is ours
    read = tracking.read_scalars(tracking.event_folder(tmp_path / "runs" / "by-hand", "rim-dual", 0))
    assert read["mine/clicks"] == [(0, 7)]
    assert read["zz_by_arrivals/guarantee/shortfall"] == [(2000, pytest.approx(0.1))]
