"""The site: Sphinx on the Markdown of this folder. ``make docs`` builds it, every warning is an error."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import rimsim
from rimsim.scenarios.report.comparison import comparison_report
from rimsim.scenarios.report.html import html

if TYPE_CHECKING:
    from docutils.nodes import math, math_block
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

project = "rimsim"
author = "the authors of rimsim"
copyright = "the authors of rimsim; MIT licence"  # noqa: A001  # Sphinx's own name
version = release = rimsim.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*.ipynb", "gallery/*.py", "gallery/*.json"]
suppress_warnings = ["ref.python"]  # a short name in an annotation, such as Visits, which two rooms have

# The benchmark log lies beside the scripts that write it; Sphinx reads only what is in this folder.
HERE = Path(__file__).parent
shutil.rmtree(HERE / "log", ignore_errors=True)
shutil.copytree(HERE.parent / "benchmarks" / "log", HERE / "log")

# The page of a run, which the landing page embeds.
(HERE / "report").mkdir(exist_ok=True)
html_extra_path = ["report"]

# Pages are read on GitHub too: plain Markdown, with its anchors of headings.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]

# Formulas are MathML, which browsers set by themselves: no script, no font and no network, neither here nor there.
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"ppo\.py$",  # minutes: docs/learning.md has its table
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,  # times are the machine's
    "capture_repr": (),
}

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"rimsim {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


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
    """Play the market of the tutorial and write its page; not where the examples are not run either."""
    if str(app.config.plot_gallery) in {"0", "False"}:
        return
    with tempfile.TemporaryDirectory() as folder:
        run = rimsim.compare(
            "closed-loop",
            ["relevance", "rim-feedback"],
            rounds=6,
            seeds=3,
            settings={"arrivals.per_round": 300, "data.min_item_events": 60},
            workers=1,
            out=Path(folder) / "run",
        )
        (HERE / "report" / "run.html").write_text(html(comparison_report(run), run), encoding="utf-8")


def _for_site(_app: Sphinx, name: str, source: list[str]) -> None:
    """Turn links to the benchmark log into those of the site, and pictures into figures with captions.

    GitHub follows links to ``benchmarks/log``, of which the site has a copy, and shows pictures without captions.
    """
    here, there = ("../../docs/", "../") if name.startswith("log/") else ("../benchmarks/log/", "log/")
    text = source[0].replace(f"]({here}", f"]({there}")
    source[0] = re.sub(
        r"^!\[([^\]]+)\]\(([^)]+)\)$", r":::{figure} \2\n:alt: \1\n\n\1\n:::\n", text, flags=re.MULTILINE
    )


def setup(app: Sphinx) -> None:
    """Before napoleon, whose priority is 500."""
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    app.connect("autodoc-process-docstring", _whole, priority=400)
    app.connect("builder-inited", _report)
    app.connect("source-read", _for_site)
