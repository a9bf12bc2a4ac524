/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The programs: one netfilter tap (loaded once for each priority), and one for each tracepoint. */
#include "kernel.h"
#include "event.h"
#include "filter.h"
#include "packet.h"

INLINE void look(struct view *v, char *sk)
{
	v->head = GET(u64, sk, O_HEAD);
	v->l3 = v->head + GET(u16, sk, O_NETWORK_HEADER);
	v->end = v->head + GET(u32, sk, O_TAIL);
	v->len = GET(u32, sk, O_LEN);
	v->mark = GET(u32, sk, O_MARK);
}

/* The first packet of a connection, until __nf_conntrack_confirm(). */
INLINE int is_fresh(u64 nfct)
{
	u64 ct = nfct & ~7ull;

	if (!ct)
		return 0;
	ENTRY(w, ct);
	return !(STATUS_OF(w, ct) & (CONFIRMED_BIT | TEMPLATE_BIT));
}

INLINE void learn_entry(struct cpu *cpu, u64 nfct, int entry, struct packet *p)
{
	if (!(FLAGS & F_LEARN))
		return;
	if (entry >= 0) {
		u64 ct = nfct & ~7ull;

		ENTRY(w, ct);
		learn(cpu, ct, TUPLE_O(w, ct), TUPLE_R(w, ct));
	} else if (FLAGS & F_SIDE) {
		if (!is_learned(&p->t))
			learn_tuple(&p->t);
	}
}

/* skb: as the verifier likes it best for numbers; sk, st: for pointers */
INLINE int tapped(char *skb, char *sk, char *st, s32 prio, u32 verdict)
{
	struct cpu *cpu;
	struct view v;
	struct packet p;
	int entry;

	v.nfct = GET(u64, skb, O_NFCT);
	if ((FLAGS & F_FRESH) && !is_fresh(v.nfct))
		return 0;
	entry = entry_hits(v.nfct);
	if (!entry && !(FLAGS & F_SIDE)) {
		if (FLAGS & F_FIB) {
			cpu = this_cpu();
			if (cpu->skb)
				cpu->skb = 0;
		}
		return 0;
	}
	cpu = this_cpu();
	v.skb = (u64)skb;
	look(&v, skb);
	v.uid = NO_UID;
	if (FLAGS & F_UID)
		v.uid = owner_of(GET(char *, sk, O_SK));
	if (FLAGS & F_IFACE) {
		char *in = GET(char *, st, O_STATE_IN), *out = GET(char *, st, O_STATE_OUT);

		v.indev = in ? GET(u32, in, O_IFINDEX) : 0;
		v.outdev = out ? GET(u32, out, O_IFINDEX) : 0;
	}
	if (!wanted(&v, &p, entry)) {
		if ((FLAGS & F_FIB) && cpu->skb)
			cpu->skb = 0;
		return 0;
	}
	char *in = GET(char *, st, O_STATE_IN), *out = GET(char *, st, O_STATE_OUT);

	v.indev = in ? GET(u32, in, O_IFINDEX) : 0;
	v.outdev = out ? GET(u32, out, O_IFINDEX) : 0;
	v.netns = GET(u32, GET(char *, st, O_STATE_NET), O_NET_INUM);
	v.uid = owner_of(GET(char *, sk, O_SK));
	learn_entry(cpu, v.nfct, entry, &p);
	if (FLAGS & F_FIB)
		working_on(cpu, &v, &p);
	emit(cpu, &v, &p, TAP, GET(u8, st, O_STATE_HOOK), prio, verdict, 0);
	return 0;
}

#if LINKS
/* struct bpf_nf_ctx: { state, skb }, which the verifier knows as trusted pointers. Numbers are read through them (one
 * instruction each); pointers through a cast, for at every pointer it follows from a trusted one the verifier looks for
 * a type by name, and loading would take ten times as long. */
int tap(u64 *ctx)
{
	s32 prio;

	asm volatile("%0 = " MAGIC_PRIO : "=r"(prio));
	tapped((char *)ctx[1], TYPED(ctx[1], SK_BUFF_ID), TYPED(ctx[0], HOOK_STATE_ID), prio, 0);
	return 1;
}
#else
/* Before netfilter links there were (6.4): a probe at the entry and at the return of each function that hooks in. What
 * the plan owes stands in a map; everything else, in all namespaces, ends at that look-up. */
enum { CALL_TABLE, CALL_NFT, CALL_CONNTRACK, CALL_NAT, CALL_CONFIRM, CALL_NAT_INPUT };
enum { WANT_ENTRY = 1, WANT_RETURN = 2, NF_ACCEPT = 1 };

struct place {
	u32 netns;
	s32 prio;
	u8 pf, hook, class, pad;
};

struct owed {
	s32 entry_prio, return_prio;
	u32 flags;
};

