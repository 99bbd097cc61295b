"""YAML documents, by the rules of YAML 1.2."""

from __future__ import annotations

import re
from typing import Any

import yaml

_CORE = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", "<"),
}
"""Tag → pattern of the unquoted texts with this tag, and their first letters. The tags are those of the core schema of
YAML 1.2, with merge keys."""
# PyYAML itself follows YAML 1.1, in which 1:30 is 90, 010 is 8 and no is false. All of these are texts or decimal
# numbers here, which the types of the fields then accept or refuse.
_MOST_LEVELS = 50
"""Largest depth of nested mappings and lists; a scenario has six levels."""
_PARSER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_PARSER):  # type: ignore[misc]  # the base is one of two classes
    """Safe loader with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML declares it as a class attribute

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Whole number, decimal unless it begins with 0o or 0x."""
        text = self.construct_scalar(node)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Number with a point or an exponent."""
        text = self.construct_scalar(node).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Safe dumper that quotes texts that look like other types."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML declares it as a class attribute
        letter: list(resolvers) for letter, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


for _name, (_pattern, _letters) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), list(_letters)
        )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def read_yaml(text: str) -> Any:
    """Content of a YAML text.

    Raises:
        yaml.YAMLError: If the text is not YAML, repeats a key of a mapping, or is nested too deeply.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("brackets or lists are nested too deeply") from None
    except ValueError as error:  # a number has too many digits, or an escape is not a letter
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _check(root: yaml.Node) -> None:
    """Refuse deep nesting and repeated keys."""
    visited: set[int] = set()  # an alias can refer to the list or mapping that contains it
    nodes = [(root, 1)]
    while nodes:
        node, level = nodes.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if level > _MOST_LEVELS:
            problem = f"brackets or lists are nested more than {_MOST_LEVELS} levels deep"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            nodes += [(inner, level + 1) for inner in node.value]
        elif isinstance(node, yaml.MappingNode):
            _require_unique_keys(node)
            nodes += [(inner, level + 1) for pair in node.value for inner in pair]


def _require_unique_keys(node: yaml.MappingNode) -> None:
    """Refuse repeated keys, of which YAML would keep the last."""
    keys: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in keys:
            problem = f"field {key.value!r} occurs twice. Keep one of them"
            raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
        keys.add(key.value)


def written_yaml(content: object, *, width: int | None = None) -> str:
    """YAML text of mappings, lists and scalars, in order."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width or 80)
    return str(text)
