"""Names of well-known ports: a small bundled table, so that ``1.2.3.4:https`` means the same everywhere.

Numbers are IANA's, names those of ``/etc/services``. ``protos`` lists what the service really runs over: a port
named without a protocol means tcp unless the service is udp only.
"""

from __future__ import annotations

TCP, UDP, BOTH = ("tcp",), ("udp",), ("tcp", "udp")

SERVICES: dict[str, tuple[int, tuple[str, ...]]] = {
    "ftp-data": (20, TCP), "ftp": (21, TCP), "ssh": (22, TCP), "telnet": (23, TCP), "smtp": (25, TCP),
    "time": (37, BOTH), "whois": (43, TCP), "domain": (53, BOTH), "dns": (53, BOTH), "bootps": (67, UDP),
    "bootpc": (68, UDP), "dhcp": (67, UDP), "tftp": (69, UDP), "http": (80, TCP), "www": (80, TCP),
    "kerberos": (88, BOTH), "pop3": (110, TCP), "sunrpc": (111, BOTH), "auth": (113, TCP), "nntp": (119, TCP),
    "ntp": (123, UDP), "netbios-ns": (137, UDP), "netbios-dgm": (138, UDP), "netbios-ssn": (139, TCP),
    "imap": (143, TCP), "imap2": (143, TCP), "snmp": (161, UDP), "snmp-trap": (162, UDP), "snmptrap": (162, UDP),
    "bgp": (179, TCP), "ldap": (389, TCP), "https": (443, TCP), "http3": (443, UDP), "quic": (443, UDP),
    "microsoft-ds": (445, TCP), "smb": (445, TCP), "isakmp": (500, UDP), "ike": (500, UDP), "syslog": (514, UDP),
    "rip": (520, UDP), "submission": (587, TCP), "ipp": (631, TCP), "ldaps": (636, TCP), "rsync": (873, TCP),
    "imaps": (993, TCP), "pop3s": (995, TCP), "socks": (1080, TCP), "openvpn": (1194, UDP), "ms-sql-s": (1433, TCP),
    "mssql": (1433, TCP), "oracle": (1521, TCP), "radius": (1812, UDP), "radius-acct": (1813, UDP),
    "mqtt": (1883, TCP), "nfs": (2049, TCP), "docker": (2375, TCP), "etcd": (2379, TCP), "squid": (3128, TCP),
    "mysql": (3306, TCP), "ms-wbt-server": (3389, TCP), "rdp": (3389, TCP), "stun": (3478, UDP),
    "ipsec-nat-t": (4500, UDP), "sip": (5060, UDP), "sips": (5061, TCP), "mdns": (5353, UDP),
    "postgresql": (5432, TCP), "postgres": (5432, TCP), "amqp": (5672, TCP), "vnc": (5900, TCP),
    "redis": (6379, TCP), "kube-apiserver": (6443, TCP), "irc": (6667, TCP), "http-alt": (8080, TCP),
    "prometheus": (9090, TCP), "kubelet": (10250, TCP), "memcached": (11211, TCP), "mongodb": (27017, TCP),
    "wireguard": (51820, UDP),
}  # fmt: skip


def find_service(name: str) -> tuple[int, tuple[str, ...]] | None:
    """Port and protocols of a service name, or None."""
    return SERVICES.get(name.lower())


def service_name(port: int, proto: str) -> str | None:
    """The name of a port, for reading aloud; None where it has none."""
    return next((name for name, (number, protos) in SERVICES.items() if number == port and proto in protos), None)
