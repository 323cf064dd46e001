"""What applies networks to a host: the contract in `base`, Linux bridges in `linux`, a host that exists in memory only in `fake`."""
