"""Live streams: one channel per question and process, any number of viewers, server-sent events to each."""
