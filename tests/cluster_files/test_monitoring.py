"""Alerts and dashboard: every expression parses, every metric is exported, and alerts fire for what they are for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ray.dashboard.modules.reporter import reporter_agent

from metacross.events import Measurement, Start, StepsDone
from metacross.ray_training import prometheus_tracker
from serve import prometheus
from tests.helpers.needs import missing


@pytest.fixture(scope="module")
def monitoring(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.rootpath) / "cluster" / "monitoring"


def _rules(monitoring: Path) -> dict[str, str]:
    groups = yaml.safe_load((monitoring / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def _targets(monitoring: Path) -> Iterator[tuple[str, str]]:
    """The titles of the dashboard's panels, each with an expression."""
    dashboard = json.loads((monitoring / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$cluster", ".*")


def _promtool(*arguments: str | Path) -> None:
    if shutil.which("promtool") is None:
        missing("needs promtool (Debian and Ubuntu: apt-get install prometheus)")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_every_expression(monitoring: Path, tmp_path: Path) -> None:
    panels = [{"record": f"panel_{i}", "expr": expression} for i, (_, expression) in enumerate(_targets(monitoring))]
    assert len(panels) >= 20
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}), "utf-8")
    _promtool("check", "rules", monitoring / "alerts.yaml", tmp_path / "panels.yaml")


# What is measured, and the alert for it.
SERIES = {
    "MetacrossServiceGone": {},
    "MetacrossErrors": {
        'ray_metacross_requests_total{status="200"}': "0+90x60",
        'ray_metacross_requests_total{status="503"}': "0+10x60",
    },
    "MetacrossSlow": {
        'ray_metacross_request_seconds_bucket{route="/v1/entities",le="5.0"}': "0+1x60",
        'ray_metacross_request_seconds_bucket{route="/v1/entities",le="10.0"}': "0+9x60",
        'ray_metacross_request_seconds_bucket{route="/v1/entities",le="+Inf"}': "0+9x60",
    },
    "MetacrossQueue": {'ray_metacross_queue{replica="a"}': "200x60"},
    "MetacrossBundlePending": {'ray_metacross_bundle_pending{replica="a"}': "1x60"},
    "MetacrossNoCheckpoint": {'ray_metacross_train_checkpoint_seconds{run="r"}': "-2000x60"},
    "MetacrossTrainingStands": {
        'ray_metacross_train_step{run="r"}': "7x60",
        'ray_metacross_train_steps{run="r"}': "100x60",
    },
    "MetacrossLossIsNoNumber": {'ray_metacross_train_loss{run="r"}': " ".join(["NaN"] * 60)},
    "RayHeadMemory": {
        'ray_node_mem_used{IsHeadNode="true",ip="h"}': "9x60",
        'ray_node_mem_total{IsHeadNode="true",ip="h"}': "10x60",
    },
    "RayNodeMemory": {
        'ray_node_mem_used{IsHeadNode="false",ip="w"}': "95x60",
        'ray_node_mem_total{IsHeadNode="false",ip="w"}': "100x60",
    },
    "RayNodeDisk": {'ray_node_disk_utilization_percentage{ip="w"}': "90x60"},
}
# Figures of a cluster on which all is well.
WELL = {
    'ray_metacross_bundle_pending{replica="a"}': "0x60",
    'ray_metacross_requests_total{status="200"}': "0+90x60",
    'ray_metacross_request_seconds_bucket{route="/v1/entities",le="5.0"}': "0+9x60",
    'ray_metacross_request_seconds_bucket{route="/v1/entities",le="+Inf"}': "0+9x60",
    'ray_metacross_queue{replica="a"}': "3x60",
    'ray_metacross_train_checkpoint_seconds{run="r"}': "0+60x60",
    'ray_metacross_train_step{run="r"}': "0+5x60",
    'ray_metacross_train_steps{run="r"}': "1000x60",
    'ray_metacross_train_loss{run="r"}': "0.5x60",
    'ray_node_mem_used{IsHeadNode="true",ip="h"}': "5x60",
    'ray_node_mem_total{IsHeadNode="true",ip="h"}': "10x60",
    'ray_node_disk_utilization_percentage{ip="w"}': "50x60",
}


