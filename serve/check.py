"""Checks a Serve config file of the service without a cluster: `python -m serve.check serve/config.yaml`.

Serve itself passes over misspelt keys. Here every key has to be known, at every level, and options and settings have to
fit together. Each mistake is reported with its place in the file and its fix, and the exit status is 2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.schema import ServeDeploySchema

from metacross.config import Config, ServeConfig
from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.tagging.tagger import AdaptiveTagger
from metacross.yaml_nodes import read_yaml
from serve.app import build, from_config
from serve.changeover import bundle_named
from serve.ingress import Ingress
from serve.source_index import SourceIndex
from serve.tagger import Tagger
from serve.web.auth import refuse_open_door

IMPORT_PATHS: dict[str, Any] = {f"serve.app:{builder.__name__}": builder for builder in (build, from_config)}
DEPLOYMENTS: list[str] = [d.name for d in (SourceIndex, Tagger, Ingress)]  # type: ignore[union-attr]
# Settings that a deployment's options replace where these are given: setting -> (deployment, option).
REPLACED = {
    "serve.replicas": [("Tagger", "num_replicas"), ("Ingress", "num_replicas")],
    "serve.index_replicas": [("SourceIndex", "num_replicas")],
    "serve.queue": [("Tagger", "max_queued_requests")],
    "serve.tagger_gpus": [("Tagger", "ray_actor_options")],
    "serve.index_gpus": [("SourceIndex", "ray_actor_options")],
}
SHARD = re.compile(r"SourceShard\d+")  # names of shards' deployments
LOOPBACK = "127.0.0.1"  # where Serve answers unless the file says otherwise
Place = tuple[str | int, ...]


def main(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Serve config files.")],
    open_bundle: Annotated[
        bool, typer.Option("--open", help="Also load the bundles that they name, as a replica would.")
    ] = False,
) -> None:
    """Check Serve config files of the service, without a cluster."""
    wrong = [f"{file}: {line}" for file in files for line in check(file, open_bundle=open_bundle)]
    for line in wrong:
        typer.echo(line, err=True)
    if wrong:
        raise typer.Exit(2)
    for file in files:
        typer.echo(f"{file}: as it should be")


def check(file: Path, *, open_bundle: bool = False) -> list[str]:
    """What is wrong with a file, one line for each mistake.

    Args:
        file: a Serve config file.
        open_bundle: whether to load the bundles that it names as well.
    """
    try:
        read_yaml(file)  # refuses keys that are given twice, which the reader below passes over
        data = yaml.safe_load(file.read_text(encoding="utf-8"))  # as Serve reads it
    except UserError as error:
        return [str(error).removeprefix(f"{file}: ")]
    wrong = list(_shape(data, ServeDeploySchema, ())) or list(_values(data))
    for i, application in enumerate([] if wrong else data["applications"]):
        if application["import_path"].startswith("serve."):
            host = (data.get("http_options") or {}).get("host", LOOPBACK)
            lines = _service(application, host=host, open_bundle=open_bundle)
            wrong += [f"applications.{_named(application, i)}.{line}" for line in lines]
    return wrong


# --- what Serve knows ------------------------------------------------------------------------------------------------


def _shape(value: Any, annotation: Any, place: Place) -> Iterator[str]:
    """Unknown keys, and values where there should be keys, at every level below a value of an annotated field."""
    model, is_list = _model(annotation)
    if model is None or (value is None and place):
        return
    if is_list:
        if not isinstance(value, list):
            yield f"{_dotted(place)} must be a list."
            return
        for i, item in enumerate(value):
            yield from _shape(item, model, (*place, _named(item, i)))
        return
    if not isinstance(value, Mapping):
        yield f"{_dotted(place)} must have keys, such as {', '.join(list(model.model_fields)[:3])}."
        return
    for key, inner in value.items():
        if key not in model.model_fields:
            yield _unknown(place, key, model.model_fields)
        elif key == "runtime_env" and isinstance(inner, Mapping):
            known = RuntimeEnv.known_fields - RuntimeEnv.extensions_fields
            yield from (_unknown((*place, key), name, known) for name in inner if name not in known)
        else:
            yield from _shape(inner, model.model_fields[key].annotation, (*place, key))


def _model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model in an annotation, None where there is none, and whether the annotation is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = get_origin(annotation)
    if origin in (list, Union, UnionType):
        for part in get_args(annotation):
            model, is_list = _model(part)
            if model is not None:
                return model, is_list or origin is list
    return None, False


def _values(data: Any) -> Iterator[str]:
    """What Serve's own reading refuses."""
    try:
        ServeDeploySchema.model_validate(data)
    except ValidationError as error:
        # Pydantic reports each type that a value could have had; of those at one place the first line is enough.
        lines: dict[tuple[Place, bool | str], str] = {}
        for detail in error.errors():
            place, missing = _in_file(data, detail["loc"]), detail["type"] == "missing"
            message = f"{detail['loc'][-1]} is missing" if missing else detail["msg"].removeprefix("Value error, ")
            lines.setdefault((place, missing and message), f"{_dotted(place)}: {message.rstrip('.')}.")
        yield from lines.values()


