"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know about requests and answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve.web import problems
from serve.web.limits import Limits

_TEXT = {"schema": {"type": "string"}}
_ALWAYS = {
    "X-Request-Id": {
        "description": "The id that the request came with, or a new one.",
        "required": True,
        **_TEXT,
    }
}
_BY_STATUS = {
    "401": {"WWW-Authenticate": {"description": "How to send a token.", "required": True, **_TEXT}},
    "503": {
        "Retry-After": {
            "description": "Seconds to wait.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}
_PROBLEM = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class DocumentedAPI(FastAPI):
    """FastAPI whose document also has the media type of problems, the headers of answers, and the limits.

    Args:
        limits: what one request may ask for.
        **settings: keyword arguments of FastAPI.
    """

    def __init__(self, *, limits: Limits, **settings: Any) -> None:
        super().__init__(**settings)
        self._limits = limits

    def openapi(self) -> dict[str, Any]:
        """The document. FastAPI keeps it, so this adds to the same document again, which changes nothing."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    response["headers"] = {**_ALWAYS, **_BY_STATUS.get(status, {})}
                    if problems.MEDIA_TYPE in response.get("content", {}):
                        # FastAPI lists the model under the media type of the route's good answers.
                        response["content"] = _PROBLEM
        self._limit(document["components"]["schemas"])
        return document

    def _limit(self, models: dict[str, Any]) -> None:
        entities = models["EntitiesRequest"]["properties"]
        for text in (entities["text"], models["NewExample"]["properties"]["text"]):
            _not_null(text)["maxLength"] = self._limits.characters
        texts, words = _not_null(entities["texts"]), _not_null(entities["words"])
        texts["maxItems"] = words["maxItems"] = self._limits.texts
        new_texts = models["NewTexts"]["properties"]["texts"]
        new_texts["maxItems"] = self._limits.texts
        texts["items"]["maxLength"] = new_texts["items"]["maxLength"] = self._limits.characters


def _not_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field where it is not null."""
    schema: dict[str, Any] = next(case for case in field["anyOf"] if case["type"] != "null")
    return schema
