"""The service on a real Ray Serve, over HTTP: answers, examples, a new bundle under load, a replica that dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions

from metacross import AdaptiveTagger, Client
from metacross.errors import UserError
from metacross.ray_session import start_ray
from serve.app import build
from tests.helpers.machines import wait_for
from tests.helpers.ray_service import TEXT, Load, replica_process, serve_logs
from tests.helpers.tiny_bundle import train_bundle, write_inputs

URL = "http://127.0.0.1:8123"


@pytest.fixture(scope="module")
def place(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("serve")
    shutil.copytree(tiny_bundle, place / "one")
    start_ray(cpus=4)
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=8123))
    run(place / "one", place)
    yield place
    ray_serve.shutdown()
    ray.shutdown()


def run(bundle: Path, place: Path, **settings: str) -> None:
    ray_serve.run(
        build(
            {
                "bundle": str(bundle),
                "serve.device": "cpu",
                "serve.replicas": "2",
                "serve.timeout_s": "120",  # everything is replaced at once, and the machine may be busy
                "serve.examples": str(place / "examples.db"),
                "serve.label_confidence": "0.3",  # a tiny bundle is not sure of much
                **{f"serve.{name}": value for name, value in settings.items()},
            }
        )
    )


@pytest.mark.cluster
def test_answers_are_the_taggers(place: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(place / "one", device="cpu")
    with Client(URL) as client:
        assert client.ready()
        assert client.model().source_sentences == len(tagger)
        for explain in (False, True):
            result = client.tag(TEXT, explain=explain)
            (expected,) = tagger.tag_texts([TEXT], explain=explain)
            found = [(e.start, e.end, e.label) for e in result.entities]
            assert found == [(e.start, e.end, e.label) for e in expected.entities()]
            assert [e.score for e in result.entities] == pytest.approx([e.score for e in expected.entities()], abs=1e-4)
        assert [s.text for s in result.support or ()] == [s.text for s in expected.support()]


@pytest.mark.cluster
def test_requests_are_logged_by_their_id_without_what_is_in_them(place: Path) -> None:
    said = httpx.post(
        f"{URL}/v1/entities", json={"text": "Xanthippe Quist left Oslo."}, headers={"x-request-id": "q-7"}
    )
    assert said.headers["x-request-id"] == "q-7"
    (line,) = wait_for(lambda: [line for line in lines_of(serve_logs(), "replica_*Ingress*") if '"q-7"' in line], 30)
    found = json.loads(line[line.index("{") :])
    assert (found["path"], found["status"]) == ("/v1/entities", 200) and found["ms"] > 0
    assert not any("Xanthippe" in line for line in lines_of(serve_logs(), "*"))


@pytest.mark.cluster
def test_prometheus_finds_what_the_documentation_names(place: Path) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "deploying" / "watching.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| (metacross_(?!train_)\w+)", documented, re.MULTILINE)) | {"metacross_batch_windows"}
    with Client(URL) as client:
        client.tag(TEXT)
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}

    def exported() -> str:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        return text if all(f"ray_{name}" in text for name in names) else ""

    text = wait_for(exported, 60)
    assert 'route="/v1/entities"' in text and 'status="200"' in text
    assert all(f'stage="{stage}"' in text for stage in ("encode", "search", "adapt", "tag"))
    assert len(names) == 11


def lines_of(logs: Path, files: str) -> list[str]:
    return [line for file in logs.glob(files) if file.is_file() for line in file.read_text().splitlines()]


@pytest.mark.cluster
def test_an_example_counts_at_once_on_every_replica(place: Path) -> None:
    text = "Zoe Quist flew to Xanten."
    with Client(URL) as client:
        (example,) = client.add_examples([{"text": text, "entities": [{"start": 0, "end": 9, "label": "PER"}]}])
        for _ in range(20):
            (result,) = client.tag([text], explain=True)
            assert (result.support or ())[0].example == example.id
        client.delete_example(example.id)
        for _ in range(20):
            (result,) = client.tag([text], explain=True)
            assert all(support.example is None for support in result.support or ())


@pytest.mark.cluster
def test_text_that_nobody_labelled_counts_at_once_on_every_replica(place: Path) -> None:
    text = "Anna Berg left Oslo."
    with Client(URL) as client:
        told = client.add_texts(text, language="de")
        assert (told.found, told.kept, told.labelled_by) == (1, 1, client.model().bundle), told
        for _ in range(20):
            (result,) = client.tag([text], explain=True)
            first = (result.support or ())[0]
            assert (first.example, first.language) == (told.examples[0], "de") and first.confidence is not None
        client.delete_example(told.examples[0])


@pytest.mark.chaos  # test_deploy.py does so in the way that is documented, and in less time
def test_a_new_bundle_goes_live_under_load(place: Path) -> None:
    two = train_bundle(write_inputs(place / "inputs"), "train.seed=7")
    with Client(URL) as client, Load(4, URL) as load:
        old = client.model().bundle
        load.wait_for(old, 20)
        run(two, place)
        new = AdaptiveTagger.from_pretrained(two, device="cpu").bundle.digest
        assert new != old
        load.wait_for(new, 40)
    assert load.told.keys() == {old, new}, "every answer came from one of the two, and none failed"
    run(place / "one", place)


@pytest.mark.cluster
def test_a_tagger_that_dies_fails_nobody(place: Path) -> None:
    texts = [f"Anna Berg left Oslo {number} times." for number in range(1500)]
    with Client(URL) as client, Load(4, URL) as load, ThreadPoolExecutor(1) as other:
        bundle = client.model().bundle
        load.wait_for(bundle, 20)
        results = client.stream(texts)
        begun = [next(results)]
        rest = other.submit(list, results)
        os.kill(replica_process("Tagger"), signal.SIGKILL)
        load.wait_for(bundle, load.told[bundle] + 60)
        assert [result.text for result in begun + rest.result(300)] == texts
    assert load.told.keys() == {bundle}, load.told


@pytest.mark.cluster
def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(place: Path) -> None:
    run(place / "one", place, replicas="1", batch_requests="1", queue="2")
    body = {"texts": [TEXT] * 250}

    def ask(_: int) -> tuple[int, float, httpx.Response]:
        began = time.monotonic()
        answer = httpx.post(f"{URL}/v1/entities", json=body, timeout=60)
        return answer.status_code, time.monotonic() - began, answer

    with ThreadPoolExecutor(16) as clients:
        told = list(clients.map(ask, range(16)))
    refused = [(seconds, answer) for status, seconds, answer in told if status == 503]
    assert Counter(status for status, _, _ in told) == {200: 16 - len(refused), 503: len(refused)}
    assert 0 < len(refused) < 16
    for _, answer in refused:
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Too many requests" in answer.json()["detail"]
    slowest = max(seconds for status, seconds, _ in told if status == 200)
    assert min(seconds for seconds, _ in refused) < slowest / 2, "who is refused does not wait first"
    with Client(URL) as client:
        assert client.tag(TEXT).entities, "a client tries again"


def test_what_cannot_be_served_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which bundle"):
        build({})
    with pytest.raises(UserError, match="no such directory"):
        build({"bundle": str(tmp_path / "nothing")})
    with pytest.raises(UserError, match="Unknown key serve"):
        build({"bundle": str(tmp_path), "serve.replica": "2"})
    with pytest.raises(UserError, match="does not exist"):
        build({"bundle": str(tmp_path), "serve.auth": str(tmp_path / "tokens.yaml")})
