"""Clients of the service, without torch: the calls, the answers' types and the errors.

Modules:
    client         Client and AsyncClient
    batches        many texts in requests of bounded size, and the lines of a stream's answers
    stored         what both do with examples and texts that the service stores
    connection     what both know of their service
    contract       the answers of the HTTP interface, which the service sends and the clients read
    wire           requests written, answers read, refusals turned into errors
    example_calls  those about examples and texts
    retries        which calls are tried again, and when
"""

from metacross.client.client import AsyncClient, Client
from metacross.client.connection import Settings
from metacross.client.contract import (
    AddedExample,
    AddedTexts,
    Adopted,
    DeletedExamples,
    Entity,
    Example,
    FieldError,
    ImportedExamples,
    Influence,
    LeftOut,
    Model,
    Result,
    Stretch,
    Support,
    WordInfluence,
)
from metacross.client.example_calls import ExampleFilters
from metacross.client.wire import Options, RequestRefused, ServiceUnavailable

__all__ = [
    "AddedExample",
    "AddedTexts",
    "Adopted",
    "AsyncClient",
    "Client",
    "DeletedExamples",
    "Entity",
    "Example",
    "ExampleFilters",
    "FieldError",
    "ImportedExamples",
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
