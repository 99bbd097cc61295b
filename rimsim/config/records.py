"""Scenarios and their parts as typed, frozen records.

Only this module defines default, range and meaning of every field; ``docs/scenarios.md`` is generated from it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic.dataclasses import dataclass

from rimsim.config.fields import (
    ALWAYS_AGAIN,
    DEFAULT_MODEL,
    LARGEST,
    STRICT,
    Duration,
    Options,
    Period,
    Processes,
    RepeatGap,
    Time,
    duration_seconds,
)
from rimsim.errors import ConfigError, refuse
from rimsim.session import ModelName

_MOST_YEARS = 10_000
"""Largest length of a run in years. The clock counts microseconds in 64 bits, which are enough for 292,000 years."""


def _texts(value: object) -> tuple[str, ...]:
    """Texts of table values; the number 1995.0 becomes "1995"."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(entry, str | int | float) for entry in values):
        raise ValueError(f"found {value!r}. Give one value, or a list of values")
    return tuple(
        str(int(entry)) if isinstance(entry, float) and entry == int(entry) else str(entry)
        for entry in values
    )


def _filter(value: object) -> object:
    """Mapping as pairs, which a frozen record can hold."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004  # pydantic does not handle a TypeError
            f"found {value!r}. Give a mapping of columns to values, such as {{year: 1995}}"
        )
    return tuple((str(column), _texts(values)) for column, values in value.items())


def _item_choice(value: object) -> object:
    """Items of a campaign: ``new``, a filter, or ids."""
    if value == "new":
        return value
    if value and (isinstance(value, dict) or (isinstance(value, tuple) and isinstance(value[0], tuple))):
        return _filter(value)
    return _texts(value)


def _plain(value: object) -> object:
    """Filter as a mapping, ids as a list, for YAML."""
    if isinstance(value, tuple) and all(isinstance(entry, tuple) for entry in value):
        return {column: list(values) for column, values in value}
    return list(value) if isinstance(value, tuple) else value


Filter = Annotated[
    tuple[tuple[str, tuple[str, ...]], ...],
    BeforeValidator(_filter, json_schema_input_type=dict[str, Any]),
    PlainSerializer(_plain, return_type=dict[str, Any]),
]
"""Filter of a table: for each column, the values of the rows that are taken. A row must match all columns."""
ItemChoice = Annotated[
    Literal["new"] | tuple[str, ...] | tuple[tuple[str, tuple[str, ...]], ...],
    BeforeValidator(_item_choice, json_schema_input_type=Any),
    PlainSerializer(_plain, return_type=Any),
]
"""Items of the catalogue: ids, a filter of the item table, or ``new``."""


@dataclass(frozen=True, config=STRICT)
class LogOptions:
    """Log and selection of its events, for :func:`rimsim.data.load`.

    Events are selected by value, then by time, then by `repeats: drop`, then by the minimum number of events per item,
    and then per user. The steps for items and users repeat until both minimum numbers hold.
    """

    source: str = "ml-latest-small"
    """A built-in name, a folder, a zip, a CSV or Parquet file."""
    min_item_events: int = Field(default=1, ge=0)
    """Minimum number of events per item; 0 also keeps items of the item table without events."""
    min_user_events: int = Field(default=1, ge=0)
    """Minimum number of events per user."""
    min_value: float | None = Field(default=None)
    """Minimum value (stars) of an event; null keeps all events."""
    start: Time = None
    """First time to keep: an ISO date or time (in UTC unless the text has a time zone), or seconds since 1970; null
    keeps all."""
    stop: Time = None
    """First time to leave out, written as for `start`; null keeps all."""
    items: str | None = None
    """Table of items, a CSV or Parquet file. Each row has an item's id, and attributes such as title, seller or price.
    null: the log's own table."""
    columns: str | None = None
    """Columns to read: 'user=uid,item=sku,time=at'; null finds columns with usual names."""
    separator: str | None = None
    """Separator of fields in a text file; null detects comma, tab, semicolon, `|` and `::`."""
    encoding: str | None = None
    """Encoding of a text file, such as latin-1; null: the encoding that the byte-order mark states, or else UTF-8."""
    time_unit: Literal["auto", "s", "ms", "us", "ns", "min", "h", "d"] = "auto"
    """Unit of times that are numbers since 1970. auto detects s, ms, us and ns, but not minutes, hours or days."""
    release: Literal["given", "first-event", "year"] = "given"
    """Release times of items. given: those of the log. first-event: the item's first event. year: the item's year."""
    end: Literal["given", "last-event", "life"] = "given"
    """End times of items. given: those of the item table. last-event: one second after the item's last event. life:
    `life` after the release, for items with a release time. From its end on, an item is not on offer."""
    life: Duration | None = None
    """Time from an item's release to its end, such as `20h`; only with `end: life`."""
    skip_bad_rows: bool = False
    """Skip and count bad rows instead of ending with an error."""
    drop_returns: bool = False
    """Leave out rows with a negative quantity, and count them. The column of quantities has a usual name, such as
    quantity or Menge, or `columns` names it: 'quantity=COLUMN'."""
    repeats: Literal["auto", "drop", "history", "consume"] = "auto"
    """Treatment of repeated events, in which a user takes an item again. drop: leave them out. history: keep them as
    history, and never offer a user an item that it took. consume: users may take items again. auto: consume if at
    least 10% of the selected events are repeated, and history otherwise; a log that rimsim wrote says it itself."""

    def __post_init__(self) -> None:
        if (self.end == "life") != (self.life is not None):
            problem = f"data.end is {self.end!r}, but data.life is {self.life or 'not set'}"
            remedy = "Set life to a duration such as 20h" if self.life is None else "Set data.end to 'life'"
            raise ConfigError(f"{problem}. {remedy}")


