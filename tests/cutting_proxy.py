"""A TCP proxy that does to HTTP what bad networks and busy servers do, as its seed says; it counts what passes."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BUFFER = 256 << 10
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_REFUSAL = (
    b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s"
)


@dataclass
class CuttingProxy:
    """Every connection gets a fate: it is cut after some bytes, its answers are, it is slow, or it is refused by 503.

    `mean` is how many bytes a connection lives on average, so that it decides how often a transfer is disturbed.
    """

    upstream: tuple[str, int]
    mean: int
    seed: int
    fates: tuple[str, ...] = ("cut", "cut", "truncate", "delay", "slow_down")
    endpoint_url: str = ""
    sent: int = 0  # bytes that clients sent, the lost ones too
    received: int = 0
    met: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def fate(self) -> tuple[str, int]:
        """What happens to the next connection, and after how many bytes."""
        with self._lock:
            fate = self._random.choice(self.fates)
            after = 0 if fate == "slow_down" else int(self._random.expovariate(1 / self.mean))
            return fate, after // 1000 if fate == "truncate" else after  # answers to uploads are short

    def serve(self, client: socket.socket) -> None:
        """Carry one connection to its fate."""
        fate, after = self.fate()
        with client, suppress(OSError):
            if fate == "slow_down":
                self._note(fate)
                _refuse(client)
                return
            with socket.create_connection(self.upstream, 5) as server:
                server.settimeout(None)
                back = threading.Thread(target=self._carry, args=(server, client, fate, after, False), daemon=True)
                back.start()
                self._carry(client, server, fate, after, True)
                back.join()

    def _carry(self, here: socket.socket, there: socket.socket, fate: str, after: int, up: bool) -> None:
        strikes = fate in ("delay", "cut") if up else fate == "truncate"
        left = after if strikes else -1
        with suppress(OSError):
            while data := here.recv(_BUFFER):
                with self._lock:
                    self.sent += len(data) * up
                    self.received += len(data) * (not up)
                if 0 <= left < len(data):
                    self._note(fate)
                    if fate == "delay":
                        time.sleep(0.2)
                        left = -1
                    else:
                        there.sendall(data[:left])
                        _reset(here, there)
                        return
                there.sendall(data)
                left -= len(data) * (left >= 0)
        with suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def _note(self, fate: str) -> None:
        with self._lock:
            self.met[fate] += 1


def _refuse(client: socket.socket) -> None:
    """Answer once the request's head is there; read on a little, so that the answer is not lost with the connection."""
    head = b""
    while b"\r\n\r\n" not in head and (data := client.recv(_BUFFER)):
        head += data
    client.sendall(_REFUSAL % (len(_SLOW_DOWN), _SLOW_DOWN))
    client.shutdown(socket.SHUT_WR)
    client.settimeout(1)
    while client.recv(_BUFFER):
        pass


def _reset(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def cutting(endpoint_url: str, *, mean: int, seed: int, fates: tuple[str, ...] | None = None) -> Iterator[CuttingProxy]:
    """A proxy before the server at `endpoint_url`, on loopback."""
    target = urlsplit(endpoint_url)
    assert target.hostname and target.port
    proxy = CuttingProxy((target.hostname, target.port), mean, seed)
    if fates:
        proxy.fates = fates
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop = threading.Event()

        def accept() -> None:
            listener.settimeout(0.1)
            while not stop.is_set():
                with suppress(TimeoutError):
                    client, _ = listener.accept()
                    client.settimeout(None)
                    threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            stop.set()
            thread.join()
