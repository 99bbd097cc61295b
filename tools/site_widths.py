"""Look for pages of the site that are wider than a window: ``python tools/site_widths.py [SITE]``.

Every page of ``build/docs`` is opened at eight widths, light and dark, in headless Chromium. A page fails if it scrolls
sideways, or if a picture sticks out of what holds it and cannot be scrolled there. It needs
``pip install playwright`` and a Chromium: ``playwright install chromium``, or ``--browser /usr/bin/chromium``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = (360, 390, 768, 1280, 1366, 1440, 1680, 1920)
HEIGHT = 900
FAULTS = """() => {
    const found = [], root = document.documentElement;
    if (root.scrollWidth > window.innerWidth) found.push(`scrolls sideways: ${root.scrollWidth} px`);
    for (const one of document.querySelectorAll("article img, article iframe, article svg")) {
        const mine = one.getBoundingClientRect(), its = one.parentElement.getBoundingClientRect();
        const name = one.getAttribute("src") || one.tagName;
        const scrolls = ["auto", "scroll"].includes(getComputedStyle(one.parentElement).overflowX);
        const inside = mine.left >= its.left - 1 && mine.right <= its.right + 1;
        if (!inside && !scrolls) found.push(`${name} sticks out of its parent`);
        if (one.tagName === "IMG" && one.complete && !one.naturalWidth) found.push(`${name} is not there`);
    }
    return found;
}"""


class _Quiet(SimpleHTTPRequestHandler):
    """Files of the site, without a line per request."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def faults(page: Page, address: str, name: str, scheme: str, shots: Path | None) -> list[str]:
    """Faults of a page at all widths in a colour scheme."""
    page.goto(f"{address}/{name}")
    page.evaluate("scheme => { document.body.dataset.theme = scheme; }", scheme)
    page.evaluate("for (const one of document.images) one.loading = 'eager'")
    page.wait_for_load_state("networkidle")
    messages = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        messages += [f"{name}, {width} px, {scheme}: {fault}" for fault in page.evaluate(FAULTS)]
        if shots:
            page.screenshot(path=shots / f"{name.replace('/', '-')[:-5]}-{width}-{scheme}.png")
    return messages


def main() -> int:
    """Print the faults of all pages; 1 if there are any."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("site", nargs="?", type=Path, default=Path("build/docs"))
    options.add_argument("--shots", type=Path, help="keep a screenshot of each page at each width here")
    options.add_argument("--browser", help="path of Chromium, if Playwright did not install one")
    options.add_argument("--only", default="", help="pages whose name holds this text")
    arguments = options.parse_args()
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    names = sorted(str(path.relative_to(arguments.site)) for path in arguments.site.rglob("*.html"))
    names = [name for name in names if arguments.only in name and not name.startswith("_")]
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=arguments.site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    messages = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
            for name in names:
                messages += faults(
                    page, f"http://127.0.0.1:{server.server_port}", name, scheme, arguments.shots
                )
        browser.close()
    print(*messages, sep="\n")
    print(f"{len(names)} pages, {len(WIDTHS)} widths, light and dark: {len(messages)} faults")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
