"""The page at /docs: the OpenAPI document in Swagger UI, without a request to anywhere else."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>metacross: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Without validatorUrl: null Swagger UI would send the document's address to a service that checks documents.
_START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def add(app: FastAPI) -> None:
    """Adds the page and what it loads."""

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @app.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
    def script() -> Response:
        return _of_swagger_ui("swagger-ui-bundle.js", "text/javascript")

    @app.get("/docs/swagger-ui.css", include_in_schema=False)
    def style() -> Response:
        return _of_swagger_ui("swagger-ui.css", "text/css")


def _of_swagger_ui(name: str, media_type: str) -> Response:
    """A file of Swagger UI, of which only this package's copy is used."""
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=86400"})
