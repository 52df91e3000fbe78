"""moto's server, with one change.

AWS's client in C++, which pyarrow uses, asks for the role of an instance at an address without a slash at its end. moto
5.2 answers that with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

ROLE = "/latest/meta-data/iam/security-credentials"


def main() -> None:
    """Serve until the process is ended."""
    moto = DomainDispatcherApplication(create_backend_app)

    def application(request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] == ROLE:
            request["PATH_INFO"] += "/"
            request["RAW_URI"] = request["PATH_INFO"]
        return moto(request, respond)

    run_simple("0.0.0.0", 80, application, threaded=True)


if __name__ == "__main__":
    main()
