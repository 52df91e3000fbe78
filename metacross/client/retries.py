"""Which calls are tried again, when, and how often; and the error when no answer comes."""

from __future__ import annotations

import math
import random
import re
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

import httpx

from metacross.client.wire import Call, ServiceUnavailable, answered, is_problem
from metacross.errors import UserError

T = TypeVar("T")

FIRST_SECONDS = 0.5  # the longest pause before the second attempt; doubled before each further one
LONGEST_SECONDS = 30.0  # that doubling ends here; what the service asks for itself comes on top

# The request was not sent, so the service cannot have done it.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_TAKEN = (429, 503)  # the service has no room for it, or not for more of this client
# The connection was lost under the request; the service may have done it.
_CUT_OFF = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


class Attempts(Generic[T]):
    """One call's attempts. It neither sends nor waits, so that it serves both clients: they ask it after each attempt.

    Args:
        call: what is sent.
        url: the address without credentials, for messages.
        retries: how many attempts may follow the first.
        max_wait: seconds after the begin of the first attempt in which others may begin.
        timeout: seconds that the service may be silent, for messages.
    """

    def __init__(self, call: Call[T], *, url: str, retries: int, max_wait: float, timeout: float) -> None:
        self._call, self._url, self._timeout = call, url, timeout
        self._retries, self._max_wait = retries, max_wait
        self._begin = time.monotonic()
        self._made = self._done = 0
        self._maybe_done = False  # the service may have done what an earlier attempt asked for

    def pause(self, outcome: httpx.Response | httpx.RequestError, *, done: int = 0) -> float | None:
        """Seconds to wait before the next attempt; None where this outcome is the last.

        Args:
            outcome: of the attempt that was made.
            done: how much of the call is done now. If that is more than before, the next attempt counts as the second.
        """
        if done > self._done:
            self._begin, self._made, self._done = time.monotonic(), 0, done
        self._made += 1
        if self._made > self._retries or not _may_repeat(outcome):
            return None
        # Random, so that not all clients of a service that was full come back at the same moment.
        seconds = random.uniform(0, min(FIRST_SECONDS * 2 ** (self._made - 1), LONGEST_SECONDS))
        if isinstance(outcome, httpx.Response):
            seconds += retry_after(outcome.headers.get("retry-after", "")) or 0
        if time.monotonic() + seconds > self._begin + self._max_wait:
            return None
        self._maybe_done |= not (isinstance(outcome, _NOT_SENT) or _status(outcome) in _NOT_TAKEN)
        return seconds

    def result(self, outcome: httpx.Response | httpx.RequestError) -> T:
        """What the last outcome means.

        Raises:
            RequestRefused: the service refuses the request.
            UserError: the address is wrong.
            ServiceUnavailable: no answer, or none that can be used.
        """
        if isinstance(outcome, httpx.RequestError):
            raise self._unanswered(outcome) from outcome
        if self._call.method == "DELETE" and self._maybe_done and outcome.status_code == 404:
            return self._call.read(None)  # an earlier attempt deleted it, and its answer was lost
        return answered(self._call, outcome, url=self._url, attempts=self._made)

    def _unanswered(self, error: httpx.RequestError) -> UserError | ServiceUnavailable:
        mistake = _mistake(error)
        if mistake:
            return UserError(f"{self._url}: {mistake}")
        if isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout)):
            said = f"no answer within {self._timeout:g} s. Send less at once, or allow more time (timeout=...)"
        else:
            tries = f" after {self._made} attempts" if self._made > 1 else ""
            said = f"no answer ({_reason(error)}){tries}. Check that the service runs there, or try again later"
        return ServiceUnavailable(f"{self._url}: {said}.")


def retry_after(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date; None where it cannot be read.

    >>> retry_after("7"), retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after("soon")
    (7.0, 0.0, None)
    """
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]*)?\s*", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _may_repeat(outcome: httpx.Response | httpx.RequestError) -> bool:
    if isinstance(outcome, httpx.Response):
        # A 500 that the service did not describe itself: the replica died, and the proxy before it answered.
        died = outcome.status_code == 500 and not is_problem(outcome)
        return died or outcome.status_code in (*_NOT_TAKEN, 502, 504)
    if isinstance(outcome, _NOT_SENT):
        return _mistake(outcome) is None
    # Not after a timeout: the service still works on the first request, and a second one would slow it further.
    return isinstance(outcome, _CUT_OFF)


def _status(outcome: httpx.Response | httpx.RequestError) -> int | None:
    return outcome.status_code if isinstance(outcome, httpx.Response) else None


def _mistake(error: httpx.RequestError) -> str | None:
    """What is wrong with the address, where that is why no connection came about."""
    if not isinstance(error, httpx.ConnectError):
        return None
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({cause.verify_message}). Use the name that the certificate is for; "
                "where an authority of your own signed it, name its file in SSL_CERT_FILE."
            )
        if isinstance(cause, ssl.SSLError):
            return "no TLS is spoken there. Is it http:// rather than https://, or another port?"
        if isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            return "there is no host of this name. Check the address."
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: httpx.RequestError) -> str:
    """What the system says, where it says anything."""
    causes = [cause for cause in _causes(error) if isinstance(cause, OSError)]
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "connection refused"  # asyncio's own text repeats the address
    return next((cause.strerror for cause in causes if cause.strerror), str(error) or type(error).__name__)
