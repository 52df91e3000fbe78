"""Every name of Ray that this service uses although Ray keeps it to itself, each read in Ray 2.60.0.

tests/serve/test_ray_internals.py says which one is missing after an upgrade. What each is for:

`ray.serve.context._get_global_client`, `ServeControllerClient.http_config`
    The address that Serve answers HTTP on. An Ingress must know it before it answers without tokens; `serve.status()`
    and the other public functions do not give it.

`ray.nodes()`: `MetricsExportPort`, `NodeManagerAddress`, `Alive`
    Every node exports the metrics of its replicas on a port that Ray chooses. The function is public, its keys are not
    documented; a test of the running service asks for their metrics (tests/serve/test_run.py).

`ray._private.worker._global_node.get_logs_dir_path()`
    Where Ray's logs are. Ray prints messages of its processes to the driver's standard output, even with
    `log_to_driver=False`; `metacross serve` writes them there instead.

RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
    The environment variable that names a function which Serve calls in each process that takes HTTP. uvicorn is made to
    end connections there whose header does not come; Serve has no setting for it.

RAY_SERVE_USE_GRPC_BY_DEFAULT, RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH
    Requests go from process to process by gRPC, in messages of at most so many bytes (by default 4 MB, which a long
    explained answer exceeds). Without it they are generators of actors, and a replica that answers one for a node that
    is lost may wait inside its event loop for that node, and answers nobody until Serve starts another in its place.

`DeploymentHandle._init(_prefer_local_routing=, _run_router_in_separate_loop=)`
    A Tagger searches the SourceIndex of its own node where there is one, and waits for the answer in a thread;
    `metacross serve` waits for its Ingresses' last answers without an event loop. Both are options of a handle's
    router; `DeploymentHandle.options` has no public name for either.

`ray.serve._private.replica.add_port_to_grpc_server`
    Every replica unpickles what is sent to a port that it opens on all addresses, and Serve has no setting for it. The
    port asks for Ray's token where there is one.

`__serve_build_asgi_app__`
    The method by which a deployment makes its ASGI application from what its constructor was given. The docstring of
    `serve.ingress` names it; the documentation's ways (an application, or a function without arguments) see no
    arguments of the deployment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import _private
from ray.serve._private import replica
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle

from metacross.ray_session import on_this_machine_alone

BY_GRPC = {  # environment of all processes of a cluster that serves
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 << 20),
}
HTTP_CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
EVERY_ADDRESS = "[::]"  # in the address that a replica opens its port on


def http_host() -> str | None:
    """The address that this cluster's Serve answers HTTP on; None is every address.

    Raises:
        RayServeException: no Serve runs.
    """
    client = _get_global_client()
    return client.http_config.host if client else None


def metric_addresses() -> list[str]:
    """Where the nodes of this cluster that live export metrics, HOST:PORT."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    hosts = [(node["NodeManagerAddress"], node["MetricsExportPort"]) for node in nodes if node["Alive"]]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts]


def log_directory() -> Path:
    """Where the Ray that is initialised keeps the logs of this node."""
    node: Any = _private.worker._global_node
    return Path(node.get_logs_dir_path())


def listen_where_ray_does() -> None:
    """Called by a replica's constructor: it listens on loopback alone if all of Ray does."""
    if on_this_machine_alone():
        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        loopback = f"[{host}]" if ":" in host else host
        module: Any = replica
        add_port = module.add_port_to_grpc_server

        def add_loopback_port(server: Any, address: str) -> Any:
            return add_port(server, address.replace(EVERY_ADDRESS, loopback))

        module.add_port_to_grpc_server = add_loopback_port


def prefer_same_node(handle: DeploymentHandle[Any]) -> None:
    """Makes a handle call the replica of its own node where there is one, and lets threads wait for its answers.

    Args:
        handle: one that nothing was called by so far.
    """
    # Without a loop of its own (RAY_SERVE_THROUGHPUT_OPTIMIZED gives none) a router's answers can only be awaited.
    handle._init(_prefer_local_routing=True, _run_router_in_separate_loop=True)  # type: ignore[no-untyped-call]


def answers_threads(handle: DeploymentHandle[Any]) -> None:
    """Lets threads without an event loop wait for a handle's answers, also with RAY_SERVE_THROUGHPUT_OPTIMIZED.

    Args:
        handle: one that nothing was called by so far, or that this was done to.
    """
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=True)  # type: ignore[no-untyped-call]


class LateAppDeployment(ABC):
    """A deployment for `serve.ingress()` whose application is made on its replica, after its constructor."""

    @abstractmethod
    def asgi_app(self) -> FastAPI:
        """The application that answers this replica's requests."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self.asgi_app()