def test_each_alert_fires_for_what_it_is_for_and_for_nothing_else(monitoring: Path, tmp_path: Path) -> None:
    assert SERIES.keys() == _rules(monitoring).keys()
    tests = [_rule_test(alert, figures, fires=1) for alert, figures in SERIES.items()]
    tests += [_rule_test(alert, WELL, fires=0) for alert in SERIES]
    content = {"rule_files": [str(monitoring / "alerts.yaml")], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    _promtool("test", "rules", tmp_path / "tests.yaml")


def _rule_test(alert: str, figures: dict[str, str], *, fires: int) -> dict[str, Any]:
    series = [{"series": name, "values": values} for name, values in figures.items()]
    count = {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)', "eval_time": "59m"}
    samples = {"exp_samples": [{"labels": "{}", "value": fires}]}
    return {"interval": "1m", "input_series": series, "promql_expr_test": [count | samples]}


class _Metric:
    """In place of Ray's metrics: notes the names under which Prometheus gets them."""

    names: ClassVar[set[str]] = set()
    suffixes = ("",)

    def __init__(self, name: str, **described: Any) -> None:
        assert described["description"]
        _Metric.names |= {f"ray_{name}{suffix}" for suffix in self.suffixes}

    def set(self, value: float, tags: dict[str, str] | None = None) -> None: ...


class _Counter(_Metric):
    suffixes = ("_total",)


class _Histogram(_Metric):
    suffixes = ("_bucket", "_count", "_sum")


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """The names of all metrics that the service, training and Ray export."""
    monkeypatch.setattr(_Metric, "names", set())
    monkeypatch.setattr(prometheus_tracker, "Gauge", _Metric)
    for kind, noted in (("Gauge", _Metric), ("Counter", _Counter), ("Histogram", _Histogram)):
        monkeypatch.setattr(prometheus.metrics, kind, noted)
    prometheus.TaggerMetrics()
    prometheus.request_metrics()
    prometheus_tracker.Prometheus("first", tmp_path)
    return _Metric.names | {f"ray_{name}" for name in reporter_agent.METRICS_GAUGES}


def test_every_metric_is_exported(monitoring: Path, exported: set[str]) -> None:
    expressions = {**_rules(monitoring), **{f"{title}: {expr}": expr for title, expr in _targets(monitoring)}}
    for place, expression in expressions.items():
        names = set(re.findall(r"\bray_(?:metacross|node)_\w+", expression))
        assert names, place
        assert names <= exported, place


def test_every_metric_is_described(exported: set[str], root: Path) -> None:
    text = (root / "docs" / "deploying" / "watching.md").read_text(encoding="utf-8")
    ours = {re.sub(r"_(total|bucket|count|sum)$", "", name).removeprefix("ray_") for name in exported}
    assert {name for name in ours if name.startswith("metacross_")} <= set(re.findall(r"metacross_\w+", text))
    for alert in SERIES:
        assert f"`{alert}`" in text


def test_a_run_shows_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: dict[tuple[str, ...], float] = {}

    class Gauge:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self._name, self._keys = name.removeprefix("metacross_train_"), tag_keys

        def set(self, value: float, tags: dict[str, str]) -> None:
            shown[(self._name, *(tags[key] for key in self._keys))] = value

    monkeypatch.setattr(prometheus_tracker, "Gauge", Gauge)
    show = prometheus_tracker.Prometheus("first", tmp_path)
    show(Start(step=0, steps=10, workers=2))
    show(StepsDone(5, 10, loss=0.5, learning_rate=1e-4, pieces_per_second=900.0, steps_per_second=1, seconds_left=5))
    began = shown["checkpoint_seconds", "first"]
    written = tmp_path / "checkpoints" / "step-0000005"
    written.mkdir(parents=True)
    os.utime(written, (began + 60, began + 60))
    show(StepsDone(6, 10, loss=0.4, learning_rate=1e-4, pieces_per_second=950.0, steps_per_second=1, seconds_left=4))
    show(Measurement(step=6, plain=80.0, adapted=81.5))
    assert shown.pop(("checkpoint_seconds", "first")) == pytest.approx(began + 60)
    assert shown == {
        ("step", "first"): 6,
        ("steps", "first"): 10,
        ("workers", "first"): 2,
        ("loss", "first"): 0.4,
        ("pieces_per_second", "first"): 950.0,
        ("dev_f1", "first", "plain"): 80.0,
        ("dev_f1", "first", "adapted"): 81.5,
    }
