"""Validation of truths by held-out later sessions."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from dataclasses import dataclass as record
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from rimsim.config import ConsumerConfig, DataConfig, to_plain
from rimsim.config.fields import DEFAULT_MODEL, STRICT, duration_seconds, require_distinct
from rimsim.data import EventLog, Needs, load_observed
from rimsim.data.session_logs import LogSource
from rimsim.errors import ConfigError, refuse, require_known
from rimsim.evaluation.appeal import HiddenQuality, hidden_quality
from rimsim.intensity.cache import log_digest
from rimsim.intensity.contract import resolved
from rimsim.intensity.registry import make, mark_and_ground, names, parts
from rimsim.intensity.states import session_examples
from rimsim.market import agreement as evidence_of
from rimsim.market.consumers.false_truths import FALSE, bar_name, false_truths
from rimsim.market.consumers.truths import AUTO, CANDIDATES, Truth, base_of
from rimsim.market.fitness import READER, REPEATING, chosen_truth, fitness
from rimsim.market.fitted import kept_truth
from rimsim.market.platform_model import model_for
from rimsim.measures import agreement, mean_interval, pairs_of
from rimsim.scenarios.kinds.results import RunResult, Show, own_log, table_of, usable_log
from rimsim.scenarios.kinds.validate import checks
from rimsim.scenarios.kinds.validate.answers import HeldAnswers, held_answers, judge_observed
from rimsim.scenarios.kinds.validate.clicks import click_rates
from rimsim.scenarios.kinds.validate.estimate import fits_line
from rimsim.scenarios.kinds.validate.report import BESTSELLERS, readme, validation_report
from rimsim.scenarios.kinds.validate.untested import untested
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.run import load_run
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.files import write_text
from rimsim.scenarios.runs.job import Job, all_or_nothing, make_run
from rimsim.scenarios.runs.locks import folder_for, require_free
from rimsim.scenarios.runs.progress import bars
from rimsim.scenarios.runs.records import load_facts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.session import ModelName
from rimsim.user_code import own_code

Truths: TypeAlias = Mapping[str, Truth]
MODELS = ("bag", "ease", "factors", "returning", "popularity", "als", "gru", evidence_of.RANDOM)
"""Names of the models that are compared by default. ``als`` is only compared if its package is installed."""
COLUMNS = ("model", "truth", "draw", "metric", "value")  # names of the columns of `validate.parquet`
README = "README.md"  # file in the run folder with the conclusions


def _default_models() -> tuple[str, ...]:
    """Models that are compared by default, if installed."""
    return tuple(name for name in MODELS if name != "als" or importlib.util.find_spec("implicit"))


def _models_for(log: EventLog, models: tuple[str, ...]) -> tuple[str, ...]:
    """Compared models of a log.

    The default models do not know repetition. If users of the log can take items again, models that know it are added.
    """
    if not log.repeatable or not set(models) >= set(_default_models()):
        return models
    return tuple(dict.fromkeys((*models, "recent", *REPEATING)))


def with_serving(models: Sequence[str] | None, serving: str, without: Sequence[str] = ()) -> list[str]:
    """Compared models, including the platform's mark model and bestsellers."""
    parts(serving)
    chosen = list(_default_models() if models is None else models)
    mark, _ = mark_and_ground(serving)
    missing = (name for name in (mark, BESTSELLERS) if name not in {*chosen, *without})
    return [*chosen, *dict.fromkeys(missing)]


@dataclass(frozen=True, config=STRICT)
class AnswersConfig:
    """Table of known answers, and how to read it."""

    table: str | None = None
    """Path of a table of known answers; see rimsim.data.load_observed. null: no table."""
    columns: str | None = None
    """Columns of the table, such as 'user=uid,item=sku,value=liked'; null: columns with usual names."""
    value: str | None = None
    """Name of the column of values; null: the column that the layout names."""
    taken_at: float = Field(default=1.0, gt=0)
    """Smallest value of an answer that counts as a consumption."""
    k: int = Field(default=5, ge=1)
    """Number of items that a model chooses among those that a user answered about."""


