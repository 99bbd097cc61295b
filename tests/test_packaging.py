"""The package is built from four sibling folders, and the site from pages: what keeps both whole is seen here."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pandas as pd
import pytest
from kit import cases, refused

import rimsim
from rimsim import command
from rimsim.agents import BUILT_IN
from rimsim.scenarios.cli.main import _rimsim as COMMANDS  # noqa: N812
from rimsim.scenarios.report import charts

ROOT = Path(__file__).resolve().parent.parent
MAPPED = ("agents", "envs", "scenarios")


def packages_on_disk():
    """Dotted names of all packages in the four folders; those that are links are not followed."""
    tops = {"rimsim": ROOT / "rimsim"} | {f"rimsim.{top}": ROOT / top for top in MAPPED}
    inits = [
        (name, init.parent.relative_to(top))
        for name, top in tops.items()
        for init in top.rglob("__init__.py")
    ]
    return {".".join((name, *place.parts)) for name, place in inits}


def test_every_package_on_disk_is_listed_with_its_names():
    """No package is missing from the wheel, nor the stub from which a root that lends names lazily reads them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert packages_on_disk() <= set(config["packages"])
    assert "__init__.pyi" in config["package-data"]["*"]
    roots = [path for top in ("rimsim", *MAPPED) for path in (ROOT / top).rglob("__init__.py")]
    lazy = [path for path in roots if "attach_stub" in path.read_text()]
    assert lazy
    assert all(path.with_suffix(".pyi").is_file() for path in lazy)


@pytest.mark.parametrize("name", MAPPED)
def test_a_source_folder_is_a_room_of_the_package_alone(name, monkeypatch):
    """No second copy of a class can be made by its bare name, and the checkout looks like the installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    refused(ImportError, f"rimsim.{name}", importlib.import_module, name)
    link = ROOT / "rimsim" / name
    if link.is_file():
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == (ROOT / name).resolve()
    assert link.is_dir()


def test_every_test_says_its_behaviour():
    """Each test function has a docstring, which ends in a full stop."""
    silent = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "tests").glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not (ast.get_docstring(node) or "").rstrip().endswith(".")
    ]
    assert not silent


ROOMS = ("scenarios", "data", "intensity", "matching", "market", "agents", "envs", "measures")


def test_public_names_are_exported_and_exist():
    """__all__ of every package lists names that are there, each once; a function is not hidden by its module."""
    for name in ("rimsim", *(f"rimsim.{room}" for room in ROOMS)):
        package = importlib.import_module(name)
        assert all(hasattr(package, public) for public in package.__all__)
        assert len(set(package.__all__)) == len(package.__all__)
    assert rimsim.matching.certificate.__name__ == "certificate"


@cases(
    "module heavy",
    ("measures", {"torch", "pandas", "scipy"}),
    ("matching", {"torch", "numba"}),
    ("tracking", {"torch", "tensorflow"}),
    ("data", {"torch", "matplotlib", "seaborn", "pooch"}),
    ("envs", {"matplotlib", "seaborn"}),
    ("scenarios.kinds.registry", {"matplotlib", "seaborn"}),
    ("scenarios.report.charts", {"seaborn"}),
    ("scenarios.study.compare", {"seaborn"}),
)
def test_imports_are_light(module, heavy):
    """Rooms are imported without the packages that their functions alone need."""
    code = f"import sys, rimsim.{module}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_root_lends_what_people_look_for_first():
    """Rooms and first functions need no other import, are those of their rooms, and are all that dir shows."""
    code = (
        "import sys, rimsim; names = dir(rimsim);"
        "heavy = {'torch', 'pandas', 'numba', 'matplotlib', 'seaborn'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "assert rimsim.load is rimsim.data.load and rimsim.Market is rimsim.market.Market;"
        "assert rimsim.compare is rimsim.scenarios.compare and rimsim.make_agent is rimsim.agents.make_agent;"
        "assert not hasattr(rimsim, 'compair') and not hasattr(rimsim.matching, 'Auction');"
        "print(*names)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    rooms = "agents data envs errors intensity market matching measures scenarios"
    public = f"{rooms} Market backtest compare load load_run make_agent sweep validate"
    assert shown.split() == sorted(public.split())


DOCS, LOG = ROOT / "docs", ROOT / "benchmarks" / "log"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"gallery", "log"} & set(path.parts))
pytestmark = pytest.mark.skipif(not (DOCS / "index.md").is_file(), reason="not a source checkout")


def _listed(page):
    """Names in the tables of contents of a page, by caption."""
    text = page.read_text(encoding="utf-8")
    for table in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
        options = dict(re.findall(r"^:(\w+): *(.*)$", table, re.MULTILINE))
        yield options.get("caption"), re.findall(r"^(?!:)(\S+)$", table, re.MULTILINE)


def _words(path):
    """Number of words of a page, without formulas."""
    text = path.read_text(encoding="utf-8")
    return len(re.findall(r"\S*\w\S*", re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)))


def _anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_and_every_room_is_in_the_sites_contents_and_short():
    """Each page and package once; README has 900 words at most, a page 2,000, all hand-written pages 32,000."""
    sections = dict(_listed(DOCS / "index.md"))
    assert list(sections) == ["Tutorials", "How to", "Explanation", "Reference", "Measured"]
    assert sections.pop("Measured") == []  # one entry, whose title is another: Benchmark log <log/README>
    listed = [name for names in sections.values() for name in names]
    listed += [f"api/{name}" for _, names in _listed(DOCS / "api" / "index.md") for name in names]
    there = [str(path.relative_to(DOCS).with_suffix("")) for path in PAGES]
    assert sorted(listed) == sorted({*there, "gallery/index"} - {"index"})
    rooms = [name for name in dir(rimsim) if (DOCS.parent / "rimsim" / name).is_dir()]
    assert len(rooms) >= 8
    assert [name for name in rooms if not (DOCS / "api" / f"{name}.md").is_file()] == []
    assert _words(ROOT / "README.md") <= 900
    words = {path.stem: _words(path) for path in DOCS.glob("*.md")}
    generated = {"scenarios", "command-line", "measures", "tables"}
    assert {name: count for name, count in words.items() if count > 2000 and name not in generated} == {}
    assert sum(count for name, count in words.items() if name not in generated) <= 32_000


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *LOG.glob("*.md")], ids=str)
def test_links_lead_somewhere(page):
    """Every link within the repository leads to a file, and to a heading of it where it names one."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        path = page.parent / place if place else page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), target


