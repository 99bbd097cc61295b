"""Where a model computes."""

from __future__ import annotations

import torch

from rimsim.errors import ConfigError


def resolved(device: str) -> torch.device:
    """The device that a configured name stands for on this machine.

    Args:
        device: ``auto`` (the GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: If the name is no device, or no device of this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not number.isdigit()):
        raise ConfigError(f"device: found {device!r}; allowed: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        here = torch.cuda.device_count()
        raise ConfigError(
            f"device: found {device!r}, but this machine has {here} CUDA devices; allowed: auto, cpu"
        )
    return torch.device(device)
