"""Send alert messages by mail and webhook. Each call sends once or raises; time-outs are `TIMEOUT_S`."""

from __future__ import annotations

import json
import smtplib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings

from aggregates.exceptions import AlertError

TIMEOUT_S = 10.0
MAIL, WEBHOOK = "mail", "webhook"


@dataclass(frozen=True)
class AlertMessage:
    """The message about one change of state."""

    uid: str  # the same if the message is sent again
    aggregate: str
    kind: str  # failing, lagging or wrong
    event: str  # raised or recovered
    text: str
    at: str  # ISO 8601
    url: str = ""  # of the aggregate's page in the admin; empty without the setting public_url

    @property
    def subject(self) -> str:
        what = f"{self.kind}" if self.event == "raised" else f"no longer {self.kind}"
        return f"[zarkov] {self.aggregate}: {what}"

    def document(self) -> dict[str, Any]:
        return dict(vars(self))


Send = Callable[[AlertMessage], None]


def configured_channels() -> Mapping[str, Send]:
    """Return the configured channels by name."""
    notify = settings.ZARKOV.notify
    found: dict[str, Send] = {}
    if notify.email:
        found[MAIL] = lambda message: send_mail(message, tuple(notify.email), notify.email_from, notify.smtp_url)
    if webhook := notify.webhook:
        found[WEBHOOK] = lambda message: send_webhook(message, webhook)
    return found


def send_mail(message: AlertMessage, recipients: Sequence[str], sender: str, smtp_url: str) -> None:
    """Send one mail through the server of `smtp_url`: `smtp://` (with STARTTLS if offered) or `smtps://`. Block.

    Raise `AlertError` unless the server accepted it for every recipient.
    """
    url = urlsplit(smtp_url)
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.subject, sender, ", ".join(recipients)
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(message.uid, "zarkov.local")
    link = f"\n{message.url}\n" if message.url else ""
    mail.set_content(f"{message.text}\n\n{message.event} at {message.at}\n{link}")
    host = url.hostname or "127.0.0.1"
    try:
        kind = smtplib.SMTP_SSL if url.scheme == "smtps" else smtplib.SMTP
        with kind(host, url.port or (465 if url.scheme == "smtps" else 25), timeout=TIMEOUT_S) as server:
            server.ehlo()
            if url.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls()
                server.ehlo()
            if url.username:
                server.login(unquote(url.username), unquote(url.password or ""))
            refused = server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise AlertError(f"mail through {host}: {type(error).__name__}: {error}") from error
    if refused:
        raise AlertError(f"mail through {host}: refused for {', '.join(sorted(refused))}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: a redirected POST would arrive as an empty GET."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def send_webhook(message: AlertMessage, url: str) -> None:
    """POST the message as JSON. Raise `AlertError` unless the answer is 2xx."""
    body = json.dumps(message.document()).encode()
    headers = {"Content-Type": "application/json", "X-Zarkov-Message": message.uid}
    request = urllib.request.Request(url, body, headers, method="POST")
    host = urlsplit(url).hostname
    try:
        with _opener.open(request, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        raise AlertError(f"webhook at {host}: answered {error.code}") from error
    except (OSError, ValueError) as error:
        raise AlertError(f"webhook at {host}: {error}") from error
