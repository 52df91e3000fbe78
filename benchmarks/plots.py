"""What all plots of the benchmarks share."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save(figure: Any, path: Path) -> list[Path]:
    """Writes a matplotlib figure as path.png and path.svg, closes it, and returns both paths."""
    from matplotlib import pyplot

    paths = [path.with_name(path.name + suffix) for suffix in (".png", ".svg")]
    for target in paths:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=150)
    pyplot.close(figure)
    return paths
