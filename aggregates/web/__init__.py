"""Serve Zarkov over HTTP: the 2011 queries, REST, live streams, charts and pages.

Pure decisions (keys, spans, series, filters, rights) are separate from MongoDB reads and from the views.
"""
