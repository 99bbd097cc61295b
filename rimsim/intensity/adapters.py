"""Adapters that turn other packages' recommenders into models of p(y|x).

Scores s(x,y) of any scale become ``p(y|x) = softmax(τ s(x,y) + κ log popularity_y + κ' log returning_y)``, where
``returning`` is popularity in later sessions. The weights are chosen as in :class:`rimsim.intensity.Bag`. The state of
a user is the set of consumed items, so a visitor need not be in the training data.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import numpy as np
import scipy
import torch

from rimsim.arrays import Array, Float32s, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import BLOCK, FromHidden, Hidden, caller_owns, in_blocks, require_targets
from rimsim.intensity.popularity import log_popularity, log_returning
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import Shrinkage, chosen, rescaling
from rimsim.intensity.states import UserStates
from rimsim.rng import Purpose, generator

Consumed: TypeAlias = "scipy.sparse.csr_matrix[np.float32]"
"""Matrix (n, M) of n users with 1 at consumed items."""
Features: TypeAlias = Callable[[Consumed, Consumed], Array]
"""Function that makes features (n, M, F) of n users, from their consumed items and from those of all users of the
log."""

_EXAMPLES = 20_000
"""Largest number of consumptions that a classifier learns from."""


class AdaptedModel(FromHidden):
    """p(y|x) of a recommender that another package fits.

    Each fit and each update trains a new copy of the given, unfitted recommender. An update keeps τ, κ and κ'.
    """

    def __init__(self, recommender: Any, *, seed: int = 0, session_gap: str = "30min") -> None:
        self._unfitted = recommender
        self._seed = seed
        self._gap = session_gap
        self.device = torch.device("cpu")
        self.shrinkage = Shrinkage(0.0)
        self._base = torch.zeros(0)

    @abstractmethod
    def _train(self, recommender: Any, consumed: Consumed) -> Any:
        """Fitted recommender."""

    @abstractmethod
    def _scores(self, recommender: Any, consumed: Consumed) -> Array:
        """(n, M) scores of any scale; NaN: no score."""

    def fit(self, log: EventLog) -> Self:
        """Choose the weights, then fit to the whole log."""
        require_targets(log, type(self).__name__)
        held = HeldOut.of(log, self._gap, self._seed)
        if held is None:
            return self._keep(log, Shrinkage(0.0))
        scores = self._of_states(self._trained(held.past), held.states)
        weights = chosen(held, [(0.0, scores)], *self._impersonal(held.past))
        self._keep(log, weights)
        # The weights were chosen for a fit to the past, whose scores may have another spread than the final fit's.
        spread = float(self._of_states(self._fitted, held.states).std())
        factor = rescaling(weights.spread, spread)
        self.shrinkage = dataclasses.replace(weights, personal=weights.personal * factor, rescaling=factor)
        return self

    def update(self, log: EventLog) -> Self:
        """Fit to a new log, if it has target events."""
        if log.n_items != len(self._base):
            refuse(
                ModelError, "update", f"found a log of {log.n_items} items", f"{len(self._base)}, as fitted"
            )
        return self._keep(log, self.shrinkage) if log.targets.any() else self

    def _keep(self, log: EventLog, weights: Shrinkage) -> Self:
        """Fit the recommender to a log, with the given weights."""
        self.shrinkage = weights
        self._fitted = self._trained(log)
        popularity_logits, returning_logits = self._impersonal(log)
        base = weights.popularity * popularity_logits + weights.returning * returning_logits
        self._base = torch.from_numpy(base.astype(np.float32))
        return self

    def _impersonal(self, log: EventLog) -> tuple[Floats, Floats]:
        """(M,) log popularity, and log popularity in later sessions."""
        return log_popularity(log, 0.5), log_returning(log, self._gap, 0.5)

    def _trained(self, log: EventLog) -> Any:
        """Copy of the recommender, fitted to the target events."""
        target_log = log.rows(log.targets)
        self._base = torch.zeros(log.n_items)  # `encode` takes the number of items from this array
        consumed = _matrix(target_log.user, target_log.item, (log.n_users, log.n_items))
        return self._train(copy.deepcopy(self._unfitted), consumed)

    def _of_states(self, recommender: Any, states: UserStates) -> Float32s:
        """(n, M) scores of states."""
        return in_blocks(lambda block: self._block(recommender, block), *self.encode(states)).numpy()

    def _block(self, recommender: Any, consumed: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) scores; missing scores become the lowest of the row."""
        matrix = scipy.sparse.csr_matrix(consumed.numpy())
        scores = np.asarray(self._scores(recommender, matrix), np.float32)
        if scores.shape != consumed.shape:
            refuse(ModelError, type(self).__name__, f"scores have shape {scores.shape}", f"{matrix.shape}")
        is_scored = np.isfinite(scores)
        lowest_score = np.where(is_scored, scores, np.inf).min(1, keepdims=True)
        scores = np.where(is_scored, scores, np.where(np.isfinite(lowest_score), lowest_score, 0.0))
        return torch.from_numpy(scores.astype(np.float32))

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states: an (n, M) array that marks consumed items."""
        if not len(self._base):
            refuse(ModelError, type(self).__name__, "not fitted yet", "score after fit")
        shape = (len(states), len(self._base))
        return (torch.from_numpy(_matrix(states.owner, states.items, shape).toarray()),)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states with one more item marked in each."""
        del times
        cells = (torch.arange(len(items)), items)
        return (hidden[0].index_put(cells, torch.ones(len(items))),)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x) of each state; rows sum to 1."""
        del now
        return in_blocks(self._probabilities, *hidden)

    def _probabilities(self, consumed: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of consumed items."""
        logits = self._base.expand_as(consumed)
        if self.shrinkage.personal > 0.0:
            logits = logits + self.shrinkage.personal * self._block(self._fitted, consumed)
        return torch.softmax(logits, 1)


