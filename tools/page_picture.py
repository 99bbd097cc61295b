"""Photograph the page of a run for the README: ``python tools/page_picture.py RUN [--browser PATH]``.

RUN is a folder, such as that of ``rimsim demo --quick``. The picture, ``docs/pictures/report.png``, shows the
top of its page as headless Chromium draws it. A test fails if the picture is of another answer than the README's.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin

from rimsim import load_run
from rimsim.scenarios.report.html import write_page

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "report.png"
SIZE = (960, 1128)
"""Width and height in pixels: down to the first row of charts."""
COLOURS = 128


def main() -> None:
    """Write the picture of a run's page."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run", help="folder of the run")
    options.add_argument("--browser", default="/usr/bin/chromium", help="path of Chromium")
    arguments = options.parse_args()
    run = load_run(arguments.run)
    report = run.report()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(write_page(report, run, Path(folder) / "page.html"))
        photo = Path(folder) / "page.png"
        command = [arguments.browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={SIZE[0]},{SIZE[1] + 100}", f"--screenshot={photo}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(photo) as image:
            top = image.convert("RGB").crop((0, 0, *SIZE))
    note = PngImagePlugin.PngInfo()
    note.add_itxt("Description", " ".join(report.answer).replace("`", ""))
    top.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True, pnginfo=note)
    print(PICTURE)


if __name__ == "__main__":
    main()
