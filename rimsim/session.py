"""Texts that name objects and classes of this Python session."""

from __future__ import annotations

import copy
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

SESSION = "session:"
"""Prefix of the place of an object that exists only in this session."""
_OBJECTS: dict[str, Any] = {}
"""Place → object of this session, or a function that makes a copy of it."""
_MODELS: dict[str, object] = {}
"""Place → model of this session."""


def session_places(sources: object, *, copied: bool = True) -> list[str]:
    """Place (a text) of each object; texts are returned unchanged.

    ``sources`` is a text, an object, or a sequence of both. With ``copied``, each use of an object gets a copy.
    """
    texts: list[str] = []
    for source in sources if isinstance(sources, list | tuple) else [sources]:
        if isinstance(source, str):
            texts.append(source)
            continue
        name = _name(source)
        n_alike = sum(text.startswith(f"{SESSION}{name}") for text in texts)
        place = f"{SESSION}{name}-{n_alike + 1}" if n_alike else f"{SESSION}{name}"
        texts.append(place)
        _OBJECTS[place] = partial(copy.deepcopy, source) if copied and not callable(source) else source
    return texts


def session_model(value: object) -> object:
    """Place (a text) of a model; other values are unchanged.

    Each model has its own place, because fitted models are cached by the scenario's text. A recommender of another
    package has a place too, so that the message about its methods names the adapter.
    """
    if not (callable(value) or hasattr(value, "score") or hasattr(value, "fit")):
        return value
    places_of_model = (place for place, model in _MODELS.items() if model is value)
    place = next(places_of_model, f"{SESSION}{_name(value)}-{len(_MODELS) + 1}")
    _MODELS[place] = value
    _OBJECTS[place] = value if callable(value) else lambda seed, device: copy.deepcopy(value)  # noqa: ARG005
    return place


ModelName: TypeAlias = Annotated[str, BeforeValidator(session_model)]
"""Name or place of a model. An object of this session gets a place."""


def session_object(place: str) -> Any:
    """Object of this session with the given place, or None."""
    return _OBJECTS.get(place)


def _name(source: object) -> str:
    """Name of an object, or of its class."""
    named = getattr(source, "name", None)
    return named if isinstance(named, str) else getattr(source, "__name__", type(source).__name__)
