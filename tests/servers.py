"""S3 servers for tests: real ones in processes of their own, and one that answers as it is told to."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
_READY = {"moto": "/moto-api/", "ministack": "/_ministack/health", "versitygw": "/_health"}
SERVERS = tuple(_READY)
VERSITYGW = "v1.7.0"  # as in docker-compose.yaml
PATHS = {"versitygw"}  # keys are paths of files: no `a` beside `a/b`, `//` and `..` are resolved or refused
RACY = {"versitygw"}  # when it is busy, several create-only puts of one key may win
CLASSLESS = {"versitygw"}  # every object is in storage class STANDARD, whatever was asked for


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
    """Start a server of `SERVERS`, on loopback only; it ends with the test run, however that ends.

    Skips the test when `versitygw` is asked for and cannot be built here.
    """
    port = free_port()
    command = _command(name, port, folder)
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
            command, env=environ, stdout=log, stderr=log, cwd=folder, preexec_fn=_die_with_parent
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


def _command(name: str, port: int, folder: Path) -> list[str]:
    if name == "moto":
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if name == "ministack":
        return [sys.executable, "-m", "ministack"]
    for place in ("data", "versions"):
        (folder / place).mkdir()
    keys = ["--access", CREDENTIALS["AWS_ACCESS_KEY_ID"], "--secret", CREDENTIALS["AWS_SECRET_ACCESS_KEY"]]
    gateway = [str(_versitygw()), "--port", f"127.0.0.1:{port}", "--quiet", "--health", _READY[name], *keys]
    return [*gateway, "posix", "--versioning-dir", str(folder / "versions"), str(folder / "data")]


@cache
def _versitygw() -> Path:
    """The pinned versitygw, built once per machine through the Go module proxy."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moraine-tests"
    binary = kept / f"versitygw-{VERSITYGW}" / "versitygw"
    if not binary.exists():
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            pytest.skip(f"versitygw {VERSITYGW} is not at hand, nor is Go to build it")
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as made:
            module = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
            build = subprocess.run([go, "install", module], env={**os.environ, "GOBIN": made}, capture_output=True)
            if build.returncode != 0:
                pytest.skip(f"versitygw {VERSITYGW} cannot be built: {build.stderr.decode()[-300:]}")
            binary.parent.mkdir(exist_ok=True)
            os.replace(Path(made) / "versitygw", binary)  # another test run may do the same just now
    return binary


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
