"""Stories for people (text), for programs (jsonl) and for Wireshark (pcapng)."""