@dataclass(frozen=True, config=STRICT)
class DataConfig(LogOptions):
    """Log, the selection of its events, and its sessions."""

    min_item_events: int = Field(default=1, ge=1)
    """Minimum number of events per item of the catalogue."""
    min_user_events: int = Field(default=1, ge=1)
    """Minimum number of events per user."""
    session_gap: Duration = "30min"
    """Gap between events that starts a new session."""


@dataclass(frozen=True, config=STRICT)
class ArrivalsConfig:
    """Arrival process: who arrives, and when."""

    kind: str = "clones"
    """clones: copies of the log's users, new in every round. replay: every session of the log at its own time.
    broadcast: one clone of each user, all at the start of the round and known to the agent beforehand. hawkes: the
    log's users stay, and return more often when satisfied (two-sides.md). Your own: `file.py:Class`.
    """
    options: Options = ()
    """hawkes: `{kappa: 0, neutral: 0.5, memory: 0.8}`. Your own: its options by name, `{peak: 20}`."""
    per_round: int | None = Field(default=2000, ge=1, le=10**9)
    """N, the number of arrivals per round. replay: null distributes the sessions evenly. broadcast: number of users in
    a seeded sample; null: all users. hawkes: long-run mean at neutral satisfaction; null: the rate of the log."""
    history: Literal["logged", "none"] = "logged"
    """clones, hawkes. logged: a visitor arrives with the history from the log. none: a visitor arrives without
    history."""
    max_visits: int = Field(default=5, ge=1)
    """clones: maximum number of visits of a clone. The next visit is that of a new clone of the same user."""
    draw: Literal["sessions", "users"] = "sessions"
    """sessions: a visitor stands for a logged session, drawn uniformly, and arrives with the history before it.
    users: a visitor stands for a user, and arrives with its whole history.
    """
    weight: Literal["uniform", "sessions"] = "uniform"
    """clones with `draw: users`: draw users uniformly, or in proportion to their number of sessions."""
    round_length: Duration = "7d"
    """Length of a round on the clock; unused in a replay."""
    warmup_share: float = Field(default=0.5, gt=0, lt=1)
    """replay: share of the log's time that passes before the market opens."""


