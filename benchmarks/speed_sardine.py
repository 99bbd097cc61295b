"""Steps a CPU second of sardine-rec, for its own interpreter: ``python speed_sardine.py ITEMS STEPS``; prints JSON.

As users of it would: ``SlateTopK-Bored-v0`` through ``gymnasium.make``, slates of ten, pre-drawn random slates, or the
``TopK`` wrapper fed with the user's true vector. Users are made anew in each episode of a hundred steps.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import gymnasium
import numpy as np
import sardine  # registers its environments  # noqa: F401
from sardine.wrappers import TopK


def main() -> None:
    """Time both policies."""
    items = int(sys.argv[1])
    steps = int(sys.argv[2])
    draw = np.random.default_rng(0)
    vectors = draw.random((items, 10))
    topics = np.argsort(draw.random((items, 10)), axis=1)
    vectors[np.arange(items)[:, None], topics[:, 3:]] = 0.0  # at most three topics an item
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.npy"
        np.save(path, vectors)
        for policy in ("random", "relevance"):
            env = gymnasium.make("sardine/SlateTopK-Bored-v0", num_items=items, env_embedds=str(path))
            if policy == "relevance":
                env = TopK(env, min_action=0.0, max_action=1.0)
            drawn = [draw.choice(items, 10, replace=False) for _ in range(256)]
            env.reset(seed=1)
            start = time.process_time()
            for step in range(steps):
                action = drawn[step % 256] if policy == "random" else env.unwrapped.user_embedd
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
            rates[policy] = steps / (time.process_time() - start)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
