"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know about the answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve.web import problems
from serve.web.limits import Limits

_TEXT = {"schema": {"type": "string"}}
_EVERY = {"X-Request-Id": {"description": "of the request, as it came or was given", "required": True, **_TEXT}}
_SOME = {
    "401": {"WWW-Authenticate": {"description": "how to send a token", "required": True, **_TEXT}},
    "503": {
        "Retry-After": {
            "description": "seconds to wait",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}
_PROBLEM = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class DocumentedAPI(FastAPI):
    """FastAPI, whose document also tells the media type of problems, the headers of answers, and the limits.

    Args:
        limits: what a request may ask for.
        settings: FastAPI's.
    """

    def __init__(self, *, limits: Limits, **settings: Any) -> None:
        super().__init__(**settings)
        self._limits = limits

    def openapi(self) -> dict[str, Any]:
        """The document; FastAPI keeps it, and adding the same again changes nothing."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    response["headers"] = {**_EVERY, **_SOME.get(status, {})}
                    if problems.MEDIA_TYPE in response.get("content", {}):
                        # FastAPI puts a model under the media type of the route's good answers.
                        response["content"] = _PROBLEM
        self._limit(document["components"]["schemas"])
        return document

    def _limit(self, models: dict[str, Any]) -> None:
        entities = models["EntitiesRequest"]["properties"]
        for text in (entities["text"], models["NewExample"]["properties"]["text"]):
            _given(text)["maxLength"] = self._limits.characters
        texts, words = _given(entities["texts"]), _given(entities["words"])
        texts["maxItems"] = words["maxItems"] = self._limits.texts
        texts["items"]["maxLength"] = self._limits.characters


def _given(field: dict[str, Any]) -> dict[str, Any]:
    """What a field is where it is not null."""
    found: dict[str, Any] = next(case for case in field["anyOf"] if case["type"] != "null")
    return found
