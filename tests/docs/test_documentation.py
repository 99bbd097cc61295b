"""Code of the documentation: the Python blocks of each page run in order, as a reader runs them."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import DOCS, ROOT, documented
from PIL import Image

import rimsim
from rimsim import config, scenarios
from rimsim.config import override
from rimsim.data import load

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")

ELSEWHERE = {
    "data": "data/test_page.py: test_the_blocks_of_the_page_run_in_order",
    "environment": "envs/test_pages.py: test_the_blocks_of_the_page_run_and_give_what_it_says",
    "learning": "envs/test_pages.py: test_the_blocks_of_the_page_run_and_give_what_it_says",
    "tracking": "tracking/test_tensorboard.py: test_every_tag_is_documented_and_documented_lines_run",
    "tutorial": "../tools/follow_tutorial.py: follow",  # make tutorial
}
"""Page → the test that runs its blocks and checks their results."""
NEEDS = {"experiments": "cluster_experiments", "exports": "minari", "your-recommender": "lenskit"}
"""Page → package of an extra, with which ``make formats`` or ``make recommenders`` runs it."""
SHORTER = {
    "api/rimsim": {
        'models=("popularity", "hp"), seeds=(0,)': 'models=("popularity", "hp"), seeds=(0,), beta=(), cap=()',
        'truths=("factors",)': (
            'truths=("factors",), rank=1, draws=1, resamples=100, '
            "data=rimsim.config.DataConfig(min_item_events=120)"
        ),
        '"arrivals.per_round": 500': '"arrivals.per_round": 40',
    },
    "backtest": {'("gru-hp", "gru"), seeds=(0, 1, 2)': '("popularity", "hp"), seeds=(0,), beta=(), cap=()'},
    "validity": {
        '"bag", "popularity", "random")': (
            '"popularity", "random"), truths=("factors",), rank=1, draws=1, resamples=100, '
            "data=rimsim.config.DataConfig(min_item_events=120)"
        )
    },
    "intensities": {
        "min_item_events=30": "min_item_events=120",
        "(3, 848)": "(3, 92)",
        "events=500": "events=50",
    },
    "payback": {"worlds=4": "worlds=2, rounds=2, arrivals=40, beta=[0.5], workers=1"},
    "study": {"min_item_events=30": "min_item_events=120"},
    "your-own": {"workers=2": "workers=1"},
}
"""Page → texts of its blocks, and what a test has in their place, to take seconds."""
ALONE = {
    "rounds=4, seeds=3": "seeds=2",
    'scenario="closed-loop"': 'scenario="closed-loop"',
}
"""Texts of the README's blocks, and the text that a test has in their place before its settings."""
_FEW = "--set consumer.truth=factors --set consumer.rank=1 --set platform.model=popularity-hp"
SHORTER_COMMANDS = {
    "rimsim validate --data my_log.csv": "--models popularity,random --truths factors --draws 1 --set resamples=100",
    "rimsim compare --data my_log.csv": f"--rounds 1 --workers 1 --set arrivals.per_round=30 {_FEW}",
}
"""Commands of the README, and the options with which a test plays a smaller market."""
SHORTER_CELLS = {
    "rimsim.load()": "rimsim.load(min_item_events=120)",
    '"arrivals.per_round": 300': (
        '"data.min_item_events": 120, "arrivals.per_round": 40, "platform.model": "popularity-hp", '
        '"consumer.truth": "factors", "consumer.rank": 1'
    ),
}
"""The same for cells of the notebook."""
SMALL = {
    "rounds": 2,
    "data.min_item_events": 120,
    "arrivals.per_round": 40,
    "platform.model": "popularity-hp",
    "consumer.truth": "factors",
    "consumer.rank": 1,
}
"""Settings of the built-in scenarios in these tests."""


def _page(name):
    return (ROOT if name == "README" else DOCS) / f"{name}.md"


