"""``nattrace snapshot --script``: a plain POSIX shell script that captures a host where nattrace is not installed.

nattrace snapshot --script | ssh root@gw sh > gw.tar
"""

from __future__ import annotations

_HEAD = r"""#!/bin/sh
# Captures what nattrace needs to know about this host. Changes nothing. Root sees more than others.
#   sh capture.sh > snapshot.tar        a tar on standard output
#   sh capture.sh DIRECTORY             or a directory
#   NETNS="blue green" sh capture.sh    these namespaces (ip netns) instead of the host's own
umask 077
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin; export PATH
have() { command -v "$1" >/dev/null 2>&1; }
note() { echo "nattrace: $*" >&2; }
if [ -n "$1" ]; then
  out=$1; mkdir -p "$out" || exit 2
else
  [ -t 1 ] && { note "redirect the output to a file, or name a directory"; exit 2; }
  out=$(mktemp -d) || exit 2
  trap 'rm -rf "$out"' EXIT
fi
in_ns() { if [ -n "$ns" ]; then ip netns exec "$ns" "$@"; else "$@"; fi; }
# get FILE COMMAND…: keep what it prints; an error is told and leaves no file
get() {
  file=$1; shift
  have "$1" || { note "$file: $1 is not installed"; return 1; }
  in_ns "$@" >"$dir/$file" 2>"$dir/.err" || { note "$file: $(tail -n 1 "$dir/.err")"; rm -f "$dir/$file"; return 1; }
}
# part NAME: is this part of the kernel there already? (asking for it by its tool would load it)
part() {
  [ -d "/sys/module/$1" ] && return 0
  grep -q "^$1 " /proc/modules 2>/dev/null && return 0
  [ -e /proc/modules ] || return 0
  grep -Eq "/$(echo "$1" | sed 's/_/[_-]/g')\.ko" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null
}
# which IP protocols the kernel has a receiver for: the names of its functions tell
protocols() {
  grep -q ' tcp_v4_rcv$' /proc/kallsyms 2>/dev/null || return 0
  numbers="1, 2, 6, 17"
  for pair in @RECEIVERS@; do
    grep -Eq " ${pair%:*}([[:space:]]|\$)" /proc/kallsyms && numbers="$numbers, ${pair#*:}"
  done
  printf '"protocols": [%s], ' "$numbers"
}
cpus() { n=$(getconf _NPROCESSORS_CONF 2>/dev/null) && printf '"cpus": %s, ' "$n"; }
queues() {
  file=/proc/net/netfilter/nfnetlink_queue
  in_ns test -e $file || { printf '"queues": [], '; return 0; }
  in_ns test -r $file || return 0
  numbers=$(in_ns cat $file | while read -r number rest; do printf '%s, ' "$number"; done)
  printf '"queues": [%s], ' "${numbers%, }"
}
capture() {
"""

_TAIL = r"""
  for t in ip ip6; do
    save="$t""tables-save"; have "$t""tables-nft-save" && save="$t""tables-nft-save"
    : >"$dir/$t""tables-save.txt"
    if part nf_tables; then get "$t""tables-save.txt" "$save" -c; fi
    # listing a legacy table that is not there would make it
    if [ -s "$dir/$t""tables-save.txt" ] || have "$t""tables-legacy-save" || [ "$save" = "$t""tables-save" ]; then
      legacy="$t""tables-legacy-save"; have "$legacy" || legacy="$t""tables-save"
      names=$(in_ns cat "/proc/net/$t""_tables_names" 2>/dev/null)
      if [ -n "$names" ]; then
        if [ -s "$dir/$t""tables-save.txt" ]; then get "$t""tables-legacy-save.txt" "$legacy" -c
        else get "$t""tables-save.txt" "$legacy" -c; fi
      fi
    fi
  done
  if part nf_tables && have nft; then
    get nft.json nft -j -a list ruleset || get nft.txt nft -a list ruleset
    # before 1.1.0 its JSON breaks off where a table has a flag
    case $(tail -c 3 "$dir/nft.json" 2>/dev/null) in
      *']}'|'') ;;
      *) get nft.txt nft -a list ruleset && rm -f "$dir/nft.json";;
    esac
  fi
  : >"$dir/ipset.txt"; if part ip_set && have ipset; then get ipset.txt ipset save; fi
  : >"$dir/conntrack.txt"
  count=$(in_ns cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null)
  if [ "${count:-0}" != 0 ]; then
    get conntrack.txt conntrack -L -o extended,id || get conntrack.txt conntrack -L -o extended
    have conntrack && get expect.txt conntrack -L expect
  fi
  if have sysctl; then in_ns sysctl -a 2>/dev/null | grep '^net\.' >"$dir/sysctl.txt"; fi
  get sockets.txt ss -H -a -n -e -p -t -u -w --inet-sockopt || get sockets.txt ss -H -a -n -e -p -t -u -w
  for t in passwd group hosts; do have getent && getent "$t" >"$dir/$t.txt" 2>/dev/null; done
  if have tc; then
    for dev in $(in_ns ip -o link 2>/dev/null | sed 's/^[0-9]*: \([^:@]*\).*/\1/'); do
      for way in ingress egress; do
        found=$(in_ns tc filter show dev "$dev" $way 2>/dev/null)
        [ -n "$found" ] && printf '# dev %s %s\n%s\n' "$dev" "$way" "$found" >>"$dir/tc.txt"
      done
    done
  fi
  rm -f "$dir/.err"
  netns=null; [ -n "$ns" ] && netns="\"$ns\""
  printf '{"hostname": "%s", "netns": %s, "kernel": "%s", "captured_at": "%s", %s%s%s"tool": "capture.sh"}\n' \
    "$(uname -n)" "$netns" "$(uname -r)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(cpus)" "$(protocols)" "$(queues)" >"$dir/meta.json"
}
if [ -n "$NETNS" ]; then
  for ns in $NETNS; do dir=$out/$ns; mkdir -p "$dir"; capture; done
else
  ns=; dir=$out; capture
fi
[ -n "$1" ] || tar -C "$out" -cf - .
"""


def script() -> str:
    """The script as text; the plain dumps in it come from the same table that :func:`capture` uses."""
    from .dump import dumps
    from .protocols import RECEIVERS

    elsewhere = ("iptables", "ip6tables", "nft.json", "ipset", "conntrack", "expect", "sockets", "xfrm")
    lines = []
    for dump in dumps():
        if dump.file.startswith(elsewhere):
            continue
        line = f"  get {dump.file} {' '.join(dump.words)}"
        if dump.words[0] == "ip":  # an ip without JSON: its plain output is read too
            plain = " ".join(w for w in dump.words if w != "-j")
            line += f" || get {dump.file.replace('.json', '.txt')} {plain}"
        elif dump.optional:
            line = f"  have {dump.words[0]} && {line.strip()}"
        lines.append(line)
    receivers = " ".join(f"{name.decode()}:{number}" for name, number in RECEIVERS.items())
    return _HEAD.replace("@RECEIVERS@", receivers) + "\n".join(lines) + _TAIL
