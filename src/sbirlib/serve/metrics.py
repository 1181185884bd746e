"""Numbers that a service reports about itself, in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Meters:
    """Counters and histograms of one application."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("sbirlib_requests", "Requests that were answered", ["method", "route", "status"], registry=registry)
        self.seconds = Histogram("sbirlib_request_seconds", "Time of an answer", ["route"], buckets=SECONDS, registry=registry)
        self.batch = Histogram(
            "sbirlib_batch_queries", "Queries in one call of the encoder", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.encoding = Histogram("sbirlib_encode_seconds", "Time of one call of the encoder", buckets=SECONDS, registry=registry)
        self.searching = Histogram("sbirlib_search_seconds", "Time of one search of the index", buckets=SECONDS, registry=registry)
        self.photos = Gauge("sbirlib_photos", "Photos in the index", registry=registry)
        self.reloads = Counter("sbirlib_reloads", "Times that a changed index was opened again", registry=registry)

    def text(self) -> bytes:
        """All numbers, in Prometheus's text format."""
        return generate_latest(self._registry)
