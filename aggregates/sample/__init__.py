"""The sample: real events of three open-source projects, aggregates and charts of them, loaded on the first start."""