@dataclass(frozen=True, config=STRICT)
class ReleasesConfig:
    """Items released during the run, unknown to the warm-up log."""

    share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the catalogue that is released during the run. The seed draws these items."""
    first_round: int = Field(default=1, ge=0)
    """Round of the first release."""
    last_round: int = Field(default=4, ge=0)
    """Round of the last release. The other release times are uniform between the first and the last."""


@dataclass(frozen=True, config=STRICT)
class AudienceConfig:
    """Visits that count for a campaign; all conditions must hold."""

    visits: Literal["all", "first", "returning"] = "all"
    """first: visits of visitors without a known history. returning: all other visits."""
    users: Filter = ()
    """Column of the user table → the values that belong to the audience, such as `{gender: F, age: [18, 25]}`: women of
    age 18 or 25. A list is not a range. All columns must match. A clone has the values of its user."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the log's users that belong to the audience; the seed of arrivals draws these users."""


@dataclass(frozen=True, config=STRICT)
class CampaignConfig:
    """Campaign: exposures, or a share, of some items together.

    Only exposures to the audience in the campaign's period count. In each round of the campaign, this round's part and
    the shortfall of earlier rounds are due.
    """

    name: str = Field(min_length=1)
    """Name of the campaign, in tables and errors."""
    items: ItemChoice = Field()
    """Items of the campaign: ids, values of columns of the item table such as `{genres: Horror}`, or `new` for all
    items released after the opening."""
    exposures: int | None = Field(default=None, ge=1)
    """Guaranteed exposures in total, spread evenly over the campaign's period."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the audience's positions in the campaign's period; an alternative to `exposures`."""
    start: float = Field(default=0.0, ge=0)
    """Start of the campaign, in days since the opening."""
    stop: float | None = Field(default=None, gt=0)
    """End of the campaign, in days since the opening; null: the end of the run (only with a share, or with `first`)."""
    first: Duration | None = None
    """Time after the release of an item, such as `7d`. Each item that is released from `start` to `stop` then has a
    campaign of its own, in this time. null: one campaign for all items."""
    audience: AudienceConfig = AudienceConfig()
    """Visitors whose exposures count for the campaign."""

    def __post_init__(self) -> None:
        if (self.exposures is None) == (self.share is None):
            problem = "neither exposures nor share" if self.share is None else "both exposures and share"
            raise ConfigError(
                f"campaign {self.name!r}: {problem} is set. Set exactly one of these two fields"
            )
        if self.exposures is not None and self.stop is None and self.first is None:
            raise ConfigError(
                f"campaign {self.name!r}: it has exposures ({self.exposures}) but no stop. Set stop to "
                "the day by which the exposures must be delivered"
            )
        if self.stop is not None and self.stop <= self.start:
            raise ConfigError(
                f"campaign {self.name!r}: stop {self.stop:g} is not after start {self.start:g}. Give a "
                "later day"
            )


ShareOf = Literal["items", "groups"]
"""Share of a group: by its number of items, or the same for each group."""


