"""Networks on a Linux host: a bridge per network, VXLAN between hosts, nftables for security groups and NAT, namespaces for DHCP and routers."""