class LensKitModel(AdaptedModel):
    """p(y|x) of a LensKit pipeline's component ``scorer`` (extra ``lenskit``).

    The scorer must score items for a query that holds the user's items, as ``ItemKNNScorer``, ``EASEScorer`` and
    ``ImplicitMFScorer`` do. The pipeline's other components are not used, because agents rank the items.
    """

    def _train(self, recommender: Any, consumed: Consumed) -> Any:
        """Trained pipeline, and the items that it knows."""
        import pandas as pd  # noqa: PLC0415  # pandas and LensKit are slow to import
        from lenskit.data import from_interactions_df  # noqa: PLC0415  # an optional package
        from lenskit.training import TrainingOptions  # noqa: PLC0415  # an optional package

        user, item = consumed.nonzero()
        data = from_interactions_df(pd.DataFrame({"user_id": user, "item_id": item}))
        recommender.train(data, TrainingOptions(rng=self._seed))
        return recommender, np.unique(item)

    def _scores(self, recommender: Any, consumed: Consumed) -> Array:
        """(n, M) scores of the pipeline's scorer; NaN: no score."""
        from lenskit.data import ItemList, RecQuery  # noqa: PLC0415  # an optional package

        # LensKit 2025.8 stops the process at a history with an item that it was not trained on.
        pipeline, known_items = recommender
        scores = np.full(consumed.shape, np.nan)
        all_items = ItemList(item_ids=known_items)
        # Users without a history need no scores, and the remaining rows only fill up the block.
        for row in np.flatnonzero(consumed[:, known_items].sum(1)):
            history = np.intersect1d(consumed[[row]].indices, known_items)
            query = RecQuery(history_items=ItemList(item_ids=history))
            scores[row, known_items] = pipeline.run("scorer", query=query, items=all_items).scores()
        return scores


class ImplicitModel(AdaptedModel):
    """p(y|x) of a model of the package ``implicit`` (extra ``mf``).

    The model must rank items for new users, given their consumed items (``recommend(…, recalculate_user=True)``), as
    ``AlternatingLeastSquares`` and the nearest neighbours do. Fits are reproducible if they run on one thread.
    """

    def _train(self, recommender: Any, consumed: Consumed) -> Any:
        recommender.fit(consumed, show_progress=False)
        return recommender

    def _scores(self, recommender: Any, consumed: Consumed) -> Array:
        """(n, M) scores by which ``recommend`` ranks; NaN: not ranked."""
        n, m = consumed.shape
        # Nearest-neighbour models rank fewer than M items, and fill up the list with the item −1, whose score is the
        # lowest float. The additional last column takes these entries.
        scores = np.full((n, m + 1), np.nan)
        # Each state is scored alone, because in a product of many rows some BLAS kernels let the bits of a row depend
        # on its place.
        for row in range(n):
            try:
                # With recalculate_user, the given items decide, and the user number 0 has no effect.
                items, values = recommender.recommend(
                    0, consumed[[row]], N=m, filter_already_liked_items=False, recalculate_user=True
                )
            except NotImplementedError as error:
                name = type(recommender).__name__
                raise ModelError(
                    f"{name}: cannot rank items for users that it was not fitted to (no option recalculate_user). "
                    "Use AlternatingLeastSquares or a nearest-neighbour model of implicit, or rimsim's own 'bpr'"
                ) from error
            is_ranked = values > -np.finfo(np.float32).max
            scores[row, np.where(is_ranked, items, m)] = values
        return scores[:, :m]


