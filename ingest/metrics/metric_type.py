"""The types of metrics, with the names of 2013."""

TIMER, COUNTER, GAUGE, SET, HISTOGRAM = "Timer", "Counter", "Gauge", "Set", "Histogram"
TYPES = (TIMER, COUNTER, GAUGE, SET, HISTOGRAM)
TYPE_BY_NAME = {type_.lower(): type_ for type_ in TYPES}  # in 2013: timer, counter, gauge