def _blocks(name):
    """Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", _page(name).read_text(encoding="utf-8"), re.DOTALL)


def _shell_blocks(name):
    """Shell blocks of a page."""
    return re.findall(r"```sh\n(.*?)```", _page(name).read_text(encoding="utf-8"), re.DOTALL)


_NAMES = ["README", *(str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.glob("**/*.md"))]
PAGES = sorted(name for name in _NAMES if not name.startswith(("gallery", "log")) and _blocks(name))


def _small_run():
    rimsim.compare(agents=["relevance", "rim-feedback"], seeds=2, workers=1, out="runs/guarantee")


def _small_sweep():
    grid = {"exposure.beta": [0.0, 0.5]}
    rimsim.sweep(grid=grid, agents=["relevance"], rounds=1, seeds=1, workers=1, out="runs/mine")


def _small_shop():
    """The run of the page, of fewer customers and arrivals."""
    shop = runpy.run_path(str(ROOT / "examples" / "shop.py"))["shop"]
    shop(customers=200, items=60).to_csv("shop.csv", index=False)
    settings = {"data.columns": "user=customer,item=sku,time=bought at", "data.min_item_events": 1}
    rimsim.compare(
        agents=["relevance", "rim-feedback"],
        data="shop.csv",
        guarantee={"seller": 0.5},
        settings=settings,
        workers=1,
        out="runs/shop",
    )


def _exports():
    agent = "epsilon-greedy(epsilon=0.5)"
    run = rimsim.compare(agents=[agent], rounds=1, seeds=1, frozen=[], workers=1, out="run")
    scenarios.export(run.folder, "obp", agent=agent, out="obp.npz")
    scenarios.export(run.folder, "minari", agent=agent, out="sets")


def _known_answers():
    """Tables of KuaiRec's columns: four users have answered all of six items."""
    folder = Path("KuaiRec/data")
    folder.mkdir(parents=True)
    user, item = (part.ravel() for part in np.meshgrid(np.arange(4), np.arange(6), indexing="ij"))
    columns = {"user_id": user, "video_id": item, "timestamp": 1e9 + 60.0 * np.arange(24)}
    table = pd.DataFrame(columns).assign(watch_ratio=1.5 + item % 2)
    for name in ("small_matrix", "big_matrix"):
        table.to_csv(folder / f"{name}.csv", index=False)


BEFORE = {
    "exports": _exports,
    "market": _known_answers,
    "report": _small_run,
    "sellers": _small_shop,
    "study": _small_sweep,
    "tables": _small_run,
    "your-own": lambda: rimsim.data.write(rimsim.load(min_item_events=120), "my_log.csv"),
}
"""Page → what a reader has made by its commands before its Python."""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An empty folder, where built-in scenarios are small and files are modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("rimsim.scenarios.study.checks", "rimsim.envs.market"):
        finder = f"{module}.find_scenario"
        monkeypatch.setattr(finder, lambda name: override(config.find_scenario(name), SMALL))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_the_python_of_a_page_runs(page, small):
    """Its blocks run one after the other; a block whose first line is a file's name runs as that file."""
    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    names = {}
    BEFORE.get(page, lambda: None)()
    blocks = _blocks(page)
    for text, shorter in SHORTER.get(page, {}).items():
        assert any(text in block for block in blocks), text
        blocks = [block.replace(text, shorter) for block in blocks]
    for block in blocks:
        file = re.match(r"# (\w+\.py)\n", block)
        if file is None:
            exec(compile(block, f"{page}.md", "exec"), names)  # noqa: S102  # our own page
            continue
        (small / file[1]).write_text(block, encoding="utf-8")
        if not file[1].startswith("test_"):  # pytest's files: tests/market/test_plugs.py
            runpy.run_path(str(small / file[1]))


@pytest.mark.parametrize("number", range(len(_blocks("README"))))
def test_a_python_block_of_the_readme_runs_alone(number, tmp_path):
    """Pasted into a new Python in an empty folder, it needs no other block; only its market is smaller here."""
    block = _blocks("README")[number]
    for text, shorter in ALONE.items():
        block = block.replace(text, f"{shorter}, settings={SMALL}")
    assert "settings=" in block
    command = [sys.executable, "-c", block]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)


