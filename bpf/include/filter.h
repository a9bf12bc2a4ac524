/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which packets are wanted. The configuration is a frozen map, so the verifier takes its values as constants and drops
 * every test that this session does not need. */
#define TERMS 2
#define NAMESPACES 16

enum { F_LEARN = 1, F_ANY = 2, F_FIB = 4, F_PCAP = 8, F_UID = 16, F_IFACE = 32, F_MARK = 64, F_SIDE = F_PCAP | F_UID | F_IFACE | F_MARK };
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
	u8 ttl, tcp_flags, ported, found;
};

#define config() ((volatile struct config *)VALUE(0))
#define control() ((volatile struct control *)VALUE(1))
#define this_cpu() ((struct cpu *)VALUE(2) + (smp_processor_id() & (CPUS - 1)))
#define bloom() ((volatile u64 *)VALUE(3))
#define LEARNED MAP(4)
#define EVENTS MAP(5)
#define LOSSES MAP(6)
#define TOTALS MAP(7)

INLINE int in_ports(u16 port, u16 low, u16 high)
{
	return !high || (port >= low && port <= high);
}

INLINE int in_net(char *address, volatile u32 *net, volatile u32 *mask)
{
	if (mask[0] && (LOAD(u32, address, 0) & mask[0]) != net[0])
		return 0;
	if (mask[1] && (LOAD(u32, address, 4) & mask[1]) != net[1])
		return 0;
	if (mask[2] && (LOAD(u32, address, 8) & mask[2]) != net[2])
		return 0;
	return !mask[3] || (LOAD(u32, address, 12) & mask[3]) == net[3];
}

/* t: a struct tuple, on the stack or in the kernel. ported: whether it has ports (a later fragment has none) */
INLINE int term_hits(volatile struct term *f, char *t, int ported)
{
	u16 sport = 0, dport = 0;

	if (f->l3num && LOAD(u16, t, 18) != f->l3num)
		return 0;
	if (f->proto && LOAD(u8, t, 38) != f->proto)
		return 0;
	if (ported && (f->sport_high || f->dport_high)) {
		sport = bswap16(LOAD(u16, t, 16));
		dport = bswap16(LOAD(u16, t, 36));
	}
	if ((!ported || (in_ports(sport, f->sport_low, f->sport_high) && in_ports(dport, f->dport_low, f->dport_high))) &&
	    in_net(t, f->s, f->smask) && in_net(t + 20, f->d, f->dmask))
		return 1;
	if (f->flags & TERM_ONE_WAY)
		return 0;
	return (!ported || (in_ports(dport, f->sport_low, f->sport_high) && in_ports(sport, f->dport_low, f->dport_high))) &&
	       in_net(t + 20, f->s, f->smask) && in_net(t, f->d, f->dmask);
}

INLINE int hits(char *t, int ported)
{
	volatile struct config *c = config();

	if (c->flags & F_ANY)
		return 1;
	if (c->terms > 0 && term_hits(&c->term[0], t, ported))
		return 1;
	return c->terms > 1 && term_hits(&c->term[1], t, ported);
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
	u32 h = hash_of((char *)t) & (BLOOM_BITS - 1);

	if (!(bloom()[h >> 6] >> (h & 63) & 1))
		return 0;
	return map_lookup(LEARNED, t) != 0;
}

INLINE void learn_tuple(struct tuple *t)
{
	u32 one = 1, h = hash_of((char *)t) & (BLOOM_BITS - 1);

	bloom()[h >> 6] |= 1ull << (h & 63);
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

INLINE void turn(struct tuple *to, struct tuple *from)
{
	__builtin_memcpy(to->s, from->d, 16);
	__builtin_memcpy(to->d, from->s, 16);
	to->sport = from->dport;
	to->dport = from->sport;
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
