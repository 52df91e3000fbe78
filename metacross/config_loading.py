"""Configurations put together from files and from ``key=value`` overrides.

There are three kinds of source, later ones winning: the default file, files given with ``--config`` (which may be
partial), and ``key=value`` overrides with dotted names. Whatever is wrong with them is told with its file and line.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from metacross.config import Config, dotted
from metacross.errors import UserError
from metacross.yaml_nodes import TAG, Locate, compose, compose_file, pairs, plain_value

FILE_NAME = "ray_config.yaml"
COMMAND_LINE = "command line"

# Complete files from before a setting existed mean this value, and not the default file's: a run that goes on ends as
# it would have ended then.
BEFORE: dict[str, Any] = {
    "loss.later_weight": 0.0,
    "data.unlabelled": {},
    "train.average": 0.0,
    "model.layers": "all",
    "inner.layers": "all",
    "train.seeds": 1,
    "adopt.sentences": 0,
    # These shape answers, not runs; an older bundle gets today's.
    "words.neighbours": 32,
    "words.similarity": 0.75,
    "words.scale": 0.06,
    "words.most": 3.0,
}

# Settings of earlier versions, and what there is in their place. Complete files may hold them: there they mean nothing.
GONE: dict[str, str] = {
    "adopt.neighbours": "labels are judged by their probability alone, see adopt.confidence",
    "adopt.quantile": "labels are judged by their probability alone, see adopt.confidence",
}


def default_path() -> Path | None:
    """Find the default file: in the current directory, else in the project's root; None where there is neither."""
    places = (Path(FILE_NAME), Path(__file__).parent.parent / FILE_NAME)
    return next((place for place in places if place.is_file()), None)


def load_config(
    paths: Sequence[Path] | None = None,
    overrides: Sequence[str] = (),
    *,
    alone: bool = False,
    base: Config | None = None,
) -> Config:
    """Put a configuration together from files and command-line overrides.

    A list or a mapping such as ``data.tag_map`` is one value: a later one takes the earlier one's place.

    Args:
        paths: YAML files, each possibly partial, merged in this order over the default file (see `default_path`).
        overrides: ``key=value`` with dotted keys, applied last. Values are YAML, but where a key takes nothing else
            than text they are taken as they stand (so that ``train.storage_path=a: b`` is not read as a mapping).
        alone: the files are complete, as a bundle's is. Only settings that are newer than the files, and so missing
            from them, are taken from `BEFORE` or the default file.
        base: a complete configuration to start from in place of the default file.

    Returns:
        The complete configuration.

    Raises:
        UserError: A file cannot be read, a key is unknown, given twice in a file or missing, or a value is not allowed.
    """
    default = None if alone or base else default_path()
    if default is None and not paths and not base:
        raise UserError(f"No {FILE_NAME} in the current directory or the project's root. Name a file with --config.")
    settings = {name: _Setting(value, "base") for name, value in dotted(base).items()} if base else {}
    for path in ([default] if default else []) + list(paths or ()):
        found = _file_settings(path)
        settings |= {name: found[name] for name in found.keys() - GONE.keys()} if alone else _without_gone(found)
    for override in overrides:
        settings |= _without_gone(_override_settings(override))
    return _validate(_newer_settings(settings) | settings if alone else settings)


class _Setting(NamedTuple):
    """A value, and where it was set, for messages."""

    value: Any
    place: str


def _without_gone(settings: dict[str, _Setting]) -> dict[str, _Setting]:
    """The settings as they are, if all of them mean something; raises UserError for one that no longer does."""
    for name in settings.keys() & GONE.keys():
        raise UserError(f"{name} ({settings[name].place}) is no longer a setting: {GONE[name]}. Remove it.")
    return settings


def _newer_settings(settings: Mapping[str, _Setting]) -> dict[str, _Setting]:
    """Values for what is missing: those of `BEFORE`, else the default file's, which is read only if they are needed."""
    missing = _leaves().keys() - settings.keys()
    newer = {name: _Setting(BEFORE[name], "before it was a setting") for name in missing & BEFORE.keys()}
    missing -= newer.keys()
    default = default_path() if missing else None
    return newer | ({} if default is None else {k: v for k, v in _file_settings(default).items() if k in missing})


