"""Pages of the admin: their content, their actions, and the rights they require."""

from __future__ import annotations

import html
import re
import time
from importlib import import_module
from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from aggregates import services
from aggregates.models import AggDef, Chart, EmbedLink, Run, TaskSwitch
from aggregates.process_connections import process_connections
from aggregates.run import failpoint
from aggregates.run.jobs import specs
from aggregates.services.preview import Preview
from aggregates.web import embed
from tests.support.aggregates.definitions import values
from tests.support.aggregates.event_source import Producer, event

pytestmark = pytest.mark.early

TASK = "tests.support.aggregates.tasks.CountByDay"
LIST = "admin:aggregates_aggdef_changelist"


def act(client: Any, action: str, aggdef: AggDef, django_capture_on_commit_callbacks: Any) -> str:
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(reverse(LIST), {"action": action, "_selected_action": [aggdef.pk]}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_list_shows_state_lag_and_last_run(admin_client, days, producer):
    services.run_now(days)
    producer.send(event(), event(), event())
    page = admin_client.get(reverse(LIST)).content.decode()
    assert "current" in page
    assert "3 events" in page
    assert re.search(r'field-last_run_ago">\d+\W(s|minutes?) ago<', page)
    assert page.count("<rect") == 1


@pytest.mark.parametrize(
    ("action", "mode"), [("run_now", "incremental"), ("run_full", "full"), ("verify_now", "verify")]
)
def test_actions_start_runs(action, mode, admin_client, days, database, django_capture_on_commit_callbacks):
    services.run_now(days)
    page = act(admin_client, action, days, django_capture_on_commit_callbacks)
    assert "has been queued" in page
    run = Run.objects.first()
    assert (run.mode, run.origin, run.state) == (mode, "admin", "complete")
    assert values(database, "days") == {"p/2011-07-01": 1, "q/2011-07-01": 1}


def test_pause_resume_and_copy(admin_client, days, django_capture_on_commit_callbacks):
    act(admin_client, "pause", days, django_capture_on_commit_callbacks)
    days.refresh_from_db()
    assert not days.enabled
    act(admin_client, "resume", days, django_capture_on_commit_callbacks)
    days.refresh_from_db()
    assert days.enabled
    act(admin_client, "copy", days, django_capture_on_commit_callbacks)
    act(admin_client, "copy", days, django_capture_on_commit_callbacks)
    assert list(AggDef.objects.values_list("name", flat=True)) == ["days", "days_copy", "days_copy2"]


def test_a_form_with_errors_shows_the_allowed_values_and_a_valid_one_saves(admin_client, site):
    form = {"name": "a b", "task_name": "no.such.Task", "filter": "{}", "params": "{}", "inputs": '["event"]'}
    form |= {"id_key": "_id", "settle_s": "0", "enabled": "on"}
    add = reverse("admin:aggregates_aggdef_add")
    assert "use 1 to 100 letters" in admin_client.post(add, form).content.decode()
    page = admin_client.post(add, form | {"name": "days"}).content.decode()
    assert "is outside the modules that may hold tasks" in page
    answer = admin_client.post(
        add, form | {"name": "days", "task_name": TASK, "crontab": "15 3 * * *", "crontab_zone": "Asia/Tokyo"}
    )
    assert answer.status_code == 302
    assert AggDef.objects.get().crontab == "15 3 * * *"
    assert "15 3 * * * Asia/Tokyo" in admin_client.get(reverse(LIST)).content.decode()


def test_the_change_page_lists_tasks_and_does_not_change_the_name(admin_client, days):
    page = admin_client.get(reverse("admin:aggregates_aggdef_change", args=[days.pk])).content.decode()
    assert f'<option value="{TASK}">' in page
    assert 'name="name"' not in page
    assert "Recompute in full" in page


def test_a_preview_shows_first_results_before_saving(admin_client, days):
    form = {"_name": "days", "task_name": TASK, "filter": "{}", "params": "{}", "inputs": '["event"]', "id_key": "_id"}
    page = admin_client.post(reverse("admin:aggregates_aggdef_preview"), form | {"settle_s": "0"}).content.decode()
    assert "p/2011-07-01" in page
    bad = admin_client.post(reverse("admin:aggregates_aggdef_preview"), form | {"settle_s": "0", "task_name": "x"})
    assert "Correct the form" in bad.content.decode()


def test_a_preview_cuts_long_keys_and_values(admin_client, days, monkeypatch):
    pairs = [(f"{number}{'k' * 100_000}", {"text": "v" * 100_000}) for number in range(50)]
    monkeypatch.setattr(services, "preview", lambda definition: Preview(50, 0, {"days": pairs}, 50))
    form = {"_name": "days", "task_name": TASK, "filter": "{}", "params": "{}", "inputs": '["event"]', "id_key": "_id"}
    page = admin_client.post(reverse("admin:aggregates_aggdef_preview"), form | {"settle_s": "0"}).content.decode()
    assert page.count("k" * 900) == page.count("v" * 900) == 50 and len(page) < 200_000


def test_a_range_is_rebuilt_from_the_rebuild_page(admin_client, days, database, django_capture_on_commit_callbacks):
    services.run_now(days)
    database["zgen.days.1"].update_many({}, {"$set": {"value": 9}})
    where = reverse("admin:aggregates_aggdef_rebuild", args=[days.pk])
    assert "Rebuild a range" in admin_client.get(where).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(where, {"since": "2011-07-01 00:00", "until": "2011-07-02 00:00"})
    assert values(database, "days") == {"p/2011-07-01": 1, "q/2011-07-01": 1}


@pytest.mark.parametrize(
    ("since", "until"),
    [("2011-07-01T02:00 02:00", "2011-07"), ("2011-06-30T19:00-05:00", "2011-07-01t00:00z"), ("2011-07", "2011-07")],
)
def test_the_rebuild_page_reads_offsets_and_the_start_of_what_a_date_names(admin_client, days, since, until):
    where = reverse("admin:aggregates_aggdef_rebuild", args=[days.pk])
    answer = admin_client.post(where, {"since": since, "until": until}).content.decode()
    assert "since 2011-07-01 00:00:00+00:00 is not before until 2011-07-01 00:00:00+00:00" in answer
    answer = admin_client.post(where, {"since": "01.07.2011", "until": "2011-08"}).content.decode()
    assert "is not a point in time: use a date" in answer


def test_a_range_that_ends_before_it_starts_is_refused_on_the_page(admin_client, days):
    where = reverse("admin:aggregates_aggdef_rebuild", args=[days.pk])
    answer = admin_client.post(where, {"since": "2012-07-01 00:00", "until": "2011-07-02 00:00"})
    assert (answer.status_code, "is not before until" in answer.content.decode()) == (200, True)
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("crontab_zone", "Mars/X", "is not a time zone"),
        ("filter", '{"type": {"$nonsense": 1}}', "$nonsense is not allowed"),
        ("output", "days", "belongs to the aggregate"),
        ("inputs", '["zagg.new"]', "new would read itself"),
        ("inputs", '["admin.system.users"]', "internal to MongoDB"),
        ("interval_s", "99999999999", "from 1 to"),
        ("interval_s", "1_000", "not a whole number of digits 0 to 9"),
        ("settle_s", "\u0666", "not a finite number of digits 0 to 9"),
        ("filter", '{"type": "a", "type": "b"}', "more than one field 'type'"),
        ("params", '{"x": 1, "x": 2}', "more than one field 'x'"),
        ("filter", '{"type": "\\ud800"}', "half of a surrogate pair"),
        ("params", '{"x": "\\ud800"}', "half of a surrogate pair"),
        ("filter", "[" * 2000, "not JSON"),
        ("params", '{"x": NaN}', "not JSON"),
        ("filter", f'{{"a": {" " * 2**18}1}}', "262152 characters: at most 262144 are allowed"),
        ("description", "x" * 10_001, "at most 10000 characters (it has 10001)"),
        ("inputs", f"[{', '.join(['1'] * 1001)}]", "inputs has 1001 names: at most 1000 are allowed"),
        ("params", '{"x": ' + "[" * 150 + "]" * 150 + "}", "deeper than 100 levels"),
    ],
)
def test_an_invalid_value_is_refused_at_its_field(field, value, words, admin_client, days):
    form = {"name": "new", "task_name": TASK, "filter": "{}", "params": "{}", "inputs": '["event"]', "id_key": "_id"}
    form |= {"settle_s": "0", "enabled": "on", field: value} | ({"crontab": "1 * * * *"} if "zone" in field else {})
    answer = admin_client.post(reverse("admin:aggregates_aggdef_add"), form)
    assert answer.status_code == 200
    assert words in html.unescape(" ".join(answer.context["adminform"].form.errors[field]))
    assert not AggDef.objects.filter(name="new").exists()


