"""The site: Sphinx on the Markdown of this folder. ``make docs`` builds it, every warning is an error."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import yaml
from docutils.nodes import SkipNode, reference, row, table
from latex2mathml.converter import convert
from sphinx.util.logging import getLogger

import rimsim
from rimsim.scenarios.report import charts
from rimsim.scenarios.report.html import html

if TYPE_CHECKING:
    from docutils.nodes import TextElement, document, math, math_block
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment
    from sphinx.writers.html5 import HTML5Translator

LOGGER = getLogger(__name__)
project = "rimsim"
author = "the authors of rimsim"
copyright = "the authors of rimsim; MIT licence"  # noqa: A001  # Sphinx's own name
version = release = rimsim.__version__

sys.path[:0] = [str(Path(__file__).parent / "_extensions"), str(Path(__file__).parent.parent / "tools")]
import pictures  # noqa: E402  # a script beside this folder

extensions = [
    "myst_nb",
    "package_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*.ipynb", "gallery/*.py", "gallery/*.json"]
suppress_warnings = [
    "ref.python",  # a short name in an annotation, such as Visits, which two rooms have
    "autosummary.import_cycle",  # a page with several packages
]

HERE = Path(__file__).parent

# The notebook is run when the site is built, as the examples are.
(HERE / "notebook").mkdir(exist_ok=True)
shutil.copy(HERE.parent / "examples" / "notebook.ipynb", HERE / "notebook" / "report.ipynb")
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"  # warnings name folders of the machine

# Pictures for a phone.
NARROW = HERE / "_static" / "narrow"

# The page of a run, to which the landing page leads.
(HERE / "report").mkdir(exist_ok=True)
html_extra_path = ["report"]

# Pages are read on GitHub too: plain Markdown, with its anchors of headings.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]

# Formulas are MathML, which browsers set by themselves: no script, no font and no network, neither here nor there.
html_math_renderer = "mathml"

# Subjects that readers search for, by page and section: entries of the index come first among the results.
SOUGHT: dict[str, list[str]] = yaml.safe_load((HERE / "search.yaml").read_text(encoding="utf-8"))

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
ALIASES = ("ArrayLike", "Bools", "Duration", "Filter", "Float32s", "Floats", "Ints", "NDArray", "Time")
autodoc_type_aliases = dict(zip(ALIASES, ALIASES, strict=True))
autodoc_preserve_defaults = True  # names of defaults, not tables of all measures
for study in (rimsim.compare, rimsim.sweep):
    # The source of these functions lacks the arguments of their typed dictionary, so Sphinx fails when it looks for
    # defaults there. It leaves a signature alone if the function wraps one without Python source.
    vars(study)["__wrapped__"] = print
autodoc_default_options = {"members": True, "no-value": True}

# Types of other libraries are linked by pattern, since inventories of intersphinx would have to be fetched or copied.
PYTHON, NUMPY = "https://docs.python.org/3/library", "https://numpy.org/doc/stable/reference"
ELSEWHERE = {
    "collections.abc": f"{PYTHON}/collections.abc.html#{{name}}",
    "pathlib": f"{PYTHON}/pathlib.html#{{name}}",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{name}.html",
    "numpy.typing": f"{NUMPY}/typing.html#{{name}}",
    "numpy.random": f"{NUMPY}/random/generator.html#{{name}}",
    "numpy.ndarray": f"{NUMPY}/generated/{{name}}.html",
    "numpy.dtype": f"{NUMPY}/generated/{{name}}.html",
    "torch.Tensor": "https://docs.pytorch.org/docs/stable/tensors.html#{name}",
    "gymnasium": "https://gymnasium.farama.org/api/env/",
}
OFTEN = {
    "Path": "pathlib.Path",
    "Sequence": "collections.abc.Sequence",
    "Mapping": "collections.abc.Mapping",
    "Iterable": "collections.abc.Iterable",
    "Callable": "collections.abc.Callable",
    "pd.DataFrame": "pandas.DataFrame",
    "pd.Series": "pandas.Series",
    "np.ndarray": "numpy.ndarray",
    "np.random.Generator": "numpy.random.Generator",
    "numpy.random._generator.Generator": "numpy.random.Generator",
    "NDArray": "numpy.typing.NDArray",
    "ArrayLike": "numpy.typing.ArrayLike",
    **dict.fromkeys(("Bools", "Float32s", "Floats", "Ints"), "numpy.typing.NDArray"),
}
autosummary_generate = False  # docs/_extensions/package_pages.py lists the names
maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(ppo|sellers|shop)\.py$",  # minutes: docs/learning.md has its table
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,  # times are the machine's
    "capture_repr": (),
    "thumbnail_size": (720, 450),
}

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"rimsim {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_copy_source = False
# The letters of the page of a run, too, which the landing page shows.
LETTERS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif'
html_theme_options = {
    "navigation_with_keys": True,
    "light_logo": "logo.svg",
    "dark_logo": "logo-dark.svg",
    "light_css_variables": {
        "font-stack": LETTERS,
        "color-brand-primary": "#1a75b1",
        "color-brand-content": "#1a75b1",
    },
    "dark_css_variables": {"color-brand-primary": "#58ade4", "color-brand-content": "#58ade4"},
}


def _whole(_app: Sphinx, what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Keep napoleon from taking the words before a colon in an attribute's docstring for its type.

    It takes what stands before the first colon, so that one goes before everything.
    """
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if what in {"attribute", "property", "data"} and first is not None:
        lines[first] = f": {lines[first]}"


