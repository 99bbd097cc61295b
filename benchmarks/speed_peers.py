"""What else there is to measure by: sardine-rec in an environment of its own, and two yardsticks of Gymnasium."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rimsim.system import cache_folder

__all__ = ["peer_python", "sardine", "yardsticks"]

_HERE = Path(__file__).resolve().parent


def peer_python() -> Path | str:
    """The interpreter that has sardine-rec, made on the first call; or, in words, why there is none."""
    folder = cache_folder() / "benchmarks" / "peers"
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "sardine-rec"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        return f"sardine-rec could not be installed here ({type(error).__name__})"
    return python


def sardine(python: Path, items: int, steps: int = 4000) -> dict[str, float]:
    """Its steps a CPU second by policy, ``random`` and ``relevance``."""
    script = str(_HERE / "speed_sardine.py")
    interpreter = subprocess.run(
        [str(python), script, str(items), str(steps)], check=True, capture_output=True, text=True
    )
    return {name: float(rate) for name, rate in json.loads(interpreter.stdout.splitlines()[-1]).items()}


class _Nothing(gymnasium.Env[int, int]):
    """An environment that does nothing."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        del action
        return 0, 0.0, False, False, {}


def yardsticks(steps: int = 50_000) -> dict[str, float]:
    """Steps a CPU second of an environment that does nothing and of CartPole, both through ``gymnasium.make``."""
    gymnasium.register("Nothing-v0", entry_point=_Nothing)
    rates = {}
    for name, identifier in (("no-op", "Nothing-v0"), ("CartPole", "CartPole-v1")):
        env = gymnasium.make(identifier)
        env.reset(seed=0)
        actions = np.random.default_rng(0).integers(2, size=steps).tolist()
        start = time.process_time()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        rates[name] = steps / (time.process_time() - start)
    return rates
