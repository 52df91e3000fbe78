"""Clients of the service, without torch: the calls, the answers' types and the errors."""

from metacross.client.client import AsyncClient, Client
from metacross.client.connection import Settings
from metacross.client.contract import Entity, Example, FieldError, Model, Result, Support
from metacross.client.wire import Options, RequestRefused, ServiceUnavailable

__all__ = [
    "AsyncClient",
    "Client",
    "Entity",
    "Example",
    "FieldError",
    "Model",
    "Options",
    "RequestRefused",
    "Result",
    "ServiceUnavailable",
    "Settings",
    "Support",
]
