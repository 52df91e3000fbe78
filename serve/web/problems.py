"""Errors as problem details (RFC 9457): what is wrong, in which field, and the fix; never a traceback."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from metacross.client.contract import FieldError, Problem
from serve.web.envelope import SECURITY_HEADERS

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("metacross.serve")


class ProblemError(Exception):
    """Ends a request with a problem as its answer.

    Args:
        status: HTTP status.
        detail: what is wrong, and the fix.
        field: the field of the request that is wrong, such as texts.3; "" where it is none in particular.
        headers: headers of the answer.
    """

    def __init__(self, status: int, detail: str, *, field: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}
        self.errors = (FieldError(field, detail),) if field else ()


def busy(detail: str, *, seconds: float = 1.0) -> ProblemError:
    """A problem 503 that asks to try again after some seconds."""
    return ProblemError(503, detail, headers={"Retry-After": str(max(1, math.ceil(seconds)))})


def install(app: FastAPI) -> None:
    """Makes an application answer every error as a problem."""

    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> JSONResponse:
        return answer(request, error.status, error.detail, errors=error.errors, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = tuple(FieldError(_field(e["loc"]), _sentence(e)) for e in error.errors())
        detail = "; ".join(f"{e.field}: {e.detail}" if e.field else e.detail for e in errors[:3])
        return answer(request, 422, f"The request is not valid. {detail}", errors=errors)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        return answer(request, error.status_code, _DETAILS.get(error.status_code, str(error.detail)), headers=headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error, extra={"request_id": request_id(request)})
        return answer(request, 500, "The service failed. Its log has the request id and the reason.")


def answer(
    request: Request,
    status: int,
    detail: str,
    *,
    errors: tuple[FieldError, ...] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem as an HTTP answer."""
    problem = described(status, detail, request_id(request), errors=errors)
    # Envelope adds these headers to other answers, but a failure (500) is answered outside of it.
    headers = {**SECURITY_HEADERS, **(headers or {})}
    if request.app.state.send_request_id:
        headers["x-request-id"] = problem.request_id
    return JSONResponse(asdict(problem), status, headers=headers, media_type=MEDIA_TYPE)


def described(status: int, detail: str, name: str, *, errors: tuple[FieldError, ...] = ()) -> Problem:
    """The problem of the request whose id is `name`."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors, request_id=name)


def request_id(request: Request) -> str:
    """The id that Envelope took from the request, or made for it."""
    return str(request.scope.get("metacross_request_id", ""))


def _methods(app: FastAPI, request: Request) -> list[str]:
    """The methods that the path of a request knows.

    Each method has a route of its own, and Starlette would name only those of the first.
    """
    routes = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))  # see envelope.py


_DETAILS = {
    400: "The body cannot be read. Send JSON in UTF-8, with numbers of a sensible length and not nested too deeply.",
    408: "The body did not arrive: for too long nothing came. Send it again.",
    413: "The body is too large. Send fewer texts a call, or use /v1/entities:stream.",
    404: "There is nothing here. GET /docs lists what there is.",
    405: "Not with this method. GET /docs lists what there is.",
}


def _field(location: tuple[Any, ...]) -> str:
    """Pydantic's location as a dotted name, without the part of the request that it is in."""
    return ".".join(str(part) for part in location if part not in ("body", "query", "path"))


def _sentence(error: dict[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["loc"] == ("body",) and error["type"].startswith(("model", "dict", "missing")):
        return "the body is not a JSON object; send one, with the header content-type: application/json"
    if error["type"] == "json_invalid":
        return "the body is not JSON: " + str(error.get("ctx", {}).get("error", "")).lower()
    return text[:1].lower() + text[1:]
