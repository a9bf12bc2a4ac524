/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which packets are wanted. The loader writes every value of the configuration into the code itself (CONFIG below is a
 * magic constant each time), so the verifier drops every test that this session does not need, and what stays compares
 * with constants.
 */
#define TERMS 2
#define NAMESPACES 16
#define MANY 255 /* more namespaces than that: a map knows them */

enum { F_LEARN = 1, F_ANY = 2, F_FIB = 4, F_PCAP = 8, F_UID = 16, F_IFACE = 32, F_MARK = 64, F_FRESH = 128, F_SIDE = F_PCAP | F_UID | F_IFACE | F_MARK };
enum { TERM_ONE_WAY = 1 };

struct term { /* zero: anything. Addresses in network order, ports in host order */
	u32 s[4], smask[4], d[4], dmask[4];
	u16 sport_low, sport_high, dport_low, dport_high;
	u16 l3num;
	u8 proto, flags;
	u32 pad;
};

struct config {
	u32 flags, terms, namespaces, ifindex, mark, mark_mask, uid, pad;
	u32 ns[NAMESPACES];
	struct term term[TERMS];
};

struct control { /* written by the reader at any time */
	u32 on, aggregate;
};

struct cpu { /* what one CPU is doing */
	u64 seq; /* events tried */
	u64 learned; /* what was learned last: spares learning it again for each event */
	u64 skb; /* the matching packet being worked on */
	u32 netns, s, d, pad;
	u64 lost[16]; /* by kind */
	u64 unlogged; /* losses that found no room in the log of losses either */
	u64 pad2[8];
};

struct packet { /* what the headers say */
	struct tuple t;
	u64 pay;
	u16 ipid, frag;
	u8 ttl, tcp_flags, ported, found, tos;
};

#define CONFIG(T, member)                                                                                              \
	((T)({                                                                                                         \
		u64 v_;                                                                                                \
		asm("%0 = %1 ll" : "=r"(v_) : "i"(0x7eed0300ull << 32 | sizeof(T) << 16 | __builtin_offsetof(struct config, member))); \
		v_;                                                                                                    \
	}))
#define FLAGS CONFIG(u32, flags)
#define control() ((volatile struct control *)VALUE(1))
#define this_cpu() ((struct cpu *)VALUE(2) + (smp_processor_id() & (CPUS - 1)))
#define bloom() ((volatile u64 *)VALUE(3))
#define LEARNED MAP(4)
#define EVENTS MAP(5)
#define LOSSES MAP(6)
#define TOTALS MAP(7)
#define WATCHED MAP(a)

INLINE int is_icmp(u8 proto)
{
	return proto == 1 || proto == 58;
}

#define TERM(n, T, member) CONFIG(T, term[n].member)

#define IN_PORTS(n, port, low, high) (!TERM(n, u16, high) || ((port) >= TERM(n, u16, low) && (port) <= TERM(n, u16, high)))

#define IN_WORD(n, address, net, mask, i) (!TERM(n, u32, mask[i]) || (LOAD(u32, address, 4 * (i)) & TERM(n, u32, mask[i])) == TERM(n, u32, net[i]))
#define IN_NET(n, address, net, mask)                                                                                  \
	(IN_WORD(n, address, net, mask, 0) && IN_WORD(n, address, net, mask, 1) && IN_WORD(n, address, net, mask, 2) && \
	 IN_WORD(n, address, net, mask, 3))

/* term_hits_N: t is a struct tuple, on the stack or in the kernel; ported: whether it has ports (a later fragment has
 * none). A load from the kernel is ten instructions, so each word is loaded once, and those that reject most come first.
 * term_may_hit_N: the same for a header nobody has parsed yet, as far as protocol and addresses tell; 0: certainly not. */
#define DEFINE_TERM(n)                                                                                                 \
	INLINE int term_hits_##n(char *t, int ported)                                                                  \
	{                                                                                                              \
		u32 source = LOAD(u32, t, 16), target = LOAD(u32, t, 36);                                               \
		u16 sport = bswap16((u16)source), dport = bswap16((u16)target);                                         \
                                                                                                                       \
		if ((TERM(n, u16, sport_high) || TERM(n, u16, dport_high)) && is_icmp(target >> 16 & 0xff))                \
			dport = sport; /* an id has no direction */                                                    \
		if (TERM(n, u16, l3num) && source >> 16 != TERM(n, u16, l3num))                                         \
			return 0;                                                                                      \
		if (TERM(n, u8, proto) && (target >> 16 & 0xff) != TERM(n, u8, proto))                                  \
			return 0;                                                                                      \
		if ((!ported || (IN_PORTS(n, sport, sport_low, sport_high) && IN_PORTS(n, dport, dport_low, dport_high))) && \
		    IN_NET(n, t, s, smask) && IN_NET(n, t + 20, d, dmask))                                              \
			return 1;                                                                                      \
		if (TERM(n, u8, flags) & TERM_ONE_WAY)                                                                  \
			return 0;                                                                                      \
		return (!ported || (IN_PORTS(n, dport, sport_low, sport_high) && IN_PORTS(n, sport, dport_low, dport_high))) && \
		       IN_NET(n, t + 20, s, smask) && IN_NET(n, t, d, dmask);                                           \
	}                                                                                                              \
                                                                                                                       \
	INLINE int term_may_hit_##n(u16 l3num, u8 proto, char *from, char *to)                                         \
	{                                                                                                              \
		if (TERM(n, u16, l3num) && l3num != TERM(n, u16, l3num))                                                \
			return 0;                                                                                      \
		if (TERM(n, u8, proto) && l3num == 2 && proto != TERM(n, u8, proto))                                    \
			return 0;                                                                                      \
		return (IN_NET(n, from, s, smask) && IN_NET(n, to, d, dmask)) ||                                        \
		       (IN_NET(n, to, s, smask) && IN_NET(n, from, d, dmask));                                          \
	}

