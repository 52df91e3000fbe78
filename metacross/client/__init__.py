"""Clients of the service, without torch: the calls, the answers' types and the errors.

Modules:
    client      Client and AsyncClient
    connection  what both know of their service
    contract    the answers of the HTTP interface, which the service sends and the clients read
    wire        requests written, answers read, refusals turned into errors
    retries     which calls are tried again, and when
"""

from metacross.client.client import AsyncClient, Client
from metacross.client.connection import Settings
from metacross.client.contract import (
    AddedTexts,
    Adopted,
    Entity,
    Example,
    FieldError,
    Influence,
    LeftOut,
    Model,
    Result,
    Stretch,
    Support,
    WordInfluence,
)
from metacross.client.wire import Options, RequestRefused, ServiceUnavailable

__all__ = [
    "AddedTexts",
    "Adopted",
    "AsyncClient",
    "Client",
    "Entity",
    "Example",
    "FieldError",
    "Influence",
    "LeftOut",
    "Model",
    "Options",
    "RequestRefused",
    "Result",
    "ServiceUnavailable",
    "Settings",
    "Stretch",
    "Support",
    "WordInfluence",
]
