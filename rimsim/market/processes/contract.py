"""Contract of processes."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import simpy

    from rimsim.market.processes.handle import MarketHandle


@runtime_checkable
class Process(Protocol):
    """Process that changes a market at its own times.

    A process is a frozen record of options, so its class is usually a frozen dataclass. Its memory is
    ``market.memory``, because a generator cannot be saved. If its class has the attribute ``decides_retraining =
    True``, the platform retrains only when a process calls ``market.retrain``, and not at the end of each round.
    """

    def run(self, env: simpy.Environment, market: MarketHandle) -> Generator[simpy.Event, Any, Any]:
        """Life of the process, as a generator of SimPy events.

        A resumed run calls this method again at the beginning of a round. So a process that waits for a later round
        notes in ``market.memory`` when it must wake, or computes this from ``env.now``.

        Args:
            env: Clock of the market in seconds since 1970, for timeouts, resources and further processes.
            market: Handle of the market.
        """
