"""Pages for people. They hold no data: what a page shows comes by its stream."""
