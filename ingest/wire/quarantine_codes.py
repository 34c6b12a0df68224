"""List the codes of refusals, and so of quarantined input, with what each means."""

CODES = {
    "bad_bson": "the bytes are not BSON",
    "truncated_message": "the message ends inside a document",
    "oversized_message": "the message is larger than 16 MiB",
    "too_many_documents": "the message has more than 100,000 documents, or a million lines",
    "bad_json": "the text is not JSON in UTF-8",
    "bad_extended_json": "a value in MongoDB's extended JSON, such as $numberLong, is malformed",
    "not_a_document": "the JSON value is not an object",
    "event_too_big": "the event is larger than 1 MiB of BSON",
    "missing_type": "the event has no type",
    "bad_type": "type is not text of 1 to 256 characters",
    "bad_context": "context is not a document",
    "bad_timestamp": "timestamp is not a date",
    "bad_id": "id is not text of 1 to 256 characters",
    "unknown_field": "the event has a top-level field that events do not have",
    "date_out_of_range": "a date is outside the years 1 to 9999",
    "nested_too_deep": "documents or arrays are nested deeper than 100",
    "unknown_command": "$command is not one that this socket knows",
    "repeated_field": "the event has two top-level fields of one name, or an object in JSON has",
    "reader_failed": "the ingester itself failed on the input; its log has the traceback",
    "refused_by_store": "MongoDB refused the document",
}
