"""Requests with hostile values for every address of the site: in paths, parameters, bodies and headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.contrib import admin
from django.urls import get_resolver, reverse

from tests.support.web.hostile import (
    CONTENT_TYPES,
    FIELD,
    FORMS,
    HEADERS,
    JSONS,
    LAST,
    METHODS,
    MULTIPART_TYPES,
    TEXTS,
    HostileRequest,
    in_query,
    part,
)

TASK = "tests.support.aggregates.tasks.CountByDay"
API = "/api/v1/"
# Addresses with the parameters that they read; X in a path is a name that requests may choose.
PARAMETERS: dict[str, str] = {
    "/": "", "/aggregates/": "page", "/aggregates/X/": "from to tz", "/charts/": "page", "/charts/X/": "from to tz",
    "/dashboards/": "page", "/dashboards/X/": "from to tz", "/embed/X/": "from to tz",
    "/embed/X/live/": "from to tz last_event_id",
    "/live/charts/": "chart from to tz last_event_id", "/live/pulse/": "last_event_id", "/jobs/": "", "/live/jobs/": "",
    "/login/": "next username", "/logout/": "next", "/q": "a", "/qs": "q-0.c q-0.n q-0.b q-0.e q-0.p",
    "/qr": "q-0.c q-0.n q-0.f q-0.sort q-0.limit q-0.p", "/collections": "", "/favicon.ico": "", "/healthz": "",
    "/readyz": "", "/metrics": "name[]", API: "format", f"{API}events/": "type from to tz context filter cursor limit",
    f"{API}aggdefs/": "", f"{API}aggdefs/X/": "", f"{API}aggdefs/X/run/": "",
    f"{API}runs/": "aggdef state cursor limit",
    f"{API}runs/X/": "", f"{API}runs/X/cancel/": "", f"{API}tasks/": "", f"{API}jobs/": "state limit",
    f"{API}jobs/X/": "",
    f"{API}jobs/X/cancel/": "", f"{API}quarantine/": "code source from to tz replayed cursor limit",
    f"{API}quarantine/counts/": "code from replayed", f"{API}quarantine/replay/": "code from",
    f"{API}quarantine/X/": "",
    f"{API}quarantine/X/raw/": "", f"{API}collections/": "",
    f"{API}series/X/": "fields prefix from to tz fill bulk limit",
    f"{API}ranked/X/": "sort filter prefix from to tz limit", f"{API}export/X.csv": "prefix from to tz bom",
    f"{API}export/X.jsonl": "prefix", f"{API}live/X/": "fields prefix from to tz fill bulk limit last_event_id",
    f"{API}schema/": "format version lang",
}  # fmt: skip
KNOWN = {"/charts/X/": "c", "/dashboards/X/": "d", f"{API}runs/X/": "some-run", f"{API}aggdefs/X/": "mine",
         f"{API}aggdefs/X/run/": "mine", f"{API}runs/X/cancel/": "some-run"}  # fmt: skip
BODIES = {
    f"{API}aggdefs/": ['JSON', '{"name": "new", "task_name": JSON}', f'{{"name": JSON, "task_name": "{TASK}"}}']
    + [f'{{"name": "new", "task_name": "{TASK}", "{name}": JSON}}' for name in (
        "filter", "params", "inputs", "output", "interval_s", "settle_s", "crontab", "crontab_zone", "realtime",
        "id_key")],
    f"{API}aggdefs/X/": ["JSON", '{"description": JSON}', '{"filter": JSON}', '{"params": JSON}', '{"enabled": JSON}'],
    f"{API}aggdefs/X/run/": ["JSON", '{"mode": JSON}', '{"force": JSON}'],
    f"{API}quarantine/replay/": ["JSON", '{"keys": JSON}', '{"all": JSON}', '{"keys": ["j.1.1"], "document": JSON}'],
    f"{API}runs/X/cancel/": ["JSON"],
    f"{API}jobs/X/cancel/": ["JSON"],
}  # fmt: skip
WITH_FORM = (
    "/login/", "/logout/", "/q", "/qs", "/qr", "/charts/c/", "/healthz", f"{API}events/", f"{API}aggdefs/",
    f"{API}aggdefs/mine/run/", f"{API}quarantine/replay/", f"{API}runs/some-run/cancel/",
    *(f"/admin/{page}" for page in (
        "login/", "password_change/", "aggregates/aggdef/", "aggregates/aggdef/add/", "aggregates/aggdef/1/change/",
        "aggregates/aggdef/preview/", "aggregates/aggdef/1/rebuild/", "aggregates/chart/add/",
        "aggregates/dashboard/add/", "aggregates/accesstoken/", "aggregates/accesstoken/add/",
        "aggregates/embedlink/add/", "aggregates/taskswitch/switch/", "auth/user/add/", "auth/user/1/password/",
        "ingest/quarantineentry/", "django_celery_beat/periodictask/add/")),
)  # fmt: skip
QUERIES = {"/q": ["JSON", '{"c": JSON}', '{"c": "a", "b": JSON}', '{"c": "a", "e": JSON}', '{"c": "a", "p": JSON}'],
           "/qr": ["JSON"], f"{API}events/": ["JSON"], f"{API}ranked/X/": ["JSON"]}  # fmt: skip
FILTER = {"/q": "a", "/qr": "q-0.n=x&q-0.c=a&q-0.f", f"{API}events/": "filter", f"{API}ranked/X/": "filter"}


def at(address: str, name: str = "") -> str:
    """Return an address with a name in it, by default one that is known."""
    return address.replace("X", name or KNOWN.get(address, "a"))


def in_paths() -> Iterator[HostileRequest]:
    for address in PARAMETERS:
        for text in TEXTS if "X" in address else ():
            yield HostileRequest(at(address, text or "%20"))


def in_parameters() -> Iterator[HostileRequest]:
    for address, names in PARAMETERS.items():
        for name in names.split():
            for text in TEXTS:
                yield HostileRequest(f"{at(address)}?{name}={text}")
            yield HostileRequest(f"{at(address)}?{name}=1&{name}=2&{name}")
    for address, templates in QUERIES.items():
        for template in templates:
            for text in JSONS:
                query = f"{FILTER[address]}={in_query(template.encode().replace(b'JSON', text))}"
                yield HostileRequest(f"{at(address)}?{query}"[:200_000])
                if address in ("/q", "/qr"):
                    form = "application/x-www-form-urlencoded"
                    yield HostileRequest(at(address), "POST", query.encode(), form)


def in_bodies() -> Iterator[HostileRequest]:
    for address, templates in BODIES.items():
        methods = ("PUT", "PATCH") if address.endswith("aggdefs/X/") else ("POST",)
        for template in templates:
            for text in JSONS:
                for method in methods:
                    yield HostileRequest(at(address), method, template.encode().replace(b"JSON", text))


def in_headers() -> Iterator[HostileRequest]:
    for address in PARAMETERS:
        for headers in HEADERS:
            yield HostileRequest(at(address), headers=headers)
        for method in METHODS:
            for accept in ("application/json", "text/html"):
                yield HostileRequest(at(address), method, b"{}", headers={"HTTP_ACCEPT": accept})
        for content_type in CONTENT_TYPES:
            yield HostileRequest(at(address), "POST", b"a=%ED%A0%80&\xff=\x00", content_type)
            yield HostileRequest(
                at(address), "POST", b"--x\r\nContent-Disposition: form-data\r\n\r\n\xff", content_type
            )


def in_multipart() -> Iterator[HostileRequest]:
    for path in WITH_FORM:
        for content_type in MULTIPART_TYPES:
            yield HostileRequest(path, "POST", part(FIELD) + LAST, content_type)
        for body in FORMS:
            yield HostileRequest(path, "POST", body, "multipart/form-data; boundary=x")


def in_admin() -> Iterator[HostileRequest]:
    form = "application/x-www-form-urlencoded"
    assert get_resolver().url_patterns  # loads the pages of the admin
    for model, of_model in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        listing = reverse(f"{name}_changelist")
        filters = [each if isinstance(each, str) else each[0] for each in of_model.get_list_filter(None)]  # type: ignore[arg-type]
        fields = [f"{each}__{how}" for each in filters for how in ("exact", "isnull", "gte", "in", "nothing")]
        for parameter in ("q", "o", "p", "e", "all", "_popup", "_to_field", "_changelist_filters", "cursor", *fields):
            for text in TEXTS:
                yield HostileRequest(f"{listing}?{parameter}={text}")
        for text in TEXTS:
            for page in (
                f"{listing}{text}/change/",
                f"{listing}{text}/delete/",
                f"{listing}{text}/history/",
                f"{listing}{text}/",
            ):
                yield HostileRequest(page)
            yield HostileRequest(f"{listing}add/?name={text}&title={text}")
            for body in (
                f"action={text}&_selected_action={text}",
                f"action=delete_selected&_selected_action={text}&post=yes",
            ):
                yield HostileRequest(listing, "POST", body.encode(), form)
            every = "&".join(f"{each.name}={text}" for each in model._meta.fields)
            yield HostileRequest(f"{listing}add/", "POST", every.encode(), form)
    for text in TEXTS:
        yield HostileRequest(f"/admin/{text}")
        yield HostileRequest(f"/admin/r/{text}/{text}/")
        yield HostileRequest(f"/admin/autocomplete/?term={text}&app_label={text}&model_name={text}&field_name={text}")
        yield HostileRequest(f"/admin/jsi18n/?{text}")


def once_failed() -> Iterator[HostileRequest]:
    """Yield requests that were answered by 500 once."""
    form = "application/x-www-form-urlencoded"
    yield HostileRequest(f"{API}schema/?version=UTC%0A")
    for page in ("delete", "history"):
        yield HostileRequest(f"/admin/ingest/quarantineentry/j.1.1/{page}/")
        yield HostileRequest(f"/admin/ingest/quarantineentry/%ED%A0%80/{page}/")
    for text in ("value", "*", "%00", "", "NaN", "9" * 400, "9223372036854775808", "%ED%A0%80"):
        for listing in ("aggregates/aggdef", "auth/group", "django_celery_beat/periodictask", "aggregates/accesstoken"):
            chosen = f"action=delete_selected&_selected_action={text}&post=yes"
            yield HostileRequest(f"/admin/{listing}/", "POST", chosen.encode(), form)
    for text in (b'{"c": "a", "p": null}', b'{"c": null}', b'{"c": "\\ud800"}', b"[" * 10_000, b'{"a":' * 10_000):
        yield HostileRequest(f"/q?a={in_query(text)}")
    for text in (b'{"a": {"b\\u0000": 1}}', b'{"a": "\\ud800"}', b'{"a":' * 10_000, b'{"a": [{"\\udfff": 1}]}'):
        yield HostileRequest(f"/qr?q-0.n=x&q-0.c=a&q-0.f={in_query(text)}")
        yield HostileRequest(f"{API}events/?filter={in_query(text)}")
        yield HostileRequest(f"{API}aggdefs/", "POST", b'{"name": "n", "task_name": "x.Y", "filter": ' + text + b"}")
    for name in ("aggregates_embedlink", "aggregates_dashboard", "auth_user"):
        page = reverse(f"admin:{name}_add")
        for field in ("chart", "dashboard", "items-0-chart", "groups"):
            for text in ("%5B", "x", "9" * 400, "%00", "1,x"):
                body = f"items-TOTAL_FORMS=1&items-INITIAL_FORMS=0&{field}={text}"
                yield HostileRequest(page, "POST", body.encode(), form)
                yield HostileRequest(f"{page}?{field}={text}")
    for lookup in ("id__regex=((", f"id__in={'9' * 30}", "date_joined__year=0", "last_login__date__year=99999",
                   "username__range=1", f"groups__lt={'9' * 30}", "id__contained_by=1", "last_login__year__gt=0",
                   "last_login__exact=0001-01-01T00:00%2B14:00", "last_login__lt=9999-12-31T23:59-14:00"):  # fmt: skip
        yield HostileRequest(f"/admin/auth/user/?{lookup}")
    beat = "django_celery_beat"
    for field in (f"{beat}/periodictask/add/?start_time", f"{beat}/periodictask/add/?expires",
                  f"{beat}/clockedschedule/add/?clocked_time", "aggregates/embedlink/add/?expires"):  # fmt: skip
        for text in ("x", "2026-01-01", ""):
            yield HostileRequest(f"/admin/{field}={text}")
    for text in ("%2B", "x", "id", "groups", "logentry", ""):
        yield HostileRequest(f"/admin/auth/user/?_to_field={text}")
        yield HostileRequest("/admin/auth/user/add/", "POST", f"_to_field={text}&_popup=1".encode(), form)
    for text in ("a%00b", "n" * 300):
        yield HostileRequest("/admin/django_celery_beat/periodictask/add/", "POST", f"task={text}".encode(), form)
    for text in ("-1", "*/0", "x"):
        every = f"minute={text}&hour=*&day_of_month=*&month_of_year=*&day_of_week=*&timezone=UTC"
        yield HostileRequest("/admin/django_celery_beat/crontabschedule/add/", "POST", every.encode(), form)
    for listing in ("aggregates/aggdef", "aggregates/chart", "aggregates/embedlink", "auth/user", "auth/group"):
        yield HostileRequest(f"/admin/{listing}/add/", "POST", b"_saveasnew=1", form)
    yield HostileRequest("/admin/auth/group/add/", "POST", b"name=x&permissions=9223372036854775808", form)
    for kind in range(1, 30):
        yield HostileRequest(f"/admin/r/{kind}/1/")
    for length in ("x", "-1", "\xb2", "\u0661", "1_0", "9" * 5000):
        for path in ("/q", "/charts/c/", "/login/", f"{API}events/", "/admin/login/"):
            yield HostileRequest(path, "POST", b"a=b", form, {"CONTENT_LENGTH": length})
    for content_type in (form, "multipart/form-data", "multipart/form-data; boundary=x"):
        yield HostileRequest(f"{API}events/", "POST", part(FIELD) + LAST, content_type)
        yield HostileRequest(f"{API}events/", "POST", b'{"type": "x"}', f"{content_type}; a*=b; a*0=c")
    for content_type in MULTIPART_TYPES:
        yield HostileRequest("/healthz", content_type=content_type)
    for headers in (FIELD + b"\r\na: b; c*=d; c*0=e", b"content-disposition: a; name*0=b; name*=c"):
        yield HostileRequest("/admin/login/", "POST", part(headers) + LAST, "multipart/form-data; boundary=x")
    for accept in ("text/html; q*=x; q*0=y", "application/json; indent*=x; indent*0=y"):
        yield HostileRequest(API, headers={"HTTP_ACCEPT": accept})
        yield HostileRequest(f"{API}aggdefs/", "POST", b"{}", headers={"HTTP_ACCEPT": accept})
    for path in (f"{API}series/{'a/' * 1900}b/", f"{API}ranked/{'a/' * 1900}b/"):
        yield HostileRequest(path, headers={"HTTP_ACCEPT": "text/html"})


KINDS: dict[str, Callable[[], Iterator[HostileRequest]]] = {
    "paths": in_paths, "parameters": in_parameters, "bodies": in_bodies, "headers": in_headers, "admin": in_admin,
    "multipart": in_multipart,
}  # fmt: skip
