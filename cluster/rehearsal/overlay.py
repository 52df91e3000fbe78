"""Puts a rehearsal's few changes over a file for `ray up`, and says each.

    python overlay.py cluster/aws.yaml cluster/rehearsal/aws_overlay.yaml >rehearsed.yaml

Mappings are joined key by key. Any other value of the overlay takes the place of the file's, which must have it.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import yaml


def main() -> None:
    """Write the changed file to stdout and what was changed to stderr."""
    file, overlay = (yaml.safe_load(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:])
    changed, changes = overlaid(file, overlay)
    print("\n".join(changes), file=sys.stderr)
    yaml.safe_dump(changed, sys.stdout, sort_keys=False, width=1000)


def overlaid(file: dict[str, Any], overlay: dict[str, Any], place: str = "") -> tuple[dict[str, Any], list[str]]:
    """The file with the overlay's values, and a line for each value that differs.

    Raises:
        KeyError: the overlay has a key that the file does not have.
    """
    result, changes = copy.deepcopy(file), []
    for key, value in overlay.items():
        here = f"{place}{key}"
        if key not in file:
            raise KeyError(f"the file has no {here}")
        if isinstance(value, dict) and isinstance(file[key], dict):
            result[key], inner = overlaid(file[key], value, f"{here}.")
            changes += inner
        else:
            result[key] = value
            changes.append(f"{here}: {file[key]} -> {value}")
    return result, changes


if __name__ == "__main__":
    main()
