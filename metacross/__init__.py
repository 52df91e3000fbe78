"""Meta-Cross: named entity recognition that adapts itself to every sentence, in languages it has no labels for.

    from metacross import AdaptiveTagger
    tagger = AdaptiveTagger.from_pretrained("runs/en/bundle")
    tagger("Angela Merkel reist nach Madrid.")

`import metacross` alone is quick: torch and the others come with the first use of `AdaptiveTagger`. `Client` and
`AsyncClient`, which let a service tag, need none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metacross.client.client import AsyncClient, Client
    from metacross.tagging.tagger import AdaptiveTagger

__all__ = ["AdaptiveTagger", "AsyncClient", "Client", "__version__"]
__version__ = "0.1.0"  # as in pyproject.toml


def __getattr__(name: str) -> Any:
    if name == "AdaptiveTagger":
        from metacross.tagging.tagger import AdaptiveTagger

        return AdaptiveTagger
    if name in ("AsyncClient", "Client"):
        from metacross.client import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
