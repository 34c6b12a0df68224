"""Live streams: one channel per feed and process, with any number of viewers that receive server-sent events."""
