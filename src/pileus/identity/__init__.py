"""Identity: who asks, what they may do, and where services are (keystone v3)."""
