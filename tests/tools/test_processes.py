"""``benchmarks/processes.py``: creators and items at the end of a run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from kit.markets import small_scenario

from rimsim.market.processes import Creators


def test_creators_who_stop_and_items_that_are_uploaded_are_counted(script):
    """Of three creators, one who stops with an uploaded item leaves two active creators and five items on offer."""
    catalogue = pd.DataFrame({"id": np.arange(9).astype(str)})
    of_item = Creators(each=3).creators_of(catalogue)
    first, second, third = (np.flatnonzero(of_item == creator) for creator in range(3))
    changes = [
        *((0.0, "end", items[0]) for items in (first, second, third)),
        (5.0, "release", first[0]),
        (6.0, "release", second[0]),
        *((7.0, "end", item) for item in first),
    ]
    happenings = pd.DataFrame(
        [("random", 0, time, change, item) for time, change, item in changes],
        columns=["agent", "seed", "time", "what", "item"],
    )
    run = SimpleNamespace(
        scenario=small_scenario(processes=("creators(each=3)",)), catalogue=catalogue, happenings=happenings
    )
    assert list(script("processes").creators_and_items(run, "random")) == [(2, 5)]
