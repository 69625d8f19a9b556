"""Credentials of an S3 client that are made anew when the server calls them expired or unknown.

A request that was refused is signed and sent again, with the others; the client, its connections and whoever listens
to its events stay. A role that boto3 has assumed itself is renewed by boto3 before its time: this is for keys that end
without saying when, or are changed in an Airflow connection while a copy runs.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

OUTDATED = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidAccessKeyId"})
_RENEWALS = 5  # of one request: other threads may use up what it was given
_ROUND = "moraine-credentials"  # in a request's context


class Renewed:
    """What a client signs with. Safe for several threads."""

    method = "renewed"

    def __init__(self, session: Any, renew: Callable[[], Any]) -> None:
        """Begin with the credentials of a boto3 session; `renew` makes another session."""
        self._profile = session.profile_name if session.profile_name != "default" else None
        self._credentials = session.get_credentials()
        self._renew = renew
        self._round = 0
        self._lock = Lock()

    def get_frozen_credentials(self) -> Any:
        """The keys of now, as botocore asks for them before each signature."""
        return self._credentials.get_frozen_credentials()

    def get_deferred_property(self, name: str) -> Any:
        """What else botocore asks for: the account."""
        return lambda: getattr(self._credentials, name, None)

    def client(self, service: str, **parts: Any) -> Any:
        """A client that signs with these, as `Session.client` of boto3 would make it."""
        import boto3
        from botocore.session import Session

        core = Session(profile=self._profile)
        core.register_component("credential_provider", _Provider(self))
        client = boto3.Session(botocore_session=core).client(service, **parts)
        client.meta.events.register("before-sign.s3", self._note)
        client.meta.events.register("needs-retry.s3", self._judge)
        return client

    def _note(self, request: Any, **rest: Any) -> None:
        request.context[_ROUND] = self._round

    def _judge(self, response: Any, attempts: int, operation: Any, request_dict: Any, **rest: Any) -> int | None:
        """Seconds after which to try again, or None where other credentials are no help."""
        code = str(response[1].get("Error", {}).get("Code", "")) if response else ""
        # An answer to HEAD has no body to say why: with credentials that have expired it is a bare 400.
        outdated = code in OUTDATED or (code == "400" and operation.name == "HeadObject")
        if not outdated or attempts > _RENEWALS:
            return None
        return 0 if self._renewed(request_dict["context"].get(_ROUND)) else None

    def _renewed(self, used: int | None) -> bool:
        """Whether there are other credentials by now than those that were refused."""
        with self._lock:
            if self._round != used:  # by another thread, while we waited
                return True
            found = self._renew().get_credentials()
            if found is None or _keys(found) == _keys(self._credentials):
                return False
            self._credentials, self._round = found, self._round + 1
            return True


class _Provider:
    def __init__(self, credentials: Renewed) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Renewed:
        return self._credentials


def _keys(credentials: Any) -> tuple[str, str | None]:
    found = credentials.get_frozen_credentials()
    return found.access_key, found.token
