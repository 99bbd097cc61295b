"""The agreement of a run's truth with held-out later sessions: found once a log and truth, then read from the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimsim.config import ConsumerConfig
from rimsim.data import later_sessions
from rimsim.errors import RimsimError
from rimsim.intensity.cache import cache_folder
from rimsim.intensity.registry import config_of, make
from rimsim.market.build import kept_truth, truth_key
from rimsim.market.consumers.intensity import examination
from rimsim.matching import price_slates
from rimsim.measures import agreement, relevance, statistics
from rimsim.scenarios.kinds import scores
from rimsim.scenarios.validating import cuts, evidence, judged
from rimsim.scenarios.validating.config import RANDOM
from rimsim.system import draft_file, single_thread

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.intensity import IntensityModel


_MODELS = ("bag", "ease", "returning", "popularity", "als", RANDOM)
"""Quickly fitted, and of several classes; ``als`` only where the package that it needs is installed, ``ease`` only
where the catalogue is not large."""
_EASE = 4_096
"""Items up to which ``ease`` is among them. It inverts a matrix of items by items four times here: at 3,700 items 2.4
CPU s and 1.1 GB each time, at 6,000 7 s and 2.1 GB, which grow with the third and
the second power."""
_STRENGTHS: dict[str, dict[str, object]] = {"bag": {"weight_decay": 1e-4}, "ease": {"ridge": 1000.0}}
"""What these models would else choose by fitting to the log several times more."""
_CELLS = 2**25
"""Users times items that are judged at most: all of MovieLens-1M, 3,355 users over 10,000 items."""
_DRAWS, _MANY = 2, 1_000
"""Draws of a cut, and the judged users from which one tells as much: fits to the past are most of what this costs."""
_AFTER = 0.3
_RESAMPLES = 500


def agreement_of(
    log: EventLog,
    *,
    gap: float,
    kind: str = "auto",
    rank: int = 16,
    bootstrap: int | None = None,
    slate: int = 10,
    position_decay: float = ConsumerConfig().position_decay,
) -> dict[str, Any] | None:
    """How a truth of a log agrees with its held-out later sessions: a short ``rimsim validate`` for every run's config.

    It compares fewer models, in two draws, or one where a thousand users are judged; ``rimsim validate`` says more.

    Args:
        log: The log.
        gap: Seconds of silence that end a session.
        kind: The truth's class, or ``auto``; this and what follows as for :func:`rimsim.market.build.kept_truth`.
        rank: Its factors.
        bootstrap: Seed of the bootstrap of users that it is fitted to.
        slate: Items that are recommended, k; at most half of the catalogue is.
        position_decay: γ.

    Returns:
        ``truth``, ``compared`` (models), ``draws`` and :attr:`rimsim.measures.Agreement.figures`; None where it cannot
        be said: nobody comes back, or the log is too little for a model.
    """
    there = {"als": importlib.util.find_spec("implicit") is not None, "ease": log.n_items <= _EASE}
    models = [name for name in _MODELS if there.get(name, True)]
    slate = max(1, min(slate, log.n_items // 2))
    of_truth = truth_key(log, gap, kind, rank, bootstrap)
    described = json.dumps([_code(), _versions(), of_truth, models, slate, position_decay])
    file = cache_folder() / "agreement" / f"{hashlib.sha256(described.encode()).hexdigest()}.json"
    if file.is_file():
        read: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8"))
        return read
    single_thread()
    try:
        drawn: list[cuts.Cut] = []
        while not drawn or (len(drawn) < _DRAWS and len(drawn[0]) < _MANY):
            drawn.append(cuts.make_cut(log, len(drawn), gap=gap, after=_AFTER, most_cells=_CELLS))
        truth = kept_truth(log, gap=gap, kind=kind, rank=rank, bootstrap=bootstrap)
        setting = evidence.Setting(slate, position_decay)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of implicit, on how BLAS is set
            found = evidence.gather(drawn, models, {truth.kind: truth}, setting, make=_quick)
    except RimsimError:
        record = None
    else:
        simulated = found.by_user(truth.kind)[:-1]
        figures = agreement(found.by_user(), simulated, resamples=_RESAMPLES).figures
        record = {"truth": truth.kind, "compared": models, "draws": len(drawn), **figures}
    with draft_file(file) as draft:
        draft.write_text(json.dumps(record), encoding="utf-8")
    return record


def _quick(name: str, seed: int, device: str) -> IntensityModel:
    values = _STRENGTHS.get(name)
    return make(name, mark=None if values is None else config_of(name, values), seed=seed, device=device)


def _code() -> str:
    """A digest of the source by which agreement is found, beside that of truths and models."""
    digest = hashlib.sha256()
    room = (Path(inspect.getfile(module)) for module in (cuts, judged, evidence, scores))
    measured = (Path(inspect.getfile(module)) for module in (relevance, statistics))
    core = (Path(inspect.getfile(inspect.unwrap(of))) for of in (later_sessions, examination, price_slates))
    for file in (Path(__file__), *room, *measured, *core):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _versions() -> list[str | None]:
    """Of packages whose numbers agreement hangs on, beside torch, which is in the key of the truth."""
    return [
        importlib.metadata.version(name) if importlib.util.find_spec(name) else None
        for name in ("numpy", "scipy", "implicit")
    ]
