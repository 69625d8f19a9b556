"""From a policy to its repository, with the mirror that has the content where the policy keeps one."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from moraine.model.policy import Policy
from moraine.repository.repository import Repository
from moraine.steps.passphrase import read_passphrase
from moraine.workflows.connections import mirror_session, open_repository, policy_store


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
    from moraine.steps.mirror_place import open_mirror

    file = policy.repository.passphrase_file
    session, places = mirror_session(policy.destination)
    named = policy.model_copy(update={"destination": policy.destination.model_copy(update=places)})
    destination = open_mirror(named, session=session, environ=os.environ)
    assert destination
    return open_state(
        policy_store(policy.repository),
        (lambda: read_passphrase(file)) if file else None,
        destination,
        clock=lambda: datetime.now(UTC),
        entropy=os.urandom,
        create=False,
    )
