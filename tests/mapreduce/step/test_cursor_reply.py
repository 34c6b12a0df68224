from __future__ import annotations

from itertools import chain

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce.step import cursor_reply
from mapreduce.step.cursor_reply import CursorReply


def raw(documents: list[dict[str, object]], name: str = "firstBatch", **before: object) -> bytes:
    return bson.encode({**before, name: documents, "id": bson.Int64(77), "ns": "a.b"})


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9) | st.text(max_size=40)), max_size=150))
def test_the_pieces_hold_all_documents_in_order(documents: list[dict[str, object]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor_reply, "PIECE_BYTES", 100)
        found = CursorReply(raw(documents, "nextBatch"), "nextBatch")
        pieces = list(found.batches())
    assert list(chain.from_iterable(pieces)) == documents
    assert all(pieces)
    assert found.cursor_id == 77


def test_a_big_batch_is_cut_into_pieces_of_bounded_size() -> None:
    documents = [{"_id": number, "text": "x" * 100} for number in range(12_000)]
    pieces = list(CursorReply(raw(documents), "firstBatch").batches())
    assert list(chain.from_iterable(pieces)) == documents
    assert len(pieces) > 5
    assert max(len(bson.encode({"p": piece})) for piece in pieces) < cursor_reply.PIECE_BYTES * 1.1


def test_a_batch_that_is_not_the_first_key_is_read_too() -> None:
    documents = [{"text": "x" * cursor_reply.PIECE_BYTES}]
    found = CursorReply(raw(documents, partialResultsReturned=True), "firstBatch")
    assert (list(found.batches()), found.cursor_id) == ([documents], 77)
