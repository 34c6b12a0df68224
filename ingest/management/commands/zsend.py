"""`zsend ADDRESS`: send the JSON objects of standard input to an ingester."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.exceptions import DeliveryError, IngestError
from ingest.load.json_stream import CheckedMessage, checked_messages
from ingest.load.loader import MOST_EXAMPLES
from ingest.management.command import ZarkovCommand, add_keys_argument, sender_keys
from ingest.number_text import decimal_number
from ingest.transport.handshake import check_address


class Command(ZarkovCommand):
    help = (
        "Send each JSON object of standard input, as soon as it is there, to a socket of an ingester as one message. "
        "They go as BSON, unless --json is given or ADDRESS is that of the ingester's JSON socket. What the ingester "
        "would refuse is not sent but reported with its line; over the acknowledged socket (--ack, or its ADDRESS), so "
        "is what the ingester itself refused. The exit code is 1 if anything was refused."
    )
    example = """echo '{"type":"nop"}' | manage.py zsend tcp://localhost:6543"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="ZeroMQ address, such as tcp://localhost:6543")
        parser.add_argument("key", nargs="?", help="shared key sent as first frame; @FILE reads it from a file")
        parser.add_argument("--json", action="store_true", help="send the objects as they are, to the JSON socket")
        parser.add_argument("--ack", action="store_true", help="send to the acknowledged socket, and wait for answers")
        parser.add_argument(
            "--timeout", type=decimal_number, default=5.0, metavar="SECONDS",
            help="how long to wait for a listener, for space in the queue, and at the end for delivery (5)",
        )  # fmt: skip
        add_keys_argument(parser)

    def perform(self, options: dict[str, Any]) -> int:
        """Send what comes. Return 1 if something was refused."""
        address = options["address"]
        as_json = options["json"] or _is_at(address, "json_bind_address")
        waits = options["ack"] or _is_at(address, "ack_bind_address")
        keys, timeout_s = sender_keys(options["keys"]), options["timeout"]
        if waits and (options["key"] or options["json"]):
            raise CommandError("a key and --json are for sockets that do not answer: leave them out")
        if options["json"] and _is_at(address, "bson_bind_address"):
            raise CommandError(f"{address} is the ingester's BSON socket, leave --json out")
        client: ZarkovClient | AcknowledgedClient = (
            AcknowledgedClient(address, keys=keys, timeout_s=timeout_s)
            if waits
            else ZarkovClient(address, key=_key(options["key"]), keys=keys, timeout_s=timeout_s)
        )
        check_address(address)  # even if nothing is sent
        sent, refused = 0, 0
        try:
            messages = checked_messages(sys.stdin.buffer)  # type: ignore[arg-type]
            for message in tqdm(messages, unit=" messages", disable=None, leave=False):
                fault = message.fault or _send(client, message, as_json=as_json)
                sent, refused = sent + (not fault), refused + bool(fault)
                if fault and refused <= MOST_EXAMPLES:
                    self.stderr.write(fault)
            client.close()
        except (CommandError, IngestError) as error:
            with contextlib.suppress(DeliveryError):
                client.close()
            raise CommandError(f"{error} ({sent} messages were sent before)") from None
        if refused > MOST_EXAMPLES:
            self.stderr.write(f"... and {refused - MOST_EXAMPLES} more")
        self.stdout.write(f"{sent} messages sent to {address}{f', {refused} refused' if refused else ''}")
        return 1 if refused else 0


def _send(client: ZarkovClient | AcknowledgedClient, message: CheckedMessage, *, as_json: bool) -> str:
    """Send one message; return why it was refused, as far as that is known."""
    if isinstance(client, ZarkovClient):
        client.send(message.text if as_json else message.to_bson())
        return ""
    refusals = client.send([message.to_bson()]).rejected
    return f"line {message.number}: {refusals[0]['code']}: {refusals[0]['message']}" if refusals else ""


def _key(argument: str | None) -> bytes | None:
    if argument is None or not argument.startswith("@"):
        return argument.encode() if argument is not None else None
    try:
        return Path(argument[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"key file {argument[1:]}: {error.strerror}") from None


def _is_at(address: str, receiver: str) -> bool:
    """Return whether an address has the port of one of our receivers, also if that was chosen freely."""
    config = settings.ZARKOV
    own = str(config.running_address(receiver) or getattr(config, receiver))
    return _port(address) == _port(own) != ""


def _port(address: str) -> str:
    port = address.rpartition(":")[2]
    return "" if port == "0" else port
