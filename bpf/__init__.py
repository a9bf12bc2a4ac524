"""The C sources that bcc compiles (``*.c``, ``include/*.h``); nothing here is Python."""
