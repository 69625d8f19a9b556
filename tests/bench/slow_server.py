"""An HTTP proxy that makes a store far away and busy: requests take longer, some are answered 503; it counts."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Counts:
    """What has passed: requests by method, refusals, bytes; and what is done to those that come."""

    def __init__(self, delay: float, refused: float, rate: float) -> None:
        self.delay = delay
        self.refused = refused
        self.rate = rate  # bytes a second of one request; 0: no bound
        self.endpoint_url = ""
        self._random = random.Random(1)
        self._lock = threading.Lock()
        self._met: Counter[str] = Counter()

    def note(self, what: str, by: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._met[what] += by

    def refuses(self) -> bool:
        """Whether the next request is answered 503."""
        with self._lock:
            return self._random.random() < self.refused

    def lasts(self, body: bytes) -> float:
        """Seconds that so many bytes are on their way."""
        return len(body) / self.rate if self.rate else 0.0

    def take(self) -> Counter[str]:
        """What was counted since the last call."""
        with self._lock:
            met, self._met = self._met, Counter()
            return met


@contextmanager
def slow(endpoint_url: str, *, delay: float, refused: float, rate: float = 0.0) -> Iterator[Counts]:
    """A proxy before the server at `endpoint_url`, on loopback."""
    counts = Counts(delay, refused, rate)
    upstream = urlsplit(endpoint_url).netloc

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.upstream = http.client.HTTPConnection(upstream)

        def finish(self) -> None:
            self.upstream.close()
            super().finish()

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            counts.note(self.command)
            counts.note("sent", len(body))
            time.sleep(counts.delay + counts.lasts(body))
            if counts.refuses():
                counts.note("refused")
                self.answer(503, "Slow Down", [("content-type", "application/xml")], _SLOW_DOWN, len(_SLOW_DOWN))
                return
            self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    self.upstream.putheader(name, value)
            self.upstream.endheaders(body)
            answer = self.upstream.getresponse()
            data = answer.read()
            counts.note("received", len(data))
            time.sleep(counts.lasts(data))
            length = int(answer.getheader("content-length") or len(data))
            self.answer(answer.status, answer.reason, answer.getheaders(), data, length)

        def answer(self, status: int, reason: str, headers: list[tuple[str, str]], data: bytes, length: int) -> None:
            lines = [f"HTTP/1.1 {status} {reason}", f"content-length: {length}"]
            lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _HOP]
            content = b"" if self.command == "HEAD" else data
            self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = relay

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        counts.endpoint_url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield counts
        finally:
            server.shutdown()
