"""What is tried again, when, and how often."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from metacross.client import RequestRefused, ServiceUnavailable
from metacross.client.retries import FIRST_SECONDS, retry_after
from metacross.errors import RunError
from tests.helpers.client_service import Asked, Fault, Service, answers, cut_off, done_then_cut_off, silent


def test_a_full_queue_is_waited_for_as_it_says(service: Service, ask: Asked) -> None:
    date = formatdate(time.time() + 3600, usegmt=True)
    service.faults.extend([answers(503, retry_after="3"), answers(503, retry_after=date), answers(503)])
    assert ask(service.url, "tag", "Ada").text == "Ada"
    first, second, third = ask.slept
    assert 3 <= first <= 3 + FIRST_SECONDS
    assert 3000 < second <= 3600 + 2 * FIRST_SECONDS
    assert 0 <= third <= 4 * FIRST_SECONDS


def test_a_client_that_asked_for_too_much_waits_as_it_is_told(service: Service, ask: Asked) -> None:
    service.faults.append(answers(429, retry_after="3"))
    ask(service.url, "add_examples", [{"text": "Ada", "entities": []}])  # which is never sent twice otherwise
    assert ask.slept[0] >= 3 and len(service.examples) == 1


@pytest.mark.parametrize(
    "fault", [answers(500), answers(502), answers(504), cut_off], ids=["500 of a proxy", "502", "504", "cut off"]
)
def test_what_may_be_done_twice_is_tried_again(service: Service, ask: Asked, fault: Fault) -> None:
    service.faults.extend([fault, fault])
    assert ask(service.url, "tag", ["Ada"])[0].text == "Ada"
    assert (len(service.requests), len(ask.slept)) == (3, 2)


def test_a_service_that_comes_up_is_waited_for(ask: Asked) -> None:
    late = Service()
    ask.during_pause = lambda: late.start() if len(ask.slept) == 2 else None
    try:
        assert ask(late.url, "add_examples", [{"text": "Ada", "entities": []}])[0].id == 1, "nothing had arrived"
    finally:
        late.stop()


def test_attempts_have_an_end(service: Service, ask: Asked) -> None:
    service.faults.extend([answers(503, "busy")] * 9)
    with pytest.raises(ServiceUnavailable, match="503 Service Unavailable after 4 attempts") as caught:
        ask(service.url, "tag", "Ada", retries=3)
    assert isinstance(caught.value, RunError)
    assert (caught.value.status, caught.value.request_id) == (503, "r-9")
    assert (len(service.requests), len(ask.slept)) == (4, 3)


def test_a_wait_that_is_too_long_is_not_begun(service: Service, ask: Asked) -> None:
    service.faults.append(answers(503, retry_after="3600"))
    with pytest.raises(ServiceUnavailable, match="503"):
        ask(service.url, "tag", "Ada", max_wait=60)
    assert ask.slept == []


def test_examples_are_never_stored_twice(service: Service, ask: Asked) -> None:
    example = [{"text": "Ada", "entities": []}]
    service.faults.extend([done_then_cut_off, *map(answers, (500, 502, 503, 504))])
    assert [e.id for e in ask(service.url, "add_examples", example)] == [1]
    assert (list(service.examples), len(ask.slept), len(service.keys)) == ([1], 5, 1)
    assert [e.id for e in ask(service.url, "add_examples", example)] == [1, 2], "another call has another name"


def test_a_deletion_that_was_cut_off_is_no_error_afterwards(service: Service, ask: Asked) -> None:
    ask(service.url, "add_examples", [{"text": "Ada", "entities": []}])
    service.faults.append(done_then_cut_off)
    ask(service.url, "delete_example", 1)
    assert service.examples == {}
    service.faults.append(answers(503))  # this one did nothing
    with pytest.raises(RequestRefused, match="no example 1"):
        ask(service.url, "delete_example", 1)


def test_a_slow_answer_is_not_asked_for_again(service: Service, ask: Asked) -> None:
    service.faults.append(silent)
    with pytest.raises(ServiceUnavailable, match=r"no answer within 0\.3 s\. Send less at once"):
        ask(service.url, "tag", "Ada", timeout=0.3)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 1.5 ", 1.5),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds
