"""What goes wrong while AWS credentials are fetched (a role assumed, a token exchanged), as errors of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moraine.errors import AccessDenied, ConfigError, StoreUnavailable

_PASSING = frozenset({"Throttling", "ThrottlingException", "ServiceUnavailable", "InternalFailure", "InternalError"})


@contextmanager
def aws_login(who: str) -> Iterator[None]:
    """Around what asks AWS for credentials.

    Args:
        who: on whose behalf, for the message: `connection lake`.

    Raises:
        AccessDenied: they are not given.
        StoreUnavailable: nobody answers who could give them.
        ConfigError: what was configured cannot be used.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as error:
        message = f"{who}: no credentials: {error}"
        if error.response.get("Error", {}).get("Code") in _PASSING:
            raise StoreUnavailable(message, hint="try again") from error
        raise AccessDenied(message, hint="look at its keys, and whether they may assume the role") from error
    except HTTPClientError as error:
        raise StoreUnavailable(f"{who}: no credentials: {error}", hint="look at the endpoint of STS") from error
    except BotoCoreError as error:
        raise ConfigError(f"{who}: {error}", hint="look at its keys, profile and region") from error
