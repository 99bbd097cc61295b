"""Scenarios and their parts as typed, frozen records.

Every field has its default, its range and its meaning here and nowhere else; ``docs/scenarios.md`` is made from them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.config.fields import STRICT, Duration, Options, Period, Time, duration_seconds
from rimsim.config.promises import CampaignConfig, GroupConfig
from rimsim.errors import ConfigError, refuse


@dataclass(frozen=True, config=STRICT)
class LogOptions:
    """Log, and the selection of its events, for :func:`rimsim.data.load`.

    The order is fixed: value, then time, then the two minima. Of the minima, items go first, then users. Both are
    repeated until nothing more falls out, so that both hold in the log.
    """

    source: str = "ml-latest-small"
    """A built-in name, a folder, a zip, a CSV or Parquet file."""
    min_item_events: int = Field(default=1, ge=0)
    """Items with fewer events are left out; 0 keeps those of the item table that nobody met."""
    min_user_events: int = Field(default=1, ge=0)
    """Users with fewer events are left out."""
    min_value: float | None = Field(default=None, allow_inf_nan=False)
    """Events with a lower value (stars) are left out; null keeps all."""
    start: Time = None
    """Events before this time are left out: an ISO date or time (in UTC unless it names a zone), or seconds since 1970;
    null keeps all.
    """
    stop: Time = None
    """Events at or after this time are left out; null keeps all."""
    columns: str | None = None
    """Which columns to read: 'user=uid,item=sku,time=at'; null finds the usual names."""
    separator: str | None = None
    """What stands between the fields of a text file; null finds comma, tab, semicolon, `|` and `::`."""
    encoding: str | None = None
    """What a text file is written in, such as latin-1; null: UTF-8, or what a byte-order mark says."""
    release: Literal["given", "first-event", "year"] = "given"
    """Release times: as the log gives them, an item's first event, or its year."""
    skip_bad_rows: bool = False
    """Leave bad rows out, counted, in place of an error."""


@dataclass(frozen=True, config=STRICT)
class DataConfig(LogOptions):
    """Log, the selection of its events, and its sessions."""

    min_item_events: int = Field(default=1, ge=1)
    """Items with fewer events are left out of the catalogue."""
    min_user_events: int = Field(default=1, ge=1)
    """Users with fewer events are left out."""
    session_gap: Duration = "30min"
    """A silence longer than this starts a new session."""


@dataclass(frozen=True, config=STRICT)
class ArrivalsConfig:
    """Arrival process: who arrives, and when."""

    kind: str = "clones"
    """replay: every session of the log at its own time. clones: copies of the log's users, drawn anew. broadcast: one
    clone of each user, all at the round's beginning and known to the agent before. hawkes: the log's users persist, and
    come back as often as they are satisfied; see two-sides.md. Your own: `file.py:Class`.
    """
    options: Options = ()
    """hawkes: `{kappa: 0, neutral: 0.5, memory: 0.8}`. Your own: its options by name, `{peak: 20}`."""
    per_round: int | None = Field(default=2000, ge=1)
    """clones: arrivals a round, N. replay: null shares the sessions out evenly. broadcast: a seeded sample of so many
    users; null: all of them. hawkes: how many come in the long run as long as satisfaction is neutral; null: as many as
    in the log.
    """
    history: Literal["logged", "none"] = "logged"
    """clones, hawkes: each begins with its logged past, or with none."""
    max_visits: int = Field(default=5, ge=1)
    """clones: after so many visits a new clone of the same comes instead."""
    draw: Literal["sessions", "users"] = "sessions"
    """clones: sessions of the log are drawn alike, and a visitor comes with what its user did before the session, or
    users are, and come with all that they did. broadcast: each user comes with what it had done before one of its later
    sessions, or with all; hawkes: likewise.
    """
    weight: Literal["uniform", "sessions"] = "uniform"
    """clones with `draw: users`: users are drawn alike, or in proportion to their sessions in the log."""
    round_length: Duration = "7d"
    """Length of a round on the clock; not in a replay."""
    warmup_share: float = Field(default=0.5, gt=0, lt=1)
    """replay: share of the calendar that is past when the market opens."""


