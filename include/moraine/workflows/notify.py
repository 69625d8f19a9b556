"""Who is told what: the policy's `notify`, as Airflow notifiers.

Of a failed run Airflow tells them itself, once, in its DAG processor. They are made while the DAG is parsed, so that
one that cannot be made is an import error today and not silence on the night that fails. Imports no notifier unless a
policy names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import import_module
from typing import Any, Literal

from moraine.errors import ConfigError
from moraine.model.policy import Notify, Policy

_SUBJECT = "{of} of {policy} has failed"
# Airflow fills in what stands in double braces. A run that never started a task has no window to tell, and a task that
# was killed has left no error.
_FAILED = """
{{% set error = ti.xcom_pull(task_ids=ti.task_id, key='error', map_indexes=ti.map_index) if ti is defined else none %}}
<p>The {what} of policy <b>{policy}</b> has failed: run <code>{{{{ run_id }}}}</code>, {{{{ reason }}}}.</p>
{{% if error %}}
<p><b>{{{{ ti.task_id }}}}</b>: <code>{{{{ error.code }}}}</code>: {{{{ error.message | e }}}}</p>
{{% if error.hint %}}<p>What to do: {{{{ error.hint | e }}}}</p>{{% endif %}}
{{% endif %}}
"""
_BACKUP = """
{{% if data_interval_end is defined and data_interval_end %}}
<p>No snapshot stands for the window {{{{ data_interval_start }}}} to {{{{ data_interval_end }}}} yet.</p>
{{% endif %}}
<p>The snapshots so far are as they were. Next: read the log of the task that failed, remove the cause, clear that
task; the run goes on from what is stored.</p>
<p><a href="{base}/dags/backup__{policy}/runs/{{{{ run_id | urlencode }}}}">the run</a></p>
"""
_DRILL = """
<p>The page of the drill is written by <code>./moraine drill {policy} --show latest --report drill.html</code>.</p>
<p><a href="{base}/dags/drill__{policy}/runs/{{{{ run_id | urlencode }}}}">the run</a></p>
"""


def failure_notifiers(policy: Policy, *, of: str = "backup") -> list[Any]:
    """Who is told of a failed run of a policy's backup or drill. Raises ConfigError when one cannot be made."""
    made = [_failure_mail(policy.policy, one, of) if one.email else _other(policy.policy, one) for one in policy.notify]
    return [notifier for notifier, one in zip(made, policy.notify, strict=True) if "failure" in one.on]


def tell(
    policy: Policy, of: Literal["objective", "digest"], subject: str, text: str, context: Mapping[str, Any]
) -> int:
    """Tell whoever the policy names, now; how many. In templates `reason` is the text.

    Raises what a notifier raises.
    """
    told = [one for one in policy.notify if of in one.on]
    for one in told:
        body = f"<pre>{escape(text)}</pre>"
        notifier = _mail(one, subject, "{{ body }}") if one.email else _other(policy.policy, one)
        notifier({**context, "reason": text, "body": body})
    return len(told)


def _failure_mail(policy: str, notify: Notify, of: str) -> Any:
    from airflow.configuration import conf

    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    what, more = ("restore drill", _DRILL) if of == "drill" else ("backup", _BACKUP)
    text = (_FAILED + more).format(what=what, policy=policy, base=base)
    return _mail(notify, _SUBJECT.format(of=of.capitalize(), policy=policy), text)


def _mail(notify: Notify, subject: str, content: str) -> Any:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    return SmtpNotifier(to=list(notify.email), subject=subject, html_content=content)


def _other(policy: str, notify: Notify) -> Any:
    from airflow.sdk import BaseNotifier

    module, _, name = (notify.notifier or "").rpartition(".")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"policy {policy!r} names the notifier {notify.notifier}, which is not installed",
            hint="install its Airflow provider",
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise ConfigError(f"policy {policy!r}: {notify.notifier} is no notifier", hint="name a class of a provider")
    try:
        made: Any = found
        return made(**notify.arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"policy {policy!r}: {notify.notifier} refuses its arguments: {error}") from error
