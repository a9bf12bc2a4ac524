"""Where events come from: one module for each facility of the kernel; each tries whether it works, none reads a configuration."""
