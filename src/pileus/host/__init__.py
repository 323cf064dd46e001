"""Thin, typed wrappers around the host's tools: commands, links, nftables, dnsmasq, sysctls. No policy, no database."""