@pytest.mark.parametrize(
    ("page", "field"),
    [
        ("aggregates_chart", "description"),
        ("aggregates_dashboard", "description"),
        *(("django_celery_beat_periodictask", name) for name in ("args", "kwargs", "headers", "description")),
    ],
)
def test_every_text_has_a_largest_length(admin_client, site, page, field):
    answer = admin_client.post(reverse(f"admin:{page}_add"), {"task": "x", field: "1" * 10_001})
    errors = answer.context["adminform"].form.errors[field]
    assert "at most 10000 characters (it has 10001)" in " ".join(errors)


@pytest.mark.parametrize(
    ("kind", "field"), [("chart", "series_limit"), ("dashboard", "position"), ("accesstoken", "days")]
)
@pytest.mark.parametrize("text", ["1_0", "\u0665", "\uff15"])
def test_a_number_is_one_of_the_digits_0_to_9_in_every_form(admin_client, site, kind, field, text):
    answer = admin_client.post(reverse(f"admin:aggregates_{kind}_add"), {field: text})
    assert "not a whole number of digits 0 to 9" in " ".join(answer.context["adminform"].form.errors[field])
    answer = admin_client.post(reverse(f"admin:aggregates_{kind}_add"), {field: " 5 "})
    assert field not in answer.context["adminform"].form.errors


