"""Hostile senders, workers and clients beside good ones, who must not notice them."""
