"""Write the text with which `up` says that everything runs."""

from __future__ import annotations

import sys
from pathlib import Path


def greeting(address: str, password_file: Path, password: str, token: str) -> str:
    """Return the text that `up` prints once everything runs: addresses, password, and how to send an event."""
    event = '{"type": "hello", "context": {"project": "mine"}}'
    program = Path(sys.argv[0]).name
    return f"""
  Zarkov is running.

    look        {address}
    charts      {address}dashboards/
    admin       {address}admin/   user admin, password {password}   (also in {password_file})
    send        curl -H "Authorization: Token {token}" \\
                     -H "Content-Type: application/json" \\
                     -d '{event}' \\
                     {address}api/v1/events/

  The front page shows that event within a second. This token ends with the next start; create a lasting one with
  `{program} token NAME --scope ingest`. Ctrl-C stops everything.
"""