def _leaves() -> dict[str, FieldInfo]:
    """Every dotted key that holds a value."""
    return {
        f"{section}.{key}": field
        for section, part in Config.model_fields.items()
        for key, field in part.annotation.model_fields.items()  # type: ignore[union-attr]  # every one is a Section
    }


def _file_settings(path: Path) -> dict[str, _Setting]:
    node = compose_file(path)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"The configuration file {path} must hold sections with keys, such as train: {{steps: 100}}.")
    return _collect("", node, lambda at: f"{path}:{at.start_mark.line + 1}")


def _override_settings(override: str) -> dict[str, _Setting]:
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UserError(f"{override!r} on the {COMMAND_LINE} is not key=value, as in train.steps=100.")
    field = _leaves().get(name)
    # A shell hands over train.name="" as train.name=, which YAML would call null.
    if field and (not text.strip() or (field.annotation is str and text[0] not in "'\"")):
        return {name: _Setting(text, COMMAND_LINE)}
    node = compose(text, f"{override!r} on the {COMMAND_LINE}")
    return _collect(name, node or yaml.ScalarNode(TAG + "null", ""), lambda _: COMMAND_LINE)


def _collect(name: str, node: yaml.Node, locate: Locate) -> dict[str, _Setting]:
    """Take the settings under a key out of a YAML node; the name "" is the whole file."""
    settings: dict[str, _Setting] = {}
    try:
        for leaf, setting in _walk(name, node, locate):
            if leaf in settings:
                raise UserError(f"{leaf} is given twice ({settings[leaf].place} and {setting.place}). Remove one.")
            settings[leaf] = setting
    except RecursionError:  # an alias inside of what it stands for
        raise UserError(f"{locate(node)}: nested too deeply for a configuration.") from None
    return settings


def _walk(name: str, node: yaml.Node, locate: Locate) -> Iterator[tuple[str, _Setting]]:
    if name in _leaves() or name in GONE:
        yield name, _Setting(plain_value(node, name, locate), locate(node))
    elif name and name not in Config.model_fields:
        raise UserError(f"Unknown key {name} ({locate(node)}). Did you mean {_nearest(name)}?")
    elif not isinstance(node, yaml.MappingNode):
        raise UserError(f"{name} is a section ({locate(node)}) and needs keys, such as {_example(name)}: ...")
    else:
        for key, value in pairs(node, name, locate):
            yield from _walk(f"{name}.{key}" if name else key, value, locate)


def _nearest(name: str) -> str:
    leaves = list(_leaves())
    same_ending = [leaf for leaf in leaves if leaf.split(".")[-1] == name.split(".")[-1]]
    close = difflib.get_close_matches(name, [*leaves, *Config.model_fields], n=1, cutoff=0)
    return " or ".join(same_ending or close)


def _example(section: str) -> str:
    return next(leaf.split(".")[-1] for leaf in _leaves() if leaf.startswith(section + "."))


def _validate(settings: dict[str, _Setting]) -> Config:
    missing = [name for name in _leaves() if name not in settings]
    if missing:
        raise UserError(f"No value for {', '.join(missing)}. Add what is missing to {FILE_NAME}.")
    tree: dict[str, dict[str, Any]] = {}
    for name, setting in settings.items():
        section, key = name.split(".")
        tree.setdefault(section, {})[key] = setting.value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(_complaints(error, settings))) from None


def _complaints(error: ValidationError, settings: dict[str, _Setting]) -> list[str]:
    """Say for each wrong value where it was set and what is allowed (a union's several errors make one line)."""
    leaves = _leaves()
    lines = {}
    for detail in error.errors():
        name = ".".join(map(str, detail["loc"][:2]))
        value, place = settings[name]
        allowed = leaves[name].description or detail["msg"].removeprefix("Input should be ")
        lines[name] = f"{name} is {json.dumps(value, ensure_ascii=False)} ({place}); it must be {allowed}."
    return list(lines.values())
