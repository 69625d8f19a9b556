"""S3 servers for tests: real ones in processes of their own, and one that answers as it is told to."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
_READY = {"moto": "/moto-api/", "ministack": "/_ministack/health"}


@dataclass
class S3Server:
    """A running server. `credentials` are AWS_* variables as `open_store` takes them."""

    name: str
    endpoint_url: str
    credentials: Mapping[str, str] = field(default_factory=lambda: dict(CREDENTIALS))
    region: str = REGION

    def session(self) -> Any:
        """A boto3 session for this server."""
        import boto3

        return boto3.Session(
            self.credentials["AWS_ACCESS_KEY_ID"], self.credentials["AWS_SECRET_ACCESS_KEY"], region_name=self.region
        )

    @cached_property
    def client(self) -> Any:
        """A boto3 client, for what a store cannot do."""
        return self.session().client("s3", endpoint_url=self.endpoint_url)

    def make_bucket(self, name: str) -> str:
        """Make a bucket and give back its name."""
        self.client.create_bucket(Bucket=name)
        return name


def free_port() -> int:
    """A port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, folder: Path) -> Iterator[S3Server]:
    """Start `moto` or `ministack`, on loopback only; it ends with the test run, however that ends."""
    port = free_port()
    command = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)] if name == "moto" else ["-m", "ministack"]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # these two would listen on all interfaces
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
    }
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=environ, stdout=log, stderr=log, cwd=folder, preexec_fn=_die_with_parent
        )
    try:
        _await(process, f"http://127.0.0.1:{port}{_READY[name]}", folder / "log")
        yield S3Server(name, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no server at {url}: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)


class Told:
    """A server that gives the answers in `answers` one after the other, and the last one for ever.

    An answer is (status, body), or None to close the connection without one. `requests` are those that came.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | None] = [(500, b"")]
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.endpoint_url = ""
        self.etag = '"tag"'

    def error(self, status: int, code: str = "Code") -> None:
        """Answer with an error as S3 words it."""
        self.answers = [(status, f"<Error><Code>{code}</Code><Message>in words</Message></Error>".encode())]


@contextmanager
def told() -> Iterator[Told]:
    """Run a server that answers as told."""
    state = Told()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            state.requests.append((self.command, self.path, dict(self.headers)))
            answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            if answer is None:
                self.close_connection = True
                return
            status, body = answer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if state.etag:
                self.send_header("etag", state.etag)
            self.send_header("last-modified", "Sat, 21 Nov 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_PUT = do_HEAD = do_DELETE = answer

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.endpoint_url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()
