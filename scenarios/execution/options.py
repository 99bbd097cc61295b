"""How arms are executed: batches, processes, machines. Results do not depend on any of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["BACKENDS", "Execution"]

BACKENDS = ("local", "ray")
"""Where arms can run: on processes of this machine, or as tasks on Ray."""


@dataclass(frozen=True)
class Execution:
    """How the arms of a comparison or sweep are executed.

    Raises:
        ConfigError: If a number is below 1, or there is no such backend, or it takes no address.
    """

    batch_size: int | None = None
    """Arrivals a batch at most; None: no limit."""
    workers: int | None = None
    """Arms at once; None: one a core; 1 with the backend ``local``: in this process."""
    backend: str = "local"
    """One of :data:`BACKENDS`."""
    address: str | None = None
    """Of a Ray cluster, ``auto`` or ``host:port``; None: one is started here for as long as the run."""
    console: Console | None = None
    """Where progress is shown; None: nowhere."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; allowed: at least 1")
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: {self.backend!r}.{nearest(self.backend, BACKENDS)}")
        if self.backend == "local" and self.address is not None:
            raise ConfigError(f"address: {self.address!r} with the backend 'local'; allowed: with 'ray'")