def test_the_task_page_shows_source_users_errors_and_switches(admin_client, days, site, tmp_path, monkeypatch):
    (tmp_path / "broken_tasks.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    site.ZARKOV = site.ZARKOV.model_copy(update={"task_modules": [*site.ZARKOV.task_modules, "broken_tasks"]})
    where = reverse("admin:aggregates_taskswitch_changelist")
    page = admin_client.get(where).content.decode()
    assert "Count by project and day." in page
    assert "timestamp, context.project" in page
    assert ">days</a>" in page
    assert "broken_tasks fails to import" in page
    assert "No module named" in page
    switch = reverse("admin:aggregates_taskswitch_switch")
    page = admin_client.post(switch, {"task": TASK, "enabled": "off", "reason": "wrong"}, follow=True).content.decode()
    assert "Switch on" in page
    assert not TaskSwitch.objects.get().enabled


def test_the_history_shows_tracebacks_and_cancels_runs(admin_client, site, django_capture_on_commit_callbacks):
    Producer(process_connections().run_context.store).send(event(bad=True))
    aggdef = services.define(name="fragile", task_name="tests.support.aggregates.tasks.Fragile")
    with pytest.raises(Exception, match="bad event"):
        services.run_now(aggdef)
    failed = Run.objects.get()
    page = admin_client.get(reverse("admin:aggregates_run_change", args=[failed.pk])).content.decode()
    assert "raise ValueError" in page
    planned = services.start_run(aggdef)
    form = {"action": "cancel", "_selected_action": [planned.pk, failed.pk]}
    page = admin_client.post(reverse("admin:aggregates_run_changelist"), form, follow=True).content.decode()
    assert "is being cancelled" in page
    assert "already ended" in page


def test_a_user_who_may_only_view_gets_no_actions_and_no_buttons(client, days):
    user = get_user_model().objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_aggdef"))
    client.force_login(user)
    assert "Run now" not in client.get(reverse(LIST)).content.decode()
    page = client.get(reverse("admin:aggregates_aggdef_change", args=[days.pk])).content.decode()
    assert "Recompute in full" not in page
    assert client.post(reverse("admin:aggregates_aggdef_start", args=[days.pk, "full"])).status_code == 403
    assert Run.objects.count() == 0


def test_lists_are_quick_with_many_rows(admin_client, site):
    made = AggDef.objects.bulk_create(AggDef(name=f"a{n}", task_name=TASK, last_id=1) for n in range(3000))
    Run.objects.bulk_create(
        (Run(aggdef=made[n % 3000], mode="incremental", origin="realtime", state="complete") for n in range(30_000)),
        batch_size=5000,
    )
    for name in (LIST, "admin:aggregates_run_changelist"):
        took = []
        # The first request fills caches; a busy machine or a garbage collection spoils one request, not all.
        for _ in range(4):
            began = time.thread_time()  # processor time, not wall-clock time: other tests run at the same time
            with CaptureQueriesContext(connection) as queries:
                assert admin_client.get(reverse(name)).status_code == 200
            took.append(time.thread_time() - began)
        assert min(took) < 0.5, name
        assert len(queries) < 70, name


def delete_chosen(client: Any, aggdefs: list[AggDef], **more: str) -> str:
    form = {"action": "delete_selected", "_selected_action": [aggdef.pk for aggdef in aggdefs], **more}
    answer = client.post(reverse(LIST), form, follow=True)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_the_delete_page_lists_what_is_deleted_too_and_what_prevents_it(admin_client, days, database):
    services.run_now(days)
    total = services.define(name="total", task_name="tests.support.aggregates.tasks.Sum", inputs=["zagg.days"])
    services.run_now(total)
    page = delete_chosen(admin_client, [days])
    assert "Cannot delete" in page
    assert f'<a href="{reverse("admin:aggregates_aggdef_change", args=[total.pk])}">total</a>' in page
    delete_chosen(admin_client, [days], post="yes")
    one = reverse("admin:aggregates_aggdef_delete", args=[days.pk])
    assert "Cannot delete" in admin_client.post(one, {"post": "yes"}).content.decode()
    assert AggDef.objects.count() == 2
    assert values(database, "total")
    page = delete_chosen(admin_client, [days, total])
    assert "Are you sure" in page
    assert "Results: zagg.days" in page
    assert page.count("Runs of its history: 1") == 2
    assert "Successfully deleted 2 aggregates" in delete_chosen(admin_client, [days, total], post="yes")
    assert not AggDef.objects.exists()
    assert not [name for name in database.list_collection_names() if name.startswith(("zagg.", "zgen."))]
    assert sorted(LogEntry.objects.filter(action_flag=DELETION).values_list("object_repr", flat=True)) == [
        "days",
        "total",
    ]


def test_a_refused_deletion_shows_a_message_and_is_not_in_the_change_log(admin_client, days, database, monkeypatch):
    monkeypatch.setattr(import_module("aggregates.services.define"), "CLEAR_WAIT_S", 0.1)
    services.run_now(days)
    one = reverse("admin:aggregates_aggdef_delete", args=[days.pk])
    with process_connections().run_context.hold_lease("days", "live"):
        assert "aggregate days is in the middle of a run" in delete_chosen(admin_client, [days], post="yes")
        answer = admin_client.post(one, {"post": "yes"}, follow=True)
        assert "days is in the middle of a run" in answer.content.decode()
    assert values(database, "days")
    assert not LogEntry.objects.exists()
    assert "was deleted successfully" in admin_client.post(one, {"post": "yes"}, follow=True).content.decode()
    assert (AggDef.objects.count(), LogEntry.objects.count()) == (0, 1)


def test_a_user_who_may_delete_aggregates_deletes_their_history_too(client, days):
    services.run_now(days)
    user = get_user_model().objects.create_user("u", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_aggdef", "delete_aggdef"]))
    client.force_login(user)
    assert "Successfully deleted 1 aggregate" in delete_chosen(client, [days], post="yes")
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("group", "may"),
    [
        ("viewer", {"see"}),
        ("operator", {"see", "run", "cancel"}),
        ("editor", {"see", "run", "cancel", "define", "delete"}),
    ],
)
def test_each_group_has_the_same_rights_in_the_admin_as_over_http(group, may, client, days):
    services.run_now(days)
    user = get_user_model().objects.create_user("u", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    found = set()
    page = client.get(reverse("admin:aggregates_aggdef_change", args=[days.pk])).content.decode()
    if "Current state" in page:
        found.add("see")
    if client.post(reverse("admin:aggregates_aggdef_start", args=[days.pk, "verify"])).status_code == 302:
        assert "Recompute in full" in page
        found.add("run")
    if '<option value="cancel">' in client.get(reverse("admin:aggregates_run_changelist")).content.decode():
        found.add("cancel")
    if client.get(reverse("admin:aggregates_aggdef_add")).status_code == 200 and 'name="_save"' in page:
        found.add("define")
    if client.post(reverse("admin:aggregates_aggdef_delete", args=[days.pk]), {"post": "yes"}).status_code == 302:
        found.add("delete")
    assert found == may
    assert AggDef.objects.exists() == ("delete" not in may)


def test_a_running_run_shows_the_progress_of_its_jobs_and_links_to_them(admin_client, days, database, monkeypatch):
    pages = []

    def record_progress(point: str) -> None:
        if point != "submitted":
            return
        run = Run.objects.get()
        job = {"state": "map", "created": run.created, "progress": {"splits": 8, "splits_done": 3, "docs_in": 30_000}}
        planned = process_connections().run_context.position_store.get("days").open_build.open_range
        (spec,) = specs(planned)
        database["zmr.job"].update_one({"_id": spec.job_id}, {"$set": job}, upsert=True)
        pages.append(admin_client.get(reverse("admin:aggregates_run_change", args=[run.pk])).content.decode())
        pages.append(admin_client.get(reverse("admin:aggregates_run_changelist")).content.decode())

    monkeypatch.setattr(failpoint, "hook", record_progress)
    services.run_now(days)
    run = Run.objects.get()
    link = f'<a href="/api/v1/jobs/{run.job_ids[0]}/">{run.job_ids[0]}</a>'
    assert f"{link}: map, 3 of 8 splits, 30000 events read" in pages[0]
    assert "so far" in pages[1]
    assert link in admin_client.get(reverse("admin:aggregates_run_change", args=[run.pk])).content.decode()


@pytest.mark.parametrize(("group", "shown"), [("viewer", False), ("operator", False), ("editor", True)])
def test_only_those_who_may_change_embed_links_see_their_addresses(group, shown, client, days):
    chart = Chart.objects.create(slug="days", title="Days", aggregate="days")
    link = EmbedLink.objects.create(name="wiki", chart=chart)
    user = get_user_model().objects.create_user("u", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    page = client.get(reverse("admin:aggregates_embedlink_change", args=[link.pk]))
    assert page.status_code == 200
    content = html.unescape(page.content.decode())
    assert ("<iframe" in content, embed.token_of(link) in content) == (shown, shown)
    assert ("Shown to those who may change embed links" in content) != shown
    listed = client.get(reverse("admin:aggregates_embedlink_changelist")).content.decode()
    assert embed.token_of(link) not in listed and link.key not in listed
