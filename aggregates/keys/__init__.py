"""Read what the keys of an output say about time: the period of each, and the zone and length of all."""
