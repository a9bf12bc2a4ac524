"""The parts of ``nattrace watch``: connections as they are made, what was expected of them, sums, and how it is shown."""
