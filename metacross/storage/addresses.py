"""Runs that are kept at an address: in any filesystem that pyarrow knows (s3://, gs://, abfs://, hdfs://, file://).

Programs work in a local directory, and a `Mirror` copies files between it and the address. A directory's manifest is
copied last, so a directory whose copying was interrupted is recognised as incomplete.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from metacross.background import repeated
from metacross.errors import UserError, first_line
from metacross.storage.cache import default_cache_dir
from metacross.storage.directories import MANIFEST, write_directory
from metacross.storage.files import sha256

FOLLOW_SECONDS = 2.0  # between two checks for files that have changed while a run goes on


def is_address(place: str | Path) -> bool:
    """Whether this is an address rather than the path of a directory.

    >>> is_address("s3://bucket/runs"), is_address("runs/en")
    (True, False)
    """
    return "://" in str(place)


def join(address: str, name: str) -> str:
    """Appends a name to an address; options after a question mark stay at the end.

    >>> join("s3://bucket/runs?region=eu-west-1", "en")
    's3://bucket/runs/en?region=eu-west-1'
    """
    where, question, options = address.partition("?")
    return f"{where.rstrip('/')}/{name}{question}{options}"


def refuse_key(address: str) -> None:
    """Raises UserError where a key stands in an address."""
    if re.match(r"[^/]*//[^/@]*:[^/@]*@", address):
        raise UserError(
            "a key stands in an address of a run, which is shown and written down. Leave it out, and set the "
            "variables of the service instead, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on every node."
        )


@contextmanager
def working_copy(place: str | Path) -> Iterator[tuple[Path, Mirror | None]]:
    """Gives the local directory to work in for a run's directory or address.

    Args:
        place: a directory, or an address.

    Yields:
        The directory, and the mirror that copies between it and the address. For an address the directory is a
        temporary one, removed at the end; for a directory it is that directory itself, and there is no mirror.

    Raises:
        UserError: the address cannot be reached.
    """
    if not is_address(place):
        yield Path(place), None
        return
    with tempfile.TemporaryDirectory(prefix="metacross-", ignore_cleanup_errors=True) as local:
        yield Path(local), Mirror(str(place), Path(local))


class Mirror:
    """Copies files between an address and a local directory. Names are relative to both.

    Args:
        address: of a directory, which need not exist yet.
        local: the local directory.

    Raises:
        UserError: the filesystem is of an unknown kind or cannot be reached, or the address contains a key.
    """

    def __init__(self, address: str, local: Path) -> None:
        from pyarrow import fs

        refuse_key(address)
        self.address, self.local = address, local
        try:
            self.filesystem, root = fs.FileSystem.from_uri(address)
            self._root = PurePosixPath(root)
            self.exists("")
        except (OSError, ValueError, TypeError, NotImplementedError) as error:
            raise UserError(
                f"{address}: cannot be opened ({first_line(error)}). Check the address and its keys."
            ) from error

    def exists(self, name: str) -> bool:
        """Whether there is such a file or directory at the address."""
        from pyarrow.fs import FileType

        return bool(self.filesystem.get_file_info(self.path(name)).type != FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files and directories in a directory at the address; none if it does not exist.

        Raises:
            UserError: the address cannot be read.
        """
        try:
            return sorted({PurePosixPath(info.path).name for info in self._listed(folder, recursive=False)})
        except OSError as error:
            raise self._unreadable(folder, error) from error

    def push(self, name: str) -> None:
        """Copies a file or directory to the address; files of the directory that are only there are removed.

        Raises:
            UserError: the address cannot be written; the message names it.
        """
        local = self.local / name
        files = [local] if local.is_file() else sorted(f for f in local.rglob("*") if f.is_file())
        files.sort(key=lambda file: file.name == MANIFEST)  # last: a directory with a manifest counts as complete
        try:
            if local.is_dir():
                # While files are replaced, the directory is incomplete.
                self.remove(f"{name}/{MANIFEST}")
            for file in files:
                self._push_file(file, str(file.relative_to(self.local)))
            if local.is_dir():
                expected = {str(file.relative_to(self.local)) for file in files}
                for old in self._files(name) - expected:
                    self.remove(old)
        except OSError as error:
            where = join(self.address, name)
            raise UserError(f"{where}: cannot be written ({first_line(error)}). Mend that, then resume.") from error

    def pull(self, name: str) -> bool:
        """Copies a file or directory from the address, replacing local files; returns whether there was any file.

        Raises:
            UserError: the address cannot be read.
        """
        try:
            files = self._files(name)
            for file in sorted(files):
                self._pull_file(file)
        except OSError as error:
            raise self._unreadable(name, error) from error
        return bool(files)

    def remove(self, name: str) -> None:
        """Removes a file or directory at the address if it exists."""
        from pyarrow.fs import FileType

        kind = self.filesystem.get_file_info(self.path(name)).type
        if kind == FileType.File:
            self.filesystem.delete_file(self.path(name))
        elif kind == FileType.Directory:
            self.filesystem.delete_dir(self.path(name))

    @contextmanager
    def follow(self, *, up: Sequence[str] = (), down: Sequence[str] = ()) -> Iterator[None]:
        """Inside the block, a thread copies small files whenever they change.

        It checks every FOLLOW_SECONDS, and once more at the end of the block. If a check fails, the next one makes up
        for it.

        Args:
            up: files and directories that are copied to the address.
            down: files that are copied from the address.
        """
        seen: dict[str, Any] = {}  # times and sizes at the last copying, by name

        def copy_changes() -> None:
            for name in up:
                files = [self.local / name, *(self.local / name).rglob("*")]
                state = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
                if state and state != seen.get(name):
                    self.push(name)
                    seen[name] = state
            for name in down:
                info = self.filesystem.get_file_info(self.path(name))
                if info.is_file and (info.mtime_ns, info.size) != seen.get(name):
                    self.pull(name)
                    seen[name] = (info.mtime_ns, info.size)

        def try_to_copy() -> None:
            with suppress(UserError, OSError):
                copy_changes()

        with repeated(try_to_copy, seconds=FOLLOW_SECONDS, name="mirror"):
            yield

    def _push_file(self, file: Path, name: str) -> None:
        path = self.path(name)
        self.filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
        with file.open("rb") as source, self.filesystem.open_output_stream(path) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def _pull_file(self, name: str) -> None:
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.pulled")
        with self.filesystem.open_input_stream(self.path(name)) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        temporary.replace(target)

    def _files(self, name: str) -> set[str]:
        """The names of the files at the address: `name` itself, or all files below it."""
        if self.filesystem.get_file_info(self.path(name)).is_file:
            return {name}
        return {str(PurePosixPath(info.path).relative_to(self._root)) for info in self._listed(name) if info.is_file}

    def _listed(self, folder: str, *, recursive: bool = True) -> list[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path(folder), allow_not_found=True, recursive=recursive)
        return list(self.filesystem.get_file_info(selector))

    def _unreadable(self, name: str, error: OSError) -> UserError:
        return UserError(f"{join(self.address, name)}: cannot be read ({first_line(error)}). Mend that, then resume.")

    def path(self, name: str) -> str:
        """The path of a name within the filesystem."""
        return str(self._root / name)


def local_copy(address: str, check: Callable[[Path], None]) -> Path:
    """Copies a directory from an address into the cache, unless the cache has it already; returns the copy.

    Copies are kept under the SHA-256 of their manifest, so a directory that was replaced is copied again.

    Args:
        address: of a directory with a manifest.
        check: called with a local directory; raises unless it is complete.

    Raises:
        UserError: the address cannot be reached, or has no such directory.
    """
    with working_copy(address) as (scratch, mirror):
        assert mirror is not None
        if not mirror.pull(MANIFEST):
            raise UserError(f"{address}: not a bundle (no {MANIFEST}). Give the address that `metacross train` names.")
        target = default_cache_dir().expanduser().absolute() / "bundles" / sha256(scratch / MANIFEST)[:16]
        if not target.is_dir():
            mirror.pull("")
            check(scratch)
            write_directory(target, lambda folder: _copy(scratch, folder))
    return target


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
