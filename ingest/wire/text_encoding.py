"""Turn received bytes into text, and name what bytes are that are not text.

Text is UTF-8, unless a byte order mark at its start names another encoding (Unicode 15, section 23.8; RFC 8259 section
8.1 lets a reader of JSON ignore one).
"""

from __future__ import annotations

import codecs
import re

BYTE_ORDER_MARK = "\ufeff"
UTF_8 = "utf-8"
_ESCAPED = "zarkov.escaped"  # names of error handlers
_AS_WINDOWS_1252 = "zarkov.windows-1252"
_HALVES = re.compile("[\ud800-\udfff]")
# UTF-32 first: its little-endian mark starts with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK_STARTS = frozenset({codecs.BOM_UTF8[:1], *(mark[:1] for mark, _ in _MARKS)})
# The first bytes of packed files, as the command `file` knows them, and how to unpack each.
PACKED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\x00", "xz", "unxz"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"\x1f\x9d", "compress", "uncompress"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"PK\x05\x06", "zip", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
    (b"LZIP", "lzip", "lzip -d"),
    (b"\x89LZO\x00", "lzop", "lzop -d"),
    (b"Rar!\x1a\x07", "rar", "unrar x"),
)
# Those with short marks. The length of a BSON document may look like one, but then the fourth byte is zero.
_PACKED_SHORTLY = (
    (re.compile(rb"x[\x01\x9c\xda].[^\0]", re.DOTALL), "zlib", "pigz -dz"),
    (re.compile(rb"\]\0\0[^\0]"), "lzma", "unlzma"),
)
_PACKED_STARTS = frozenset({*(mark[:1] for mark, _, _ in PACKED), b"x", b"]"})
TAR_HEADER_BYTES = 512
_TAR_CHECKSUM = slice(148, 156)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # bytes that no text has, whatever its encoding


