"""ZeroMQ code shared by clients and servers: CURVE keys, handshakes, notices, waiting under gevent."""
