"""Whether the Hugging Face hub can be asked at all, found out in seconds instead of minutes of retries."""

from __future__ import annotations

import os
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5


def only_local(name: str | os.PathLike[str]) -> bool:
    """Whether to look for an encoder in local directories and the hub's cache only.

    True for a directory, and where no connection to the hub (or to the proxy in front of it) comes about: the hub's
    own client tries that again and again, for half a minute for each file.
    """
    return Path(name).is_dir() or not _hub_answers()


def _hub_answers() -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    hub = urlsplit(constants.ENDPOINT)
    proxy = urllib.request.getproxies().get(hub.scheme)
    if proxy and hub.hostname and not urllib.request.proxy_bypass(hub.hostname):
        hub = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout=TIMEOUT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
