"""What serve/ray_internals.py uses of Ray's private names is still there, and still takes what it is given.

A failure names what an upgrade of Ray took away. Look in serve/ray_internals.py for what it was used for.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import ray
from fastapi import FastAPI
from ray import serve as ray_serve
from uvicorn.config import HTTP_PROTOCOLS

from serve import ray_internals
from tests.conftest import ENVIRONMENT

READ_IN = "2.60.0"


def private(module: str, name: str) -> Any:
    """Something of Ray by its dotted name within a module; the test fails where it is gone."""
    found = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            pytest.fail(f"Ray {ray.__version__} has no {module}.{name}, which serve/ray_internals.py uses")
        found = getattr(found, part)
    return found


def test_they_were_read_in_the_installed_ray() -> None:
    assert f"Ray {READ_IN}" in (ray_internals.__doc__ or "")
    assert ray.__version__ == READ_IN, "read the private names in this Ray again, then raise the version named there"


def test_the_address_of_serve() -> None:
    client = private("ray.serve.context", "_get_global_client")
    inspect.signature(client).bind()
    assert isinstance(private("ray.serve._private.client", "ServeControllerClient.http_config"), property)
    assert "host" in private("ray.serve.config", "HTTPOptions").model_fields, "HTTPOptions has no host any more"


def test_where_a_replica_listens() -> None:
    private("ray.serve._private.replica", "add_port_to_grpc_server")
    source = inspect.getsource(importlib.import_module("ray.serve._private.replica"))
    assert f'add_port_to_grpc_server(self._server, "{ray_internals.EVERY_ADDRESS}:0")' in source


def test_the_function_that_is_called_before_http_is_taken() -> None:
    source = inspect.getsource(importlib.import_module("ray.serve._private.constants"))
    assert f'"{ray_internals.HTTP_CALLBACK}", None' in source
    private("ray.serve._private.http_util", "configure_http_middlewares")
    assert "uvicorn.protocols.http.auto:AutoHTTPProtocol" in HTTP_PROTOCOLS.values(), "see serve/http_headers.py"


def test_the_environment_by_which_requests_go_by_grpc() -> None:
    source = inspect.getsource(importlib.import_module("ray.serve._private.constants"))
    assert all(f'"{name}"' in source for name in ray_internals.BY_GRPC)
    assert ENVIRONMENT.items() >= ray_internals.BY_GRPC.items(), "tests run what is deployed"


def test_the_directory_of_logs() -> None:
    assert inspect.isfunction(private("ray._private.node", "Node.get_logs_dir_path"))
    private("ray._private.worker", "_global_node")  # None before Ray is initialised


def test_a_handle_that_prefers_its_own_node() -> None:
    inspect.signature(private("ray.serve.handle", "DeploymentHandle._init")).bind(None, _prefer_local_routing=True)
    options = {field.name for field in fields(private("ray.serve._private.handle_options", "InitHandleOptions"))}
    for option in ("_prefer_local_routing", "_run_router_in_separate_loop"):
        assert option in options, f"a handle's _init takes no {option} any more"


def test_an_application_that_is_made_late() -> None:
    hook = private("ray.serve._private.replica", "SERVE_BUILD_ASGI_APP_METHOD")
    assert hook in vars(ray_internals.LateAppDeployment), f"Serve makes a late application by {hook} now"

    class Late(ray_internals.LateAppDeployment):
        def asgi_app(self) -> FastAPI:
            return FastAPI(title="late")

    wrapped = ray_serve.ingress()(Late)
    assert getattr(wrapped, hook)(Late()).title == "late"


def test_no_other_file_of_the_service_uses_a_private_name_of_ray(root: Path) -> None:
    marks = ("_private", "import _", "._init(", "__serve_")
    for file in (root / "serve").rglob("*.py"):
        if file.name != "ray_internals.py":
            text = file.read_text(encoding="utf-8")
            assert not [mark for mark in marks if mark in text], f"{file}: belongs into serve/ray_internals.py"
