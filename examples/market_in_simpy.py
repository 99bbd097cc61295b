"""
7. The market in plain SimPy
============================

This example is a small market written with SimPy alone, one process per kind of happening. It scores one visitor at a
time, and it draws the same random numbers as the engine of rimsim. So its ledger equals the engine's, row by row.
It covers clones and a replay, delays, releases and ends of items, campaigns, and retraining on consumptions. It does
not cover agents with prices, providers who leave, and choice without a slate.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import simpy

from rimsim import rng
from rimsim.agents import top_k
from rimsim.arrays import ALWAYS, NEVER, seconds, ticks
from rimsim.config import ArrivalsConfig, PlatformConfig, ScenarioConfig
from rimsim.intensity.product import updated
from rimsim.intensity.states import UserStates
from rimsim.market import Market
from rimsim.market.arrivals import RoundsSoFar
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound
from rimsim.market.records import delay_ticks
from rimsim.market.training_log import training_log

COLUMNS = ["round", "arrival", "time", "user", "position", "item", "intensity", "consumed"]
ORDER = ("offer", "retrain", "feedback", "arrival")  # order of happenings at the same instant


class At(simpy.Event):
    """Event at an absolute tick; of two events at one tick, the smaller rank goes first."""

    def __init__(self, env, tick, rank):
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, 2 + rank, tick - env.now)  # SimPy reserves the ranks 0 and 1


class SlowMarket:
    """Market that shows each visitor the most relevant items, and serves one visitor at a time."""

    def __init__(self, config, world, model, arrivals, seeds, order=ORDER):
        self.config = config
        self.world = world
        self.model = model
        self.arrivals = arrivals
        self.seeds = seeds
        self.order = order
        self.past = LoggedPast.of(world.past, empty=config.arrivals.history == "none", rule=world.rule)
        self.wait = 1 + delay_ticks(config.consumer.delay)
        self.on_offer = world.release == ALWAYS
        self.known = {}  # user → consumptions that the platform knows, as pairs of tick and item
        self.taken = {}  # user → consumptions, as pairs of tick and item, known or not
        self.running = {}  # campaign → ids of its items
        self.delivered = Counter()  # pair of round and campaign → exposures
        self.rounds = []
        self.ledger = []
        self.env = simpy.Environment(initial_time=int(ticks(world.opening)))
        lives = [*map(self.offer, range(world.log.n_items)), *map(self.campaign, config.exposure.campaigns)]
        for life in [*lives, self.all_rounds()]:
            self.env.process(life)

    def at(self, tick, kind):
        """Event at a tick, ranked by the kind of happening."""
        return At(self.env, max(tick, self.env.now), self.order.index(kind))

    def offer(self, item):
        """An item is released, and ends."""
        for tick, is_there in ((self.world.release[item], True), (self.world.end[item], False)):
            if tick not in {ALWAYS, NEVER}:
                yield self.at(int(tick), "offer")
                self.on_offer[item] = is_there

    def campaign(self, campaign):
        """A campaign opens and closes; in between, exposures of its items count."""
        opening = self.world.opening
        yield self.at(int(ticks(opening + 86_400 * campaign.start)), "offer")
        self.running[campaign.name] = campaign.items
        yield self.at(int(ticks(opening + 86_400 * campaign.stop)), "offer")
        del self.running[campaign.name]

    def all_rounds(self):
        """Rounds open and end; the platform retrains between two rounds."""
        for number in range(self.config.rounds):
            so_far = RoundsSoFar(self.world, self.seeds.arrivals, tuple(self.rounds))
            schedule = self.arrivals.round(number, so_far)
            self.env.process(self.visitors(number, schedule))
            yield self.at(schedule.stop, "retrain")
            if self.config.platform.retrain and number + 1 < self.config.rounds:
                self.retrain(number, schedule)

    def retrain(self, number, schedule):
        """The platform updates its model with all consumptions that it knows."""
        schedules = [*(past.schedule for past in self.rounds), schedule]
        all_histories = [Histories(schedule, self.past) for schedule in schedules]
        if self.arrivals.keeps_users:  # all rounds have the same visitors
            all_histories = all_histories[:1] * len(schedules)
        self.rounds = list(map(PastRound, range(number + 1), schedules, all_histories))
        for histories in set(all_histories):
            for slot, user in enumerate(histories.user.tolist()):
                for tick, item in self.known.get(user, []):
                    histories.append(np.array([slot]), np.array([tick]), np.array([item]))
        now = self.env.now + 1  # so the log has all that is known now, and the order of events alone decides
        log = training_log(self.config.platform, self.world.past, self.rounds, now, self.seeds.model)
        self.model = updated(self.model, log, ground=self.config.platform.retrain_ground)

    def visitors(self, number, schedule):
        """Visitors arrive, one at a time."""
        for row, tick in enumerate(schedule.tick.tolist()):
            yield self.at(tick, "arrival")
            self.serve(number, schedule, row)

    def serve(self, number, schedule, row):
        """A visitor gets a slate and responds."""
        slot = int(schedule.slot[row])
        user = int(schedule.user[slot])
        relevance, ground, admissible = self.scores(schedule, slot, user)
        slate = top_k(relevance[None], admissible[None], self.config.slate)[0]
        slate = slate[slate >= 0]
        is_replay = self.config.consumer.kind == "replay"
        is_taken = (self.replayed if is_replay else self.chosen)(schedule, row, user, slate)
        for name, ids in self.running.items():
            self.delivered[number, name] += len(set(ids) & set(self.world.log.items.id[slate].astype(str)))
        visit = (number, int(schedule.id[row]), float(seconds(self.env.now)), user)
        for position, item in enumerate(slate.tolist()):
            self.ledger.append((*visit, position + 1, item, relevance[item] * ground, is_taken[position]))

    def state(self, schedule, slot, events):
        """State of a visitor: the past in the log, then events of the market."""
        begin = int(self.past.offsets[schedule.log_user[slot]])
        logged = slice(begin, begin + int(self.past.length(schedule.log_user, schedule.logged)[slot]))
        times = [*(self.past.times[logged] + schedule.shift[slot]), *(seconds(tick) for tick, _ in events)]
        items = np.array([*self.past.items[logged], *(item for _, item in events)], np.int64)
        now = seconds(np.array([self.env.now]))
        return UserStates(np.array([0, len(items)]), items, np.array(times), now)

    def scores(self, schedule, slot, user):
        """p(y|x), λ(x) and the admissible items, as the platform knows the visitor."""
        state = self.state(schedule, slot, self.known.get(user, []))
        intensity = self.model.score(state)[0]
        admissible = self.on_offer.copy()
        admissible[state.items] = False
        relevance = np.where(admissible, intensity.numpy(), np.float32(0))
        return relevance / max(relevance.sum(), np.finfo(np.float32).tiny), float(intensity.sum()), admissible

    def chosen(self, schedule, row, user, slate):
        """Response by the truth: item y is taken with probability 1 − exp(−λ*·p*(y)·γ^(r−1)·a)."""
        slot = int(schedule.slot[row])
        taken = self.taken.setdefault(user, [])
        state = self.state(schedule, slot, [(tick + self.wait, item) for tick, item in taken])
        log_user = schedule.log_user[[slot]]
        preference = self.world.truth.preference(log_user, state)[0]
        preference[state.items] = 0
        preference[~self.on_offer & (self.world.end < NEVER).any()] = 0
        preference /= max(preference.sum(), np.finfo(np.float32).tiny)
        # The size of a session follows from consumptions before this instant.
        before = self.state(schedule, slot, [(tick + 1, item) for tick, item in taken if tick < self.env.now])
        size = float(self.world.truth.sizes.expected(log_user, before)[0])
        examination = self.config.consumer.position_decay ** np.arange(len(slate))
        draw = rng.uniform(self.seeds.choice, rng.Purpose.CHOICE, schedule.id[row], slate)
        is_taken = draw < -np.expm1(
            -size * preference[slate] * examination * self.config.consumer.slate_attraction
        )
        for item in slate[is_taken].tolist():
            taken.append((self.env.now, item))
            self.env.process(self.becomes_known(user, self.env.now + self.wait, item))
        return is_taken

    def replayed(self, schedule, row, user, slate):
        """Response of a replay: shown items that the session of the log has are hits."""
        sessions = self.world.sessions
        items = self.world.log.item[sessions.of_event == schedule.session[row]]
        end = int(ticks(sessions.stop[schedule.session[row]]))
        for item in items.tolist():
            self.env.process(self.becomes_known(user, end + self.wait, item))
        return np.isin(slate, items)

    def becomes_known(self, user, tick, item):
        """The platform is told of a consumption after its delay."""
        yield self.at(tick, "feedback")
        self.known.setdefault(user, []).append((tick, item))

    def run(self):
        """Ledger after all rounds, one row per shown item."""
        self.env.run()
        return pd.DataFrame(self.ledger, columns=COLUMNS)


if __name__ == "__main__":
    platform = PlatformConfig(model="popularity-hp", learning="consumed")
    scenario = ScenarioConfig(rounds=2, arrivals=ArrivalsConfig(per_round=40), platform=platform)
    market = Market(scenario)
    print(SlowMarket(scenario, market.world, market.model, market.arrivals, market.seeds).run())
