"""Made-up logs with known laws of repeats and of local rates."""

import dataclasses

import numpy as np

from kit.logs import log_of
from rimsim.intensity.habits.local_rate import smoothed
from rimsim.intensity.habits.own_counts import DAY
from rimsim.intensity.habits.repeat_share import RepeatLaw

LAW = RepeatLaw(discount=0.6, strength=3.0)


def habitual_log(seed=0, users=1200, half_life=20 * DAY):
    """A log with one item a session: repeats by ``LAW`` and decayed counts, new items uniform."""
    source = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        items = np.zeros(0, np.int64)
        times = np.zeros(0)
        time = source.uniform(0, 100 * DAY)
        for _ in range(2 + source.poisson(12)):
            time += source.exponential(10 * DAY) + DAY
            n_distinct = len(set(items.tolist()))
            if source.random() < LAW.share(np.array(len(items)), np.array(n_distinct)):
                weight = np.bincount(items, 2.0 ** (-(time - times) / half_life), 300)
                item = source.choice(300, p=weight / weight.sum())
            else:
                weight = np.ones(300)
                weight[items] = 0.0
                item = source.choice(300, p=weight / weight.sum())
            rows.append((user, item, time))
            items = np.append(items, item)
            times = np.append(times, time)
    user, item, time = zip(*rows, strict=True)
    return dataclasses.replace(log_of(user, item, time, items=300), repeatable=True)


def trending_log(exponent, half_life, seed=0, users=900, n_items=40, per_user=6, *, repeatable=False):
    """A log in which items are taken by taste^1 × decayed counts^exponent: new ones, or any if repeatable."""
    source = np.random.default_rng(seed)
    popularity = 1.0 / (1.0 + np.arange(n_items))
    popularity /= popularity.sum()
    instants = np.sort(source.uniform(0, 200 * DAY, users * per_user))
    visitors = source.permutation(np.repeat(np.arange(users), per_user))
    counts = np.zeros(n_items)
    items_of = [set() for _ in range(users)]
    rows = []
    before = 0.0
    for user, now in zip(visitors, instants, strict=True):
        counts *= 2.0 ** (-(now - before) / half_life)
        before = now
        p = smoothed(counts[None, :], popularity, 0.1)[0] ** exponent
        if not repeatable:
            p[list(items_of[user])] = 0.0
        item = source.choice(n_items, p=p / p.sum())
        items_of[user].add(item)
        counts[item] += 1.0
        rows.append((user, item, now))
    user, item, time = zip(*rows, strict=True)
    return dataclasses.replace(log_of(user, item, time, items=n_items), repeatable=repeatable)
