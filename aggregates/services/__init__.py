"""Multi-step operations on aggregates, shared by views, admin, commands and Celery tasks."""

from aggregates.services.define import clone, define, remove, set_enabled
from aggregates.services.history import copy_position, jobs_under_way, record_failure, record_refreshes
from aggregates.services.perform import accept_change, perform_run, run_now, verify_now
from aggregates.services.preview import preview
from aggregates.services.request import cancel_run, get_aggdef, new_run, requeue_lost_runs, start_run
from aggregates.services.task_switch import require_enabled, set_task_enabled
from aggregates.services.yaml_export import export_definitions, import_definitions

__all__ = [
    "accept_change",
    "cancel_run",
    "clone",
    "copy_position",
    "define",
    "export_definitions",
    "get_aggdef",
    "import_definitions",
    "jobs_under_way",
    "new_run",
    "perform_run",
    "preview",
    "record_failure",
    "record_refreshes",
    "remove",
    "requeue_lost_runs",
    "require_enabled",
    "run_now",
    "set_enabled",
    "set_task_enabled",
    "start_run",
    "verify_now",
]