def _in_file(data: Any, location: Place) -> Place:
    """The part of pydantic's location that is in the file, with names for numbers; the rest leads into its types."""
    place: list[str | int] = []
    for step in location:
        if not isinstance(data, Mapping | list) or (isinstance(data, Mapping) and step not in data):
            break
        data = data[step]  # type: ignore[index]  # a list's step is its number
        place.append(_named(data, step))
    return tuple(place)


def _named(item: Any, otherwise: str | int) -> str | int:
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) and name else otherwise


def _dotted(place: Place) -> str:
    return ".".join(map(str, place)) or "the file"


def _unknown(place: Place, key: Any, known: Collection[str]) -> str:
    return f"{_dotted((*place, key))}: unknown key. Did you mean {_nearest(str(key), known)}?"


def _nearest(name: str, known: Collection[str]) -> str:
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0)[0]


# --- what the service knows ------------------------------------------------------------------------------------------


def _service(application: Mapping[str, Any], *, host: str | None, open_bundle: bool) -> Iterator[str]:
    """What is wrong with an application of this project.

    Args:
        application: its part of the file, which Serve would take.
        host: the address that Serve is to answer on; None is every address.
        open_bundle: whether to load the bundle as well.
    """
    path = application["import_path"]
    if path not in IMPORT_PATHS:
        yield f"import_path: {path} is not known. Did you mean {_nearest(path, IMPORT_PATHS)}?"
        return
    deployments = {d["name"]: d for d in application.get("deployments") or []}
    arguments = application.get("args") or {}
    settings = {key: value for key, value in arguments.items() if key != "bundle"}
    yield from _misplaced(deployments, settings)
    config = bundle = None
    try:
        config = _config(settings)
        refuse_open_door(config.serve.auth, host)
    except UserError as error:
        yield from (f"args: {line}" for line in str(error).splitlines())
    try:
        bundle = _bundle(path, arguments, deployments.get("Tagger", {}))
    except UserError as error:
        yield str(error)
    if config is not None:
        yield from _together(deployments, config.serve)
    if config is not None and bundle is not None and open_bundle:
        try:
            AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=_overrides(settings))
        except UserError as error:
            yield f"bundle: {error}"


