"""What HTTP refuses is kept in quarantine as what came through any other door."""

from __future__ import annotations

import json

from tests.aggregates.web.server import Server, eventually


def test_refused_http_input_ends_in_quarantine_with_its_source_and_its_raw_text(server: Server) -> None:
    body = b'{"type": "kept"}\n{"type": "kept", nonsense-7}\n{"typ": "kept-7"}\n{"type": "k", "timestamp": "soon-7"}'
    status, _, answer = server.request("api/v1/events/", body, token=server.token)
    assert (status, json.loads(answer)["accepted"]) == (200, 1)
    assert [r["code"] for r in json.loads(answer)["rejected"]] == ["bad_json", "unknown_field", "bad_timestamp"]
    find = server.database["quarantine"].find
    eventually(lambda: sum(b"-7" in q["raw"] for q in find({"source": "http"})) == 3, what="three refusals kept")
    codes = {q["code"]: q["raw"] for q in find({"source": "http"}) if b"-7" in q["raw"]}
    assert codes["bad_json"] == b'{"type": "kept", nonsense-7}'
    assert json.loads(codes["bad_timestamp"]) == {"type": "k", "timestamp": "soon-7"}