def _commands(page):
    """Words of each `rimsim` command in the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL):
        for line in re.split(r"[;\n]|&&", block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            if words[:1] == ["rimsim"]:
                yield words[1:]


def test_commands_of_pages_are_read_by_the_command_line():
    """Each command in a page names commands and options that there are, with values of their types."""
    found = [words for page in [ROOT / "README.md", *PAGES] for words in _commands(page)]
    assert len(found) > 40
    for words in found:
        command, rest = COMMANDS, words
        while hasattr(command, "commands"):
            command, *rest = command.commands[rest[0]], *rest[1:]
        command.make_context(words[0], rest)


def test_every_picture_is_in_a_page_and_no_older_than_its_result(script):
    """Drawn again from its tables, each picture has the title and digest of its file; ``round.svg`` is a diagram."""
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, *LOG.glob("*.md")])
    assert [path.name for path in (DOCS / "pictures").iterdir() if f"pictures/{path.name}" not in text] == []
    pictures = script("pictures")
    files = {f"{name}{picture.ending}" for name, picture in pictures.PICTURES.items()}
    assert {path.name for path in (DOCS / "pictures").iterdir()} == {*files, "round.svg"}
    used = {
        place for picture in pictures.PICTURES.values() for place in picture.tables if place.endswith(".csv")
    }
    assert {path.name for path in (LOG / "pictures").iterdir()} == used
    for name, picture in pictures.PICTURES.items():
        with charts.style():
            _, title = pictures.drawn(name)
        assert pictures.recorded(name) == pictures.Record(title, pictures.digest(picture.tables)), name


def test_a_title_of_the_site_follows_its_table(script, monkeypatch, tmp_path):
    """Where relevance shows half as much of the catalogue, the title says so, and the digest is another."""
    pictures = script("pictures")
    before = pictures.drawn("coverage")[1]
    (tmp_path / "coverage.csv").write_text(
        re.sub(
            r"(coverage,relevance,29,)[\d.]+",
            r"\g<1>0.06",
            (LOG / "pictures" / "coverage.csv").read_text(encoding="utf-8"),
        ),
        encoding="utf-8",
    )
    digest = pictures.digest(("coverage.csv",))
    monkeypatch.setattr(pictures, "TABLES", tmp_path)
    assert pictures.drawn("coverage")[1] == before.replace("12%", "6.0%") != before
    assert pictures.digest(("coverage.csv",)) != digest


def test_a_changed_table_has_another_digest(script, monkeypatch, tmp_path):
    """The digest is of cells below a heading, not of the text around them; a heading without a table is refused."""
    pictures = script("pictures")
    monkeypatch.setattr(pictures.figures, "LOG", tmp_path)

    def digest(text):
        (tmp_path / "a.md").write_text(text)
        return pictures.digest(("a#b",))

    table = "## B\n\n| x |\n|---|\n| 1 |\n"
    assert digest(table) == digest(f"New words.\n\n{table}\nMore.\n") != digest(table.replace("1", "2"))
    refused(SystemExit, "a#b", digest, "## B\n")


def test_figures_of_pages_are_those_of_the_log(script):
    """Every quoted figure equals its cell of the log, and every page of the log says how its tables were made."""
    figures = script("figures")
    assert len(figures.quotes()) > 50
    assert [path.name for path in figures.outdated()] == []
    made = re.compile(r"^\*Commit \w{7,}, \d{4}-\d\d-\d\d, .+, rimsim [\d.]+:\* `.+`$", re.MULTILINE)
    logs = [path for path in LOG.glob("*.md") if path.stem != "README"]
    assert [path.name for path in logs if not made.search(path.read_text())] == []


def test_a_figure_is_found_by_row_and_column(script, monkeypatch, tmp_path):
    """A place is a cell in five forms, below a heading where it names one; unknown and ambiguous rows are refused."""
    figures = script("figures")
    table = "| x | y |\n|---|---|\n"
    text = f"# A\n\n{table}| `n` | -.135 ±.01* |\n| o | 3 |\n\n## B\n\n{table}| n | 2 |\n"
    (tmp_path / "a.md").write_text(text)
    monkeypatch.setattr(figures, "LOG", tmp_path)
    forms = {"": "−0.135 ± 0.01", "mean": "−0.135", "size": "0.135", "points": "14", "%": "14%"}
    assert {form: figures.figure(f"a#a; n; y; {form}") for form in forms} == forms
    assert figures.figure("a#b; n; y") == "2"
    assert figures.figure("a; o; y") == "3"
    refused(SystemExit, "0 figures", figures.figure, "a; m; y")
    refused(SystemExit, "2 figures", figures.figure, "a; n; y")


@cases(
    "page words places message",
    ("It was 9 here, 8 there.", "It was {} there.", ["a; n; y"], "occurs 0 times"),
    ("It was 9. It was 8.", "was {}.", ["a; n; y"], "occurs 2 times"),
    ("It was 9 of 8.", "was {} of {}.", ["a; n; y"], "one place for each"),
    ("It was 9.", "was {}.", ["a; w; y"], "is not a figure"),
    ids=["no page has the words", "two places have the words", "a figure without a place", "a cell of words"],
)
def test_a_quote_that_fits_no_single_figure_is_refused(
    script, monkeypatch, tmp_path, page, words, places, message
):
    """Words that occur never or twice, and figures without a cell that is one, end the check."""
    figures = script("figures")
    (tmp_path / "a.md").write_text("| x | y |\n|---|---|\n| n | 7 |\n| w | seven |\n")
    monkeypatch.setattr(figures, "LOG", tmp_path)
    quote = figures.Quote("page.md", words, tuple(places))
    refused(SystemExit, message, figures.updated, page, [quote])


def test_figures_that_differ_from_the_log_are_named_and_replaced(script, monkeypatch, tmp_path):
    """Each figure becomes the log's, across line breaks; one that is quoted twice is refused."""
    figures = script("figures")
    (tmp_path / "a.md").write_text("| x | y | z |\n|---|---|---|\n| n | 7.5 ± 1 | 34% [20, 48] |\n")
    monkeypatch.setattr(figures, "LOG", tmp_path)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "QUOTES", tmp_path / "figures.yaml")
    (tmp_path / "figures.yaml").write_text('page.md:\n  "It costs {} or {}.": ["a; n; y", "a; n; z"]\n')
    page = tmp_path / "page.md"
    page.write_text("So, **yes**. It\n  costs 1,200 or 35% [21, 49]. Not 1,200.\n")
    right = "So, **yes**. It\n  costs 7.5 ± 1 or 34% [20, 48]. Not 1,200.\n"
    assert figures.outdated() == {page: right}
    page.write_text(right)
    assert figures.outdated() == {}
    quotes = [figures.Quote("page.md", words, ("a; n; y",)) for words in ("costs {} or", "It costs {}")]
    refused(SystemExit, "quotes a figure twice", figures.updated, right, quotes)


