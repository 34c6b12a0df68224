"""The event store in MongoDB: ids, watermark, partitions, block commits and quarantine."""