class MatrixScorerModel(AdaptedModel):
    """p(y|x) of a scikit-learn-style model of the user-item matrix.

    The model has ``fit(matrix)``, and ``predict(matrix)``, which returns (n, M) scores. Instead of
    ``predict`` it may have ``transform`` and ``inverse_transform``, like ``TruncatedSVD`` and ``NMF``; their
    reconstruction is the score.
    """

    def _train(self, recommender: Any, consumed: Consumed) -> Any:
        recommender.fit(consumed)
        return recommender

    def _scores(self, recommender: Any, consumed: Consumed) -> Array:
        if hasattr(recommender, "predict"):
            return np.asarray(recommender.predict(consumed))
        return np.asarray(recommender.inverse_transform(recommender.transform(consumed)))


class ClassifierModel(AdaptedModel):
    """p(y|x) of a scikit-learn-style classifier of user-item pairs.

    The classifier has ``fit(X, y)`` and ``predict_proba(X)``. Each consumption is an example with y = 1, whose features
    are computed without this consumption. For each consumption, ``negatives`` random items that the user has not
    consumed are examples with y = 0.
    """

    def __init__(
        self,
        recommender: Any,
        features: Features | None = None,
        *,
        negatives: int = 4,
        seed: int = 0,
        session_gap: str = "30min",
    ) -> None:
        super().__init__(recommender, seed=seed, session_gap=session_gap)
        self._features = features or neighbour_features
        self._negatives = negatives

    def _train(self, recommender: Any, consumed: Consumed) -> Any:
        """Classifier fitted to examples, and all users' consumed items."""
        user, item = consumed.nonzero()
        source = generator(self._seed, Purpose.MODEL, 21)
        n_items = consumed.shape[1]
        order = source.permutation(len(user))[:_EXAMPLES]
        feature_blocks = []
        label_blocks = []
        for first in range(0, len(order), BLOCK):
            examples = order[first : first + BLOCK]
            row = np.arange(len(examples))
            negatives = source.integers(0, n_items, (len(examples), self._negatives))
            is_consumed = consumed[user[examples]].toarray() > 0
            is_in_history = is_consumed.copy()  # each row without the consumption that is its example
            is_in_history[row, item[examples]] = False
            features = np.asarray(
                self._features(scipy.sparse.csr_matrix(is_in_history.astype(np.float32)), consumed)
            )
            is_unconsumed = ~is_consumed[row[:, None], negatives]
            feature_blocks += [
                features[row, item[examples]],
                features[row[:, None], negatives][is_unconsumed],
            ]
            label_blocks += [np.ones(len(examples), np.int64), np.zeros(int(is_unconsumed.sum()), np.int64)]
        recommender.fit(np.concatenate(feature_blocks), np.concatenate(label_blocks))
        return recommender, consumed

    def _scores(self, recommender: Any, consumed: Consumed) -> Array:
        """(n, M) logits of the classifier's probability of y = 1."""
        classifier, seen = recommender
        features = np.asarray(self._features(consumed, seen))
        flat = features.reshape(-1, features.shape[-1])
        # The score is the logit of the probability of y = 1. The bounds keep it finite.
        probability = np.clip(classifier.predict_proba(flat)[:, 1], 1e-9, 1 - 1e-9)
        return np.asarray(np.log(probability / (1 - probability))).reshape(features.shape[:2])


def neighbour_features(consumed: Consumed, seen: Consumed) -> Array:
    """(n, M, 3) features: popularity, length of history, similarity.

    The similarity of an item is the sum of its cosine similarities to the items of the history, based on their users.
    """
    counts = np.asarray(seen.sum(0), np.float64).ravel()
    history = consumed.toarray()
    inverse_norm = 1.0 / np.sqrt(np.maximum(counts, 1.0))
    # The product runs over users, without a table of all pairs of items, because it is needed for every block of
    # states.
    similarity = (history * inverse_norm) @ seen.T @ seen * inverse_norm
    similarity -= history * counts * inverse_norm**2  # this is the similarity of an item to itself
    n_consumed = history.sum(1, keepdims=True)
    columns = (np.log1p(counts), np.log1p(n_consumed), similarity / np.sqrt(n_consumed + 1.0))
    return np.stack(np.broadcast_arrays(*columns), -1)


def _matrix(user: Ints, item: Ints, shape: tuple[int, int]) -> Consumed:
    """Matrix with 1 for each distinct user-item pair."""
    pairs = np.unique(user * shape[1] + item)
    ones = np.ones(len(pairs), np.float32)
    return scipy.sparse.csr_matrix((ones, np.divmod(pairs, shape[1])), shape=shape)