@pytest.mark.thorough
def test_the_shell_block_of_the_readme_for_your_log_runs_alone(tmp_path):
    """In a folder with nothing but the file that the README names, all its commands end well; the market is smaller."""
    events = load(min_item_events=150)
    columns = {"user": events.user, "item": events.item, "time": events.time}
    pd.DataFrame(columns).to_csv(tmp_path / "my_log.csv", index=False)
    (block,) = (block for block in _shell_blocks("README") if "my_log.csv" in block)
    for text, shorter in SHORTER_COMMANDS.items():
        assert text in block
        block = block.replace(text, f"{text} {shorter}")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-euc", block]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_the_demo_of_the_readme_is_that_of_the_tutorial(script):
    """Its command and its answer stand in the tutorial, which is compared with a run, and are those of its picture."""
    (install,) = (block for block in _shell_blocks("README") if "pip install" in block)
    assert install.splitlines()[-1].partition("#")[0].strip() in _shell_blocks("tutorial")[1].splitlines()
    (answer,) = re.findall(r"```text\n(.*?)```", _page("README").read_text(encoding="utf-8"), re.DOTALL)
    tutorial = _page("tutorial").read_text(encoding="utf-8")
    assert answer in re.search(r"```text\n(.*?)```", tutorial, re.DOTALL)[1]
    with Image.open(DOCS / "pictures" / "report.png") as picture:
        photographed = picture.info["Description"]
    assert script("printed_figures").differences(answer, photographed) == []
    assert picture.width < 1000
    assert (DOCS / "pictures" / "report.png").stat().st_size < 300_000


def test_the_readme_begins_with_its_two_commands():
    """A clone needs `make demo` and `make test` alone; both are targets of the Makefile."""
    lines = [line.partition("#")[0].split() for line in _shell_blocks("README")[0].splitlines()]
    assert lines == [["git", "clone", "URL", "rimsim"], ["cd", "rimsim"], ["make", "demo"], ["make", "test"]]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_pages_that_other_tests_run_are_named_there():
    """Each has its test; the files of pytest that pages show are run with the plugs that they test."""
    assert set(ELSEWHERE) | set(NEEDS) | set(SHORTER) | set(BEFORE) <= set(PAGES)
    tests = ROOT / "tests"
    for page, place in ELSEWHERE.items():
        file, _, function = place.partition(": ")
        text = (tests / file).read_text(encoding="utf-8")
        assert f"def {function}(" in text
        assert f"{page}.md" in text
    assert len(documented("my_agent.py", "your-own").strip().splitlines()) <= 20  # as the page says
    steps = re.findall(
        r"^run_steps (.*?)(?: &)?$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "tutorial" in " ".join(steps).split()
    text = "".join(block for page in PAGES if page != "tutorial" for block in _blocks(page))
    plugs = (tests / "market" / "test_plugs.py").read_text(encoding="utf-8")
    assert [file for file in re.findall(r"# (test_\w+\.py)\n", text) if f'"{file}"' not in plugs] == []


@pytest.mark.thorough
def test_the_notebook_goes_from_a_table_to_a_report(tmp_path):
    """Fewer than 15 cells run in a kernel of their own; tables, a picture and the page are values of cells."""
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    place = ROOT / "examples" / "notebook.ipynb"
    notebook = nbformat.read(place, as_version=4)
    assert len(notebook.cells) < 15
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        for text, shorter in SHORTER_CELLS.items():
            cell.source = cell.source.replace(text, shorter)
    assert all(any(text in cell.source for cell in notebook.cells) for text in SHORTER_CELLS.values())
    location = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=location).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    tables = "".join(data.get("text/html", "") for data in shown)
    assert tables.count("<table") >= 4
    assert "<caption>closed-loop: round 2" in tables
    assert sum("image/png" in data for data in shown) == 1
    (page,) = tmp_path.glob("runs/*/report.html")
    assert page.relative_to(tmp_path).as_posix() in tables
