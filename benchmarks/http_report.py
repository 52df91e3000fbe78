"""What benchmarks.serving_http prints and draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from rich.table import Table

from benchmarks.http_client import Seen, percentile
from benchmarks.http_service import INSIDE, OUTSIDE, STAGES
from benchmarks.plots import save
from benchmarks.scaling_report import spread

CLIENTS = (1, 8, 64)
WAYS = {"plain": False, "adapted": True}
PARTS = (*STAGES, INSIDE, OUTSIDE)
COLORS = ("#2a6f97", "#89c2d9", "#e09f3e", "#5b8e7d", "#b7b7a4", "#dddddd")  # in that order


@dataclass(frozen=True)
class Block:
    """Requests of one way from so many clients, in one repeat."""

    repeat: int
    clients: int
    way: str
    seen: Seen
    stages: Mapping[str, float]  # ms a request
    batches: int
    misses: int  # support sentences whose factors were not at hand


@dataclass
class Found:
    """What was measured behind one proxy."""

    proxy: str
    floors: dict[int, Seen] = field(default_factory=dict)  # of /healthz, by the number of clients
    in_process: dict[str, list[float]] = field(default_factory=dict)  # texts a second by way, one figure a repeat
    blocks: list[Block] = field(default_factory=list)
    warm_up_errors: dict[str, int] = field(default_factory=dict)

    def of(self, clients: int, way: str) -> list[Block]:
        """One block a repeat."""
        return [block for block in self.blocks if (block.clients, block.way) == (clients, way)]

    def ratios(self, clients: int, figure: Callable[[Seen], float]) -> list[float]:
        """Adapted over plain, within each repeat."""
        pairs = zip(self.of(clients, "adapted"), self.of(clients, "plain"), strict=True)
        return [figure(a.seen) / (figure(b.seen) or float("nan")) for a, b in pairs]

    def of_in_process(self, clients: int, way: str) -> list[float]:
        """Requests a second over the rate of a tagger without a service, within each repeat."""
        pairs = zip(self.of(clients, way), self.in_process[way], strict=True)
        return [block.seen.rate / rate for block, rate in pairs]

    def part_ms(self, clients: int, way: str, part: str) -> float:
        """Mean ms a request that went into a part."""
        return fmean(block.stages[part] for block in self.of(clients, way))


def floor_lines(found: Found) -> list[str]:
    """What a request takes that no Tagger sees."""
    lines = []
    for clients, seen in found.floors.items():
        own = 1000 * seen.cpu_seconds / max(1, len(seen.latencies))
        lines.append(
            f"{found.proxy}, {clients} at once, GET /healthz: p50 {seen.ms(50):.1f} ms, {seen.rate:.0f} requests/s, "
            f"{own:.2f} ms a request of the clients' own; {sum(seen.errors.values())} errors"
        )
    return lines


def latency_table(every: Sequence[Found]) -> Table:
    """Rates are medians over the repeats, percentiles are of all requests of all repeats."""
    ratios = ("requests/s, adapted / plain", "p50, adapted / plain")
    rates = ("requests/s", "of in process")
    table = Table("proxy", "clients", "way", *rates, "p50, ms", "p95, ms", "p99, ms", *ratios, "errors")
    for found in every:
        for clients in CLIENTS:
            for way, adapted in WAYS.items():
                seen = [block.seen for block in found.of(clients, way)]
                latencies = [1000 * seconds for one in seen for seconds in one.latencies]
                compared = ["", ""]
                if adapted:
                    figures: list[Callable[[Seen], float]] = [lambda s: s.rate, lambda s: s.ms(50)]
                    compared = [spread(found.ratios(clients, figure), ".2f") for figure in figures]
                table.add_row(
                    found.proxy,
                    str(clients),
                    way,
                    spread([one.rate for one in seen], ".1f"),
                    spread(found.of_in_process(clients, way), ".2f"),
                    *(f"{percentile(latencies, percent):.1f}" for percent in (50, 95, 99)),
                    *compared,
                    str(sum(sum(one.errors.values()) for one in seen)),
                )
    return table


def stage_table(every: Sequence[Found]) -> Table:
    """Where the time went, mean ms a request; the parts add up to one over the requests a second."""
    table = Table("proxy", "clients", "way", "requests a batch", *(f"{part}, ms" for part in PARTS), "misses")
    for found in every:
        for clients in CLIENTS:
            for way in WAYS:
                blocks = found.of(clients, way)
                asked = sum(len(block.seen.latencies) for block in blocks)
                table.add_row(
                    found.proxy,
                    str(clients),
                    way,
                    f"{asked / max(1, sum(block.batches for block in blocks)):.1f}",
                    *(f"{found.part_ms(clients, way, part):.1f}" for part in PARTS),
                    str(sum(block.misses for block in blocks)),
                )
    return table


def draw(every: Sequence[Found], path: Path, title: str) -> list[Path]:
    """Bars of ms a request, in parts, by proxy, clients and way; `path`.png and .svg."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width = 1 + 4.6 * len(every)
    figure, panels = pyplot.subplots(
        1, len(every), figsize=(width, 4.8), layout="constrained", sharey=True, squeeze=False
    )
    bars = [(clients, way) for clients in CLIENTS for way in WAYS]
    places = [1.25 * (i // len(WAYS)) * len(WAYS) + i % len(WAYS) for i in range(len(bars))]
    for found, axes in zip(every, panels[0], strict=True):
        tops = [0.0] * len(bars)
        for part, color in zip(PARTS, COLORS, strict=True):
            heights = [max(0.0, found.part_ms(clients, way, part)) for clients, way in bars]
            axes.bar(places, heights, bottom=tops, color=color, width=0.85, label=part)
            tops = [top + height for top, height in zip(tops, heights, strict=True)]
        for place, top in zip(places, tops, strict=True):
            axes.annotate(f"{top:.0f}", (place, top), ha="center", va="bottom", fontsize=8)
        axes.set_xticks(places, [way for _, way in bars], fontsize=8)
        for i, clients in enumerate(CLIENTS):
            middle = (places[len(WAYS) * i] + places[len(WAYS) * (i + 1) - 1]) / 2
            told = f"{clients} client" + ("s" if clients > 1 else "")
            axes.annotate(told, (middle, -0.1), xycoords=("data", "axes fraction"), ha="center", fontsize=9)
        axes.set_title(f"proxy: {found.proxy}", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0][0].set_ylabel("ms a request (one over the requests a second)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return save(figure, path)
