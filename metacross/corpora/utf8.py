"""Text as a file in UTF-8 can hold it: without lone surrogates, the halves of characters that damaged data has."""

from __future__ import annotations

import json
import re
from typing import Any

from metacross.corpora.raw import Oddities

_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str, place: str, oddities: Oddities) -> str:
    """Puts U+FFFD in the place of lone surrogates, so that no offset changes, and counts them.

    Args:
        text: the text to be written.
        place: where it is from, for messages.
        oddities: what is counted while writing.
    """
    text, replaced = _SURROGATE.subn("\ufffd", text)
    if replaced:
        oddities.count("lone surrogates written as U+FFFD, since UTF-8 has none", place, replaced)
    return text


def json_bytes(record: Any) -> bytes:
    r"""A value as JSON on one line, in UTF-8. JSON has escapes for lone surrogates, so they are kept.

    >>> json_bytes({"text": "né \ud800"}).decode()
    '{"text": "né \\ud800"}'
    """
    # Python's escape of a lone surrogate is also JSON's.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")