struct frame { /* between entry and return */
	u64 skb, state;
	s32 prio;
	u32 pad;
};

#define PLACES MAP(8)
#define FRAMES MAP(9)

int on_call(u64 *regs)
{
	u64 first = regs[REG_1], second = regs[REG_2], third = regs[REG_3], at = regs[REG_SP];
	u64 skb = second, state = third, base;
	struct place where;
	struct frame f;
	struct owed *o;
	u32 class;

	asm volatile("%0 = " MAGIC_KIND : "=r"(class));
	__builtin_memset(&where, 0, sizeof(where));
	if (class == CALL_TABLE) {
		if (!TABLE_PRIV_FIRST) {
			skb = first;
			state = second;
		}
		base = TABLE_PRIV_FIRST ? first : third;
		if (GET(u32, base, O_TABLE_NAME) == 0x0074616e) /* "nat": the function around it counts */
			return 0;
		where.prio = GET(s32, base, O_TABLE_PRIORITY);
	} else if (class == CALL_NFT) {
		skb = GET(u64, first, O_PKT_SKB);
		state = GET(u64, first, O_PKT_STATE);
		where.prio = GET(s32, second - O_CHAIN_IN_BASE, O_OPS_PRIORITY);
		class = CALL_TABLE;
	}
	where.hook = GET(u8, state, O_STATE_HOOK);
	if (class == CALL_NAT_INPUT) {
		if (where.hook != 1)
			return 0;
		class = CALL_NAT;
	}
	where.netns = GET(u32, GET(u64, state, O_STATE_NET), O_NET_INUM);
	where.pf = GET(u8, state, O_STATE_PF);
	where.class = class;
	o = map_lookup(PLACES, &where);
	if (!o)
		return 0;
	if (o->flags & WANT_RETURN) {
		__builtin_memset(&f, 0, sizeof(f));
		f.skb = skb;
		f.state = state;
		f.prio = o->return_prio;
		map_update(FRAMES, &at, &f, 0);
	}
	if (o->flags & WANT_ENTRY)
		tapped((char *)skb, (char *)skb, (char *)state, o->entry_prio, 0);
	return 0;
}

int on_return(u64 *regs)
{
	u64 at = regs[REG_SP] - RETURN_POPS;
	struct frame *f = map_lookup(FRAMES, &at), copy;

	if (!f)
		return 0;
	copy = *f;
	map_delete(FRAMES, &at);
	if ((u32)regs[REG_RESULT] == NF_ACCEPT) /* otherwise the packet is not ours to look at any more */
		tapped((char *)copy.skb, (char *)copy.skb, (char *)copy.state, copy.prio, 0);
	return 0;
}
#endif

INLINE int watched(u32 netns)
{
	if (CONFIG(u32, namespaces) == MANY)
		return map_lookup(WATCHED, &netns) != 0;
#define IS(i) if (CONFIG(u32, namespaces) > (i) && CONFIG(u32, ns[i]) == netns) return 1
	IS(0); IS(1); IS(2); IS(3); IS(4); IS(5); IS(6); IS(7);
	IS(8); IS(9); IS(10); IS(11); IS(12); IS(13); IS(14); IS(15);
#undef IS
	return 0;
}

INLINE u32 netns_of_device(char *dev)
{
	char *net = dev ? GET(char *, dev, O_ND_NET) : 0;

	return net ? GET(u32, net, O_NET_INUM) : 0;
}

/* sock: the receiving socket where the tracepoint tells it, else 0 */
INLINE u32 netns_of(char *sk, char *sock)
{
	char *dev = GET(char *, sk, O_DEV);
	u32 found = netns_of_device(dev);

	if (watched(found))
		return found;
	if (!sock)
		sock = GET(char *, sk, O_SK);
	if (sock) {
		char *net = GET(char *, TYPED(sock, SOCK_ID), O_SK_NET);

		found = net ? GET(u32, net, O_NET_INUM) : 0;
	}
	return found;
}

/* All tracepoints about a packet. One program, loaded once for each kind: the loader writes the kind over the magic
 * constant, so the verifier sees only the arguments that this tracepoint has. */
