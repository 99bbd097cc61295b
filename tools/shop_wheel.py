"""Build a wheel without MovieLens: ``python tools/shop_wheel.py [FOLDER]``, by default into ``dist/shop``.

The log ``shop`` is in the wheel, so ``rimsim compare shop`` needs no download. The terms of GroupLens, which forbid
commercial use, do not apply to the wheel. Its build number sets it apart from the whole wheel of the same version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["build"]

ROOT: Final = Path(__file__).resolve().parent.parent
FILMS: Final = "ml-latest-small"
SOURCES: Final = ("rimsim", "agents", "envs", "scenarios", "pyproject.toml", "README.md", "LICENSE")
CHANGES: Final = {
    "MIT AND LicenseRef-MovieLens AND CC-BY-4.0": "MIT AND CC-BY-4.0",
    f'"rimsim/data/embedded/{FILMS}/NOTICE.md", ': "",
}
"""Text of pyproject.toml → its replacement."""
BUILD: Final = """\
import sys; from setuptools import build_meta
options = {"--build-option": ["bdist_wheel", "--build-number", "1shop"]}
print(build_meta.build_wheel(sys.argv[1], options))
"""


def build(folder: Path) -> Path:
    """Build the wheel in a folder, and return its path."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place)
        _copy_sources(source)
        project = source / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        for old, new in CHANGES.items():
            if text.count(old) != 1:
                raise SystemExit(f"pyproject.toml: {old!r} occurs {text.count(old)} times. Expected it once")
            text = text.replace(old, new)
        project.write_text(text, encoding="utf-8")
        line = [sys.executable, "-c", BUILD, str(folder)]
        output = subprocess.run(line, cwd=source, check=True, stdout=subprocess.PIPE, text=True).stdout
    return folder / output.split()[-1]


def _copy_sources(target: Path) -> None:
    """Copy the sources of the package, without the films."""
    left_out = shutil.ignore_patterns("__pycache__", FILMS)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True, ignore=left_out)
        else:
            shutil.copyfile(source, target / name)


if __name__ == "__main__":
    os.umask(0o022)  # files of the wheel are readable by all users of a machine
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist" / "shop")))
