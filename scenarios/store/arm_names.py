"""Names of arms in tables: an agent's own, or with the kind of control that its platform is subject to."""

from __future__ import annotations

CONTROLS = ("frozen", "organic", "random")
"""Kinds of controls, by how much of what an arm's platform learns from they share with it: nothing is retrained;
retrained on as many events of the log; on as many of the market, under uniformly random slates."""


def control_name(agent: str, control: str) -> str:
    """The name of an agent's control."""
    return f"{agent}-{control}"


def control_in(name: str) -> str | None:
    """The kind of control that the arm of a name is; None for an agent itself."""
    return next((control for control in CONTROLS if name.endswith(f"-{control}")), None)


def is_control(name: str) -> bool:
    """Whether an arm is a control."""
    return control_in(name) is not None


def subject_of(name: str) -> str:
    """The agent whose arm, or whose control, has a name."""
    control = control_in(name)
    return name if control is None else name.removesuffix(f"-{control}")
