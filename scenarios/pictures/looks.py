"""What pictures and pages draw alike: each agent's colour and marker, and counts that lie far apart."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from rimsim.agents.registry import agent_styles
from rimsim.scenarios.runs.status import subject_of

WIDE = 20.0
"""Where the largest count is so many times the smallest, a plain axis shows the largest alone."""


@dataclass(frozen=True)
class AgentStyle:
    """Colour and marker of an agent; either is enough to know it by."""

    colour: str
    marker: str


_KNOWN = {name: AgentStyle(*style) for name, style in agent_styles().items()}
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