@dataclass(frozen=True, config=STRICT)
class GroupConfig:
    """Minimum or maximum of the exposure of each group."""

    column: str = Field(min_length=1)
    """Column of the item table, such as `genres`. An item with several genres counts in each of these groups."""
    beta: float = Field(default=0.0, ge=0, le=LARGEST)
    """β of the group: guaranteed part of the group's share (`of`). At most 1; only with `of: groups` and some `values`,
    a group may be guaranteed several equal shares. 0: only `most` holds."""
    values: tuple[str, ...] | None = None
    """Values that form groups; null: all values of the column."""
    of: ShareOf = "items"
    """Share of a group of which β is a part. items: by its number of items, the sum of their uniform exposures. groups:
    the same for each of the G groups of the column, N·k/G, whatever their numbers of items."""
    most: float | None = Field(default=None, gt=0, le=LARGEST)
    """Maximum exposures of a group per round, as a multiple of its share (`of`), rounded up; null: no maximum."""

    def __post_init__(self) -> None:
        if self.most is None and self.beta == 0:
            problem = "neither beta nor most is set"
            refuse(ConfigError, f"exposure.groups of {self.column!r}", problem, "a beta or most above 0")
        if self.most is not None and self.most < self.beta:
            problem = f"{self.most:g} is below beta, {self.beta:g}, so that no group could get its guarantee"
            refuse(
                ConfigError, f"exposure.groups: most of {self.column!r}", problem, "most to be at least beta"
            )
        if self.beta > 1 and (self.of == "items" or self.values is None):
            refuse(
                ConfigError,
                f"exposure.groups: beta of {self.column!r}",
                f"{self.beta:g} is above 1, so that all groups together would get more than all positions",
                "a beta of at most 1",
            )


@dataclass(frozen=True, config=STRICT)
class ExposureConfig:
    """Guarantees of exposure to items."""

    beta: float = Field(default=0.5, ge=0, le=1)
    """β: share of the uniform exposure N·k/M guaranteed to an item."""
    items: int | None = Field(default=None, ge=1)
    """Number of items with a guarantee, drawn again each round; null: all released items."""
    each: int | None = Field(default=None, ge=1, le=10**9)
    """Exposures guaranteed to each item per round, instead of the share β; null: β decides."""
    per: Period = "round"
    """Period of a guarantee. round: each round by itself. A duration such as `7d`: all rounds that begin within the
    same 7 days. Within a period, a shortfall is carried over and a surplus is deducted, also for groups."""
    most: float | None = Field(default=None, gt=0, le=LARGEST)
    """Maximum exposures of an item per round, as a multiple of its uniform exposure N·k/M, rounded up; null: no
    maximum.
    """
    groups: tuple[GroupConfig, ...] = ()
    """List of groups of items, such as the items of a seller or a genre, with a common minimum or maximum."""
    campaigns: tuple[CampaignConfig, ...] = ()
    """List of campaigns. A campaign guarantees some items exposures, within a period, to an audience."""
    unit: Literal["examined", "shown"] = "examined"
    """Unit of exposures. examined: an exposure at position r counts γ^(r−1), the share of visitors who look there, so a
    guarantee means exposures at average positions. shown: every exposure counts 1."""
    hard: bool = False
    """true: deliver guarantees at any cost. false: leave an exposure undelivered if it would cost more than c."""
    forecast: float = Field(default=1.0, gt=0, le=LARGEST)
    """Ratio of the forecast number of arrivals to the actual number; guarantees and agents use the forecast."""
    pace: Literal["arrivals", "clock"] = "arrivals"
    """Measure of a round's progress that agents use. arrivals: share of the expected arrivals that have come. clock:
    share of the round's time that has elapsed."""
    cost: float = Field(default=2.0, gt=0, le=LARGEST)
    """Cost c of a missing exposure, as a multiple of the median k-th score of the warm-up model at the opening. It
    is the same for all arms and rounds of a seed.
    """
    examination: Literal["known", "random", "harvested"] = "known"
    """Source of the γ that the platform uses. known: the true γ. random: an estimate from uniform slates. harvested: an
    estimate from items that stood at different positions. Estimates are made at the end of each round."""
    prior_decay: float = Field(default=1.0, gt=0, le=1)
    """random, harvested: γ that the platform uses before the first estimate."""

    def __post_init__(self) -> None:
        if self.most is not None and self.each is None and self.most < self.beta:
            problem = f"exposure.most is {self.most:g}, below exposure.beta, {self.beta:g}"
            refuse(ConfigError, problem, "no item could get its guarantee", "most to be at least beta")
        names = [campaign.name for campaign in self.campaigns]
        for name in names:
            if names.count(name) > 1:
                refuse(
                    ConfigError,
                    "exposure.campaigns",
                    f"{name!r} occurs twice",
                    "a different name for each campaign",
                )