int on_packet(u64 *ctx)
{
	u64 skb, aux = 0, sock = 0;
	u32 kind, reason = 0;
	char *sk, *dev;
	struct cpu *cpu;
	struct view v;
	struct packet p;
	int entry;

	asm volatile("%0 = " MAGIC_KIND : "=r"(kind));
	if (!control()->on)
		return 0;
	if (kind == TCP_RESET) {
		sock = ctx[0];
		skb = ctx[1];
		reason = RESET_REASON;
	} else {
		skb = ctx[0];
	}
	if (kind == DROP) {
		aux = ctx[1];
		reason = DROP_REASON;
		sock = DROP_SOCK;
	} else if (kind == CONSUME) {
		aux = CONSUME_PLACE;
	} else if (kind == ICMP_SEND) {
		reason = (u32)(ctx[1] << 8 | ctx[2]);
	}
	if (!skb)
		return 0;
	sk = TYPED(skb, SK_BUFF_ID);
	dev = GET(char *, sk, O_DEV);
	if (kind == RX || kind == TX || kind == XMIT)
		v.netns = netns_of_device(dev);
	else
		v.netns = netns_of(sk, (char *)sock);
	if (!watched(v.netns)) {
		if (kind != CONSUME && !(kind == DROP && !v.netns))
			return 0;
		v.netns = 0;
	}
	v.nfct = GET(u64, sk, O_NFCT);
	if ((FLAGS & F_FRESH) && !is_fresh(v.nfct))
		return 0;
	entry = entry_hits(v.nfct);
	if (!entry && !(FLAGS & F_SIDE))
		return 0;
	cpu = this_cpu();
	v.skb = skb;
	look(&v, sk);
	if (kind == RX) /* the network header is set a little later; data is at layer 3 already */
		v.l3 = GET(u64, sk, O_DATA);
	v.uid = NO_UID;
	if (FLAGS & F_UID)
		v.uid = owner_of(GET(char *, sk, O_SK));
	v.indev = v.outdev = 0;
	if ((FLAGS & F_IFACE) && v.netns && dev)
		v.indev = v.outdev = GET(u32, dev, O_IFINDEX);
	if (!wanted(&v, &p, entry)) {
		if ((FLAGS & F_FIB) && kind == RX && cpu->skb)
			cpu->skb = 0;
		return 0;
	}
	v.indev = v.outdev = 0;
	if (v.netns && dev) {
		if (kind == TX || kind == XMIT)
			v.outdev = GET(u32, dev, O_IFINDEX);
		else
			v.indev = GET(u32, dev, O_IFINDEX);
	}
	v.uid = owner_of(GET(char *, sk, O_SK));
	learn_entry(cpu, v.nfct, entry, &p);
	if (FLAGS & F_FIB) {
		if (kind == RX)
			working_on(cpu, &v, &p);
		else if (kind == TX || kind == DROP || kind == CONSUME)
			cpu->skb = 0;
	}
	emit(cpu, &v, &p, kind, NO_HOOK, 0, reason, aux);
	return 0;
}

/* A lookup belongs to the packet at work on this CPU if the addresses are its own, either way round (a reverse path
 * check turns them); otherwise the filter judges the flow key itself, as for a local sender that has no packet yet. */
