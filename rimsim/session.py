"""Texts that name objects and classes of this Python session."""

from __future__ import annotations

import copy
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

SESSION = "session:"
"""Beginning of their places."""
_OBJECTS: dict[str, Any] = {}
_MODELS: dict[str, object] = {}


def session_places(given: object, *, copied: bool = True) -> list[str]:
    """Place (a text) of each object; texts are returned unchanged.

    ``given`` is a text, an object, or a sequence of both. With ``copied``, each use of an object gets a copy.
    """
    texts: list[str] = []
    for one in given if isinstance(given, list | tuple) else [given]:
        if isinstance(one, str):
            texts.append(one)
            continue
        name = _name(one)
        alike = sum(text.startswith(f"{SESSION}{name}") for text in texts)
        texts.append(f"{SESSION}{name}{f'-{alike + 1}' * bool(alike)}")
        _OBJECTS[texts[-1]] = partial(copy.deepcopy, one) if copied and not callable(one) else one
    return texts


def session_model(given: object) -> object:
    """Place (a text) of a model; other values are unchanged.

    Each model has its own place, because fitted models are cached by the scenario's text. A recommender of another
    package has a place too, so that the message about its methods names the adapter.
    """
    if not (callable(given) or hasattr(given, "score") or hasattr(given, "fit")):
        return given
    known = (place for place, one in _MODELS.items() if one is given)
    place = next(known, f"{SESSION}{_name(given)}-{len(_MODELS) + 1}")
    _MODELS[place] = given
    _OBJECTS[place] = given if callable(given) else lambda seed, device: copy.deepcopy(given)  # noqa: ARG005
    return place


ModelName: TypeAlias = Annotated[str, BeforeValidator(session_model)]
"""Name or place of a model; an object of this session is given its place."""


def session_object(place: str) -> Any:
    """Object of this session with the given place, or None."""
    return _OBJECTS.get(place)


def _name(one: object) -> str:
    named = getattr(one, "name", None)
    return named if isinstance(named, str) else getattr(one, "__name__", type(one).__name__)
