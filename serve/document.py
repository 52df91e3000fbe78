"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know about the answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve import problems

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
    """FastAPI, whose document also tells the media type of problems and the headers of answers."""

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
        return document