@dataclass(frozen=True, config=STRICT)
class ValidateConfig:
    """Models, truths and draws of a validation."""

    data: DataConfig = DataConfig(min_item_events=30)
    """Log of the validation."""
    models: tuple[ModelName, ...] = Field(default_factory=_default_models, min_length=2)
    """Names of the models: those that rimsim.intensity.registry.make knows, places such as `mine.py:Model`, or
    random."""
    without: tuple[str, ...] = ()
    """Models that are left out of ``models``."""
    truths: tuple[str, ...] = Field(default=(AUTO, *CANDIDATES), min_length=1)
    """Names of the truths that are fitted to the whole log and tested. auto: the truth that predicts held-out later
    sessions best."""
    draws: int = Field(default=5, ge=1)
    """Number of later sessions that are drawn for each user."""
    after: float = Field(default=0.3, ge=0, lt=1)
    """Share of a user's events that must precede the drawn session."""
    slate: int = Field(default=10, ge=1)
    """Number of items that are recommended to a user."""
    position_decay: Annotated[float, Field(gt=0, le=1)] = ConsumerConfig().position_decay
    """γ: the chance that a visitor looks at position r is γ^(r−1)."""
    rank: int = Field(default=ConsumerConfig().rank, ge=1)
    """Number of factors of a truth that has factors."""
    serving: ModelName = DEFAULT_MODEL
    """Model that a platform would use. default: the default of `platform.model`. Its mark model is compared with the
    popularity baseline, if both are among the models. Its λ(x) is compared with the events of held-out sessions."""
    observed: AnswersConfig = AnswersConfig()
    """Known answers on which truths and models are tested."""
    resamples: int = Field(default=1000, ge=100)
    """Number of bootstrap samples of users."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        require_distinct(self, ("models", "without", "truths"))
        for model in (*self.models, model_for(self.serving, repeatable=False)):
            if model != evidence_of.RANDOM:
                parts(model)
        truth_names = [base_of(truth) for truth in self.truths if ":" not in truth]
        require_known("truths: found {}", truth_names, [AUTO, *names()])
        require_known("without: found {}", self.without, self.models)
        if len(self.chosen) < 2:
            raise ConfigError(
                f"without: only {list(self.chosen)} of the models would be left. Keep at least two models"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """Models that are compared: ``models`` except those in ``without``."""
        return tuple(name for name in self.models if name not in self.without)


class Validation(RunResult):
    """Validation on disk; its ``table`` is the table ``validate``."""


def load_validation(path: str | Path) -> Validation:
    """Open the folder of a validation."""
    return Validation(RunFolder.open(path, "validation").folder)


@all_or_nothing()
def validate(
    config: ValidateConfig | None = None,
    *,
    data: LogSource | None = None,
    columns: str | None = None,
    skip_bad_rows: bool | None = None,
    out: str | Path | None = None,
    command: str | None = None,
    report: Callable[[str], None] | None = None,
    console: Console | None = None,
) -> Validation:
    """Compare held-out later sessions with their prediction by the truths.

    In every draw, each user's log is cut at the beginning of a later session, and models are fitted to events before
    the cut. Truths are fitted to the whole log, or to events before the cut if a check needs unseen items or counts.

    Args:
        config: Options; None: the defaults, on the embedded log.
        data: Name or path of a log, a data frame (pandas, Polars, Arrow), or an ``EventLog``, in place of the config's.
        columns: Columns of the log, such as ``user=uid,item=sku,time=at``, in place of the config's.
        skip_bad_rows: Leave bad rows of the log out, and count them, in place of the config's.
        out: The run folder, whose ``README.md`` has the conclusions; None: ``runs/validate-<time>``.
        command: The command line, to be recorded.
        report: Function that gets lines about the log, the time that the fits take, and the truths; None: no lines.
        console: Console of a bar over the fits of models; None: no bar.

    Raises:
        DataError: If the log or the table of answers cannot be read, or fewer than two users have a later session.
        ConfigError: If a model cannot be made, or a slate would contain every item.
        ModelError: If a model of your own fails.
        RunFolderError: If the folder is in use or holds a run. After an error, the folder has no run.
    """
    config = config or (ValidateConfig() if data is None else ValidateConfig(data=DataConfig()))
    config = replace(config, data=own_log(config.data, data, columns, skip_bad_rows=skip_bad_rows))
    show = report or (lambda _: None)
    _require_models(config)
    log = usable_log(config.data, Needs(gap=duration_seconds(config.data.session_gap)), "validate", show)
    serving = model_for(config.serving, repeatable=log.repeatable)
    config = replace(config, models=_models_for(log, config.models), serving=serving)
    work = _Work(log, config, show, console)
    if config.slate >= log.n_items:
        refuse(ConfigError, "slate", f"{config.slate} of {log.n_items} items", "fewer than all items")
    answers, quality = work.known_answers()
    cuts = work.cuts()
    require_free(folder := folder_for(out, "validate"))
    show(f"{len(cuts[0]):,} users come back and are cut at {config.draws} drawn sessions")
    with own_code(config.chosen):
        if report is not None and (estimate := work.time_line(cuts)) is not None:
            report(estimate)
        truths, chosen = work.truths()
        described = work.described(truths, chosen, answers)

        def play(chosen: str | None, _: object) -> dict[str, pd.DataFrame]:
            of_answers = {} if answers is None else work.answer_tables(answers, quality, truths)
            return work.session_tables(cuts, truths, chosen) | work.click_tables() | of_answers

        job = Job(described, [chosen], play, _write_page)
        make_run(job, folder, command or "rimsim.scenarios.validate", Execution(workers=1))
    return Validation(folder)


def _require_models(config: ValidateConfig) -> None:
    """Refuse models, grounds and devices that cannot be made.

    They are made once before the log is read, because a fit that fails after minutes would waste them.
    """
    resolved(config.device)
    with own_code(config.chosen):
        for name in config.chosen:
            if name != evidence_of.RANDOM:
                evidence_of.unfitted_model(name, 0, config.device)
    # Both defaults have the same ground intensity.
    if (ground := mark_and_ground(model_for(config.serving, repeatable=False))[1]) is not None:
        make(ground, device=config.device)


def value_table(rows: Sequence[tuple[str, str, int, str, float]]) -> pd.DataFrame:
    """Table of values by model, truth, draw and metric."""
    return table_of(rows, COLUMNS, ("value",)).astype({"draw": np.int64})


@record(frozen=True, eq=False)
class _Work:
    """Steps of a validation on a log."""

    log: EventLog
    config: ValidateConfig
    show: Show
    console: Console | None

    @property
    def gap(self) -> float:
        """Seconds without events that end a session."""
        return duration_seconds(self.config.data.session_gap)

    @property
    def unfitted(self) -> evidence_of.Make:
        """Function that makes unfitted models."""
        return partial(evidence_of.unfitted_model, gap=self.config.data.session_gap)

    def cuts(self) -> list[evidence_of.Cut]:
        """Cut of the log in each draw."""
        gap = self.config.data.session_gap
        draws = range(self.config.draws)
        return [evidence_of.make_cut(self.log, draw, gap=gap, after=self.config.after) for draw in draws]

    def time_line(self, cuts: Sequence[evidence_of.Cut]) -> str | None:
        """Time of the fits; None if they are quick."""
        config = self.config
        fitted_names = [name for name in config.chosen if name != evidence_of.RANDOM]

        def fit(log: EventLog) -> None:
            for name in fitted_names:
                evidence_of.fitted_model(name, 0, config.device, log, self.unfitted)

        return fits_line(cuts[0].later.past, len(fitted_names), len(cuts), fit)

    def known_answers(self) -> tuple[HeldAnswers | None, HiddenQuality | None]:
        """Known answers and hidden quality; None without a table."""
        options = self.config.observed
        if options.table is None:
            return None, None
        table = load_observed(options.table, columns=options.columns, value=options.value)
        self.show(table.text())
        answers = held_answers(table, self.log, taken_at=options.taken_at)
        return answers, hidden_quality(table, self.log, taken_at=options.taken_at)

    def described(self, truths: Truths, chosen: str | None, answers: HeldAnswers | None) -> dict[str, object]:
        """Content of ``config.yaml``."""
        return {
            "validate": to_plain(self.config),
            "truths": {name: asdict(truth.report) for name, truth in truths.items()},
            "chosen": chosen,
            "fitness": self.verdicts(truths, chosen),
            "log": load_facts(self.log),
            **({} if answers is None else {"observed": answers.facts()}),
            "digests": {"log": log_digest(self.log)},
        }

    def truths(self) -> tuple[dict[str, Truth], str | None]:
        """Truths fitted to the log, and the chosen truth's name."""
        fitted: dict[str, Truth] = {}
        chosen = None
        # The truth that `auto` chooses may also be in the list. `auto` comes first, so that this truth is fitted only
        # once.
        for name in sorted(self.config.truths, key=lambda name: name != AUTO):
            if name not in fitted:
                truth = chosen_truth(self.log, gap=self.gap, kind=name, rank=self.config.rank)
                fitted[truth.kind] = truth
                chosen = truth.kind if name == AUTO else chosen
                remark = ", chosen by its later sessions" if name == AUTO else ""
                self.show(f"truth {truth.kind}: fitted to the whole log{remark}")
        return fitted, chosen

    def verdicts(self, truths: Truths, chosen: str | None) -> dict[str, object]:
        """Verdict on each truth, as comparisons reach it."""
        verdicts: dict[str, object] = {}
        for name in truths:
            kind = AUTO if name == chosen else name  # this is the setting of a comparison with this truth
            verdict = fitness(self.log, gap=self.gap, kind=kind, rank=self.config.rank)
            self.show(f"truth {name}: {verdict.verdict}")
            verdicts[name] = READER.dump_python(verdict, mode="json")
        return verdicts

    def session_tables(
        self, cuts: Sequence[evidence_of.Cut], truths: Truths, chosen: str | None
    ) -> dict[str, pd.DataFrame]:
        """Tables of evidence from later sessions, and of checks."""
        config = self.config
        setting = evidence_of.SlateSetting(config.slate, config.position_decay, config.device)

        laws: dict[str, evidence_of.ChoiceLaw] = {**truths, **false_truths(truths, self.log)}
        with bars(self.console) as progress:
            task = progress.add_task("fits of models", total=len(cuts) * (len(config.chosen) + len(truths)))
            count = partial(progress.advance, task)

            def of_past(cut: evidence_of.Cut) -> dict[str, Truth]:
                """Truths that are fitted to a cut's past only."""
                fitted_truths = {}
                for name in truths:
                    fitted_truths[bar_name(name, checks.PAST)] = kept_truth(
                        cut.later.past, gap=self.gap, kind=name, rank=config.rank
                    )
                    count(1)
                return fitted_truths

            all_evidence = evidence_of.gather(
                cuts, config.chosen, laws, setting, count, self.unfitted, of_past
            )
        evidence = replace(all_evidence, utility={name: all_evidence.utility[name] for name in truths})
        real = evidence.by_user()
        agreements = []
        for name in truths:
            simulated = evidence.by_user(name)[:-1]  # the last row is the oracle, which reality lacks
            figures = agreement(real, simulated, resamples=config.resamples).figures
            # Agreement of false truths, and of the truth fitted to the past, for comparison.
            agreement_of_bars = {}
            for bar in (*FALSE, checks.PAST):
                simulated = all_evidence.by_user(bar_name(name, bar))[:-1]
                agreement_of_bars[bar] = agreement(real, simulated, resamples=0).kendall_settled
            figures |= {**agreement_of_bars, "chosen": float(name == chosen)}
            agreements += [(name, metric, value) for metric, value in figures.items()]
        return {
            "agreement": table_of(agreements, ["truth", "metric", "value"], ("value",)),
            "intervals": _intervals(evidence),
            "pairs": _pairs(evidence),
            "validate": value_table([*_means(evidence), *self._check_rows(cuts, truths)]),
        }

    def _check_rows(
        self, cuts: Sequence[evidence_of.Cut], truths: Truths
    ) -> Iterator[tuple[str, str, int, str, float]]:
        """Model, truth, draw, metric and value of all checks.

        Checks of distributions use truths fitted to the whole log. Checks of acceptance use truths of the same class
        fitted to the past of the first draw, which have not seen the answers. λ and λ* are checked on sessions that
        they were not fitted to. Rows on λ and λ* have the number of the first draw.
        """
        config = self.config
        sizes = session_examples(self.log, self.gap)
        figures_of_cuts: list[tuple[str, str, evidence_of.Cut, Mapping[str, float]]] = []
        for cut in cuts:
            figures_of_cuts.append(("", "", cut, checks.logged(cut, sizes) | untested(self.log, cut)))
            figures_of_cuts += [
                ("", name, cut, checks.simulated(truth, cut, sizes)) for name, truth in truths.items()
            ]
        first = cuts[0]
        _, ground = mark_and_ground(config.serving)
        if ground is not None:
            figures_of_cuts.append(
                (ground, "", first, checks.rate_of_ground(ground, self.log, self.gap, config.device))
            )
        for name, truth in truths.items():
            figures_of_cuts.append(("", name, first, checks.rate_of_truth(truth)))
            truth_of_past = kept_truth(first.later.past, gap=self.gap, kind=name, rank=config.rank)
            for n_negatives, acceptance in checks.acceptance(truth_of_past, first).items():
                figures = {
                    f"acceptance_{field}_{n_negatives}": float(value)
                    for field, value in asdict(acceptance).items()
                }
                figures_of_cuts.append(("", name, first, figures))
        for model, truth_name, cut, values in figures_of_cuts:
            for metric, value in values.items():
                yield model, truth_name, cut.draw, metric, value

    def click_tables(self) -> dict[str, pd.DataFrame]:
        """Table of click rates; none without impressions."""
        config = self.config
        table = click_rates(
            self.log,
            serving=config.serving,
            gap=config.data.session_gap,
            device=config.device,
            show=self.show,
        )
        return {} if table is None else {"click_rates": table}

    def answer_tables(
        self, answers: HeldAnswers, quality: HiddenQuality | None, truths: Truths
    ) -> dict[str, pd.DataFrame]:
        """Tables that compare truths and models with known answers."""
        config = self.config
        models = {}
        for name in config.chosen:
            if name != evidence_of.RANDOM:
                self.show(f"known answers: {name}, fitted to the whole log")
                models[name] = evidence_of.fitted_model(name, 0, config.device, self.log, self.unfitted)
        observed_evidence = judge_observed(answers, truths, models, k=config.observed.k)
        table = observed_evidence.table()
        if quality is not None:
            rows = [("", "", f"hidden_{name}", *getattr(quality, name)) for name in ("rho", "sd")]
            numbers = ["value", "low", "high"]
            hidden_table = table_of(rows, ["truth", "model", "metric", *numbers], numbers)
            table = pd.concat([table, hidden_table], ignore_index=True)
        return {"observed": table, "observed_pairs": observed_evidence.pairs()}


