"""A file is written completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from metacross.storage.files import file_record, sha256, temporary_name, write_file, write_json


def test_text_bytes_and_json(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "é\ud800")
    assert path.read_bytes() == "é\\ud800".encode()
    write_file(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_json(path, {"name": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é"}
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    write_file(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new")
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "other", "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "file", []
    write_file(path, "old")
    fsync = os.fsync

    def looking(descriptor: int) -> None:
        seen.append((path.read_text(), os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    write_file(path, "newer")
    assert seen == [("old", 5)]
    assert path.read_text() == "newer"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "file", "content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", ["a" * 200_000, "b" * 100_000]
    write_file(path, contents[0])
    over = threading.Event()

    def write() -> None:
        for i in range(60):
            write_file(path, contents[i % 2])
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        assert path.read_text() in contents
    writer.join()


def test_temporary_names_are_hidden_and_differ(tmp_path: Path) -> None:
    names = {temporary_name(tmp_path / "file").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".file.") and name.endswith(".tmp") for name in names)


def test_records_of_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert sha256(tmp_path / "file") == digest
    assert file_record(tmp_path / "file") == {"bytes": 7, "sha256": digest}
