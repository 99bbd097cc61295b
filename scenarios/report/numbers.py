"""Numbers in sentences, titles and pictures."""

from __future__ import annotations

import math


def figure(value: float) -> str:
    """Number in a sentence: two significant digits below 10."""
    size = abs(value)
    if size >= 100:
        decimals = 0
    elif size >= 10 or size < 1e-12:  # the logarithm of 0 does not exist
        decimals = 1
    else:
        decimals = min(4, 1 - math.floor(math.log10(size)))
    text = f"{value:.{decimals}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def per_cent(share: float) -> str:
    """Share in percent, with a decimal near 0 and 1.

    A share below 1 is never written as 100%, and a share above 0 never as 0%.
    """
    size = 100 * abs(share)
    sign = "−" if share < 0 else ""
    if 0 < size < 0.05:  # with one decimal, the number would read 0.0
        return f"{sign}<0.1%"
    if 99.95 <= size < 100:
        return f"{sign}>99.9%"
    has_decimal = 0 < size < 9.95 or 99.5 <= size < 100
    return f"{sign}{size:.{1 if has_decimal else 0}f}%"


def count_of(delivered: float, required: float) -> str:
    """Delivered of required exposures, such as ``12.1 of 12`` or ``6 of 5``."""
    text = f"{delivered:g}" if delivered == round(delivered) else f"{delivered:.1f}"
    return f"{text} of {required:g}"


def duration_words(seconds: float) -> str:
    """Seconds, minutes or hours with one or two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