def _worths(evidence: evidence_of.Evidence) -> list[tuple[str, str]]:
    """Truth and metric of each column; empty truth means reality."""
    return [("", name) for name in evidence.real] + [(truth, "utility") for truth in evidence.utility]


def _means(evidence: evidence_of.Evidence) -> Iterator[tuple[str, str, int, str, float]]:
    """Means over users, by model, truth (empty: reality), draw, metric."""
    for (number, seed), (truth, metric) in product(enumerate(evidence.draws), _worths(evidence)):
        values = evidence.utility[truth] if truth else evidence.real[metric]
        # The last name is the oracle, which ranks by the truth. Reality has no oracle, so its values have one row less
        # than there are names.
        for model, of_users in zip((*evidence.models, evidence_of.ORACLE), values[:, number], strict=False):
            finite = of_users[~np.isnan(of_users)]
            yield model, truth, seed, metric, float(finite.mean()) if len(finite) else np.nan


def _intervals(evidence: evidence_of.Evidence) -> pd.DataFrame:
    """Table of means with 95% intervals over users.

    A user's draws are averaged first, so that the n users are independent.
    """
    rows = []
    for truth, metric in _worths(evidence):
        by_user = evidence.by_user(truth, metric)
        for model, of_users in zip((*evidence.models, evidence_of.ORACLE), by_user, strict=False):
            interval = mean_interval(of_users)
            rows.append((model, truth, metric, interval.mean, interval.low, interval.high, interval.n))
    columns = ["model", "truth", "metric", "mean", "low", "high", "users"]
    return table_of(rows, columns, ("mean", "low", "high"))


def _pairs(evidence: evidence_of.Evidence) -> pd.DataFrame:
    """Table of pairs of models, the better one first.

    ``difference`` is the difference of real precision, with its paired 95% interval over users. ``simulated`` is the
    difference of utility.
    """
    rows = []
    for truth, pair in product(evidence.utility, pairs_of(evidence.by_user())):
        worth = evidence.by_user(truth).mean(1)
        names = evidence.models[pair.first], evidence.models[pair.second]
        simulated = float(worth[pair.first] - worth[pair.second])
        rows.append((truth, *names, pair.difference, pair.low, pair.high, pair.settled, simulated))
    columns = ["truth", "model", "other", "difference", "low", "high", "settled", "simulated"]
    return table_of(rows, columns, ("difference", "low", "high", "simulated"))


def _write_page(run: RunFolder) -> None:
    """Write the pictures and the page of the run folder."""
    report = validation_report(load_run(run.folder))
    draw(report.plots, run.folder / "pictures")
    write_text(run.folder / README, readme(run, report))
