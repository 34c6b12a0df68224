"""The ingester process: receivers, journal writer and committer, and the load balancer in front of several."""
