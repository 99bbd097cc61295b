"""Truths: the law by which consumers consume, by name; fitted with hindsight, kept on disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import SafetensorError

from rimsim.errors import ModelError
from rimsim.market.consumers.truths.bag import BagTruth
from rimsim.market.consumers.truths.choose import TRUTHS, fit_truth
from rimsim.market.consumers.truths.contract import Law, Truth, TruthReport
from rimsim.market.consumers.truths.factors import FactorsTruth

__all__ = [
    "TRUTHS",
    "BagTruth",
    "FactorsTruth",
    "Law",
    "Truth",
    "TruthReport",
    "fit_truth",
    "load_truth",
    "save_truth",
]

_CLASSES: dict[str, type[FactorsTruth | BagTruth]] = {"factors": FactorsTruth, "bag": BagTruth}


def save_truth(truth: Truth, folder: Path) -> None:
    """Write a truth into a folder, its report last."""
    truth.save(folder)
    text = json.dumps(dataclasses.asdict(truth.report), indent=2)
    (folder / "truth.json").write_text(text, encoding="utf-8")


def load_truth(folder: Path) -> Truth:
    """Read what :func:`save_truth` wrote.

    Raises:
        ModelError: If the folder holds no truth, or a damaged one.
    """
    try:
        described = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        report = TypeAdapter(TruthReport).validate_python(described)
        return _CLASSES[report.kind].load(folder, report)
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: no truth there, or a damaged one ({error})") from error
