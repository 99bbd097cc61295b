"""Fits of models on disk: read back from the cache, fitted again, or refused where a folder is damaged."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from kit import refused

from rimsim import data, intensity
from rimsim.errors import ModelError
from rimsim.intensity import Calibrated, ImpressionLayer, UserStates
from rimsim.intensity.cache import fitted
from rimsim.intensity.registry import load, make
from rimsim.intensity.states import count_examples
from rimsim.testing import random_log

SMALL = intensity.GRUConfig(width=8, context=12, burn=4, epochs=3, learning_rate=0.02)


def test_a_second_fit_comes_from_the_cache(tmp_path, monkeypatch):
    """The second run reads it where RIMSIM_CACHE says; another log, config or a damaged entry is fitted anew."""
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path))
    first = fitted(make("gru-hp", mark=SMALL), log)
    entries = list((tmp_path / "models").iterdir())
    assert len(entries) == 2  # one for each factor
    second = make("gru-hp", mark=SMALL)
    unfitted = second.mark, second.ground
    cached = fitted(second, log, tmp_path)
    assert cached.mark is not unfitted[0]
    assert cached.ground is not unfitted[1]
    assert torch.equal(cached.score(states), first.score(states))
    fitted(make("gru-hp", mark=SMALL, seed=1), log, tmp_path)
    fitted(make("gru-hp", mark=SMALL), log.before(float(np.median(log.time))), tmp_path)
    assert len(list((tmp_path / "models").iterdir())) == 5  # the other seed is the mark's alone
    for entry in entries:
        (entry / "model.safetensors").write_bytes(b"broken")
    fresh = make("gru-hp", mark=SMALL)
    unfitted = fresh.mark
    assert fitted(fresh, log, tmp_path).mark is unfitted
    assert torch.equal(fitted(make("gru-hp", mark=SMALL), log, tmp_path).score(states), first.score(states))


def test_a_damaged_or_foreign_folder_is_an_error(tmp_path):
    """Loading names the file that is missing, foreign or damaged."""
    refused(ModelError, r"model\.json", load, tmp_path)
    intensity.Popularity().fit(random_log()).save(tmp_path)
    assert isinstance(load(tmp_path), intensity.Popularity)
    refused(ModelError, "Expected a saved 'gru'", intensity.GRU.load, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    refused(ModelError, "safetensors", load, tmp_path)


def test_a_new_process_reads_models_of_all_shipped_kinds(tmp_path):
    """intensity.load knows parts and composites; the reader below it knows imported classes and says what to import."""
    log = random_log()
    make("bag-visits").fit(log).save(tmp_path / "product")
    layer = ImpressionLayer.identity(log.n_items)
    Calibrated(intensity.Popularity().fit(log), layer).save(tmp_path / "layered")

    def printed(code):
        """Last line that a new process prints, or its error."""
        process = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        return (process.stdout or process.stderr).strip().splitlines()[-1]

    read_all = "import sys; from rimsim.intensity import load; "
    read_all += "print(*(type(load(f'{sys.argv[1]}/{name}')).__name__ for name in ('product', 'layered')))"
    assert printed(read_all) == "RIM Calibrated"
    read_imported = (
        "import sys; from rimsim.intensity.persistence import load; load(f'{sys.argv[1]}/product')"
    )
    assert "Import the model's class first; rimsim.intensity.load knows all shipped models" in printed(
        read_imported
    )


@pytest.fixture(scope="module")
def log():
    """The embedded log's most popular items, its first 12,000 events."""
    embedded = data.load("ml-latest-small", min_item_events=120)
    return embedded.rows(slice(0, 12_000))


def test_the_cache_keeps_ground_intensities_by_their_examples(log, tmp_path):
    """Other examples are another fit; the same ones are read back; a mark model takes none."""
    users = np.unique(log.user)
    middle = np.full(len(users), float(np.median(log.time)))
    examples = count_examples(log, users, middle, 86400.0 * 365)
    later_examples = count_examples(log, users, middle - 86400.0 * 200, 86400.0 * 365)
    config = intensity.HawkesPoissonConfig(horizon=86400.0 * 365)
    first = intensity.HawkesPoisson(config)
    assert fitted(first, log, tmp_path, examples=examples) is first
    second = intensity.HawkesPoisson(config)
    second_fit = fitted(second, log, tmp_path, examples=examples)
    assert second_fit is not second
    assert torch.equal(second_fit.weights, first.weights)
    third = intensity.HawkesPoisson(config)
    assert fitted(third, log, tmp_path, examples=later_examples) is third
    assert not torch.equal(third.weights, first.weights)
    message = "Give examples only with a ground intensity"
    refused(ModelError, message, fitted, intensity.GRU(), log, tmp_path, examples=examples)
