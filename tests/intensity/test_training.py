"""The training of networks: examples and windows of a log, reading, early stopping, updates and the optimizer."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import cases
from kit.logs import log_of

from rimsim import intensity
from rimsim.intensity import UserStates
from rimsim.intensity.sequence.training import batches, windows
from rimsim.intensity.softmax import AdamW
from rimsim.intensity.states import session_examples, window_examples
from rimsim.testing import random_log

SMALL = intensity.GRUConfig(width=8, context=12, burn=4, epochs=3, learning_rate=0.02)


def test_session_examples_count_targets_after_strictly_earlier_states():
    """An example holds what came before it and counts target events; too large states leave every third session."""
    log = log_of([0] * 5, [0, 1, 2, 3, 4], [0, 10, 5000, 5010, 5020], target=[False, False, True, True, True])
    examples = session_examples(log)
    assert (examples.counts.tolist(), examples.states.items.tolist()) == ([3], [0, 1])
    assert examples.states.now.tolist() == [5000.0]
    assert log.sessions("30min") is log.sessions(1800.0)
    assert len(log.sessions(15.0)) == 2
    assert len(log.sessions(5.0)) == len(log.rows(log.user == 0).sessions(5.0)) == 5
    times = [10_000.0 * n for n in range(12)]
    log = log_of([0, 1] * 6, list(range(12)), times, target=[True] * 12)
    all_examples = session_examples(log)
    third = session_examples(log, most_events=10)
    assert all_examples.states.lengths.tolist() == [n // 2 for n in range(12)]  # 30 in all
    assert third.states.now.tolist() == times[::3]
    assert third.states.lengths.tolist() == all_examples.states.lengths[::3].tolist()
    assert session_examples(log, most_events=30).states.now.tolist() == times


def test_window_examples_count_what_falls_into_each_window():
    """Windows before the end of the log give every known user's state and count."""
    examples = window_examples(log_of([0, 1, 0, 1, 1], [0, 0, 1, 1, 2], [0, 10, 20, 30, 40]), 15.0, 2)
    pairs = sorted(zip(examples.user.tolist(), examples.counts.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 2)]


@cases("context burn", (4, 0), (6, 2), (50, 8))
def test_windows_predict_every_target_once(context, burn):
    """Every target event is predicted in exactly one window, from events of its own user that precede it."""
    log = random_log()
    log = dataclasses.replace(log, target=(np.arange(len(log)) % 3 == 0) & (log.user % 4 > 0))
    cut = windows(log, context, burn)
    hits = np.zeros(len(log), int)
    for begin, loss, stop, origin in zip(cut.begin, cut.loss, cut.stop, cut.origin, strict=True):
        assert origin <= begin <= loss < stop <= begin + context
        assert begin == max(origin, loss - burn)
        hits[loss:stop] += cut.target[loss:stop]
    assert (hits == cut.target).all()
    seen = 0
    for batch in batches(cut, 7, torch.device("cpu")):
        columns = (part.tolist() for part in (batch.row, batch.step, batch.label))
        for row, step, label in zip(*columns, strict=True):
            begin = cut.begin[batch.rows[row]]
            assert label == cut.item[begin + step]
            assert batch.items[row, :step].tolist() == cut.item[begin : begin + step].tolist()
            seen += 1
    assert seen == cut.target.sum()


def test_gru_reads_as_torch_does():
    """Block-wise reading with a gate table equals torch's own GRU on each history alone."""
    log = random_log()
    model = intensity.GRU(SMALL).fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    encoded = model.encode(states)[0]
    network = model.network
    for row in range(0, log.n_users, 7):
        items = states.items[states.offsets[row] : states.offsets[row + 1]][-SMALL.context :]
        with torch.no_grad():
            start = torch.zeros((1, SMALL.width), device=model.device)
            alone = network.hidden(torch.from_numpy(items)[None].to(model.device), start)[0, -1]
        torch.testing.assert_close(encoded[row], alone, rtol=1e-4, atol=1e-5)


def test_early_stopping_keeps_the_best_epoch():
    """The kept epoch has the least held-out loss, and training ends `patience` epochs after it."""
    longer = {"epochs": 60, "learning_rate": 0.05, "patience": 2, "held_out": 0.3}
    config = intensity.GRUConfig(width=8, dropout=0.0, **longer)
    run = intensity.GRU(config).fit(random_log()).last_run
    assert run is not None
    assert len(run.losses) == run.best_epoch + 2 < 60
    assert run.best_epoch == 0 or min(run.held_out) == run.held_out[run.best_epoch - 1]


def test_gru_update_reads_context_but_fits_targets_only():
    """An update raises p of the targets and costs no window for users without one."""
    log = random_log()
    model = intensity.GRU(SMALL).fit(log)
    target = (log.item == 33) & (log.user < 40)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    before = model.score(states)[:, 33].mean()
    marked = dataclasses.replace(log, target=target)
    assert len(windows(marked, SMALL.context, SMALL.update_steps_back)) == target.sum()
    assert float(model.update(marked).score(states)[:, 33].mean()) > float(before)


@pytest.mark.parametrize("seed", range(8))
def test_gru_fits_a_log_whose_users_were_seen_once(seed):
    """A batch of first events alone, which have nothing to read, trains the bias and does not fail."""
    log = random_log(n_users=8, n_items=4, seed=seed, mean_events=1.0)
    model = intensity.GRU(intensity.GRUConfig(seed=seed, epochs=2)).fit(log)
    assert torch.isfinite(model.score(UserStates.of(log, np.arange(2), log.time[-1] + 1.0))).all()


def test_our_adamw_is_torchs():
    """Steps with clipping and decay equal those of torch's optimizer."""
    draw = torch.Generator().manual_seed(0)
    first = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 3), (5,))]
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    ours = AdamW(first, weight_decay=0.1, largest=1.0)
    theirs = torch.optim.AdamW(second, lr=0.05, weight_decay=0.1)
    for _ in range(5):
        sum((p**3).sum() for p in first).backward()
        sum((p**3).sum() for p in second).backward()
        torch.nn.utils.clip_grad_norm_(second, 1.0)
        ours.step(0.05)
        theirs.step()
        theirs.zero_grad()
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b)