INLINE int looked_up(struct view *v, struct packet *p, u64 aux, u32 table, u32 error, char *dev)
{
	struct cpu *cpu = this_cpu();
	u32 s = p->t.s[0] ^ p->t.s[3], d = p->t.d[0] ^ p->t.d[3];
	int same = cpu->skb && ((s == cpu->s && d == cpu->d) || (s == cpu->d && d == cpu->s));
	u64 seq = 1;
	struct event *e;

	if (!same) {
		if ((FLAGS & (F_PCAP | F_IFACE)) || !hits((char *)&p->t, p->ported))
			return 0;
		if ((FLAGS & F_UID) && v->uid != CONFIG(u32, uid))
			return 0;
		if ((FLAGS & F_MARK) && (v->mark & CONFIG(u32, mark_mask)) != CONFIG(u32, mark))
			return 0;
	}
	if (same && !v->netns)
		v->netns = cpu->netns;
	if (!v->netns) {
		char *proxy = GET(char *, TYPED(current_task(), TASK_ID), O_NSPROXY);
		char *net = proxy ? GET(char *, proxy, O_NET_NS) : 0;

		v->netns = net ? GET(u32, net, O_NET_INUM) : 0;
	}
	if (!watched(v->netns))
		return 0;
	v->skb = same ? cpu->skb : 0;
	v->outdev = dev ? GET(u32, dev, O_IFINDEX) : 0;
	if (control()->aggregate) {
		add_up(cpu, v, p, FIB, NO_HOOK, table, error);
		return 0;
	}
	COUNT_UP(seq, cpu);
	e = ring_reserve(EVENTS, sizeof(*e), 0);
	if (!e) {
		count_loss(cpu, v, FIB, NO_HOOK, 0, seq, ktime_get_ns());
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->ts = ktime_get_ns();
	e->skb = v->skb;
	e->aux = aux;
	e->indev = v->indev;
	e->outdev = v->outdev;
	e->netns = v->netns;
	e->mark = v->mark;
	e->reason = error;
	e->table = table;
	e->seq = seq;
	e->uid = v->uid;
	__builtin_memcpy(&e->t, &p->t, sizeof(e->t));
	e->cpu = smp_processor_id();
	e->kind = FIB;
	e->hook = NO_HOOK;
	e->pf = p->t.l3num;
	ring_submit(e, NO_WAKEUP);
	return 0;
}

/* fib_table_lookup(table, flow, next hop, error) */
int on_fib(u64 *ctx)
{
	char *flow = TYPED(ctx[1], FLOWI4_ID), *dev = 0;
	struct packet p;
	struct view v;
	u64 gateway = 0;

	if (!control()->on)
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	__builtin_memset(&v, 0, sizeof(v));
	p.t.l3num = 2;
	p.t.s[0] = GET(u32, flow, O_FL4_SADDR);
	p.t.d[0] = GET(u32, flow, O_FL4_DADDR);
	p.t.proto = GET(u8, flow, O_FL_PROTO);
	p.t.dport = GET(u16, flow, O_FL4_ULI); /* struct flowi_uli: the destination first */
	p.t.sport = GET(u16, flow, O_FL4_ULI + 2);
	p.ported = (p.t.dport || p.t.sport) && !is_icmp(p.t.proto);
	v.mark = GET(u32, flow, O_FL_MARK);
	v.indev = GET(u32, flow, O_FL_IIF);
	v.uid = GET(u32, flow, O_FL_UID);
	if (ctx[2]) {
		char *hop = TYPED(ctx[2], FIB_NHC_ID);

		dev = GET(char *, hop, O_NHC_DEV);
		gateway = GET(u32, hop, O_NHC_GW);
		v.netns = netns_of_device(dev);
	}
	return looked_up(&v, &p, gateway, (u32)ctx[0], (u32)ctx[3], dev);
}

/* fib6_table_lookup(net, result, table, flow) */
int on_fib6(u64 *ctx)
{
	char *flow = TYPED(ctx[3], FLOWI6_ID), *result = TYPED(ctx[1], FIB6_RESULT_ID), *hop, *dev = 0;
	struct packet p;
	struct view v;
	u64 gateway = 0;

	if (!control()->on)
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	__builtin_memset(&v, 0, sizeof(v));
	p.t.l3num = 10;
	for (int i = 0; i < 4; i++) {
		p.t.s[i] = GET(u32, flow, O_FL6_SADDR + 4 * i);
		p.t.d[i] = GET(u32, flow, O_FL6_DADDR + 4 * i);
	}
	p.t.proto = GET(u8, flow, O_FL_PROTO);
	p.t.dport = GET(u16, flow, O_FL6_ULI);
	p.t.sport = GET(u16, flow, O_FL6_ULI + 2);
	p.ported = (p.t.dport || p.t.sport) && !is_icmp(p.t.proto);
	v.mark = GET(u32, flow, O_FL_MARK);
	v.indev = GET(u32, flow, O_FL_IIF);
	v.uid = GET(u32, flow, O_FL_UID);
	v.netns = GET(u32, TYPED(ctx[0], NET_ID), O_NET_INUM);
	hop = GET(char *, result, O_F6R_NH);
	if (hop) {
		dev = GET(char *, hop, O_F6NH_DEV);
		gateway = GET(u64, hop, O_F6NH_GW + 8); /* the interface's half of the address */
	}
	return looked_up(&v, &p, gateway, GET(u32, TYPED(ctx[2], FIB6_TABLE_ID), O_FIB6_TABLE), GET(u8, result, O_F6R_TYPE) >= 6, dev);
}

/* neigh_update_done(entry, error) and its relatives: the entry comes first in all of them */
int on_neigh(u64 *ctx)
{
	char *entry = TYPED(ctx[0], NEIGHBOUR_ID), *dev;
	struct packet p;
	struct view v;
	struct cpu *cpu = this_cpu();

	if (!control()->on)
		return 0;
	dev = GET(char *, entry, O_NEIGH_DEV);
	__builtin_memset(&v, 0, sizeof(v));
	v.netns = netns_of_device(dev);
	if (!watched(v.netns))
		return 0;
	__builtin_memset(&p, 0, sizeof(p));
	WINDOW(key, ctx[0] + O_NEIGH_KEY, 16);
	p.t.l3num = GET(u32, GET(char *, entry, O_NEIGH_TBL), O_NEIGH_FAMILY);
	p.t.d[0] = LOAD(u32, key, 0);
	if (p.t.l3num == 10) {
		p.t.d[1] = LOAD(u32, key, 4);
		p.t.d[2] = LOAD(u32, key, 8);
		p.t.d[3] = LOAD(u32, key, 12);
	}
	v.outdev = dev ? GET(u32, dev, O_IFINDEX) : 0;
	v.uid = NO_UID;
	if (cpu->skb && cpu->netns == v.netns)
		v.skb = cpu->skb; /* head stays 0: not the packet's own record */
	emit(cpu, &v, &p, NEIGH, NO_HOOK, 0, GET(u8, entry, O_NEIGH_STATE), 0);
	return 0;
}
