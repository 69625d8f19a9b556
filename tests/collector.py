"""A collector of OpenTelemetry that keeps what it is sent: OTLP over HTTP, decoded."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Point(NamedTuple):
    """A data point."""

    name: str
    kind: str  # gauge, sum or histogram
    unit: str
    labels: dict[str, str]
    value: float  # of a histogram the sum
    delta: bool


class Collector:
    """What came."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.services: set[str] = set()
        self.requests = 0
        self.endpoint = ""

    def take(self, body: bytes) -> None:
        """Decode one request."""
        self.requests += 1
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            for scope in resource.scope_metrics:
                self.points += [point for metric in scope.metrics for point in _points(metric)]

    def find(self, name: str, **labels: str) -> list[Point]:
        """The points of a metric with these labels among theirs."""
        return [point for point in self.points if point.name == name and labels.items() <= point.labels.items()]


def _points(metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    delta = kind != "gauge" and data.aggregation_temporality == 1
    for point in data.data_points:
        labels = {one.key: one.value.string_value for one in point.attributes}
        value = point.sum if kind == "histogram" else getattr(point, point.WhichOneof("value"))
        yield Point(metric.name, kind, metric.unit, labels, value, delta)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on the loopback interface."""
    collector = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            zipped = self.headers.get("content-encoding") == "gzip"
            if self.path == "/v1/metrics":
                collector.take(gzip.decompress(body) if zipped else body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield collector
        server.shutdown()
