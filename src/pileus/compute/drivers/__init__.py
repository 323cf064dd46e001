"""Hypervisor drivers: `base` is the contract, `libvirt` runs guests, `fake` keeps the same state machine without any."""