def _formula(self: HTML5Translator, node: math | math_block) -> None:
    """Write a formula as MathML; one that stands alone scrolls if the window is narrow."""
    if node.tagname == "math":
        self.body.append(convert(node.astext()))
    else:
        self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise SkipNode


def _report(app: Sphinx) -> None:
    """Play the market of the tutorial and write its page; where examples are not run, neither is the notebook."""
    if str(app.config.plot_gallery) in {"0", "False"}:
        app.config.nb_execution_mode = "off"
        return
    # The examples' models are fitted here, so that their pages do not begin with the progress of a first use.
    small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
    gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=small).reset(seed=0)
    with tempfile.TemporaryDirectory() as folder:
        run = rimsim.compare(
            "closed-loop",
            ["relevance", "rim-feedback"],
            rounds=6,
            seeds=3,
            settings={"arrivals.per_round": 300},
            workers=1,
            out=Path(folder) / "run",
        )
        (HERE / "report" / "run.html").write_text(html(run.report(), run), encoding="utf-8")
        run.plot("rounds").savefig(HERE / "report" / "run.png")


def _for_site(_app: Sphinx, name: str, source: list[str]) -> None:
    """Turn links to folders into those of the site, pictures into figures with captions, and add entries of the index.

    GitHub follows links to ``examples``, of which the site has pages, and shows pictures without captions. The site
    names files of the benchmark log, because only the repository has them.
    """
    text = _without_log(source[0]).replace("](../examples)", "](gallery/index.rst)")
    text = text.replace("](../examples/notebook.ipynb)", "](notebook/report.ipynb)")
    for place, words in SOUGHT.items():
        page, _, anchor = place.partition("#")
        if page == f"{name}.md":
            text = _with_index(text, anchor, words)
    source[0] = re.sub(
        r"^!\[([^\]]+)\]\(([^)]+)\)$", r":::{figure} \2\n:alt: \1\n\n\1\n:::\n", text, flags=re.MULTILINE
    )


def _without_log(text: str) -> str:
    """Page whose links to the benchmark log are names of its files in the repository."""
    path = r"(?:\.\./)?(benchmarks/log/[\w-]+\.md)(?:#[^)]*)?"
    text = re.sub(rf"\(\[([^\]]+)\]\({path}\)", r"(\1: `\2`", text)
    return re.sub(rf"\[([^\]]+)\]\({path}\)", r"\1 (`\2`)", text)


def _with_index(text: str, anchor: str, words: list[str]) -> str:
    """Page with entries of the index below one of its headings, by default its title."""
    entry = f"\n\n```{{index}} {', '.join(f'!{word}' for word in words)}\n```\n"
    for heading in re.finditer(r"^#+ (.+)$", text, flags=re.MULTILINE):
        title = re.sub(r"[^\w\- ]", "", heading[1].lower()).strip().replace(" ", "-")
        if anchor in {"", title}:
            return text[: heading.end()] + entry + text[heading.end() :]
    raise ValueError(f"search.yaml: {anchor}: no such heading. Write the anchor of a heading of the page")


