"""Limit the size of request bodies, whether they come with a length or in chunks."""

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
MAX_BODY_BYTES = 16 * 2**20
MAX_DRAINED_BYTES = 4 * MAX_BODY_BYTES  # of one that is too large: many clients send all before they read an answer
