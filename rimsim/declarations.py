"""Names and options that Python files declare, without running them.

The file of an agent usually imports torch, which takes seconds. A misspelt name is found here before that.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from rimsim.errors import ConfigError, nearest, nearest_file


def require_declared(location: str, kind: str, options: Mapping[str, object] | None = None) -> None:
    """Refuse a place without the file, name or options.

    Args:
        location: ``file.py:Name`` or ``module:Name``.
        kind: Word for the object in messages, such as ``agent``.
        options: Options of the object.

    Raises:
        ConfigError: If there is no such file, module, name or option; the message has the nearest name.
    """
    source, _, name = location.rpartition(":")
    path = Path(source)
    if path.suffix != ".py":
        require_module(source, name, f"{kind} {location!r}")
        return
    if not path.is_file():
        raise ConfigError(f"{kind} {location!r}: there is no file {source!r}.{nearest_file(path)}")
    tree = _tree(path, f"{kind} {location!r}")
    names = None if tree is None else _names(tree)
    if tree is None or names is None:
        return
    if name not in names:
        own_names = [declared for declared, is_own in names.items() if is_own]
        raise ConfigError(f"{kind} {location!r}: {source} has no {name!r}.{nearest(name, own_names)}")
    require_declared_options(tree, name, options or {}, f"{kind} {location!r}")


def require_module(module: str, name: str, origin: str) -> None:
    """Refuse a module that is not installed."""
    try:
        is_there = find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        is_there = False
    if is_there:
        return
    file = Path(f"{module.replace('.', '/')}.py")
    hint = f"Did you mean {file}:{name}?" if file.is_file() else "Give a class of your own as file.py:Class"
    raise ConfigError(f"{origin}: there is no module {module!r}. {hint}")


def require_declared_options(tree: ast.Module, name: str, options: Mapping[str, object], origin: str) -> None:
    """Refuse options that a class or function lacks."""
    allowed = _options(tree, name)
    if allowed is None:
        return
    for option in options:
        if option not in allowed:
            raise ConfigError(f"{origin} has no option {option!r}.{nearest(option, allowed)}")


def module_tree(module: str) -> ast.Module | None:
    """Syntax tree of a module; None without a source file."""
    spec = find_spec(module)
    return None if spec is None or spec.origin is None else _tree(Path(spec.origin), module)


def _tree(path: Path, origin: str) -> ast.Module | None:
    """Syntax tree of a file; None if unreadable."""
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ConfigError(
            f"{origin}: cannot import {str(path)!r}, line {error.lineno}: {type(error).__name__}: {error.msg}"
        ) from None
    except (OSError, ValueError, RecursionError):  # the import that follows reports the error
        return None


def _names(tree: ast.Module) -> dict[str, bool] | None:
    """Names in a file; false if they are only imported.

    The result is None if the names cannot be known without running the file.
    """
    names: dict[str, bool] = {}
    for statement in tree.body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names[name] = True
            case ast.Assign(targets=targets):
                names |= {target.id: True for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names[name] = True
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                names |= {alias.asname or alias.name.partition(".")[0]: False for alias in aliases}
            case ast.Expr(value=ast.Constant()) | ast.Assert() | ast.Pass():
                pass
            case _:  # other statements, such as `if`, may define any name
                return None
    return None if "*" in names else names


def _options(tree: ast.Module, name: str) -> set[str] | None:
    """Parameters of a class or function; None if unknown."""
    match _named(tree.body, name):
        case ast.FunctionDef(args=arguments, decorator_list=[]):
            return _parameters(arguments, bound=False)
        case ast.ClassDef(body=body) as declared:
            constructor = _named(body, "__init__")
            if isinstance(constructor, ast.FunctionDef):
                return _parameters(constructor.args, bound=True)
            return _fields(declared)
    return None


def _named(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """First statement that defines a name, or None."""
    return next((statement for statement in body if getattr(statement, "name", None) == name), None)


def _parameters(arguments: ast.arguments, *, bound: bool) -> set[str] | None:
    """Names of parameters that can be options; None if unknown.

    ``bound`` says that the first parameter is ``self``.
    """
    names = {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    # ``**kwargs`` accepts any name, and ``options`` is a record whose fields are not looked up here.
    if arguments.kwarg is not None or "options" in names:
        return None
    return names - ({"self"} if bound else set()) - {"scenario"}


def _fields(declared: ast.ClassDef) -> set[str] | None:
    """Fields of a class without bases; None if unknown."""
    if declared.bases or declared.keywords:
        return None
    if not declared.decorator_list:
        return set()
    if "dataclass" not in ast.unparse(declared.decorator_list[0]):
        return None
    return {
        statement.target.id
        for statement in declared.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
