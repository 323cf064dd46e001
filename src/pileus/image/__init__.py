"""Image: what disks are made from, and who may see it."""
