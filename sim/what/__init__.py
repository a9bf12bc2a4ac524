"""Backwards from a capture: what a host must have done to the packets that were seen at its interfaces."""
