"""House style of all pictures: grid, letters, colours.

Matplotlib and Seaborn are imported when a picture is drawn, because both are slow to import.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

WIDTH = 10.0
"""Width of a picture in inches; at 120 dots per inch it has 1,200 pixels."""
BLUE = "#1a75b1"
VERMILION = "#be4105"
AMBER = "#efa71b"
GREY = "#777777"
INK = "#333333"
"""Colour of letters, and of lines that do not belong to an agent."""
PALETTE = (BLUE, VERMILION, AMBER, "#62b578", "#5f248d", "#58ade4", "#8e7563", "#5d0840")
"""Colours of lines, in order. Readers with deuteranopia or protanopia can distinguish any two of these colours."""
FONT = "DejaVu Sans"
FALLBACK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans", "WenQuanYi Zen Hei", "IPAexGothic", "Microsoft YaHei", "Yu Gothic"),
    *("Hiragino Sans", "Arial Unicode MS"),
)
"""Fonts for letters that the main font does not have, such as in Chinese or Japanese titles."""

_LOOK: Mapping[str, Any] = {
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.dpi": 120,
    "grid.linewidth": 0.6,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text is not drawn as shapes: it can be searched, and files are small
    "text.color": INK,
    "text.parse_math": False,  # a title such as "A$AP 100% $ale" is not a formula
    "xtick.color": INK,
    "xtick.labelsize": 10,
    "ytick.color": INK,
    "ytick.labelsize": 10,
}


@contextmanager
def style(width: float = WIDTH) -> Iterator[None]:
    """House style for pictures, within a ``with`` block.

    ``width`` is that of a picture in inches. Afterwards, Matplotlib's settings are as before.
    """
    import matplotlib as mpl  # noqa: PLC0415  # the module's docstring says why
    import seaborn as sns  # noqa: PLC0415
    from cycler import cycler  # noqa: PLC0415  # comes with Matplotlib

    look = {
        **sns.axes_style("whitegrid"),
        **_LOOK,
        "axes.prop_cycle": cycler(color=PALETTE),
        "figure.figsize": (width, 0.6 * width),
        "font.family": font_families(),
    }
    with mpl.rc_context(look), warnings.catch_warnings():
        # missing_letters reports the letters without a glyph.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def font_families() -> list[str]:
    """Installed fonts of pictures, in order of preference."""
    from matplotlib.font_manager import fontManager  # noqa: PLC0415

    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in FALLBACK_FONTS if name in installed)]


def missing_letters(text: str) -> str:
    """Letters of a text that no installed font has."""
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415

    fonts = [get_font(findfont(name)) for name in font_families()]
    letters = {letter for letter in text if letter.isprintable()}
    return "".join(
        sorted(letter for letter in letters if not any(font.get_char_index(ord(letter)) for font in fonts))
    )
