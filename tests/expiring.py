"""An S3 server with roles whose credentials expire: a real one, and a door before it that looks at each signature.

Keys that AssumeRole has handed out are good for so many requests, then they have expired. The key that assumes the role
may do nothing else. Every request that is let through is answered by the real server.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from servers import S3Server

_SIGNER = re.compile(r"Credential=([^/]+)/")
_SECRET = re.compile(rb"<(?:SecretAccessKey|SessionToken)>([^<]+)<")
_ISSUED = re.compile(rb"<AccessKeyId>([^<]+)</AccessKeyId>")


class Door:
    """What has come to the door."""

    def __init__(self, server: S3Server, requests: int) -> None:
        self.behind = urlsplit(server.endpoint_url)
        self.requests = requests  # that a key is good for
        self.issued: list[str] = []
        self.secrets: list[str] = []  # that belong to them
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.refusal = (400, "ExpiredToken")
        self.closed = False  # no more roles are given
        self.endpoint_url = ""
        self._lock = threading.Lock()

    def judge(self, handler: BaseHTTPRequestHandler) -> tuple[int, bytes] | None:
        """A refusal, or None for what may pass."""
        found = _SIGNER.search(handler.headers.get("authorization", ""))
        key = found[1] if found else ""
        with self._lock:
            if "/sts/" in handler.headers.get("authorization", ""):
                return _refusal(403, "AccessDenied") if self.closed else None
            if key not in self.issued:
                return _refusal(403, "AccessDenied")
            if self.served[key] >= self.requests:
                self.refused[key] += 1
                return _refusal(*self.refusal)
            self.served[key] += 1
            return None

    def note(self, body: bytes) -> None:
        """Remember a key that the server has handed out."""
        if found := _ISSUED.search(body):
            with self._lock:
                self.issued.append(found[1].decode())
                self.secrets += [secret.decode() for secret in _SECRET.findall(body)]


def _refusal(status: int, code: str) -> tuple[int, bytes]:
    return status, f"<Error><Code>{code}</Code><Message>said the door</Message></Error>".encode()


@contextmanager
def expiring(server: S3Server, *, requests: int) -> Iterator[Door]:
    """Stand in front of `server`; keys of a role are good for `requests` requests each."""
    door = Door(server, requests)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            refusal = door.judge(self)
            if refusal:
                self.reply(refusal[0], [("content-length", str(len(refusal[1])))], refusal[1])
                return
            behind = http.client.HTTPConnection(door.behind.hostname, door.behind.port, timeout=60)
            behind.request(self.command, self.path, body, dict(self.headers))
            response = behind.getresponse()
            content = response.read()
            behind.close()
            door.note(content)
            hop = ("connection", "transfer-encoding", "server", "date")
            self.reply(response.status, [(k, v) for k, v in response.getheaders() if k.lower() not in hop], content)

        def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in headers):
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        door.endpoint_url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield door
        listening.shutdown()
        thread.join()
