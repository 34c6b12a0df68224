"""Read aggregates as time series: keys, time spans, queries, points and exports."""
