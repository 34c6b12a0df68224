"""Notify people by mail and webhook when an aggregate fails, lags or is wrong, and when it has recovered."""
