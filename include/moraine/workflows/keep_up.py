"""What `./moraine up` and `./moraine many` have in common: stopped by signals, kept up until then.

Knows the terminal and the services, not what they are.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from moraine.errors import Cancelled, ConfigError
from moraine.workflows.airflow_home import USER
from moraine.workflows.services import Services

_BREATH = 5.0  # seconds before an ended service is started again
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopped_at_the_end(services: Services) -> Iterator[None]:
    """Turn what asks this process to end into `Cancelled`; leave no service behind, however the block ends."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise Cancelled(signal.Signals(number).name)

    for number in _SIGNALS:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # stopping is not to be stopped
        with suppress(OSError):  # the terminal may be what has gone
            print("stopping", flush=True)
        services.stop()
        with suppress(OSError):
            print("stopped; no process is left", flush=True)


def say_where(port: int, password: str) -> None:
    """Print where to log in."""
    print(f"\n  http://localhost:{port}    user {USER}, password {password}\n\nCtrl-C stops it", flush=True)


def keep_up(services: Services, look: Callable[[], None] | None = None) -> None:
    """Start every service again that ends of itself, as `restart: always` does; calls `look` now and then.

    Raises:
        ConfigError: one has ended that the others stand on.
    """
    while True:
        time.sleep(1)
        if name := services.ended():
            require_standing(services, name)
            print(f"the {name} has ended; starting it again", flush=True)
            time.sleep(_BREATH)
            services.start_one(name)
        if look:
            look()


def require_running(services: Services) -> None:
    """Raise ConfigError when a service has ended."""
    if name := services.ended():
        raise _ended(services, name)


def require_standing(services: Services, name: str) -> None:
    """Raise ConfigError when the service that has ended is one that the others stand on."""
    if services.commands[name].base:
        raise _ended(services, name)


def _ended(services: Services, name: str) -> ConfigError:
    return ConfigError(f"the {name} has ended", hint=f"its last words are in {services.log(name)}")
