"""The results of an unfinished adoption, kept beside its output so that the same command goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from metacross.errors import UserError
from metacross.storage.files import write_file, write_json

FACTS = "made_from.json"


class Work:
    """A directory of intermediate results. It is emptied if what they were made from has changed.

    Args:
        out: where the result will be; the directory is `.NAME.adopting` beside it.
        facts: what the results are made from, as JSON.

    Attributes:
        folder: the directory.

    Raises:
        UserError: the directory cannot be written.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any]) -> None:
        self.folder = out.with_name(f".{out.name}.adopting")
        path = self.folder / FACTS
        facts = json.loads(json.dumps(facts))  # as they are read back
        try:
            if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != facts:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
                write_json(path, facts)
        except OSError as error:
            what = f"{self.folder}: cannot be written ({error.strerror or error})"
            raise UserError(f"{what}. Choose another --out.") from error

    def has(self, name: str) -> bool:
        """Whether an earlier call left the result of this name."""
        return self._path(name).exists()

    def kept(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of this name: those that an earlier call left, else what `compute` returns, which is kept.

        Raises:
            UserError: the disk is full.
        """
        path = self._path(name)
        if not path.exists():
            try:
                write_file(path, save({key: tensor.contiguous() for key, tensor in compute().items()}))
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror or error}). Free some space.") from error
        return load_file(path)

    def remove(self) -> None:
        """Removes the directory, when the result is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
