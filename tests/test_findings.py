"""Signs of what the README claims, from the runs that it rests on: ``make findings``; some CPU hours, no part of CI."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from rimsim.scenarios.report.sweep import Contrast, matrix, sweep_table, swept_fields

pytestmark = pytest.mark.findings
ROOT = Path(__file__).parents[1]
CLAIMS = [
    (Contrast("retraining narrows", "coverage", "relevance", "relevance-frozen"), -1, 8),
    (Contrast("the loop narrows", "coverage", "relevance", "relevance-random"), -1, 6),
    (Contrast("the loop costs no utility", "utility", "relevance", "relevance-random"), 1, 8),
    (Contrast("feedback keeps the guarantee", "examined_shortfall", "rim-feedback", "relevance"), -1, 8),
    (Contrast("frozen prices do not", "examined_shortfall", "rim-dual", "rim-feedback"), 1, 8),
    (Contrast("the guarantee costs utility", "utility", "rim-feedback", "relevance"), -1, 8),
    (Contrast("bestsellers have more utility", "utility", "popularity", "rim-feedback"), 1, 8),
    (Contrast("new items are adopted", "adopted", "rim-feedback", "relevance"), 1, 8),
]
"""A claim, its sign, and in how many cells of the matrix it has it at least."""


@pytest.fixture(scope="module")
def swept():
    """The table behind the matrix of docs/findings.md, from ``runs/findings`` where it is complete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        findings = import_module("findings")
    run = findings.run_of("matrix", ROOT / "runs" / "findings")
    return sweep_table(run), run.scenario.exposure.unit


@pytest.mark.parametrize(("claim", "sign", "cells"), CLAIMS, ids=[claim.title for claim, _, _ in CLAIMS])
def test_a_claim_has_its_sign(swept, claim, sign, cells):
    """The difference has the claimed sign in as many cells as the README says, on the mean over seeds."""
    table, unit = swept
    found = matrix(table, swept_fields(table), unit, [claim])
    assert len(found) == 8
    assert (found["mean"] * sign > 0).sum() >= cells
