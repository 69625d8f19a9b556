"""Sends measured values to an OpenTelemetry collector, over HTTP; the only module that uses its SDK.

Processes here are short: each sends what it has measured once, as differences, and does not wait long. The SDK reads
the usual OTEL_* variables itself. A collector that is away costs a few seconds and a line, never a backup.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moraine.report.metrics import Sample

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")
_PATIENCE = 3.0  # seconds, where those say nothing
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether somebody listens: nothing is measured for nobody."""
    return any(environ.get(name) for name in _ENDPOINTS) and environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def send(samples: Sequence[Sample], environ: Mapping[str, str]) -> str | None:
    """Send; what to say where that did not work. None also where there is nothing to send or nobody to send it to."""
    if not samples or not wanted(environ):
        return None
    try:
        sent = _send(samples, environ)
    except (OSError, ValueError) as error:  # of a variable that the SDK cannot read
        return f"metrics were not sent: {error} (look at the OTEL_ variables)"
    return None if sent else "metrics were not sent: the collector does not answer"


def _send(samples: Sequence[Sample], environ: Mapping[str, str]) -> bool:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # the caller says that it failed, in a line
    temporality = None if environ.get(_TEMPORALITY) else _differences()
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    provider = MeterProvider([reader], resource=_resource(environ), shutdown_on_exit=False)
    _record(provider.get_meter("moraine"), samples)
    data: Any = reader.get_metrics_data()
    timeout = None if any(environ.get(name) for name in _TIMEOUTS) else _PATIENCE
    exporter = OTLPMetricExporter(timeout=timeout)
    try:
        return exporter.export(data) is MetricExportResult.SUCCESS
    finally:
        exporter.shutdown()
        provider.shutdown()


def _record(meter: Any, samples: Sequence[Sample]) -> None:
    from moraine.report.metrics import TABLE

    made: dict[str, Any] = {}
    for sample in samples:
        metric = TABLE[sample.name]
        if sample.name not in made:
            more = {"explicit_bucket_boundaries_advisory": metric.bounds} if metric.bounds else {}
            create = getattr(meter, f"create_{metric.kind}")
            made[sample.name] = create(sample.name, unit=metric.unit, description=metric.meaning, **more)
        instrument = made[sample.name]
        put = {"gauge": "set", "counter": "add", "histogram": "record"}[metric.kind]
        getattr(instrument, put)(sample.value, sample.labels)


def _differences() -> dict[type, Any]:
    from opentelemetry.sdk.metrics import Counter, Histogram
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    return {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}


def _resource(environ: Mapping[str, str]) -> Any:
    from opentelemetry.sdk.resources import Resource

    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": "moraine"})