@dataclass(frozen=True, config=STRICT)
class DynamicsConfig:
    """Preference dynamics, which change the truth; 0: off."""

    satiation: float = Field(default=0.0, ge=0, le=50)
    """σ: multiplies intensities by exp(−σ·s), where s counts the visitor's earlier consumptions of the item's
    genres, halved per half-life.
    """
    satiation_half_life: Duration = "7d"
    """Time in which the weight of a consumption in s halves."""
    drift: float = Field(default=0.0, ge=0, le=50)
    """η: multiplies intensities by exp(η·n/(n + 1)·d). n counts the visitor's consumptions in the market. d is the
    share of the item's genres in these consumptions minus their share in the catalogue."""
    conformity: float = Field(default=0.0, ge=0, le=50)
    """κ: multiplies intensities by (1 + the item's events in the platform's log at the last barrier)^κ, relative to the
    mean of this factor over the warm-up log's events."""


@dataclass(frozen=True, config=STRICT)
class HiddenConfig:
    """Hidden quality: worth of items that logs cannot show."""

    rho: float = Field(default=1.0, ge=-1, le=1)
    """ρ: correlation between the items' log worth and their log popularity. 1: the truth stays as fitted, and sd has no
    effect. 0: popularity says nothing about worth."""
    sd: float | None = Field(default=None, gt=0, le=50)
    """Standard deviation of the items' log worth; null: the standard deviation of their log popularity."""
    of: Literal["all", "new", "tail"] = "all"
    """Items whose worth changes. new: items without events in the warm-up log. tail: all items except the most popular
    ones, which have 80% of the events."""
    seed: Annotated[int, Field(ge=0)] | Literal["seed"] = 0
    """Seed of the hidden worth; `seed`: another draw at each seed of the run."""


@dataclass(frozen=True, config=STRICT)
class ConsumerConfig:
    """Consumers, who decide on consumption; agents never see consumers."""

    kind: str = "intensity"
    """intensity: response of a model fitted with hindsight: Poisson, or one item at most if the log's sessions have
    one event. replay: hits in the logged future. observed:
    answers of a table. logit: one item of the slate, or none. cascade: position after position, until the visitor
    stops. Your own: `file.py:Class`.
    """
    options: Options = ()
    """Options of the consumer by name. observed: `{table: FILE, value: threshold, taken_at: 1.0}`, the file of answers,
    and the smallest answer that counts as taken; with `value: probability`, answers are probabilities. logit:
    `{outside: 1.0}`, the weight of taking nothing. cascade: `{stop: 0.5}`, the chance to stop after a consumption. Your
    own: its options, such as `{after: 3}`."""
    dynamics: DynamicsConfig = DynamicsConfig()
    """intensity, logit, cascade: changes of preference during the run."""
    hidden: HiddenConfig = HiddenConfig()
    """Hidden quality of items: a worth that the log does not show. The kinds intensity, logit and cascade use it."""
    position_decay: float = Field(default=0.85, gt=0, le=1)
    """γ: the chance that a visitor looks at position r is γ^(r−1)."""
    attraction: float = Field(default=1.0, gt=0, le=LARGEST)
    """a: factor of an item's intensity when the visitor looks at it."""
    own_choice: float = Field(default=0.0, ge=0, le=1)
    """intensity, logit, cascade: share of λ*(x) with which a visitor chooses freely from the whole catalogue, whatever
    the slate shows. The slate gets the remaining share. 0: all consumptions come from slates. 1: slates have no
    effect."""
    truth: str = "auto"
    """Model of the truth, written as for platform.model. factors: fixed preferences per user. Others, such as bag:
    preferences follow from the visitor's history, consumptions in the market included. auto: factors or bag, whichever
    predicts held-out later sessions better. A name that ends in +habits, such as bag+habits: the same truth with the
    log's trend, and with repeated consumption where items can be taken again."""
    truth_seed: Annotated[int, Field(ge=0)] | Literal["seed"] | None = None
    """Seed of a bootstrap sample of the log's users, to which the truth and the platform's first model are fitted.
    `seed`: another sample at each seed of the run, so that intervals include the error of the fit. null: the whole
    log."""
    rank: int = Field(default=16, ge=1, le=10**4)
    """Number of factors of a truth that has factors."""
    repeats: RepeatGap = ALWAYS_AGAIN
    """Time from a visitor's last consumption of an item until the item is admissible for this visitor again, such as
    7d. always: it stays admissible. The field has an effect where users may take items again (`data.repeats`)."""
    delay: Duration | None = None
    """Time until the platform knows of a consumption; null: the platform knows it at once."""
    horizon: Duration | None = None
    """replay: time within which a logged consumption counts as a hit; null: the session."""

    @property
    def slate_attraction(self) -> float:
        """Factor a·(1 − own_choice) of an item's intensity at a position."""
        return self.attraction * (1.0 - self.own_choice)

    @property
    def table(self) -> str | None:
        """File of known answers; None for consumers without a file."""
        table = dict(self.options).get("table") if self.kind == "observed" else None
        return None if table is None else str(table)


