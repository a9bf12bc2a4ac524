"""Topologies in network namespaces."""
