"""Call functions of the kernel's sockets without giving way to other threads.

Each call through Python's own `socket` releases the interpreter's lock, and has it back only once a busy thread gives
way, which takes milliseconds. Who changes hundreds of connections before they fill the memory cannot wait that long.
None of these calls blocks. Constants are those of asm-generic/socket.h and socket(7).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

_COOKIE = struct.Struct("=Q")
_SO_COOKIE = 57
_NUMBER = struct.Struct("=i")
_FAMILY_AND_PORT = struct.Struct("=H2s")  # sockaddr_in(3type), sockaddr_in6(3type)
_ADDRESS_BYTES = 128
_library = ctypes.PyDLL(None, use_errno=True)


def duplicate(descriptor: int) -> int:
    """Return a duplicate of a descriptor, which must be closed. Raise `OSError` if there is none."""
    return _checked(_library.dup(descriptor))


def close(descriptor: int) -> None:
    """Close a duplicate."""
    _library.close(descriptor)


def option(descriptor: int, level: int, name: int, field: struct.Struct) -> int:
    """Return a number of an option of a socket. Raise `OSError` if there is no such option, or no socket."""
    found = ctypes.create_string_buffer(field.size)
    size = ctypes.c_uint32(field.size)
    _checked(_library.getsockopt(descriptor, level, name, found, ctypes.byref(size)))
    if size.value < field.size:
        raise OSError(f"the kernel knows only {size.value} bytes of option {name}")
    return int(field.unpack(found.raw)[0])


def set_option(descriptor: int, level: int, name: int, value: int | bytes) -> None:
    """Set an option of a socket. Raise `OSError` if that cannot be done."""
    packed = value if isinstance(value, bytes) else _NUMBER.pack(value)
    _checked(_library.setsockopt(descriptor, level, name, packed, len(packed)))


def end(descriptor: int) -> None:
    """End a connection in both directions (shutdown(2)); its owner sees that it has ended."""
    _library.shutdown(descriptor, socket.SHUT_RDWR)


def cookie(descriptor: int) -> int:
    """Return the number that a socket alone has as long as the system runs. Raise `OSError` if it is no socket."""
    return option(descriptor, socket.SOL_SOCKET, _SO_COOKIE, _COOKIE)


def accepted_port(descriptor: int) -> int:
    """Return the port at which a TCP connection was accepted, or made; 0 for any other socket."""
    address = ctypes.create_string_buffer(_ADDRESS_BYTES)
    size = ctypes.c_uint32(_ADDRESS_BYTES)
    if _library.getsockname(descriptor, address, ctypes.byref(size)) != 0:
        return 0
    family, port = _FAMILY_AND_PORT.unpack_from(address.raw)
    if family not in (socket.AF_INET, socket.AF_INET6) or option(
        descriptor, socket.SOL_SOCKET, socket.SO_ACCEPTCONN, _NUMBER
    ):
        return 0
    return int.from_bytes(port, "big")


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
