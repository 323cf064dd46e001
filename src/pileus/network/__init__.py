"""The network service: networks, ports, routers, security groups, and what realizes them on hosts."""