@dataclass(frozen=True, config=STRICT)
class ProvidersConfig:
    """Providers, who offer the items and may leave."""

    kind: str = "none"
    """none: all items stay. viability: unsatisfied providers leave with all their items, and others enter (two-
    sides.md). Your own: `file.py:Class`.
    """
    options: Options = ()
    """viability: `{decay: 0.9, per_exposure: 0.1, threshold: 0, …}`. Your own: its options by name."""
    fee: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Fee in consumptions that each provider who stays pays per round. The measure `objective` adds the fees to the
    consumptions."""


@dataclass(frozen=True, config=STRICT)
class LogWindow:
    """Part of the platform's log that retraining uses."""

    rounds: int | None = Field(default=3, ge=1)
    """Number of the latest rounds whose events are in the training log; null: all rounds."""
    warmup: Literal["all", "top-up", "none"] = "top-up"
    """Users of the warm-up log whose events are added: all, top-up (a seeded sample, up to `size` events in the log),
    or none."""
    size: int = Field(default=3000, ge=1)
    """top-up: minimum number of events in the log."""


def _estimated_or(minimum: float, maximum: float) -> BeforeValidator:
    """Check of a number in a range, or ``estimated``."""

    def checked(value: object) -> object:
        if value == "estimated":
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not minimum <= value <= maximum:  # type: ignore[operator]  # a number
            raise ValueError(f"found {value!r}. Give a number from {minimum:g} to {maximum:g}, or estimated")
        return value

    return BeforeValidator(checked)


Slope = Annotated[float | Literal["estimated"], _estimated_or(-5, 5)]
"""Slope of prior effects on log popularity, or that it is estimated."""
EffectSD = Annotated[float | Literal["estimated"], _estimated_or(0.01, 3)]
"""Standard deviation of prior effects, or that it is estimated."""


