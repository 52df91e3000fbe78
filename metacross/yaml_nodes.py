"""YAML read by its 1.2 rules, with the line of every value, and with repeated keys refused.

Only true and false are booleans, so the tag ``NO`` and the language ``no`` stay text, and ``1e-4`` is a number (PyYAML
by itself follows YAML 1.1, where both come out wrong). Keys are always text.

Values are kept as PyYAML's nodes until the last moment, because a node knows its line and a Python value does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from metacross.errors import UserError

Locate = Callable[[yaml.Node], str]  # names a node's place for messages, such as "ray_config.yaml:12"

TAG = "tag:yaml.org,2002:"
_VALUES: dict[str, Callable[[str], Any]] = {
    TAG + "str": str,
    TAG + "null": lambda _: None,
    TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    TAG + "int": int,
    TAG + "float": float,
}
# YAML 1.2's core schema, without what no configuration needs (octal and hexadecimal numbers, infinity, NaN).
_RESOLVERS = {
    "null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"^[-+]?[0-9]+$"),
    "float": re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
}


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, as Python values.

    Raises:
        UserError: it cannot be read, is empty or broken, or a key is given twice; names the line.
    """
    node = compose_file(path)
    try:
        return plain_value(node, str(path), lambda at: f"{path}:{at.start_mark.line + 1}")
    except RecursionError:
        raise UserError(f"{path}: nested too deeply.") from None


def write_yaml(content: Any) -> str:
    """YAML that `read_yaml` reads back as an equal value, whatever its text looks like."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def compose_file(path: Path) -> yaml.Node:
    """The node that a YAML file holds.

    Raises:
        UserError: it cannot be read, is empty or broken.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"The configuration file {path} does not exist.") from None
    except OSError as error:
        raise UserError(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"The configuration file {path} is not UTF-8 text.") from None
    node = compose(text, str(path))
    if node is None:
        raise UserError(f"The configuration file {path} is empty.")
    return node


def compose(text: str, place: str) -> yaml.Node | None:
    """The node that a text holds; None for an empty one.

    Args:
        text: YAML.
        place: where it stands, for messages.

    Raises:
        UserError: it is broken; names the line.
    """
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        return node
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{place}{line}: broken YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{place}: broken YAML: {error}.") from None
    except RecursionError:
        raise UserError(f"{place}: nested too deeply for a configuration.") from None


def pairs(node: yaml.MappingNode, name: str, locate: Locate) -> Iterator[tuple[str, yaml.Node]]:
    """A mapping's keys, spelled as in the file, with their values.

    Args:
        node: the mapping.
        name: its own dotted name, for messages; "" at the top level.
        locate: names a node's place.

    Raises:
        UserError: a key is given twice, or is not text.
    """
    seen: dict[str, str] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"A key under {name or 'the top level'} is not text ({locate(key)}).")
        if key.value in seen:
            full = f"{name}.{key.value}" if name else key.value
            raise UserError(f"{full} is given twice ({seen[key.value]} and {locate(key)}). Remove one.")
        seen[key.value] = locate(key)
        yield key.value, value


def plain_value(node: yaml.Node, name: str, locate: Locate) -> Any:
    """The Python value of a node; arguments and errors as for `pairs`."""
    if isinstance(node, yaml.MappingNode):
        return {key: plain_value(value, name, locate) for key, value in pairs(node, name, locate)}
    if isinstance(node, yaml.SequenceNode):
        return [plain_value(value, name, locate) for value in node.value]
    try:
        return _VALUES[node.tag](node.value)
    except (KeyError, ValueError):
        raise UserError(f"{name} cannot be {node.value!r} with the YAML tag {node.tag} ({locate(node)}).") from None


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by `_RESOLVERS` instead of YAML 1.1's rules."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  # PyYAML's name, filled below


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else, or not at all."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML writes some line separators (such as U+0085) so that they are read as spaces, except in this style.
        return self.represent_scalar(TAG + "str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)
for _name, _pattern in _RESOLVERS.items():
    _Loader.add_implicit_resolver(TAG + _name, _pattern, None)
    _Dumper.add_implicit_resolver(TAG + _name, _pattern, None)
