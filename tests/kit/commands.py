"""Options of small runs on the command line, and the text that a report prints."""

import io

from kit import FAULTY

RAISES = f"{FAULTY}:Raises"
"""An agent that raises an error after its first round."""
_FEW = (
    "--rounds 2 --seeds 1 --workers 1 --no-certificate --set platform.model=popularity-hp "
    "--set arrivals.per_round=60 --set slate=5 --set data.min_item_events=120 --set consumer.truth=gru"
)
FEW = _FEW.split()
"""Options of a comparison or a sweep that takes a second."""


def printed_report(report, width=80):
    """Text of a report on a console of a width."""
    from rich.console import Console

    from rimsim.scenarios.report.console import show

    text = io.StringIO()
    show(report, Console(file=text, width=width))
    return text.getvalue()
