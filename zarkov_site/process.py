"""What every process of Zarkov does first: find its configuration, set up logging and Django."""

from __future__ import annotations

import logging
import os
import sys


def set_up_django() -> None:
    """Make Django's models usable in this process; safe to call again."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
    import django

    django.setup()


def set_up_logging(*, verbose: bool) -> None:
    """Log to standard error, one line per record."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("pymongo", "kombu", "amqp", "asyncio", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
