"""The page that the service shows at /: its files, and the strictest content security policy that it works under."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request, Response

from serve.web.auth import grants_of
from serve.web.problems import ProblemError
from serve.web.service import Service

FILES = Path(__file__).parent / "page_files"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}
# Scripts, styles and requests of this service alone; nothing inline, no forms that are sent, no HTML made of strings.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def add(app: FastAPI, service: Service) -> None:
    """Adds the page, what it loads, and what it asks to know what to show."""

    @app.get("/page/access", include_in_schema=False)
    async def access(request: Request) -> dict[str, object]:
        """What the request's token may do, and whether there are examples; the page hides the rest."""
        return {"may": sorted(grants_of(service.tokens, request)), "keeps_examples": service.store is not None}

    add_files(app)  # after it, because every other name below /page/ is a file's


def add_files(app: FastAPI) -> None:
    """Adds the page and what it loads."""
    parts = {path.name: path for path in FILES.iterdir() if path.suffix in MEDIA_TYPES}

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return _file(FILES / "index.html", "text/html")

    @app.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in parts:
            raise ProblemError(404, f"The page has no file {name[:100]!r}.")
        return _file(parts[name], MEDIA_TYPES[parts[name].suffix])


def _file(path: Path, media_type: str) -> Response:
    # Modules that a browser kept would not fit those of a newer service.
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(path.read_bytes(), media_type=f"{media_type}; charset=utf-8", headers=headers)