def _for_inclusion(_app: Sphinx, path: Path, _page: str, text: list[str]) -> None:
    """Complete the release notes with the changes since the last version."""
    if path.name == "CHANGELOG.md":
        mark = "<!-- towncrier release notes start -->\n"
        text[0] = text[0].replace(mark, f"{mark}\n{_unreleased()}")
        text[0] = _without_log(text[0])


def _unreleased() -> str:
    """Notes of the changes since the last version, as a release would write them."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "Unreleased"]
    return subprocess.run(
        [*command, "--dir", str(HERE.parent)], check=True, capture_output=True, text=True
    ).stdout


def _narrow_pictures(_app: Sphinx) -> None:
    """Draw the pictures of the pages for a phone, with panels below each other."""
    NARROW.mkdir(exist_ok=True)
    for name, picture in pictures.PICTURES.items():
        if picture.ending == ".svg" and not name.endswith("-narrow"):
            with charts.style(charts.NARROW):
                figure, _ = pictures.drawn(name)
                charts.wrap_labels(figure)
                figure.savefig(NARROW / f"{name}.svg", metadata={"Date": None})


def _for_phones(
    app: Sphinx, name: str, _template: str, context: dict[str, Any], _tree: document | None
) -> None:
    """Show the narrow drawing of a picture where the window is narrow."""
    folder = "../" * name.count("/") + "_static/narrow"

    def with_source(image: re.Match[str]) -> str:
        if not (NARROW / f"{image[1]}.svg").is_file():
            return image[0]
        source = f'<source media="(max-width: 46em)" srcset="{folder}/{image[1]}.svg">'
        return f"<picture>{source}{image[0]}</picture>"

    if "body" in context and app.builder.format == "html":
        context["body"] = re.sub(r'<img [^>]*_images/([\w-]+)\.svg"[^>]*>', with_source, context["body"])


def _cards(app: Sphinx, doctree: document) -> None:
    """Show the table of the landing page, questions and the pages that answer them, as cards."""
    if app.env.docname == "index":
        for questions in doctree.findall(table):
            questions["classes"].append("cards")


def _elsewhere(
    _app: Sphinx, _env: BuildEnvironment, node: pending_xref, shown: TextElement
) -> reference | None:
    """Link to the type of another library, by the address that its documentation gives to names."""
    target = OFTEN.get(node.get("reftarget", ""), node.get("reftarget", ""))
    for start, address in ELSEWHERE.items():
        if target == start or target.startswith(f"{start}."):
            return reference("", "", shown, refuri=address.format(name=target), internal=False)
    return None


def _terms() -> dict[str, str]:
    """Term of the glossary → anchor of its row."""
    rows = re.findall(r"^\| ([^|]+?) \|", (HERE / "words.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {term: f"term-{term.replace(' ', '-')}" for row in rows[1:] for term in row.split(", ")}


def _glossary(app: Sphinx, doctree: document, name: str) -> None:
    """Lead each link to the glossary to the row of its term, and give the rows their anchors.

    A page marks a term by such a link, ``[slate](words.md)``, which is readable on GitHub, too. A marked word that is
    not a term is an error.
    """
    terms = _terms()
    if name == "words":
        for entry in doctree.findall(row):
            entry["ids"] += [terms[term] for term in entry[0].astext().split(", ") if term in terms]
        return
    page = app.builder.get_relative_uri(name, "words")
    for link in doctree.findall(reference):
        words = link.astext().lower()
        if link.get("refuri") != page or words == "glossary":
            continue
        anchor = terms.get(words) or terms.get(words.removesuffix("s"))
        if anchor is None:
            LOGGER.warning("%r is not a term of the glossary", words, location=link)
            continue
        link["refuri"] = f"{page}#{anchor}"
        link["classes"].append("term")


def setup(app: Sphinx) -> None:
    """Before napoleon, whose priority is 500."""
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    app.connect("autodoc-process-docstring", _whole, priority=400)
    app.connect("builder-inited", _report, priority=400)  # before the examples
    app.connect("builder-inited", _narrow_pictures)
    app.connect("html-page-context", _for_phones)
    app.connect("source-read", _for_site)
    app.connect("include-read", _for_inclusion)
    app.connect("doctree-read", _cards)
    app.connect("missing-reference", _elsewhere)
    app.connect("doctree-resolved", _glossary)
