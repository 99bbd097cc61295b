"""Every tensor on its device: models, ranking and scorer with fake CUDA tensors, on a machine without a GPU.

A fake tensor has a device and a shape, but no values. An operation on tensors of two devices raises, as it does on a
GPU. Values that leave the device are made up, so these tests check devices, shapes and types alone.
"""

import ctypes
import importlib.util
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import refused
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from rimsim.arrays import ALWAYS, NEVER, TICKS, ticks
from rimsim.intensity import Popularity, UserStates, persistence
from rimsim.intensity.contract import recurrent
from rimsim.intensity.impressions import KNOTS, Calibrated, ImpressionLayer
from rimsim.intensity.model_names import GROUNDS, MARKS
from rimsim.intensity.registry import load, make
from rimsim.intensity.sequence.sequence_model import SequenceModel
from rimsim.market.histories import Histories, LoggedPast, RepeatRule
from rimsim.market.records import Schedule
from rimsim.market.scores import scorer as scorer_module
from rimsim.market.scores.arrivals import ArrivalScores, PrecomputedScores
from rimsim.market.scores.scorer import Scorer, device_of, score_states
from rimsim.matching import price_slates, top_k
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.testing import random_log

LOG = random_log(n_users=40, n_items=30)
NAMES = tuple(
    name for name in (*MARKS, *GROUNDS) if name not in {"als", "bpr"} or importlib.util.find_spec("implicit")
)
"""Names of the mark models and ground intensities whose packages are installed."""
pytestmark = pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN")
aten = torch.ops.aten


def _scalar(tensor):
    """Made-up number of a tensor with one element."""
    return 1


def _nonzero(tensor):
    """One made-up element, so that code for such elements runs."""
    return tensor.new_zeros((1, tensor.ndim), dtype=torch.int64)


def _bincount(tensor, weights=None, minlength=0):
    """Made-up counts of the least length."""
    return tensor.new_zeros(minlength)


MADE_UP = {
    aten._local_scalar_dense.default: _scalar,
    aten.nonzero.default: _nonzero,
    aten.bincount.default: _bincount,
}
"""Operations whose results depend on values, and replacements whose results do not."""


class _FakeTensors(FakeTensorMode):
    """Mode in which new tensors are fake."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in MADE_UP:
            return MADE_UP[func](*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs or {})


def _array(tensor):
    """Made-up array of a fake tensor on the CPU; as on a GPU, other tensors have no arrays."""
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert a tensor of {tensor.device} to NumPy. Copy it to the CPU first")
    dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    return np.full(tuple(tensor.shape), dtype.kind != "i", dtype)  # an integer 0 is a valid index


def _full(indices, values, size, **options):
    """Full matrix in place of a sparse one, whose indices and values must be on one device."""
    return (indices[0] * values).new_zeros(size)


def _without_fakes(function):
    """Function that is called outside the mode of fake tensors."""

    def call(*args):
        with unset_fake_temporarily():
            return function(*args)

    return call


@contextmanager
def _device_changes():
    """Within it, PyTorch without CUDA accepts changes to a CUDA device, which do nothing."""
    # PyTorch changes to a tensor's device when the tensor is indexed, for example. Without a device, PyTorch with CUDA
    # accepts this by itself, but PyTorch without CUDA raises. CUDA has entry 1; entry 14 does nothing.
    if torch.backends.cuda.is_built():
        yield
        return
    try:
        library = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libc10.*"))))
        changers = (ctypes.c_void_p * 15).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    except (StopIteration, OSError, ValueError) as error:
        pytest.skip(f"this build of PyTorch cannot index fake CUDA tensors: {error}")
    before = changers[1]
    changers[1] = changers[14]
    try:
        yield
    finally:
        changers[1] = before


def _kinds(base):
    """All classes below a class."""
    return [kind for below in base.__subclasses__() for kind in (below, *_kinds(below))]


@pytest.fixture
def cuda(monkeypatch):
    """CUDA device of fake tensors; within the test, new tensors are fake."""
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(FakeTensor, "numpy", _array, raising=False)
    # Tensors with values, which are on the CPU, keep these values.
    monkeypatch.setattr(torch.Tensor, "numpy", _without_fakes(torch.Tensor.numpy))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda part: part if part.device.type == "cpu" else to_cpu(part))
    monkeypatch.setattr(persistence, "read_tensors", _without_fakes(persistence.read_tensors))
    # There are no sparse fake tensors, so sparse matrices are full ones.
    monkeypatch.setattr(torch, "sparse_coo_tensor", _full)
    monkeypatch.setattr(torch.sparse, "mm", torch.mm)
    monkeypatch.setattr(FakeTensor, "coalesce", lambda matrix: matrix, raising=False)
    # PyTorch cannot move a network whose parameters are fake.
    for kind in _kinds(SequenceModel):
        if "_new_network" in vars(kind):
            monkeypatch.setattr(kind, "_new_network", _without_fakes(kind._new_network))
    with _device_changes(), _FakeTensors(allow_non_fake_inputs=True):
        yield torch.device("cuda:0")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of all models, fitted once on the CPU."""
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        make(name, seed=0, device="cpu").fit(LOG).save(folder / name)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_a_model_on_cuda_use_tensors_of_cuda_alone(saved, cuda, name):
    """A saved model that is read for CUDA scores whole states and hidden states on CUDA."""
    model = load(saved / name, str(cuda))
    states = UserStates.of(LOG, np.arange(LOG.n_users), LOG.time[-1] + 1.0)
    scores = model.score(states)
    assert (scores.device, scores.shape) == (cuda, (LOG.n_users, LOG.n_items))
    assert scores.dtype == torch.float32
    if recurrent(model) is None:
        return
    hidden = model.encode(states)
    items = torch.zeros(LOG.n_users, dtype=torch.int64, device=cuda)
    after = model.step(hidden, items, torch.from_numpy(states.now).to(cuda))
    for before, part in zip(hidden, after, strict=True):
        assert (part.device, part.shape, part.dtype) == (cuda, before.shape, before.dtype)
    assert model.score_hidden(after, states.now).device == cuda


