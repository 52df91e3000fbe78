"""`metacross tag --server`: the same output as without a service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metacross.cli.remote import word_spans, word_tags
from metacross.client import Entity, ServiceUnavailable
from metacross.corpora.sentence import sentence_from_words
from metacross.corpora.words import join_words
from tests.helpers.client_service import TOKEN, Service, answers

if TYPE_CHECKING:
    from metacross.tagging.answers import TaggedEntity, TaggedText


def test_words_are_found_again() -> None:
    for words in (["New", "York", "。"], ["a", "a\u00a0b", " c"], ["👩🏽‍🚀", "𝔘"], []):
        text, spans = join_words(words)
        assert word_spans(words, text) == list(spans)
    with pytest.raises(ServiceUnavailable, match="does not go on with the word 'Bob' at 4"):
        word_spans(["Ada", "Bob"], "Ada Rob")


def test_entities_mark_words() -> None:
    spans = [(0, 3), (4, 8), (8, 9), (10, 12)]
    entities = [Entity(0, 8, "", "LOC"), Entity(8, 9, "", "PER"), Entity(10, 11, "", "ORG"), Entity(11, 12, "", "PER")]
    assert word_tags(spans, entities) == ("B-LOC", "I-LOC", "B-PER", "B-ORG")
    assert word_tags(spans, [Entity(3, 4, "", "LOC"), Entity(12, 20, "", "LOC")]) == ("O",) * 4


def program(*arguments: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metacross", "tag", *map(str, arguments)]
    settings = {"env": {**os.environ, **environment}, "timeout": 240, "encoding": "utf-8"}
    return subprocess.run(command, input=stdin, capture_output=True, check=False, **settings)  # type: ignore[call-overload, no-any-return]


def test_text_on_standard_input_is_tagged_there(service: Service) -> None:
    service.token = TOKEN
    text = "Ada left 👋. Bob stayed."
    done = program("--server", service.url, stdin=f"{text}\n\nnobody\n", METACROSS_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    first = [{"start": 0, "end": 3, "text": "Ada", "label": "PER", "score": 0.5}]
    second = [{"start": 12, "end": 15, "text": "Bob", "label": "PER", "score": 0.5}]
    assert records == [
        {"text": text, "entities": first + second},
        {"text": "", "entities": []},
        {"text": "nobody", "entities": []},
    ]
    assert [list(e) for e in records[0]["entities"]] == [["start", "end", "text", "label", "score"]] * 2
    assert [body["texts"] for body in service.seen] == [[text, "nobody"]], "an empty line is not sent"


def test_json_lines_keep_their_keys(service: Service, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"id": 7, "text": "Ada"}, {"words": ["met", "Ada", "Lovelace"]}, {"tokens": []}]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = program("--server", service.url, path, "--explain")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert list(first) == ["id", "text", "entities", "plain", "support"]
    assert list(second) == ["words", "text", "ner_tags", "entities", "plain", "support"]
    assert second["ner_tags"] == ["O", "B-PER", "I-PER"]
    source = {"start": 0, "end": 3, "text": "Ada", "label": "PER"}
    told = {"similarity": 0.75, "text": "Ada met Bob.", "entities": [source], "start": 0, "end": 3}
    assert first["support"] == [told]
    assert third == {"tokens": [], "text": "", "ner_tags": [], "entities": [], "plain": [], "support": []}


def test_columns_in_and_out(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "in.conll"
    path.write_text("met O\nAda O\nLovelace O\n\n北 O\n京 O\n", encoding="utf-8")
    done = program("--server", service.url, path, "--output", "conll", "--no-adapt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "met\tO\nAda\tB-PER\nLovelace\tI-PER\n\n北\tO\n京\tO\n\n"
    assert service.seen[0]["adapt"] is False
    explained = program("--server", service.url, "--output", "conll", "--explain", stdin="Ada left. Bob stayed.")
    assert explained.stdout.splitlines()[:6] == [
        "# support 0.7500 Ada met Bob.",
        "# plain PER=Ada",
        "Ada\tB-PER",
        "left\tO",
        ".\tO",
        "",
    ]


def contract(tagged: TaggedText, body: dict[str, Any]) -> dict[str, Any]:
    """A tagger's own answer in the contract's words."""

    def entities(given: Sequence[TaggedEntity]) -> list[dict[str, Any]]:
        return [{"start": e.start, "end": e.end, "text": e.text, "label": e.label, "score": e.score} for e in given]

    answer = {"text": tagged.text, "entities": entities(tagged.entities()), "windows": 1, "adapted": body["adapt"]}
    if not body["explain"]:
        return answer
    support = [
        {"similarity": s.similarity, "text": s.text, "entities": entities(s.entities), "start": s.start, "end": s.end}
        for s in tagged.support()
    ]
    return {**answer, "plain": entities(tagged.plain()), "support": support}


def masked(output: bytes) -> tuple[bytes, list[float]]:
    """Bytes without their decimals, which may differ by rounding, and the decimals."""
    decimals = re.compile(rb"-?\d+\.\d+(?:e-?\d+)?")
    without = re.sub(rb', "window": \d+', b"", output)
    return decimals.sub(b"#", without), [float(number) for number in decimals.findall(without)]


@pytest.mark.parametrize("options", [[], ["--explain"], ["--no-adapt"]], ids=str)
def test_the_same_is_written_here_and_there(
    service: Service, tiny_bundle: Path, tmp_path: Path, options: list[str]
) -> None:
    from typer.testing import CliRunner

    from metacross.cli.app import app
    from metacross.tagging.answers import TaggedText
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(tiny_bundle)

    def tag(body: dict[str, Any]) -> list[dict[str, Any]]:
        how = {"adapt": body["adapt"], "explain": body["explain"]}
        if "texts" in body:
            return [contract(tagged, body) for tagged in tagger.tag_texts(body["texts"], **how)]
        sentences = [sentence_from_words(words) for words in body["words"]]
        tagged = zip(sentences, tagger.tag_sentences(sentences, **how), strict=True)
        return [contract(TaggedText(given.text, (found,), (0,)), body) for given, found in tagged]

    service.tag = tag
    path = tmp_path / "in.jsonl"
    lines = [
        {"n": 1, "text": "👋 Anna Berg left Oslo.  Jan Smit lives in Lima. "},
        {"tokens": ["Anna", "Berg", "spoke", "京", "。"]},
        {"text": " "},
        {"words": []},
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    for output in ("jsonl", "conll"):
        here, there = (
            CliRunner().invoke(app, ["tag", *place, str(path), "--output", output, *options])
            for place in ([str(tiny_bundle)], ["--server", service.url])
        )
        assert (here.exit_code, there.exit_code, there.stderr) == (0, 0, "")
        (same, decimals), (wanted, expected) = masked(there.stdout_bytes), masked(here.stdout_bytes)
        assert same == wanted
        assert decimals == pytest.approx(expected, abs=1e-4)
    assert b"B-" in here.stdout_bytes
    assert len(service.seen) == 4


def test_what_cannot_be_done_exits_with_2_and_what_failed_with_1(service: Service, tmp_path: Path) -> None:
    refused = program("--server", service.url, stdin="Ada\nRefuse\n")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {service.url}/v1/entities: 422 one text is refused")
    service.token = TOKEN
    denied = program("--server", service.url, stdin="Ada", METACROSS_TOKEN="wr0ng")
    assert (denied.returncode, "401" in denied.stderr, "wr0ng" in denied.stderr) == (2, True, False)
    service.faults.append(answers(500, content_type="application/problem+json"))
    failed = program("--server", service.url, stdin="Ada")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "500 Internal Server Error" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give BUNDLE, or --server URL"),
        (["--server", "http://h", "runs/en/bundle", "news.txt"], "leave out --server, or runs/en/bundle"),
        (["--server", "http://h", "--examples", "de.conll"], "POST /v1/examples"),
        (["--server", "h:80"], "expected an address such as"),
        (["--server", "http://h", "no/such.txt"], "no/such.txt: no such file"),
        (["--server", "http://h", "--explain", "--no-adapt"], "leave out --no-adapt"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    from typer.testing import CliRunner

    from metacross.cli.app import app

    done = CliRunner().invoke(app, ["tag", *arguments])
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_tagging_there_needs_no_torch(service: Service) -> None:
    code = (
        "import sys\nfrom metacross.cli.app import main\n"
        "try: main()\nfinally: print(sorted({'torch', 'transformers', 'ray', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "tag", "--server", service.url]
    done = subprocess.run(command, input=b"Ada", capture_output=True, timeout=240, check=False)
    assert done.stdout.splitlines()[1:] == [b"[]"], done.stderr
