"""Compute: servers, flavors, key pairs, aggregates and the hosts they run on (OpenStack's compute API)."""
