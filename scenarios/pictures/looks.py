"""What pictures and pages draw alike: each agent's colour and marker, and counts that lie far apart."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rimsim.scenarios.runs.status import subject_of

WIDE = 20.0
"""Where the largest count is so many times the smallest, a plain axis shows the largest alone."""


@dataclass(frozen=True)
class AgentStyle:
    """Colour and marker of an agent; either is enough to know it by."""

    colour: str
    marker: str


# Seaborn's colour-blind palette and Okabe and Ito's black; blue and vermilion, the safest pair, for the main
# contrast.
_KNOWN: Mapping[str, AgentStyle] = {
    "relevance": AgentStyle("#0173b2", "o"),
    "rim-dual": AgentStyle("#de8f05", "s"),
    "rim-feedback": AgentStyle("#d55e00", "D"),
    "rim-resolve": AgentStyle("#ca9161", "v"),
    "entropic-dual": AgentStyle("#cc78bc", "P"),
    "epsilon-greedy": AgentStyle("#56b4e9", "^"),
    "popularity": AgentStyle("#029e73", "X"),
    "random": AgentStyle("#949494", "<"),
    "oracle": AgentStyle("#000000", "*"),
    "hindsight": AgentStyle("#555555", "p"),
}
_OWN = (
    AgentStyle("#7b4ba6", "d"),
    AgentStyle("#a50f4a", ">"),
    AgentStyle("#3f6b1f", "H"),
    AgentStyle("#00798c", "p"),
    AgentStyle("#8c564b", "X"),
    AgentStyle("#e377a2", "P"),
)


def styles(agents: Iterable[str]) -> dict[str, AgentStyle]:
    """The style of each agent, in the order of drawing; a control looks like its agent.

    rimsim's own agents have fixed styles. Any other name takes one of six by its checksum, or the next that
    is free.
    """
    names = {subject_of(name) for name in agents}
    chosen = {name: _KNOWN[name] for name in _KNOWN if name in names}
    taken: set[int] = set()
    for name in sorted(names - set(_KNOWN)):
        start = zlib.crc32(name.encode())
        free = [(start + step) % len(_OWN) for step in range(len(_OWN))]
        place = next((index for index in free if index not in taken), free[0])
        taken.add(place)
        chosen[name] = _OWN[place]
    return chosen
