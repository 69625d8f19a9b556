"""Who is told that a backup or a drill has failed: the policy's `notify`, as Airflow notifiers.

Airflow calls them in its DAG processor, once for a run that has failed. They are made while the DAG is parsed, so that
one that cannot be made is an import error today and not silence on the night that fails. Imports no notifier unless a
policy names one.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from moraine.errors import ConfigError
from moraine.model.policy import Notify, Policy

_SUBJECT = "{of} of {policy} has failed"
# Airflow fills in what stands in double braces. A run that never started a task has no window to tell, and a task that
# was killed has left no error.
_MAIL = """
{{% set error = ti.xcom_pull(task_ids=ti.task_id, key='error', map_indexes=ti.map_index) if ti is defined else none %}}
<p>The backup of policy <b>{policy}</b> has failed: run <code>{{{{ run_id }}}}</code>, {{{{ reason }}}}.</p>
{{% if error %}}
<p><b>{{{{ ti.task_id }}}}</b>: <code>{{{{ error.code }}}}</code>: {{{{ error.message | e }}}}</p>
{{% if error.hint %}}<p>What to do: {{{{ error.hint | e }}}}</p>{{% endif %}}
{{% endif %}}
{{% if data_interval_end is defined and data_interval_end %}}
<p>No snapshot stands for the window {{{{ data_interval_start }}}} to {{{{ data_interval_end }}}} yet.</p>
{{% endif %}}
<p>The snapshots so far are as they were. Next: read the log of the task that failed, remove the cause, clear that
task; the run goes on from what is stored.</p>
<p><a href="{base}/dags/backup__{policy}/runs/{{{{ run_id | urlencode }}}}">the run</a></p>
"""

_DRILL_MAIL = """
<p>The restore drill of policy <b>{policy}</b> has failed: run <code>{{{{ run_id }}}}</code>, {{{{ reason }}}}.</p>
<p>The log of its task <code>report</code> says why, and whether the snapshot is in quarantine; the page of the drill is
written by <code>./moraine drill {policy} --show latest --report drill.html</code>.</p>
<p><a href="{base}/dags/drill__{policy}/runs/{{{{ run_id | urlencode }}}}">the run</a></p>
"""


def failure_notifiers(policy: Policy, *, of: str = "backup") -> list[Any]:
    """The notifiers of a policy's backup or drill. Raises ConfigError when one cannot be made."""
    return [_mail(policy.policy, one, of) if one.email else _other(policy.policy, one) for one in policy.notify]


def _mail(policy: str, notify: Notify, of: str) -> Any:
    from airflow.configuration import conf
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    text = (_DRILL_MAIL if of == "drill" else _MAIL).format(policy=policy, base=base)
    return SmtpNotifier(
        to=list(notify.email), subject=_SUBJECT.format(of=of.capitalize(), policy=policy), html_content=text
    )


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