@dataclass(frozen=True, config=STRICT)
class ReleasesConfig:
    """Items released during the run, unknown to the warm-up log."""

    share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the catalogue that is released on the way (seeded)."""
    first_round: int = Field(default=1, ge=0)
    """Round in which the first of them comes."""
    last_round: int = Field(default=4, ge=0)
    """Round in which the last of them comes; times are uniform between."""


@dataclass(frozen=True, config=STRICT)
class ExposureConfig:
    """Guarantees of exposure to items."""

    beta: float = Field(default=0.5, ge=0, le=1)
    """β: share of the uniform exposure N·k/M guaranteed to an item."""
    items: int | None = Field(default=None, ge=1)
    """So many items, drawn anew each round, are guaranteed exposure; null: all that are released."""
    each: int | None = Field(default=None, ge=1)
    """Exposures guaranteed to each of them in a round, in place of the share β; null: β decides."""
    per: Period = "round"
    """round: each round stands for itself. A duration such as `7d`: what a round leaves undelivered is due in the
    rounds that begin within the same 7 days of the market's clock, and what it delivers beyond is taken off; so for the
    groups too.
    """
    most: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Exposures that an item may have in a round, as a multiple of its uniform exposure N·k/M, rounded up to whole
    ones; null: any number.
    """
    groups: tuple[GroupConfig, ...] = ()
    """Groups of items, such as those of a genre, that share one floor; a list."""
    campaigns: tuple[CampaignConfig, ...] = ()
    """Items that are promised exposures in a time and among an audience; a list."""
    unit: Literal["examined", "shown"] = "examined"
    """What an exposure at position r counts. examined: γ^(r−1), the share of visitors who look there, so that an item
    which is guaranteed so many exposures has them at average positions. shown: 1 at every position. The same where
    consumption does not depend on positions.
    """
    hard: bool = False
    """true: what can be delivered is delivered, whatever it costs. false: what costs more than c an exposure is left
    undelivered.
    """
    forecast: float = Field(default=1.0, gt=0)
    """Arrivals that a round is promised for, and that agents are told of, over those that come."""
    pace: Literal["arrivals", "clock"] = "arrivals"
    """By what agents know how much of a round is gone: arrivals so far of those that are expected, or the clock."""
    cost: float = Field(default=2.0, gt=0)
    """Shortfall cost c of one exposure, as a multiple of the warm-up model's median k-th score at the opening: one
    currency for all arms and rounds of a seed.
    """
    examination: Literal["known", "random", "harvested"] = "known"
    """How the platform knows γ, by which it weighs positions. known: it is told. random, harvested: it estimates γ at
    each round's end from all its rounds: from arrivals that got uniform slates, with agents that show some, or from all
    slates, as items stood at different positions.
    """
    prior_decay: float = Field(default=1.0, gt=0, le=1)
    """random, harvested: γ until there is an estimate, in round 0 at least."""

    def __post_init__(self) -> None:
        if self.most is not None and self.each is None and self.most < self.beta:
            where = f"exposure.most is {self.most:g}, below exposure.beta, {self.beta:g}"
            refuse(ConfigError, where, "no item could be shown what it is guaranteed", "at least as much")
        names = [campaign.name for campaign in self.campaigns]
        for name in names:
            if names.count(name) > 1:
                refuse(ConfigError, "exposure.campaigns", f"{name!r} is there twice", "a name each")


@dataclass(frozen=True, config=STRICT)
class DynamicsConfig:
    """Preference dynamics on top of the truth; 0: off."""

    satiation: float = Field(default=0.0, ge=0)
    """σ: intensities are multiplied by exp(−σ·s), s the consumptions of the item's genres in the market before, each
    halved with every half-life since.
    """
    satiation_half_life: Duration = "7d"
    """Half-life of a consumption in satiation."""
    drift: float = Field(default=0.0, ge=0)
    """η: intensities are multiplied by exp(η·n/(n + 1)·d), d by how much the item's genres are those of the visitor's n
    consumptions in the market, beyond the catalogue's.
    """
    conformity: float = Field(default=0.0, ge=0)
    """κ: intensities are multiplied by (1 + events of the item in the platform's log)^κ, as of the last barrier, over
    its mean among the warm-up log's events.
    """


