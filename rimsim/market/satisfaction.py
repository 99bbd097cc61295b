"""Satisfaction of providers, which decides who leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats, Ints
from rimsim.requirements.filters import require_column

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SatisfactionRule:
    """Rule by which exposures and consumptions satisfy a provider.

    After a period with E exposures and C consumptions of its items, the satisfaction X of a provider becomes
    δX + r_e·E + r_c·C, less a penalty if E = 0 (Zhan et al., WWW 2021).
    """

    decay: float = Field(default=0.9, ge=0, le=1)
    """δ: share of satisfaction that remains after a period: a round for `viability`, `review` for `creators`."""
    per_exposure: float = Field(default=0.1, ge=0)
    """r_e: satisfaction that an exposure adds."""
    per_consumption: float = Field(default=1.0, ge=0)
    """r_c: satisfaction that a consumption adds."""
    penalty: float = Field(default=1.0, ge=0)
    """Loss of satisfaction in a period without exposure."""
    start: float = 5.0
    """Satisfaction of providers at the opening, or when they come."""
    threshold: float = 0.0
    """Satisfaction below which a provider leaves; -.inf: providers never leave."""

    def after(
        self, satisfaction: Floats, exposure: Floats, consumption: Floats, per_exposure: Floats | None = None
    ) -> Floats:
        """(G,) satisfaction of providers after a period.

        ``per_exposure`` (G,) replaces r_e, which is the same for all providers.
        """
        added = self.per_exposure if per_exposure is None else per_exposure
        result = self.decay * satisfaction + added * exposure
        result += self.per_consumption * consumption
        result -= self.penalty * (exposure == 0)
        return result


def providers_of_items(items: pd.DataFrame, column: str, field: str) -> tuple[Ints, tuple[str, ...]]:
    """(M,) provider of each item, and providers' names.

    If a cell has several names joined by ``|``, the first counts.

    Raises:
        ConfigError: If the item table lacks the column.
    """
    require_column(items, column, field)
    texts = items[column].astype("str").str.partition("|")[0].to_numpy(str)
    names, of_item = np.unique(texts, return_inverse=True)
    return of_item.reshape(-1).astype(np.int64), tuple(names.tolist())