def test_release_notes_are_short_and_begin_with_results():
    """A version has a date and at most 400 words; a heading *Results change* comes first."""
    versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    titles = [text.split("\n")[0] for text in versions]
    assert [title for title in titles if not re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", title)] == []
    assert titles[0].startswith(f"{rimsim.__version__} ")
    assert [text.split("\n")[0] for text in versions if len(re.findall(r"\S*\w\S*", text)) > 400] == []
    for text in versions:
        headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
        assert "Results change" not in headings[1:]


def test_fragments_become_the_notes_of_the_next_version(tmp_path):
    """Each file of changes/ is a short sentence of a known kind, and all stand above the last version."""
    pytest.importorskip("towncrier")
    fragments = [path for path in (ROOT / "changes").iterdir() if path.name != "README.md"]
    kinds = "results|breaking|added|faster|fixed"
    assert [p.name for p in fragments if not re.fullmatch(rf"[+\w-]+\.({kinds})(\.\d+)?\.md", p.name)] == []
    texts = [path.read_text(encoding="utf-8").strip() for path in fragments]
    assert [text for text in texts if len(text.split()) > 20 or not text.endswith(".")] == []
    shutil.copytree(ROOT / "changes", tmp_path / "changes")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    line = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "9.0.0"]
    subprocess.run([*line, "--dir", str(tmp_path)], cwd=tmp_path, check=True, capture_output=True)
    notes = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    new = notes.partition("## 9.0.0")[2].partition(f"## {rimsim.__version__}")[0]
    assert [text for text in texts if text not in new] == []
    assert re.match(r" \(\d{4}-\d\d-\d\d\)\n", new)
    assert notes.replace(f"## 9.0.0{new}", "") == (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_leaderboard_shows_its_table(script):
    """The page is what its script makes of the committed table, and has every built-in agent."""
    board = script("leaderboard")
    table = pd.read_parquet(board.TABLE)
    page = board.PAGE.read_text(encoding="utf-8")
    assert page == board.page(table, page.splitlines()[2])
    assert set(table["scenario"]) == set(board.BOARDS)
    assert set(table["agent"]) == set(BUILT_IN)


BUILD = "import os, sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def built(source, hook, where):
    """A wheel or a source archive of a tree, by the build backend itself: no network, no environment of its own."""
    where.mkdir()
    line = [sys.executable, "-c", BUILD, hook, str(where)]
    subprocess.run(line, cwd=source, check=True, capture_output=True)
    (made,) = where.iterdir()
    return made


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive of the checkout's tracked files, and the wheel that is built from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    git = shutil.which("git")
    listed = git and subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if not listed or listed.returncode:
        pytest.skip("no Git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / "clone" / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
    source = built(folder / "clone", "build_sdist", folder / "sdist")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return source, built(unpacked, "build_wheel", folder / "wheel")


INSTALLED = """\
import sys; sys.path.insert(0, sys.argv[1]); import rimsim, rimsim.data; from rimsim.command import main
assert rimsim.__file__.startswith(sys.argv[1]), rimsim.__file__; assert len(rimsim.data.load()) == 100004
sys.argv[1:] = ["scenarios"]; sys.exit(main())"""


def test_the_wheel_holds_all_that_is_read_and_works_without_the_checkout(archives, tmp_path):
    """Every data file is in the wheel at its place, and nothing else; both archives are named after the version.

    From another folder, with the wheel's files alone, the command runs and reads its scenarios and log.
    """
    assert rimsim.__version__.count(".") == 2
    assert all(path.name.startswith(f"rimsim-{rimsim.__version__}") for path in archives)
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path / "site")  # noqa: S202  our own
    wanted = "py.typed scenarios/__init__.pyi scenarios/report/page.html.jinja "
    wanted += "scenarios/runs/tables.yaml scenarios/cli/options.yaml"
    tables = (ROOT / "rimsim/data/embedded").glob("*.parquet")
    files = [*wanted.split(), *(f"data/embedded/{path.name}" for path in tables)]
    files += [f"scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.yaml")]
    assert {f"rimsim/{name}" for name in files} <= names
    assert {name.split("/")[0] for name in names} == {"rimsim", f"rimsim-{rimsim.__version__}.dist-info"}
    line = [sys.executable, "-c", INSTALLED, str(tmp_path / "site")]
    told = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "closed-loop" in told.stdout