@dataclass(frozen=True, config=STRICT)
class HiddenConfig:
    """Hidden quality: item worth beyond the log."""

    rho: float = Field(default=1.0, ge=-1, le=1)
    """ρ: correlation of the items' log worth with their log popularity. 1: the log says it all, and the truth stays as
    it was fitted, whatever sd is. 0: the log says nothing of how good an item is on average.
    """
    sd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Standard deviation of the items' log worth; null: as of their log popularity."""
    of: Literal["all", "new", "tail"] = "all"
    """Items that it moves. new: those that the warm-up log has not met. tail: those outside the most popular ones with
    80 % of the events.
    """
    seed: Annotated[int, Field(ge=0)] | Literal["seed"] = 0
    """Draw of the hidden part; seed: the run's own, another one at each seed."""


@dataclass(frozen=True, config=STRICT)
class ConsumerConfig:
    """Consumers, who decide on consumption; agents never see them."""

    kind: str = "intensity"
    """intensity: Poisson response of a model fitted with hindsight. replay: hits in the logged future. observed:
    answers of a table. logit: one item of the slate, or none. cascade: position after position, until the visitor
    stops. Your own: `file.py:Class`.
    """
    options: Options = ()
    """observed: `{table: FILE, value: threshold, taken_at: 1.0}`. Your own: its options by name, `{after: 3}`. logit:
    `{outside: 1.0}`. cascade: `{stop: 0.5}`.
    """
    dynamics: DynamicsConfig = DynamicsConfig()
    """intensity, logit, cascade: what moves what is wanted."""
    hidden: HiddenConfig = HiddenConfig()
    """intensity, logit, cascade: what items are worth beyond the log."""
    position_decay: float = Field(default=0.85, gt=0, le=1)
    """γ: examination at position r is γ^(r−1)."""
    attraction: float = Field(default=1.0, gt=0)
    """a: multiplies the intensity of an examined item."""
    truth: str = "auto"
    """intensity: model of the truth, any that platform.model takes, or file.py:factory. factors: each user of the log
    has fixed factors, fitted with hindsight. Others, such as bag: preference follows from all that the visitor has
    consumed, in the market too. auto: factors or bag, whichever predicts held-out later sessions of the log better.
    """
    truth_seed: Annotated[int, Field(ge=0)] | Literal["seed"] | None = None
    """intensity: the truth is fitted to a bootstrap of the log's users, drawn with this seed; seed: with the run's own,
    so that each seed has another truth and intervals over seeds hold that too; null: to the whole log.
    """
    rank: int = Field(default=16, ge=1)
    """intensity: factors of the truth's preferences, where it has factors."""
    delay: Duration | None = None
    """A consumption becomes known after so long; null: at once."""
    horizon: Duration | None = None
    """replay: an item hits if consumed within this time of the arrival; null: in the session."""

    @property
    def table(self) -> str | None:
        """File of known answers; None for consumers without any."""
        table = dict(self.options).get("table") if self.kind == "observed" else None
        return None if table is None else str(table)


@dataclass(frozen=True, config=STRICT)
class ProvidersConfig:
    """Providers, who offer the items and may leave."""

    kind: str = "none"
    """none: all items are there whatever happens. viability: who is not satisfied with exposures and consumptions
    leaves at a barrier with all its items, and others come; see two-sides.md. Your own: `file.py:Class`.
    """
    options: Options = ()
    """viability: `{decay: 0.9, per_exposure: 0.1, threshold: 0, …}`. Your own: its options by name."""


@dataclass(frozen=True, config=STRICT)
class LogWindow:
    """Part of its log on which the platform retrains."""

    rounds: int | None = Field(default=3, ge=1)
    """The last so many rounds of its own log; null: all rounds."""
    warmup: Literal["all", "top-up", "none"] = "top-up"
    """Warm-up users beside them: all, a seeded sample up to `size` events, or none."""
    size: int = Field(default=3000, ge=1)
    """top-up: events that the log holds at least."""


