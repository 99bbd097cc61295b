"""Plugs of an installed package, made from the template: listed, played, and refused where two offer a name."""

import shutil
import subprocess
import sys

import pytest
from kit import ROOT, cases, refused, said_by

from rimsim.agents import make_agent
from rimsim.entry_points import places
from rimsim.errors import ConfigError
from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The template of a package of plugs, built and installed into a folder of its own."""
    source = tmp_path_factory.mktemp("package") / "source"
    shutil.copytree(ROOT / "examples" / "package", source)
    site = source.parent / "site"
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, source]
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)
    return site


@pytest.fixture
def installed(package, monkeypatch):
    """The plugs of the template, as if its package were installed."""
    monkeypatch.syspath_prepend(str(package))
    places.cache_clear()
    yield
    places.cache_clear()
    sys.modules.pop("my_plugs", None)


@pytest.mark.usefixtures("installed")
def test_plugs_of_an_installed_package_are_listed_and_played(tmp_path, monkeypatch, capsys):
    """Lists, help and the lists' details have their names; a run takes them by name, with options."""
    monkeypatch.setenv("RIMSIM_DATA", str(tmp_path / "data"))
    for words, output in (
        ("agents", "least-shown "),
        ("models", "bestsellers "),
        ("arrivals", "lunch "),
        ("consumers", "hurried "),
        ("measures", "top-share "),
        ("data list", "toy "),
        ("compare --help", "least-shown"),
        ("agents least-shown", "bonus=1.0"),
        ("models bestsellers", "smooth=0.1"),
    ):
        assert output in said_by(capsys, words).out
    line = "compare closed-loop --agents least-shown(bonus=2.0),relevance --measures top-share --data toy"
    line += f" --rounds 2 --seeds 1 --workers 1 --no-certificate --out {tmp_path / 'run'}"
    settings = ["arrivals.kind=lunch", "arrivals.options.per_day=10", "consumer.kind=hurried"]
    settings += ["platform.model=bestsellers(smooth=1.0)", "data.min_item_events=5", "slate=5"]
    assert main([*line.split(), *(word for setting in settings for word in ("--set", setting))]) == 0
    run = load_run(tmp_path / "run")
    assert run.agents == ["least-shown(bonus=2.0)", "relevance", "relevance-frozen"]
    assert "top_share" in set(run.rounds["metric"])
    assert set(run.arrivals.groupby(["agent", "round"]).size()) == {70}
    assert run.config["log"]["items"] == 40
    assert not run.ledger.loc[run.ledger["position"] > 3, "consumed"].any()


@pytest.mark.usefixtures("installed")
@cases(
    "line message",
    ("compare --agents leastshown", "agent 'leastshown' is unknown. Did you mean 'least-shown'?"),
    ("compare --agents random --set platform.model=bestseller", "Did you mean 'bestsellers'?"),
    ("compare --agents random --set arrivals.kind=lunhc", "Did you mean 'lunch'?"),
    ("compare --agents random --set consumer.kind=huried", "Did you mean 'hurried'?"),
    ("compare --agents random --measures topshare", "Did you mean 'top-share'?"),
    ("compare --agents random --data toyy", "Did you mean 'toy'?"),
    ("agents leastshown", "leastshown: rimsim does not know this name. Did you mean 'least-shown'?"),
    ("compare --agents least-shown(bonsu=1)", "has no option 'bonsu'. Did you mean 'bonus'?"),
    ("compare --set platform.model=bestsellers(smoth=1)", "has no option 'smoth'. Did you mean 'smooth'?"),
)
def test_a_slip_in_an_installed_name_is_told_with_the_nearest(line, message, tmp_path, monkeypatch, capsys):
    """Names of packages are among those that an error suggests."""
    monkeypatch.chdir(tmp_path)
    assert message in said_by(capsys, line, 2).err


@pytest.mark.usefixtures("installed")
def test_two_packages_that_offer_one_name_are_told(package):
    """Neither is taken silently."""
    second_package = package / "other-1.dist-info"
    second_package.mkdir()
    try:
        (second_package / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
        (second_package / "entry_points.txt").write_text("[rimsim.agents]\nleast-shown = others:Mine\n")
        refused(ConfigError, "define 'least-shown': .* and .*Uninstall one", make_agent, "leastshown")
    finally:
        shutil.rmtree(second_package)