def test_the_wheel_names_and_holds_the_terms_of_code_and_data(archives):
    """Metadata name both licences and the authors; the texts are in the wheel and in the source archive."""
    with zipfile.ZipFile(archives[1]) as wheel:
        (place,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(place))
        folder = f"{place.removesuffix('METADATA')}licenses"
        licence, notice = (
            wheel.read(f"{folder}/{name}").decode() for name in metadata.get_all("License-File")
        )
    assert metadata["License-Expression"] == "MIT AND LicenseRef-MovieLens"
    assert "The rimsim authors" in metadata["Author"]
    assert licence.startswith("MIT License")
    assert "may not use this information for any commercial" in notice
    with tarfile.open(archives[0]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"LICENSE", "rimsim/data/embedded/NOTICE.md"} <= names


def test_an_interruption_while_loading_is_one_line(monkeypatch, capsys):
    """Ctrl-C before the command line is loaded ends with status 130 and a line, not a traceback."""

    def interrupted(name, *_):
        if name.startswith("rimsim.scenarios.cli"):
            raise KeyboardInterrupt
        return real(name, *_)

    real = __import__
    monkeypatch.setattr("builtins.__import__", interrupted)
    assert command.main() == 130
    monkeypatch.undo()
    assert capsys.readouterr().err == "rimsim: interrupted\n"
