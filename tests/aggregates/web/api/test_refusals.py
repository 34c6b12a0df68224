"""Input that HTTP refuses is kept in quarantine, like that of any other receiver."""

from __future__ import annotations

import hashlib
import json
import uuid

from tests.support.waiting import eventually
from tests.support.web.server import Server


def test_refused_http_input_is_kept_in_quarantine_with_source_and_raw_text(server: Server) -> None:
    mark = uuid.uuid4().hex  # other tests send arbitrary input to the same server
    late = {"type": "k", "timestamp": f"soon {mark}"}
    lines = [{"type": "kept"}, None, {"typ": f"kept {mark}"}, late]
    broken = f'{{"type": "kept", nonsense {mark}}}'
    body = "\n".join(broken if line is None else json.dumps(line) for line in lines).encode()
    status, _, answer = server.request("api/v1/events/", body, token=server.token)
    assert (status, json.loads(answer)["accepted"]) == (200, 1)
    assert [r["code"] for r in json.loads(answer)["rejected"]] == ["bad_json", "unknown_field", "bad_timestamp"]

    def kept() -> dict[str, bytes]:
        return {
            entry["code"]: entry["raw"]
            for entry in server.database["quarantine"].find({"source": "http", "raw": {"$exists": True}})
            if mark.encode() in entry["raw"]
        }

    eventually(lambda: len(kept()) == 3, what="three refusals kept")
    assert kept()["bad_json"] == broken.encode()
    assert json.loads(kept()["bad_timestamp"]) == late


def test_a_body_with_ids_that_is_posted_again_is_quarantined_once(server: Server) -> None:
    mark = uuid.uuid4().hex
    with_ids = json.dumps([{"type": "x", "id": mark}, {"typ": mark, "n": 1}]).encode()
    without = json.dumps([{"type": "x"}, {"typ": mark, "n": 2}]).encode()
    for body in (with_ids, without) * 2:
        assert server.request("api/v1/events/", body, token=server.token)[0] == 200

    def kept() -> list[int]:
        found = server.database["quarantine"].find({"source": "http", "raw": {"$exists": True}})
        return sorted(json.loads(entry["raw"])["n"] for entry in found if mark.encode() in entry["raw"])

    eventually(lambda: kept() == [1, 2, 2])
    assert b"delivery" not in server.request("api/v1/quarantine/?source=http", token=server.token)[2]


def test_a_body_as_large_as_a_message_is_quarantined_for_what_is_wrong_with_it(server: Server) -> None:
    body = uuid.uuid4().hex.encode().ljust(16 * 2**20, b"x")
    status, _, answer = server.request("api/v1/events/", body, token=server.token)
    assert (status, json.loads(answer)["rejected"][0]["code"]) == (400, "bad_json")
    digest = hashlib.sha256(body).hexdigest()
    kept = eventually(lambda: server.database["quarantine"].find_one({"sha256": digest}))
    assert (kept["code"], kept["source"], kept["bytes"]) == ("bad_json", "http", len(body))
    assert kept["raw_start"] == body[:4096]