def _misplaced(deployments: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> Iterator[str]:
    """What would have no effect: unknown deployments, another one's user_config, settings that options replace."""
    sharded = bool(settings.get("serve.index_shards"))
    absent = SourceIndex.name if sharded else ""  # type: ignore[attr-defined]
    for name, options in deployments.items():
        known = [one for one in DEPLOYMENTS if one != absent]
        if name == absent:
            yield f"deployments.{name}: with serve.index_shards there is none, but SourceShard0, SourceShard1, ..."
        elif name not in known and not (sharded and SHARD.fullmatch(name)):
            yield f"deployments.{name}: unknown deployment. Did you mean {_nearest(name, known)}?"
        elif name != "Tagger" and options.get("user_config") is not None:
            yield f"deployments.{name}.user_config: only Tagger takes one. Leave it out."
    for key, replacing in REPLACED.items():
        given = [f"deployments.{name}.{option}" for name, option in replacing if option in deployments.get(name, {})]
        if key in settings and given:
            yield f"args.{key}: {' and '.join(given)} says it already, and counts. Leave it out."


def _bundle(path: str, arguments: Mapping[str, Any], tagger: Mapping[str, Any]) -> str:
    """The bundle, which has to be named in one place of the file. UserError where it is not."""
    if IMPORT_PATHS[path] is from_config:
        if "bundle" in arguments:
            raise UserError("args.bundle: the bundle belongs into user_config of Tagger. Move it there.")
        try:
            return bundle_named(tagger.get("user_config") or {})
        except UserError as error:
            raise UserError(f"deployments.Tagger.user_config: {error}") from None
    if tagger.get("user_config") is not None:
        raise UserError(
            "deployments.Tagger.user_config: needs import_path: serve.app:from_config, without args.bundle."
        )
    try:
        return bundle_named({"bundle": arguments.get("bundle")})
    except UserError as error:
        raise UserError(f"args.bundle: {error}") from None


def _config(settings: Mapping[str, Any]) -> Config:
    """The settings, which have to mean the same on every node. UserError where they do not."""
    for key, value in settings.items():
        if value is None:
            raise UserError(f'{key} has no value. Give one ("" for an empty text), or leave the key out.')
    config = load_config(None, _overrides(settings))
    for key in ("serve.examples", "serve.auth", "serve.index_shards"):
        file = getattr(config.serve, key.removeprefix("serve."))
        if file not in ("", "environment", "none") and "://" not in file and not Path(file).is_absolute():
            raise UserError(f"{key} is {file}, which depends on where a replica runs. Give the whole path.")
    return config


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def _together(deployments: Mapping[str, Mapping[str, Any]], settings: ServeConfig) -> Iterator[str]:
    """Options that do not fit each other or the settings."""
    tagger, ingress = (deployments.get(name, {}) for name in ("Tagger", "Ingress"))
    ongoing, queued = tagger.get("max_ongoing_requests"), tagger.get("max_queued_requests")
    if ongoing is not None and ongoing < settings.batch_requests:
        yield (
            f"deployments.Tagger.max_ongoing_requests: {ongoing}, so a batch never has the {settings.batch_requests} "
            f"requests of serve.batch_requests. Give {2 * settings.batch_requests}."
        )
    if queued is not None and queued < 1:
        yield f"deployments.Tagger.max_queued_requests: {queued}. Give 1 or more; beyond it requests get 503."
    entering = ingress.get("max_ongoing_requests")
    if ongoing is not None and entering is not None and _replicas(ingress) * entering < _replicas(tagger) * ongoing:
        yield (
            f"deployments.Ingress.max_ongoing_requests: {_replicas(ingress)} x {entering} requests come in, but Tagger "
            f"takes {_replicas(tagger)} x {ongoing}. Raise it, or num_replicas of Ingress."
        )
    for name, options in deployments.items():
        ending = options.get("graceful_shutdown_timeout_s")
        if ending is not None and ending <= settings.timeout_s:
            yield (
                f"deployments.{name}.graceful_shutdown_timeout_s: {ending:g}, so a replica that ends drops requests, "
                f"which may take serve.timeout_s={settings.timeout_s:g}. Give {settings.timeout_s + 10:g}."
            )
        gpus = (options.get("ray_actor_options") or {}).get("num_gpus")
        place = f"deployments.{name}.ray_actor_options.num_gpus"
        if gpus and settings.device == "cpu":
            yield f"{place}: {gpus} is reserved and never used, because serve.device is cpu. Give 0."
        if gpus == 0 and settings.device.startswith("cuda") and name != "Ingress":
            yield f"{place}: 0, so that Ray hides the GPUs that serve.device={settings.device} wants. Give a share."


def _replicas(options: Mapping[str, Any]) -> int:
    count = options.get("num_replicas", 1)
    return count if isinstance(count, int) else 1  # auto: at least one


if __name__ == "__main__":
    typer.run(main)