def encoding_of(start: bytes) -> str:
    """Return the encoding that a byte order mark at the start of some bytes names; UTF-8 without one."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), UTF_8)


def to_text(raw: bytes) -> str:
    """Return the text without its byte order marks. Raise `UnicodeDecodeError`."""
    if raw[:1] not in _MARK_STARTS:
        return raw.decode()
    return raw.decode(encoding_of(raw)).lstrip(BYTE_ORDER_MARK)


def to_utf_8(raw: bytes) -> bytes:
    """Return the same bytes, or UTF-8 if a mark names another encoding; what is no text there is no UTF-8 either."""
    return raw if raw[:1] not in _MARK_STARTS or encoding_of(raw) is UTF_8 else escaped_bytes(to_escaped_text(raw))


def to_escaped_text(raw: bytes) -> str:
    """Return the text as `to_text` does, with surrogates for what is none; `escaped_bytes` makes bytes of them."""
    encoding = encoding_of(raw)
    return raw.decode(encoding, decoding_errors(encoding)).lstrip(BYTE_ORDER_MARK)


def escaped_bytes(text: str) -> bytes:
    """Return text that was decoded with `decoding_errors` as UTF-8; only what could not be read is no UTF-8."""
    return text.encode(UTF_8, "surrogateescape")


def decoding_errors(encoding: str) -> str:
    """Return the error handler with which text is read so that one mistake does not take its neighbours along."""
    return "surrogateescape" if encoding == UTF_8 else _ESCAPED


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Replace what UTF-16 or UTF-32 cannot be, such as half of a surrogate pair, by escapes of what it is in UTF-8.

    An error handler of `codecs`. Bytes that are no code unit, such as a single one at the end, become such halves too.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    try:
        found, end = codecs.lookup_error("surrogatepass")(error)
    except UnicodeDecodeError:
        found, end = "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end
    return str(found).encode(UTF_8, "surrogatepass").decode("ascii", "surrogateescape"), end


codecs.register_error(_ESCAPED, _escaped)


def readable_text(raw: bytes) -> str | None:
    """Return the text that bytes hold, for a person to mend; None for binary data.

    Bytes that are no UTF-8 are read as Windows-1252, which holds Latin-1. What is no text there, nor in the encoding of
    a byte order mark, becomes an escape of JSON. Without a mark, UTF-16 and UTF-32 are known by their zeros.
    """
    if raw[:1] in _MARK_STARTS and encoding_of(raw) is not UTF_8:
        return _read(escaped_bytes(to_escaped_text(raw)).decode(UTF_8, "surrogatepass"))
    if lacks_mark(raw):
        order = "be" if raw[:1] == b"\0" else "le"  # JSON begins with a character of ASCII
        return next(filter(None, (_decoded(raw, f"{name}-{order}") for name in ("utf-32", "utf-16"))), None)
    return None if is_binary(raw) else raw.decode(UTF_8, _AS_WINDOWS_1252)


def is_read_as_windows_1252(raw: bytes) -> bool:
    """Return whether `readable_text` takes some of the bytes for Windows-1252."""
    is_unicode = (raw[:1] in _MARK_STARTS and encoding_of(raw) is not UTF_8) or lacks_mark(raw)
    return not is_unicode and not is_binary(raw) and not _is_utf_8(raw)


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode the bytes at which UTF-8 failed, for `codecs.register_error`."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(map(_WINDOWS_1252.__getitem__, found)), error.end


_WINDOWS_1252 = [bytes([code]).decode("cp1252", "ignore") or f"\\u{code:04x}" for code in range(256)]
codecs.register_error(_AS_WINDOWS_1252, _as_windows_1252)


def _decoded(raw: bytes, encoding: str) -> str | None:
    try:
        return _read(raw.decode(encoding))
    except UnicodeDecodeError:
        return None


def _read(text: str) -> str | None:
    """Return text with escapes of JSON for halves of surrogate pairs; None if it holds characters that no text has."""
    if not _HALVES.sub("", text) or is_binary(text.encode(UTF_8, "surrogatepass")):
        return None
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text.lstrip(BYTE_ORDER_MARK))


def packing_of(start: bytes) -> tuple[str, str] | None:
    """Return the name of the packing that some bytes start with, and the command that undoes it; None if none.

    It takes the first `TAR_HEADER_BYTES` to tell a tar archive, and 8 for all others.
    """
    if start[:1] in _PACKED_STARTS:
        for mark, name, command in PACKED:
            if start.startswith(mark):
                return name, command
        if found := next(((name, command) for mark, name, command in _PACKED_SHORTLY if mark.match(start)), None):
            return found
    return ("tar", "tar xf") if _is_tar(start) else None


def _is_tar(start: bytes) -> bool:
    """Return whether bytes start like a tar archive: with a header of 512 bytes that has the right checksum.

    All kinds of tar have it, also those without `ustar` at byte 257: the sum of all bytes of the header, with blanks in
    place of the checksum itself, as octal digits (POSIX.1-2017, pax, "ustar Interchange Format").
    """
    if len(start) < TAR_HEADER_BYTES:
        return False
    header = start[:TAR_HEADER_BYTES]
    digits = header[_TAR_CHECKSUM].strip(b" \0")
    if not re.fullmatch(rb"[0-7]{1,7}", digits):
        return False
    return sum(header) - sum(header[_TAR_CHECKSUM]) + 8 * ord(" ") == int(digits, 8)


def is_binary(raw: bytes) -> bool:
    """Return whether there are bytes that no text has, or those with which packed data starts and that are no UTF-8."""
    if _CONTROL.search(raw) is not None:
        return True
    return packing_of(raw) is not None and not _is_utf_8(raw)


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode(UTF_8)
    except UnicodeDecodeError:
        return False
    return True


def lacks_mark(start: bytes) -> bool:
    """Return whether bytes look like text in UTF-16 or UTF-32 without a byte order mark: every other byte is zero."""
    pairs = start[: len(start) // 2 * 2][:64]
    return len(pairs) >= 4 and any(not any(half) for half in (pairs[::2], pairs[1::2])) and any(pairs)


def describe_binary(raw: bytes) -> str:
    """Say what binary input seems to be, and what to do about it."""
    if packing := packing_of(raw):
        return f"packed with {packing[0]}: unpack it before it is sent"
    if lacks_mark(raw):
        return "text in UTF-16 or UTF-32 without a byte order mark: send UTF-8"
    found = _CONTROL.search(raw)
    where = f", with byte {found[0].hex()} at position {found.start()}" if found else ""
    return f"binary data{where}: send text in UTF-8"
