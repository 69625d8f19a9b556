"""Fixtures that every test may use. S3 servers start when the first test asks for one, once per worker."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from moraine import interrupts
from servers import S3Server, running

_numbers = itertools.count(1)

# How long an example takes says something about the machine's other work, and nothing about the code.
settings.register_profile("moraine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("moraine")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The command line, called in this process, leaves handlers of signals behind: put back what was there."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """`s3_server("moto")`, or another name of `servers.SERVERS`: a running S3 server."""
    with ExitStack() as stack:
        servers: dict[str, S3Server] = {}

        def start(name: str) -> S3Server:
            if name not in servers:
                servers[name] = stack.enter_context(running(name, tmp_path_factory.mktemp(name)))
            return servers[name]

        yield start


@pytest.fixture
def s3_bucket(s3_server: Callable[[str], S3Server]) -> Callable[[str], tuple[S3Server, str]]:
    """`s3_bucket("moto")`: the server and the name of a new, empty bucket on it."""

    def make(name: str) -> tuple[S3Server, str]:
        server = s3_server(name)
        return server, server.make_bucket(f"bucket-{next(_numbers)}")

    return make