def _schedule():
    """Three arrivals of each user of the log, a day apart."""
    users = np.arange(LOG.n_users)
    slot = np.tile(users, 3)
    start = ticks(LOG.time[-1] + 1.0)
    visit = np.repeat(np.arange(3), LOG.n_users)
    return Schedule(
        tick=start + visit * 86_400 * TICKS,
        id=slot << 16 | visit,
        slot=slot,
        user=users,
        log_user=users,
        shift=np.zeros(LOG.n_users),
        session=np.full(len(slot), -1),
        start=int(start),
        stop=int(start) + 3 * 86_400 * TICKS,
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_scorer_of_a_model_on_cuda_uses_tensors_of_cuda_alone(saved, cuda, monkeypatch, name):
    """Arrivals are scored on CUDA after new events, repeated items, releases and ends, with and without a layer."""
    first_wrong = scorer_module._first_wrong
    monkeypatch.setattr(scorer_module, "_first_wrong", lambda *scores: min(first_wrong(*scores), -1))
    model = load(saved / name, str(cuda))
    schedule = _schedule()
    half = LOG.n_items // 2
    release = np.where(np.arange(LOG.n_items) < half, ALWAYS, schedule.tick[-1])
    times = TimesOnOffer(release, np.where(np.arange(LOG.n_items) == 0, schedule.tick[-1], NEVER))
    flat = ImpressionLayer(np.full(len(KNOTS), 0.1), np.ones(len(KNOTS)), np.zeros(LOG.n_items))
    bent = ImpressionLayer(flat.level, flat.slope / 2, flat.item + 0.1)
    past = LoggedPast.of(LOG, rule=RepeatRule(gap=2 * 86_400 * TICKS))
    for served, scores_of in (
        (model, ArrivalScores),
        (Calibrated(model, flat), PrecomputedScores),
        (Calibrated(model, bent), ArrivalScores),
    ):
        histories = Histories(schedule, past)
        scorer = Scorer(served, histories, times, device_of(served))
        scorer.encode(schedule.start)
        opening = ArrivalScores(scorer, histories, schedule).rows(np.arange(LOG.n_users))
        slots = np.array([0, 1, 1, 2])
        histories.append(slots, np.full(4, schedule.start + 1), np.array([0, 1, 1, 2]))
        later = scores_of(scorer, histories, schedule).rows(np.arange(LOG.n_users, 2 * LOG.n_users))
        for rows in (opening, later, later.cut(1, 2), later.only(np.ones(LOG.n_users, bool))):
            assert all(part.device == cuda for part in rows.tensors)
        relevance, admissible = later.at(np.zeros((LOG.n_users, 5), np.int64))
        assert relevance.shape == admissible.shape == (LOG.n_users, 5)
        assert later.ground.shape == (LOG.n_users,)
        assert later.compiled.relevance.shape == (LOG.n_users, LOG.n_items)
    states = UserStates.of(LOG, np.arange(LOG.n_users), LOG.time[-1] + 1.0)
    rows = np.arange(LOG.n_users)
    for block in score_states(served, states, rows, rows, ticks(states.now), times):
        assert all(part.device == cuda for part in block.tensors)


@pytest.mark.parametrize("is_masked", [False, True])
def test_slates_are_ranked_on_cuda(cuda, is_masked):
    """Price slates and slates of the largest scores use tensors of CUDA alone, and leave it as arrays."""
    scores = torch.zeros((6, 9), device=cuda)
    mask = torch.ones((6, 9), dtype=torch.bool, device=cuda)
    admissible = mask if is_masked else None
    for k in (4, 12):
        slates = price_slates(scores, np.full(9, 0.1), k, admissible=admissible, tie_seed=3, tie_width=0.1)
        assert slates.shape == top_k(scores, mask, k).shape == (6, k)
    refused(RuntimeError, "two devices", top_k, scores, mask.cpu(), 4)


class _Mixed(Popularity):
    """Popularity plus numbers that are on the CPU."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now) + torch.zeros(len(now), 1)


def test_a_model_that_mixes_devices_raises(cuda, tmp_path):
    """An operation on tensors of two devices raises, and so does an array of a tensor on CUDA."""
    with unset_fake_temporarily():
        _Mixed().fit(LOG).save(tmp_path)
    states = UserStates.of(LOG, np.arange(3), LOG.time[-1] + 1.0)
    refused(RuntimeError, "two devices", load(tmp_path, str(cuda)).score, states)
    refused(TypeError, "Copy it to the CPU first", torch.zeros(3, device=cuda).numpy)
