"""What the kernel does, as functions of (host, state, packet, run). No I/O, no clock, no randomness of its own."""
