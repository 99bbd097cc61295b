"""``user-rec``: for every promoted item, the users who want it most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.agents.audience import audience_of
from rimsim.arrays import Bools, Ints
from rimsim.matching import top_k, user_rec
from rimsim.measures import mean_weight

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


class UserRec:
    """The paper's user recommendation: each guaranteed item goes to its b users of largest λ(x,y), item by item.

    Ma, Liu and Deoras (ICLR 2022), user recommendation. Items do not know of one another: a user wanted by more items
    than there are positions gets those of largest λ, and the rest is a shortfall, which ``offline-match`` avoids. Where
    positions count unlike, b is the exposures that are required at positions of mean weight. Left positions show what
    the user is most likely to take. For broadcasts.
    """

    name = "user-rec"
    order_free = True
    barrier_every = None
    needs_audience = True

    def begin_round(self, view: RoundView) -> None:
        """Find the users of each guaranteed item.

        Raises:
            AgentError: If who arrives is not known before the round.
        """
        audience = audience_of(view, self.name)
        self._slate = view.k
        required = np.rint(view.required / mean_weight(view.position_weights)).astype(np.int64)
        items = np.flatnonzero(required)
        chosen: Bools = np.zeros(audience.scores.shape, bool)
        if len(items):
            most = int(required.max())
            users = user_rec(
                audience.scores[:, items],
                most,
                admissible=audience.admissible[:, items],
                tie_seed=view.key,
                row_keys=items,
            )
            wanted = (users >= 0) & (np.arange(most) < required[items][:, None])
            which, place = np.nonzero(wanted)
            chosen[users[which, place], items[which]] = True
        self._chosen = chosen

    def act(self, arrivals: Arrivals) -> Ints:
        """The items that chose these users, then what else they like; each part by λ(x,y)."""
        chosen = torch.from_numpy(self._chosen[arrivals.index]).to(arrivals.intensity.device)
        scores = arrivals.intensity.double()
        lift = scores.amax(1, keepdim=True) + 1.0
        return top_k(scores + chosen * lift, arrivals.admissible, self._slate)