@dataclass(frozen=True, config=STRICT)
class PlatformConfig:
    """Model of the recommender, and its updates."""

    model: str = "bag-visits"
    """Intensity model λ(x,y): a name, or `file.py:factory` or `module:Class`, called with seed and device."""
    retrain: bool = True
    """Retrain at the end of every round; false freezes the warm-up model."""
    retrain_ground: bool = False
    """Refit λ(x) too, rescaled to its old mean; false lets it move with its states alone."""
    log_window: LogWindow = LogWindow()
    """What it retrains on."""
    learning: Literal["consumed", "impressions", "ips"] = "impressions"
    """consumed: retraining sees consumptions alone. impressions: beside them, a layer over the retrained λ(x,y) is
    fitted to what was taken and not taken of everything shown so far. ips: each consumption weighs by its inverse
    propensity, where the agent has one.
    """
    ips_clip: float = Field(default=10.0, gt=1)
    """ips: no weight counts more than so many times the mean of all; they are then scaled to a mean of 1."""
    calibration: Literal["cross-fitted", "seen"] = "cross-fitted"
    """Prices are solved on last round's states, scored by a model that has not seen what they did next, or by the
    serving model, which has.
    """
    device: str = "auto"
    """Where scores are computed: auto, cpu, cuda, …"""

    def __post_init__(self) -> None:
        if self.learning == "ips" and self.retrain_ground:
            raise ConfigError(
                "platform.retrain_ground is true with platform.learning 'ips', but a ground intensity counts events "
                "without weights; allowed: retrain_ground false, or learning 'consumed' or 'impressions'"
            )


@dataclass(frozen=True, config=STRICT)
class Seeds:
    """Seeds by purpose; equal ones give equal random numbers."""

    arrivals: int = Field(default=0, ge=0)
    """Who arrives and when."""
    choice: int = Field(default=0, ge=0)
    """Latent choices of consumers."""
    model: int = Field(default=0, ge=0)
    """Initial weights, batches, folds."""
    agent: int = Field(default=0, ge=0)
    """The agent's own draws and ties."""

    @classmethod
    def all(cls, seed: int) -> Seeds:
        """Equal seeds for all; purposes keep the streams apart."""
        return cls(arrivals=seed, choice=seed, model=seed, agent=seed)


@dataclass(frozen=True, config=STRICT)
class ScenarioConfig:
    """Scenario: everything that defines a market except seeds and agents."""

    name: str = "scenario"
    """Name of the scenario, used in run folders."""
    description: str = ""
    """What it is for, one sentence."""
    rounds: int = Field(default=8, ge=1)
    """Rounds of N arrivals."""
    slate: int = Field(default=10, ge=1)
    """k: items shown to an arrival."""
    user_cap: int | None = Field(default=None, ge=1)
    """Exposures that a user can get in one round, over all visits in it. Each earlier visit of the round counts as a
    full slate of k, filled or not, and a visit gets what is left: with 15 and k = 10, the first 10 and the second 5.
    The next round begins anew. null: no cap.
    """
    data: DataConfig = DataConfig()
    """Which log."""
    arrivals: ArrivalsConfig = ArrivalsConfig()
    """Who arrives."""
    releases: ReleasesConfig = ReleasesConfig()
    """Items that come on the way."""
    exposure: ExposureConfig = ExposureConfig()
    """What is guaranteed."""
    consumer: ConsumerConfig = ConsumerConfig()
    """The truth."""
    platform: PlatformConfig = PlatformConfig()
    """The recommender's model."""
    providers: ProvidersConfig = ProvidersConfig()
    """Who offers the items."""

    def __post_init__(self) -> None:
        if self.releases.last_round < self.releases.first_round:
            raise ConfigError(
                f"releases.last_round is {self.releases.last_round}, before releases.first_round, "
                f"{self.releases.first_round}; allowed: the same round or a later one"
            )
        if self.arrivals.kind not in ("clones", "broadcast", "hawkes"):
            return
        days = self.rounds * duration_seconds(self.arrivals.round_length) / 86_400
        for campaign in self.exposure.campaigns:
            if campaign.start >= days:
                found = f"start is day {campaign.start:g}, but the last round ends on day {days:g}"
                refuse(ConfigError, f"campaign {campaign.name!r}", found, "an earlier day, or more rounds")


def at_seed(config: ScenarioConfig, seed: int) -> ScenarioConfig:
    """Scenario at a seed, on which its truth may depend."""
    consumer = config.consumer
    if consumer.truth_seed == "seed":
        consumer = replace(consumer, truth_seed=seed)
    if consumer.hidden.seed == "seed":
        consumer = replace(consumer, hidden=replace(consumer.hidden, seed=seed))
    return replace(config, consumer=consumer)
