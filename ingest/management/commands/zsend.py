"""`zsend ADDRESS`: send each line of standard input to a PULL socket."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import bson
from bson.errors import BSONError
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from ingest.client import ZarkovClient
from ingest.exceptions import DeliveryError, IngestError
from ingest.management.command import ZarkovCommand, add_keys_argument, sender_keys
from ingest.wire import json_value


class Command(ZarkovCommand):
    help = (
        "Send each line of standard input, one JSON document per line, to a PULL socket as one message. They go as "
        "BSON, unless --json is given or ADDRESS is that of the ingester's JSON socket."
    )
    example = """echo '{"type":"nop"}' | manage.py zsend tcp://localhost:6543"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="ZeroMQ address, such as tcp://localhost:6543")
        parser.add_argument("key", nargs="?", help="shared key sent as first frame; @FILE reads it from a file")
        parser.add_argument("--json", action="store_true", help="send the lines as they are, to the JSON socket")
        parser.add_argument(
            "--timeout", type=float, default=5.0, metavar="SECONDS",
            help="how long to wait for a listener, for space in the queue, and at the end for delivery (5)",
        )  # fmt: skip
        add_keys_argument(parser)

    def perform(self, options: dict[str, Any]) -> None:
        address = options["address"]
        as_json = options["json"] or _port(address) == _port(_json_address())
        client = ZarkovClient(
            address, key=_key(options["key"]), keys=sender_keys(options["keys"]), timeout_s=options["timeout"]
        )
        count = 0
        try:
            for number, line in enumerate(tqdm(sys.stdin.buffer, unit=" lines", disable=None, leave=False), 1):
                if line.strip():
                    client.send(line.strip() if as_json else _as_bson(line, number))
                    count += 1
            client.close()
        except (CommandError, IngestError) as error:
            with contextlib.suppress(DeliveryError):
                client.close()
            raise CommandError(f"{error} ({count} messages were sent before)") from None
        self.stdout.write(f"{count} messages sent to {address}")


def _as_bson(line: bytes, number: int) -> bytes:
    try:
        value = json_value.loads(line)
        if not isinstance(value, dict):
            raise CommandError(f"line {number} is a JSON {type(value).__name__}: write one object per line")
        return bson.encode(value)
    except (ValueError, BSONError, RecursionError, OverflowError) as error:
        raise CommandError(f"line {number} is not a JSON document: {error.args[-1]}") from None


def _key(argument: str | None) -> bytes | None:
    if argument is None or not argument.startswith("@"):
        return argument.encode() if argument is not None else None
    try:
        return Path(argument[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"key file {argument[1:]}: {error.strerror}") from None


def _json_address() -> str:
    """Return the address at which the JSON socket listens, also if its port was chosen freely."""
    config = settings.ZARKOV
    return str(config.running_address("json_bind_address") or config.json_bind_address)


def _port(address: str) -> str:
    port = address.rpartition(":")[2]
    return "" if port == "0" else port
