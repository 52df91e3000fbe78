"""The service on Ray Serve: three deployments, each a thin wrapper around plain classes, and how they are started.

    Ingress      HTTP (serve/web)                   as many as there are Taggers
    Tagger       engine.py around AdaptiveTagger    a model and its cache each; requests are tagged in batches
    SourceIndex  retrieval.pools.SourcePool         one per node, shared by the Taggers there

With serve.index_shards there are SourceShard0, SourceShard1, ... in place of SourceIndex (serve/source_shards.py).
`serve run serve.app:build bundle=DIR` starts the service; further arguments are settings, such as serve.replicas=2.
`serve deploy serve/config.yaml` starts it from a file, and changes a service that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import serve as ray_serve
from ray.serve.config import BackpressureConfig

from metacross.config import Config, ServeConfig
from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.ray_session import cluster_resources
from metacross.retrieval.index_shard import read_shards
from serve.ingress import Ingress
from serve.logs import logging_config
from serve.source_index import SourceIndex
from serve.source_shards import SourceShard, shard_name
from serve.tagger import Tagger
from serve.web.auth import read_tokens


def build(arguments: dict[str, str]) -> ray_serve.Application:
    """What `serve run serve.app:build bundle=DIR [KEY=VALUE ...]` runs.

    Args:
        arguments: `bundle`, the directory or address that training left, and settings over those of ray_config.yaml.

    Raises:
        UserError: no bundle there, or a setting that makes no sense.
    """
    settings = dict(arguments)
    bundle = settings.pop("bundle", "")
    if not bundle:
        raise UserError("which bundle? Give bundle=DIR, what `metacross train` named at its end.")
    _refuse_missing(bundle)
    return _application(settings, bundle if "://" in bundle else str(Path(bundle).absolute()))


def from_config(arguments: dict[str, Any]) -> ray_serve.Application:
    """What serve/config.yaml runs: `build` for a file whose Tagger names the bundle, in its user_config.

    Serve starts every replica anew when arguments change. A user_config that changes reaches the replicas that run.

    Args:
        arguments: settings over those of ray_config.yaml.

    Raises:
        UserError: a bundle among them, or a setting that makes no sense.
    """
    if "bundle" in arguments:
        raise UserError("args name a bundle. Name it in Tagger's user_config: there a new one needs no restart.")
    return _application(arguments, bundle="")


def _application(arguments: Mapping[str, Any], bundle: str) -> ray_serve.Application:
    """The deployments, bound to each other.

    Args:
        arguments: settings over those of ray_config.yaml.
        bundle: what Tagger begins with; "" where a file gives Tagger a user_config of its own.
    """
    overrides = [f"{key}={value}" for key, value in arguments.items()]
    config = load_config(None, overrides)
    # Replicas run in directories of their own, so a relative path would mean another file there.
    if config.serve.examples and "://" not in config.serve.examples:
        overrides.append(f"serve.examples={Path(config.serve.examples).absolute()}")
    if config.serve.index_shards:
        overrides.append(f"serve.index_shards={Path(config.serve.index_shards).absolute()}")
    config = load_config(None, overrides)
    settings = config.serve
    read_tokens(settings.auth)  # its mistakes show here, and not in a replica that Serve starts again and again
    # Serve ends a replica after this time. It is longer than a request may take, so what has begun is answered.
    common: dict[str, Any] = {"graceful_shutdown_timeout_s": settings.timeout_s + 10}
    if json := logging_config():
        common["logging_config"] = json
    # mypy does not see that the decorators made deployments of these classes.
    tagger = Tagger.options(  # type: ignore[attr-defined]
        **common,
        num_replicas=settings.replicas,
        ray_actor_options=_actor_options(settings, settings.tagger_gpus),
        max_ongoing_requests=2 * settings.batch_requests,  # one batch is tagged, the next one waits
        max_queued_requests=settings.queue,
        user_config={"bundle": bundle},
    ).bind(_source(config, common), config, overrides)
    # Far more than Taggers and their queue hold: an Ingress refuses with a reason, Serve behind it without one.
    room = 4 * (settings.queue + 2 * settings.batch_requests)
    app: ray_serve.Application = Ingress.options(  # type: ignore[attr-defined]
        **common,
        num_replicas=settings.replicas,
        ray_actor_options=_actor_options(settings, gpus=0),
        max_ongoing_requests=room,
        max_queued_requests=room,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
    ).bind(tagger, config)
    return app


def _source(config: Config, common: Mapping[str, Any]) -> Any:
    """What Taggers search: SourceIndex, or a list of the shards' deployments in order."""
    settings = config.serve
    options = {**common, "ray_actor_options": _actor_options(settings, settings.index_gpus)}
    if not settings.index_shards:
        index = SourceIndex.options(**options, num_replicas=settings.index_replicas)  # type: ignore[attr-defined]
        return index.bind(config)
    replicas = settings.shard_replicas
    known = ray.nodes() if ray.is_initialized() else []  # type: ignore[no-untyped-call]
    # A head without processors has no replicas.
    nodes = sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in known)
    options |= {"num_replicas": replicas, "max_replicas_per_node": most_on_a_node(replicas, nodes)}
    count = len(read_shards(Path(settings.index_shards))["shards"])
    shards = [SourceShard.options(name=shard_name(i), **options) for i in range(count)]  # type: ignore[attr-defined]
    return [shard.bind(config, i) for i, shard in enumerate(shards)]


def most_on_a_node(replicas: int, nodes: int) -> int:
    """How many replicas of a shard a node may have: as few as possible, so that a lost node costs no more.

    >>> most_on_a_node(2, nodes=1), most_on_a_node(2, nodes=5), most_on_a_node(4, nodes=3)
    (2, 1, 2)
    """
    return -(-replicas // max(1, nodes))


def _actor_options(settings: ServeConfig, gpus: float) -> dict[str, Any]:
    """What a replica reserves: a share of a GPU where there are any and they are wanted, and next to no processor."""
    resources = cluster_resources() if ray.is_initialized() else {}
    on_gpu = settings.device != "cpu" and resources.get("GPU", 0) > 0
    return {"num_cpus": 0.1, "num_gpus": gpus if on_gpu else 0}


def _refuse_missing(bundle: str) -> None:
    """Raises UserError where a bundle's path leads nowhere, before anything is started."""
    if "://" not in bundle and not Path(bundle).is_dir():
        raise UserError(
            f"bundle={bundle}: no such directory ({Path.cwd()}). Give what `metacross train` named at its end."
        )
