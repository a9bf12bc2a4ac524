"""The half that touches a running system: command line, capture, lab, live tracing."""
