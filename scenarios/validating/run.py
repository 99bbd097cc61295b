"""Whether the market is believable on a log: what held-out later sessions say, beside what the truths say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimsim.config import to_plain
from rimsim.config.fields import duration_seconds
from rimsim.config.reading import record_from
from rimsim.data import Needs, load_log, require_usable
from rimsim.errors import ConfigError
from rimsim.intensity.cache import log_digest
from rimsim.intensity.contract import resolved
from rimsim.intensity.registry import make, mark_and_ground
from rimsim.market.world import kept_truth
from rimsim.measures import agreement
from rimsim.plugs import own_code
from rimsim.scenarios.runs.job import MAIN, log_bytes, require_memory
from rimsim.scenarios.runs.store import (
    CONFIG,
    folder_for,
    load_facts,
    load_run,
    load_text,
    locked,
    require_free,
    versions,
    write_table,
    write_text,
    write_yaml,
)
from rimsim.scenarios.validating.checks import check_rows
from rimsim.scenarios.validating.config import AUTO, RANDOM, ValidateConfig
from rimsim.scenarios.validating.cuts import make_cut
from rimsim.scenarios.validating.evidence import Setting, gather
from rimsim.scenarios.validating.judged import unfitted_model
from rimsim.scenarios.validating.known_answers import judged_answers, known_answers
from rimsim.scenarios.validating.pictures import draw_validation
from rimsim.scenarios.validating.results import page
from rimsim.scenarios.validating.tables import (
    agreement_table,
    evidence_rows,
    interval_table,
    pair_table,
    value_table,
)
from rimsim.system import draft_content, single_thread

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.data import EventLog
    from rimsim.market.consumers.contract import Truth
    from rimsim.scenarios.runs.store import Run
    from rimsim.scenarios.validating.cuts import Cut
    from rimsim.scenarios.validating.held_answers import HeldAnswers


README = "README.md"
"""What is concluded, in the run folder."""


@dataclass(frozen=True, eq=False)
class Validation:
    """A validation on disk; tables are read when first asked for."""

    folder: Path
    """The run folder."""

    @property
    def described(self) -> dict[str, Any]:
        """``config.yaml``: config, command, versions, truths and which of them was chosen, digest of the log."""
        return self._run.config

    @property
    def config(self) -> ValidateConfig:
        """The resolved config."""
        return record_from(self.described["validate"], ValidateConfig, origin=str(self.folder / CONFIG))

    @property
    def table(self) -> pd.DataFrame:
        """Columns model, truth, draw, metric, value; truth is empty for what is real."""
        return self._run.validate

    @property
    def agreement(self) -> pd.DataFrame:
        """Columns truth, metric, value."""
        return self._run.agreement

    @property
    def intervals(self) -> pd.DataFrame:
        """Columns model, truth, metric, mean, low, high, users: means over draws, 95 % intervals over users."""
        return self._run.intervals

    @property
    def pairs(self) -> pd.DataFrame:
        """Columns truth, model, other, difference, low, high, settled, simulated: a row a truth and pair of models."""
        return self._run.pairs

    @property
    def observed(self) -> pd.DataFrame | None:
        """Columns truth, model, metric, value, low, high: judged on known answers; None if none were given."""
        return self._run.observed

    @property
    def observed_pairs(self) -> pd.DataFrame | None:
        """Columns truth, model, other_truth, other_model, metric, difference, low, high, settled; or None."""
        return self._run.observed_pairs

    @cached_property
    def _run(self) -> Run:
        return load_run(self.folder)


def load_validation(path: str | Path) -> Validation:
    """Open the folder of a validation.

    Raises:
        RunFolderError: If it is none.
    """
    return Validation(load_run(path, "validation").folder)


def validate(
    config: ValidateConfig | None = None,
    *,
    out: str | Path | None = None,
    command: str | None = None,
    report: Callable[[str], None] | None = None,
) -> Validation:
    """Compare what held-out later sessions say of recommenders with what truths say of them.

    In every draw each user is cut where one of its later sessions begins. Models are fitted to the past, truths to the
    whole log; a truth that is asked for items or counts that it must not have seen is fitted to the past too.

    Args:
        config: What to do; None: the defaults, on the embedded data.
        out: The run folder; None: ``runs/validate-<time>``.
        command: The command line, to be recorded.
        report: Called with each line of progress; None: no progress is shown.

    Returns:
        The validation, with its tables; ``README.md`` in its folder says what may be concluded.

    Raises:
        DataError: If the log or the table of answers cannot be read, or fewer than two users come back in the log.
        ConfigError: If a model cannot be made, or a slate would hold every item.
        ModelError: If a model of one's own fails.
        RunFolderError: If the folder is in use or holds a run. Whatever is raised, no run is in the folder then.
    """
    config = config or ValidateConfig()
    show = report or (lambda _: None)
    single_thread()
    _require_models(config)
    log = _load(config)
    if (read := load_text(log)) is not None:
        show(read)
    require_memory(log_bytes(log) + MAIN, 0.0, 1, "number of events (data)")
    answers = known_answers(config, log, show)
    gap = config.data.session_gap
    cuts = [make_cut(log, draw, gap=gap, after=config.after) for draw in range(config.draws)]
    folder = folder_for(out, "validate")
    require_free(folder)
    show(f"{len(cuts[0]):,} users come back and are cut at {config.draws} drawn sessions")
    with locked(folder), draft_content(folder, CONFIG) as draft, own_code(config.chosen):
        _write(draft, config, log, cuts, answers, command or "rimsim.scenarios.validate", show)
    return Validation(folder)


def _require_models(config: ValidateConfig) -> None:
    """Refuse a device, a model or a ground intensity that cannot be had, before anything is read or fitted."""
    resolved(config.device)
    with own_code(config.chosen):
        for name in config.chosen:
            if name != RANDOM:
                unfitted_model(name, 0, config.device)
    if (ground := mark_and_ground(config.serving)[1]) is not None:
        make(ground, device=config.device)


def _write(
    folder: Path,
    config: ValidateConfig,
    log: EventLog,
    cuts: Sequence[Cut],
    answers: HeldAnswers | None,
    command: str,
    show: Callable[[str], None],
) -> None:
    """Fit everything, and write tables, pictures and page into a folder."""
    truths, chosen = _truths(log, config, show)
    described = {
        "command": command,
        "validate": to_plain(config),
        "truths": {name: asdict(truth.report) for name, truth in truths.items()},
        "chosen": chosen,
        "log": load_facts(log),
        **({} if answers is None else {"observed": answers.facts()}),
        "digests": {"log": log_digest(log)},
        "versions": versions(),
    }
    write_yaml(folder / CONFIG, described)
    setting = Setting(config.slate, config.position_decay, config.device)
    told = partial(unfitted_model, gap=config.data.session_gap)
    evidence = gather(cuts, config.chosen, truths, setting, show, told)
    real = evidence.by_user()
    agreements = {
        name: agreement(real, evidence.by_user(name)[:-1], resamples=config.resamples) for name in truths
    }
    rows = evidence_rows(evidence) + check_rows(log, cuts, truths, config, show)
    write_table(folder / "agreement.parquet", agreement_table(agreements, chosen))
    write_table(folder / "intervals.parquet", interval_table(evidence))
    write_table(folder / "pairs.parquet", pair_table(evidence))
    write_table(folder / "validate.parquet", value_table(rows))
    if answers is not None:
        found = judged_answers(answers, log, truths, config, show)
        write_table(folder / "observed.parquet", found.table())
        write_table(folder / "observed_pairs.parquet", found.pairs())
    done = Validation(folder)
    draw_validation(done, folder / "pictures")
    write_text(folder / README, page(done))


def _load(config: ValidateConfig) -> EventLog:
    log = load_log(config.data)
    gap = duration_seconds(config.data.session_gap)
    require_usable(log, Needs(gap=gap), use="validate")
    if config.slate >= log.n_items:
        raise ConfigError(f"slate: {config.slate} of {log.n_items} items; allowed: fewer than all")
    return log


def _truths(
    log: EventLog, config: ValidateConfig, show: Callable[[str], None]
) -> tuple[dict[str, Truth], str | None]:
    """Name → truth fitted to the whole log, and the one that the log's later sessions choose, if that was asked for."""
    gap, chosen = duration_seconds(config.data.session_gap), None
    fitted: dict[str, Truth] = {}
    for name in sorted(config.truths, key=lambda name: name != AUTO):  # the choice tells one of the names
        if name not in fitted:
            truth = kept_truth(log, gap=gap, kind=name, rank=config.rank)
            fitted[truth.kind] = truth
            if name == AUTO:
                chosen = truth.kind
            show(
                f"truth {truth.kind}: fitted to the whole log{', chosen by its later sessions' if name == AUTO else ''}"
            )
    return fitted, chosen