@dataclass(frozen=True, config=STRICT)
class LearningConfig:
    """Training outcomes of the platform, and its belief about items."""

    data: Literal["consumed", "impressions", "ips"] = "impressions"
    """consumed: learn from consumptions only. impressions: also fit a layer over λ(x,y) to all shown items, taken
    or not. ips: weight each consumption by its inverse propensity, if the agent has one. `learning: consumed` is short
    for `learning: {data: consumed}`.
    """
    slope: Slope = "estimated"
    """impressions: slope of an item's prior effect on its log popularity in the warm-up log: a number, or estimated. At
    0 the prior believes the model, at −1 that popularity says nothing about worth. Items without events in the warm-up
    log have a prior mean of their own.
    """
    sd: EffectSD = "estimated"
    """impressions: standard deviation of an item's factor exp(δ), relative to the prior mean: a number, or estimated,
    separately for items with and without events in the warm-up log.
    """
    answer: Literal["mean", "quantile", "sample"] = "mean"
    """impressions: value of the posterior of exp(δ) that scores an item: its mean, an upper quantile (UCB), or a sample
    that is drawn for each item and round (Thompson).
    """
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """quantile: probability of the quantile."""
    logged: Literal["auto", "always", "never"] = "auto"
    """impressions: use of the log's own impressions before round 0. always: the platform opens with a layer that is
    learnt from them. never: it opens as if the log had none. auto: always, unless the consumer acts by the log's
    sessions, and slates that this layer ranks hold significantly fewer items of held-out sessions than slates without
    it."""

    def __post_init__(self) -> None:
        if self.data != "impressions":
            for name in ("slope", "sd", "answer", "quantile", "logged"):
                value = getattr(self, name)
                if value != self.__dataclass_fields__[name].default:
                    raise ConfigError(
                        f"platform.learning.{name} is {value!r}, but platform.learning.data is {self.data!r}, "
                        f"which learns no effects of items. Set data to 'impressions', or leave {name} out"
                    )


def _learning(value: object) -> object:
    """Settings of learning; a text stands for its ``data``."""
    return {"data": value} if isinstance(value, str) else value


Learning = Annotated[LearningConfig, BeforeValidator(_learning, json_schema_input_type=LearningConfig | str)]
"""Settings of learning, or the data alone."""


@dataclass(frozen=True, config=STRICT)
class PlatformConfig:
    """Platform: its model, and its retraining."""

    model: ModelName = DEFAULT_MODEL
    """Intensity model λ(x,y): a name, or `file.py:factory` or `module:Class`, called with seed and device. default:
    `bag-habits-visits` if users of the log may take items again (`data.repeats`), and `bag-visits` otherwise."""
    retrain: bool = True
    """Retrain at the end of every round; false freezes the warm-up model."""
    retrain_ground: bool = False
    """Refit λ(x), rescaled to its old mean; false keeps its parameters."""
    log_window: LogWindow = LogWindow()
    """Events of the platform's log that retraining uses."""
    learning: Learning = LearningConfig()
    """Learning; a text is short for its `data`."""
    calibrate_opening: bool = True
    """impressions: multiply λ(x,y) of the warm-up model by a factor that depends on the length of the visitor's
    history and is fitted to held-out sessions of the warm-up log. At its first retraining, the platform replaces this
    factor by the layer that it learns.
    """
    ips_clip: float = Field(default=10.0, gt=1, le=LARGEST)
    """ips: maximum weight, as a multiple of the mean weight."""
    calibration: Literal["cross-fitted", "seen"] = "cross-fitted"
    """Model that scores the states of the last round for prices: one that has not seen their outcomes (cross-
    fitted), or the serving model (seen).
    """
    device: str = "auto"
    """Device for scores: auto, cpu, cuda, …"""

    def __post_init__(self) -> None:
        if self.learning.data == "ips" and self.retrain_ground:
            raise ConfigError(
                "platform.retrain_ground is true, but platform.learning.data is 'ips', which gives weights to "
                "events, and a ground intensity cannot use weights. Set retrain_ground to false, or learning.data "
                "to 'consumed' or 'impressions'"
            )


@dataclass(frozen=True, config=STRICT)
class Seeds:
    """Seeds by purpose; equal seeds give equal random numbers."""

    arrivals: int = Field(default=0, ge=0)
    """Seed of arrivals."""
    choice: int = Field(default=0, ge=0)
    """Seed of the consumers' latent choices."""
    model: int = Field(default=0, ge=0)
    """Seed of models: initial weights, batches, folds."""
    agent: int = Field(default=0, ge=0)
    """Seed of the agent's own draws and ties."""

    @classmethod
    def all(cls, seed: int) -> Seeds:
        """Same seed for all purposes, which have separate random streams."""
        return cls(arrivals=seed, choice=seed, model=seed, agent=seed)


