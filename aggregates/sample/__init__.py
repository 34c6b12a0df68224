"""The sample: events from three open-source projects with aggregates and charts, loaded on the first start."""
