"""What a world is made of: packets, rules, routes, conntrack entries, hosts. Knows no file, no text, no kernel."""