@dataclass(frozen=True, config=STRICT)
class ScenarioConfig:
    """Scenario: everything that defines a market except seeds and agents."""

    name: str = "scenario"
    """Name of the scenario, used in run folders."""
    description: str = ""
    """Purpose of the scenario, in one sentence."""
    rounds: int = Field(default=8, ge=1)
    """Number of rounds."""
    slate: int = Field(default=10, ge=1, le=10**6)
    """k: number of items per slate."""
    user_cap: int | None = Field(default=None, ge=1)
    """Maximum exposures of a user per round, over all visits. Each earlier visit counts as a full slate: with 15 and k
    = 10, the first visit gets 10 positions and the second 5. null: no maximum."""
    data: DataConfig = DataConfig()
    """Settings of the log."""
    arrivals: ArrivalsConfig = ArrivalsConfig()
    """Settings of arrivals."""
    releases: ReleasesConfig = ReleasesConfig()
    """Settings of items that are released during the run."""
    exposure: ExposureConfig = ExposureConfig()
    """Settings of guarantees."""
    consumer: ConsumerConfig = ConsumerConfig()
    """Settings of the consumer and its truth."""
    platform: PlatformConfig = PlatformConfig()
    """Settings of the platform and its model."""
    providers: ProvidersConfig = ProvidersConfig()
    """Settings of providers."""
    processes: Processes = ()
    """Processes that change the market at their own times, as a list such as `[demand(factor=2), mine.py:FlashSale]`.
    `rimsim processes` lists the built-in ones. Your own: `file.py:Class`, with its options in brackets."""

    def __post_init__(self) -> None:
        if self.releases.last_round < self.releases.first_round:
            raise ConfigError(
                f"releases.last_round is {self.releases.last_round}, but releases.first_round is "
                f"{self.releases.first_round}. Give the same round or a later one"
            )
        years = self.rounds * duration_seconds(self.arrivals.round_length) / (365.25 * 86_400)
        if years > _MOST_YEARS:
            raise ConfigError(
                f"arrivals.round_length is {self.arrivals.round_length}, so {self.rounds:,} rounds last {years:,.0f} "
                f"years. A run lasts at most {_MOST_YEARS:,} years. Shorten the rounds"
            )
        if self.arrivals.kind not in ("clones", "broadcast", "hawkes"):
            return
        days = self.rounds * duration_seconds(self.arrivals.round_length) / 86_400
        for campaign in self.exposure.campaigns:
            if campaign.start >= days:
                problem = f"start is day {campaign.start:g}, but the last round ends on day {days:g}"
                refuse(ConfigError, f"campaign {campaign.name!r}", problem, "an earlier day, or more rounds")

    @property
    def plugs(self) -> tuple[str, ...]:
        """Names of arrivals, consumer, truth, model, providers and processes.

        Each is a built-in name, or a place of code such as ``mine.py:Bursts``. Options of processes are in brackets.
        """
        consumer = self.consumer
        return (
            self.arrivals.kind,
            consumer.kind,
            consumer.truth,
            self.platform.model,
            self.providers.kind,
            *self.processes,
        )


def at_seed(config: ScenarioConfig, seed: int) -> ScenarioConfig:
    """Scenario at a seed; its truth may depend on seeds."""
    consumer = config.consumer
    if consumer.truth_seed == "seed":
        consumer = replace(consumer, truth_seed=seed)
    if consumer.hidden.seed == "seed":
        consumer = replace(consumer, hidden=replace(consumer.hidden, seed=seed))
    return replace(config, consumer=consumer)
