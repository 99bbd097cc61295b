"""Search the built site as its readers do: ``python tools/site_search.py [SITE]``.

Sphinx's own search runs in QuickJS on the index of ``build/docs``. Each subject of ``docs/search.yaml`` must find its
page first. The exit status is the number of subjects that do not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import quickjs
import yaml

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = ROOT / "docs" / "search.yaml"
BROWSER = """
var window = globalThis;
var document = {getElementById: () => null, addEventListener: () => null, documentElement: {dataset: {}}};
var localStorage = {setItem: () => null, getItem: () => null};
var DOCUMENTATION_OPTIONS = {}, SPHINX_HIGHLIGHT_ENABLED = false;
var Documentation = {}, _ = text => text, _ready = () => null;
"""
"""Parts of a browser that the scripts name and the search does not need."""
FIRST = """
function first(query) {
    const results = Search._performSearch(...Search._parseQuery(query));
    const best = results[results.length - 1];
    return best ? best[0] + best[2] : "nothing";
}
"""
"""Function that gives page and anchor of the first result."""


def subjects() -> dict[str, str]:
    """Subject → page, without its section, that should be found first."""
    places = yaml.safe_load(SUBJECTS.read_text(encoding="utf-8"))
    return {subject: place.partition(".md")[0] for place, of_place in places.items() for subject in of_place}


def search(site: Path) -> quickjs.Context:
    """Interpreter that has loaded the search of a site."""
    context = quickjs.Context()
    scripts = ("_static/language_data.js", "_static/searchtools.js", "searchindex.js")
    context.eval(BROWSER)
    context.eval("\n".join((site / script).read_text(encoding="utf-8") for script in scripts) + FIRST)
    return context


def main() -> int:
    """Print what each subject finds first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / "build" / "docs")
    context = search(parser.parse_args().site)
    missed = 0
    for subject, page in subjects().items():
        place = context.eval(f"first({json.dumps(subject)})")
        is_first = place.partition("#")[0] == page
        missed += not is_first
        print(f"{subject}: {place}{'' if is_first else f' instead of {page}'}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