DEFINE_TERM(0)
DEFINE_TERM(1)

INLINE int hits(char *t, int ported)
{
	if (FLAGS & F_ANY)
		return 1;
	if (CONFIG(u32, terms) > 0 && term_hits_0(t, ported))
		return 1;
	return CONFIG(u32, terms) > 1 && term_hits_1(t, ported);
}

#define BIT(h) (bloom()[((h) & (BLOOM_BITS - 1)) >> 6] >> ((h) & 63) & 1)

INLINE u32 pair_of(u32 s, u32 d)
{
	return ((s ^ d) * 0x9e3779b1) >> 12;
}

INLINE u32 hash_of(char *t)
{
	u32 h = LOAD(u32, t, 0) * 0x9e3779b1;

	h = (h ^ LOAD(u32, t, 12)) * 0x85ebca6b + LOAD(u32, t, 20);
	h = (h ^ (h >> 15)) * 0xc2b2ae35 + LOAD(u32, t, 32) + LOAD(u16, t, 16);
	h = (h ^ (h >> 13)) * 0x27d4eb2f + LOAD(u16, t, 36) + LOAD(u8, t, 38);
	return h ^ (h >> 16);
}

/* Was this tuple learned from a wanted packet? One bit answers for nearly all the others. */
INLINE int is_learned(struct tuple *t)
{
	u32 h = hash_of((char *)t);

	return BIT(h) && map_lookup(LEARNED, t) != 0;
}

INLINE void set_bit(u32 h)
{
	bloom()[(h & (BLOOM_BITS - 1)) >> 6] |= 1ull << (h & 63);
}

INLINE void learn_tuple(struct tuple *t)
{
	u32 one = 1;

	set_bit(hash_of((char *)t));
	set_bit(pair_of(t->s[0] ^ t->s[3], t->d[0] ^ t->d[3]));
	map_update(LEARNED, t, &one, 0);
}

INLINE void copy_tuple(struct tuple *to, char *from)
{
	for (int i = 0; i < 9; i++)
		((volatile u32 *)to)[i] = LOAD(u32, from, 4 * i);
	to->dport = LOAD(u16, from, 36);
	to->proto = LOAD(u8, from, 38);
	to->dir = 0;
}

/* What answers an ICMP query (net/netfilter/nf_conntrack_proto_icmp.c invmap, _icmpv6.c): its id stays where it is, and the
 * type, the first octet of dport, becomes the other of its pair. */
INLINE u16 other_type(u16 dport, u8 proto)
{
	u16 type = dport & 0xff;

	if (proto == 58)
		return type == 128 || type == 129 ? dport ^ 1 : dport;
	if (type == 0 || type == 8)
		return dport ^ 8;
	if (type == 13 || type == 15 || type == 17)
		return dport + 1;
	return type == 14 || type == 16 || type == 18 ? dport - 1 : dport;
}

INLINE void turn(struct tuple *to, struct tuple *from)
{
	__builtin_memcpy(to->s, from->d, 16);
	__builtin_memcpy(to->d, from->s, 16);
	if (from->proto == 1 || from->proto == 58) {
		to->sport = from->sport;
		to->dport = other_type(from->dport, from->proto);
	} else {
		to->sport = from->dport;
		to->dport = from->sport;
	}
	to->l3num = from->l3num;
	to->proto = from->proto;
	to->dir = 0;
}

/* Both tuples of the entry, and the translated packet as the next host sees it: that is what replies, and the packet
 * itself before the next namespace tracks it, look like. */
INLINE void learn(struct cpu *cpu, u64 ct, char *o, char *r)
{
	u64 what = ct ^ ((u64)hash_of(r) << 32) ^ hash_of(o);
	struct tuple t, z;

	if (cpu->learned == what)
		return;
	cpu->learned = what;
	copy_tuple(&t, o);
	learn_tuple(&t);
	copy_tuple(&t, r);
	learn_tuple(&t);
	turn(&z, &t);
	learn_tuple(&z);
}
