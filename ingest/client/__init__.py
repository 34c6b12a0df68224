"""Send events to an ingester. Needs only pyzmq and bson, nothing of Zarkov's server side.

`ZarkovClient` sends and forgets, as in 2011: messages wait in a queue until the ingester receives them.
`AcknowledgedClient` waits until the ingester has the events on disk. Threads, greenlets and forked processes can share
either; no socket is opened before the first send.
"""

from ..transport.client_keys import ClientKeys
from .acknowledged import AcknowledgedClient
from .push import ZarkovClient
from .receipt import Receipt

__all__ = ["AcknowledgedClient", "ClientKeys", "Receipt", "ZarkovClient"]
