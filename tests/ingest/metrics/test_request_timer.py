"""Requests to a Django site and tasks of Celery are measured."""

from __future__ import annotations

from collections.abc import Callable

from ingest.metrics import Zibrato
from tests.support.ingest.metrics import Listener

Make = Callable[..., Zibrato]


def test_django_and_celery_are_measured_in_two_lines(zibrato: Make, listen: Callable[..., Listener]) -> None:
    from types import SimpleNamespace

    from celery import Celery

    from ingest.metrics import RequestTimer, measure_tasks

    z, listener = zibrato(source="shop"), listen()
    view = SimpleNamespace(view_name="front")
    middleware = RequestTimer(lambda request: SimpleNamespace(status_code=404), z)
    middleware(SimpleNamespace(method="GET", resolver_match=view))
    middleware(SimpleNamespace(method="POST", resolver_match=None))
    app = Celery("app", set_as_current=False)
    app.conf.task_always_eager = True
    measure_tasks(z)

    @app.task(name="shop.sell")
    def sell() -> None:
        pass

    sell.apply()
    assert z.flush(10)
    found = {(b.identity.name, b.identity.tags) for b in listener.until(lambda items: len(items) == 3)}  # type: ignore[union-attr]
    assert found == {
        ("request.front", (("method", "GET"), ("status", "4xx"))),
        ("request", (("method", "POST"), ("status", "4xx"))),
        ("task.shop.sell", (("state", "SUCCESS"),)),
    }
