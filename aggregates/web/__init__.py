"""Everything Zarkov says over HTTP: the 2011 queries, REST, live streams, charts and pages.

Pure decisions (keys, spans, series, filters, rights) stand apart from what reads MongoDB and from the views.
"""
