/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The record that every probe writes. tracer/live/event.py is the same for Python; a test compares size and version. */
#define EVENT_VERSION 1
#define EVENT_SIZE 232

enum event_kind { TAP, RX, TX, DROP, CONSUME, ICMP_SEND, FIB, NEIGH, TCP_RESET, XMIT, KINDS };

/* struct nf_conntrack_tuple: an ICMP query has its id in sport and type << 8 | code (network order) in dport */
struct tuple {
	u32 s[4];
	u16 sport, l3num;
	u32 d[4];
	u16 dport;
	u8 proto, dir;
};

struct event {
	u64 ts, skb, head, ct, aux, pay;
	s32 prio;
	u32 indev, outdev, netns, len, mark, status, ctmark, reason, table, seq, uid;
	struct tuple t, o, r;
	u16 ipid, zone, frag, gso, cpu;
	u8 kind, hook, pf, ttl, ctinfo, tcp_flags;
};

_Static_assert(sizeof(struct event) == EVENT_SIZE, "event.h and event.py disagree");

/* An event that found no room in the ring: what it was, so that its packet can be marked incomplete. */
struct loss {
	u64 ts, skb;
	s32 prio;
	u32 seq, netns;
	u16 cpu;
	u8 kind, hook;
};
