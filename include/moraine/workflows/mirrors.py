"""From a policy to its repository, with the mirror that has the content where the policy keeps one."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

from moraine.model.policy import Policy
from moraine.repository.repository import Repository
from moraine.sources.mirror import Mirror
from moraine.steps.passphrase import read_passphrase
from moraine.workflows.aws_connection import read_aws_connection
from moraine.workflows.connections import open_address, open_repository


def open_policy_repository(policy: Policy) -> Repository:
    """The repository of a policy, with its log read anew.

    Raises:
        ConfigError: the mirror's place holds something, or is not there: it is made by hand, once.
        Errors of `open_repository`.
    """
    if policy.destination is None:
        repository = open_repository(policy.repository)
        repository.log.refresh()
        return repository
    from moraine.steps.mirror import open_state

    file = policy.repository.passphrase_file
    return open_state(
        open_address(policy.repository),
        (lambda: read_passphrase(file)) if file else None,
        _mirror(policy),
        clock=lambda: datetime.now(UTC),
        entropy=os.urandom,
        create=False,
    )


def _mirror(policy: Policy) -> Mirror:
    """The mirror; in S3 with the credentials of its connection, or of the AWS chain."""
    from moraine.steps.mirror_place import open_mirror

    destination = policy.destination
    if destination is None or not destination.connection or not destination.url.startswith("s3://"):
        found = open_mirror(policy, environ=os.environ)
    else:
        place = read_aws_connection(destination.connection)
        endpoint_url, region = destination.endpoint_url or place.endpoint_url, destination.region or place.region
        placed = replace(policy, destination=replace(destination, endpoint_url=endpoint_url, region=region))
        found = open_mirror(placed, session=place.session(), renew=place.session, environ=place.environ)
    assert found
    return found
