/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From an sk_buff to an event: what it holds, whether it is wanted, and the record. */
enum { NO_HOOK = 255, NO_UID = 0xffffffff, TCP_TIME_WAIT = 6, TCP_NEW_SYN_RECV = 12, NAT_BITS = 0x30, CONFIRMED_BIT = 1 << 3, TEMPLATE_BIT = 1 << 11 };

struct view { /* of an sk_buff */
	u64 skb, head, nfct, l3, end; /* end: of what lies in the linear buffer; 0 if not looked at */
	u32 len, mark, netns, indev, outdev, uid;
};

INLINE int next_header(struct packet *p, u64 *at, u64 end)
{
	u8 kind = p->t.proto;

	if (kind != 0 && kind != 43 && kind != 44 && kind != 60)
		return 0;
	if (*at + 8 > end)
		return 0;
	WINDOW(x, *at, 8);
	p->t.proto = LOAD(u8, x, 0);
	if (kind == 44) {
		u16 offset = bswap16(LOAD(u16, x, 2));

		p->frag = (offset >> 3) | ((offset & 1) << 13);
		p->ipid = bswap16(LOAD(u16, x, 6)); /* the lower half of the identification */
		*at += 8;
		return !(p->frag & 0x1fff);
	}
	*at += (LOAD(u8, x, 1) + 1) * 8;
	return 1;
}

/* The 8 octets at x + at, zeros where the packet has no more */
#define LOAD64(x, at) (LOAD(u32, x, at) | (u64)LOAD(u32, x, (at) + 4) << 32) /* a stack is read aligned only */
#define PAYLOAD(x, at, left) ((left) >= (at) + 8 ? LOAD64(x, at) : (left) > (at) ? LOAD64(x, at) & ((1ull << (((left) - (at)) * 8 & 63)) - 1) : 0)

INLINE void transport(struct packet *p, u64 at, u64 end)
{
	u8 proto = p->t.proto;
	u64 left = end - at;

	if (at + 8 > end)
		return;
	WINDOW(x, at, 24);
	if (proto == 6 || proto == 17 || proto == 132 || proto == 33 || proto == 136) {
		p->t.sport = LOAD(u16, x, 0);
		p->t.dport = LOAD(u16, x, 2);
		p->ported = 1;
		if (proto == 6) {
			p->tcp_flags = left > 13 ? LOAD(u8, x, 13) : 0;
			p->pay = PAYLOAD(x, 4, left);
			return;
		}
	} else if (proto == 1 || proto == 58) {
		p->t.dport = LOAD(u16, x, 0); /* type and code */
		p->t.sport = LOAD(u16, x, 4); /* id */
		p->ported = 1;
		p->pay = PAYLOAD(x, 8, left) << 16 | LOAD(u16, x, 6); /* the sequence number first: NAT leaves it alone */
		return;
	}
	p->pay = PAYLOAD(x, 8, left);
}

INLINE void parse(struct packet *p, struct view *v)
{
	u64 l4;

	__builtin_memset(p, 0, sizeof(*p));
	if (v->l3 + 20 > v->end)
		return;
	WINDOW(h, v->l3, 40);
	if (LOAD(u8, h, 0) >> 4 == 4) {
		p->t.l3num = 2;
		p->t.s[0] = LOAD(u32, h, 12);
		p->t.d[0] = LOAD(u32, h, 16);
		p->t.proto = LOAD(u8, h, 9);
		p->ttl = LOAD(u8, h, 8);
		p->tos = LOAD(u8, h, 1);
		p->ipid = bswap16(LOAD(u16, h, 4));
		p->frag = bswap16(LOAD(u16, h, 6));
		p->found = 1;
		l4 = v->l3 + (LOAD(u8, h, 0) & 15) * 4;
	} else if (LOAD(u8, h, 0) >> 4 == 6) {
		if (v->l3 + 40 > v->end)
			return;
		p->t.l3num = 10;
		for (int i = 0; i < 4; i++) {
			p->t.s[i] = LOAD(u32, h, 8 + 4 * i);
			p->t.d[i] = LOAD(u32, h, 24 + 4 * i);
		}
		p->t.proto = LOAD(u8, h, 6);
		p->ttl = LOAD(u8, h, 7);
		p->tos = (LOAD(u8, h, 0) & 15) << 4 | LOAD(u8, h, 1) >> 4;
		p->found = 1;
		l4 = v->l3 + 40;
		if (next_header(p, &l4, v->end) && next_header(p, &l4, v->end))
			next_header(p, &l4, v->end);
	} else {
		return;
	}
	if (!(p->frag & 0x1fff))
		transport(p, l4, v->end);
}

INLINE int from_side(struct view *v)
{
	if ((FLAGS & F_MARK) && (v->mark & CONFIG(u32, mark_mask)) != CONFIG(u32, mark))
		return 0;
	if ((FLAGS & F_UID) && v->uid != CONFIG(u32, uid))
		return 0;
	if ((FLAGS & F_IFACE) && v->indev != CONFIG(u32, ifindex) && v->outdev != CONFIG(u32, ifindex))
		return 0;
	if (FLAGS & F_PCAP) {
		u64 skb = v->skb, l3 = v->l3, end = v->end;

		return ((u64(*)(u64, u64, u64))MAGIC_PCAP)(l3, end, v->len) != 0;
	}
	return 1;
}

/* 0: nothing in the IP header can make this packet wanted */
INLINE int may_hit(struct view *v)
{
	u32 s, d;
	u16 l3num;
	u8 proto;
	char *from, *to;

	if (FLAGS & F_ANY)
		return 1;
	if (v->l3 + 20 > v->end)
		return 0;
	WINDOW(h, v->l3, 40);
	l3num = LOAD(u8, h, 0) >> 4;
	if (l3num == 4) {
		l3num = 2;
		proto = LOAD(u8, h, 9);
		from = h + 12;
		to = h + 16;
		s = LOAD(u32, from, 0);
		d = LOAD(u32, to, 0);
	} else if (l3num == 6) {
		l3num = 10;
		proto = LOAD(u8, h, 6);
		from = h + 8;
		to = h + 24;
		s = LOAD(u32, from, 0) ^ LOAD(u32, from, 12);
		d = LOAD(u32, to, 0) ^ LOAD(u32, to, 12);
	} else {
		return 0;
	}
	if (CONFIG(u32, terms) > 0 && term_may_hit_0(l3num, proto, from, to))
		return 1;
	if (CONFIG(u32, terms) > 1 && term_may_hit_1(l3num, proto, from, to))
		return 1;
	if (proto == 1 || proto == 58) /* an error is about a packet that it quotes */
		return 1;
	return (FLAGS & F_LEARN) && BIT(pair_of(s, d));
}

/* An ICMP error before conntrack has looked: the packet it quotes decides, as sent or as learned */
INLINE int quoted_hits(struct view *v, struct packet *p)
{
	u8 type = p->t.dport;
	struct tuple t;
	u64 at;

	if (p->t.l3num == 2 && p->t.proto == 1 && (type == 3 || type == 4 || type == 5 || type == 11 || type == 12)) {
		WINDOW(h, v->l3, 1);
		at = v->l3 + (LOAD(u8, h, 0) & 15) * 4 + 8;
		if (at + 28 > v->end)
			return 0;
		WINDOW(q, at, 28);
		__builtin_memset(&t, 0, sizeof(t));
		t.l3num = 2;
		t.s[0] = LOAD(u32, q, 12);
		t.d[0] = LOAD(u32, q, 16);
		t.proto = LOAD(u8, q, 9);
		at += (LOAD(u8, q, 0) & 15) * 4;
	} else if (p->t.l3num == 10 && p->t.proto == 58 && type >= 1 && type <= 4) {
		at = v->l3 + 48;
		if (at + 48 > v->end)
			return 0;
		WINDOW(q, at, 40);
		__builtin_memset(&t, 0, sizeof(t));
		t.l3num = 10;
		for (int i = 0; i < 4; i++) {
			t.s[i] = LOAD(u32, q, 8 + 4 * i);
			t.d[i] = LOAD(u32, q, 24 + 4 * i);
		}
		t.proto = LOAD(u8, q, 6);
		at += 40;
	} else {
		return 0;
	}
	WINDOW(x, at, 8);
	if (t.proto == 1 || t.proto == 58) {
		t.dport = LOAD(u16, x, 0);
		t.sport = LOAD(u16, x, 4);
	} else {
		t.sport = LOAD(u16, x, 0);
		t.dport = LOAD(u16, x, 2);
	}
	return hits((char *)&t, 1) || ((FLAGS & F_LEARN) && is_learned(&t));
}

/* Judge by the conntrack entry: 1 wanted, 0 not, -1 if there is none, or only a template that says no more than the zone */
INLINE int entry_hits(u64 nfct)
{
	u64 ct = nfct & ~7ull;
	u32 status;

	if (!ct)
		return -1;
	ENTRY(w, ct);
	if (hits(TUPLE_O(w, ct), 1))
		return 1;
	/* without translation the reply is the original turned round, which hits() has tried */
	status = STATUS_OF(w, ct);
	if (!(status & (NAT_BITS | TEMPLATE_BIT)))
		return 0;
	if (status & TEMPLATE_BIT)
		return -1;
	return hits(TUPLE_R(w, ct), 1);
}

/* 1: wanted, and p is filled */
INLINE int wanted(struct view *v, struct packet *p, int entry)
{
	int hit = entry;

	if (entry < 0) {
		if (!may_hit(v))
			return 0;
		parse(p, v);
		if (!p->found)
			return 0;
		hit = hits((char *)&p->t, p->ported);
		if (!hit && (p->t.proto == 1 || p->t.proto == 58))
			hit = quoted_hits(v, p);
	}
	if (FLAGS & F_SIDE) {
		hit = hit && from_side(v);
		if (!hit && entry >= 0) {
			u64 ct = v->nfct & ~7ull;
			struct tuple t;

			ENTRY(w, ct);
			copy_tuple(&t, TUPLE_O(w, ct));
			hit = is_learned(&t);
		}
	}
	if (!hit && entry < 0 && (FLAGS & F_LEARN))
		hit = is_learned(&p->t);
	if (hit && entry >= 0)
		parse(p, v);
	return hit;
}

INLINE void count_loss(struct cpu *cpu, struct view *v, u8 kind, u8 hook, s32 prio, u64 seq, u64 now)
{
	struct loss *l;

	__sync_fetch_and_add(&cpu->lost[kind & 15], 1);
	l = ring_reserve(LOSSES, sizeof(*l), 0);
	if (!l) {
		__sync_fetch_and_add(&cpu->unlogged, 1);
		return;
	}
	l->ts = now;
	l->skb = v->skb;
	l->prio = prio;
	l->seq = seq;
	l->netns = v->netns;
	l->cpu = smp_processor_id();
	l->kind = kind;
	l->hook = hook;
	ring_submit(l, NO_WAKEUP);
}

struct total_key {
	struct tuple t;
	u32 netns;
	s32 prio;
	u32 reason;
	u16 zone;
	u8 kind, hook;
};

struct total {
	u64 packets, octets, first, last;
};

/* Aggregation instead of events: per flow, hook and place */
INLINE void add_up(struct cpu *cpu, struct view *v, struct packet *p, u8 kind, u8 hook, s32 prio, u32 reason)
{
	struct total_key k;
	struct total zero, *t;
	u64 now = ktime_get_ns(), ct = v->nfct & ~7ull;

	__builtin_memset(&k, 0, sizeof(k));
	__builtin_memcpy(&k.t, &p->t, sizeof(k.t));
	k.netns = v->netns;
	k.prio = prio;
	k.kind = kind;
	k.hook = hook;
	k.reason = reason;
	if (ct) {
		ENTRY(w, ct);
		k.zone = ENTRY_GET(u16, w, ct, O_CT_ZONE);
	}
	t = map_lookup(TOTALS, &k);
	if (!t) {
		__builtin_memset(&zero, 0, sizeof(zero));
		map_update(TOTALS, &k, &zero, 1);
		t = map_lookup(TOTALS, &k);
		if (!t) {
			__sync_fetch_and_add(&cpu->lost[kind & 15], 1);
			return;
		}
	}
	if (!t->first)
		t->first = now;
	t->packets++;
	t->octets += v->len;
	t->last = now;
}

INLINE void fill_entry(struct event *e, u64 ct)
{
	ENTRY(w, ct);

#if FAST
	copy_tuple(&e->o, TUPLE_O(w, ct));
	copy_tuple(&e->r, TUPLE_R(w, ct));
#else
	probe_read(&e->o, sizeof(e->o), (void *)(ct + O_TUPLE));
	probe_read(&e->r, sizeof(e->r), (void *)(ct + O_TUPLE + REPLY));
	e->o.dir = 0;
#endif
	e->r.dir = 1;
	e->zone = ENTRY_GET(u16, w, ct, O_CT_ZONE);
	e->status = STATUS_OF(w, ct);
	e->ctmark = O_CT_MARK ? ENTRY_GET(u32, w, ct, O_CT_MARK) : 0;
}

INLINE void emit(struct cpu *cpu, struct view *v, struct packet *p, u8 kind, u8 hook, s32 prio, u32 reason, u64 aux)
{
	u64 seq = 1, now;
	struct event *e;

	if (!control()->on)
		return;
	if (control()->aggregate) {
		add_up(cpu, v, p, kind, hook, prio, reason);
		return;
	}
	COUNT_UP(seq, cpu);
	now = ktime_get_ns();
	e = ring_reserve(EVENTS, sizeof(*e), 0);
	if (!e) {
		count_loss(cpu, v, kind, hook, prio, seq, now);
		return;
	}
	e->ts = now;
	e->skb = v->skb;
	e->head = v->head;
	e->ct = v->nfct & ~7ull;
	e->aux = aux;
	e->pay = p->pay;
	e->prio = prio;
	e->indev = v->indev;
	e->outdev = v->outdev;
	e->netns = v->netns;
	e->len = v->len;
	e->mark = v->mark;
	e->reason = reason;
	e->table = p->tos;
	e->seq = seq;
	e->uid = v->uid;
	__builtin_memcpy(&e->t, &p->t, sizeof(e->t));
	e->ipid = p->ipid;
	e->frag = p->frag;
	e->gso = 0;
	e->cpu = smp_processor_id();
	e->kind = kind;
	e->hook = hook;
	e->pf = p->t.l3num;
	e->ttl = p->ttl;
	e->ctinfo = v->nfct & 7;
	e->tcp_flags = p->tcp_flags;
	if (v->skb && v->head) {
		char *sk = TYPED(v->skb, SK_BUFF_ID);

		WINDOW(shared, v->head + GET(u32, sk, O_END) + O_GSO_SIZE, 2);
		e->gso = LOAD(u16, shared, 0);
	}
	if (v->nfct & ~7ull) {
		fill_entry(e, v->nfct & ~7ull);
	} else {
		__builtin_memset(&e->o, 0, sizeof(e->o));
		__builtin_memset(&e->r, 0, sizeof(e->r));
		e->zone = e->status = e->ctmark = 0;
	}
	ring_submit(e, NO_WAKEUP);
}

INLINE u32 owner_of(char *sock)
{
	u8 state;

	if (!sock)
		return NO_UID;
	state = GET(u8, sock, O_SK_STATE);
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV) /* a smaller structure */
		return NO_UID;
	return GET(u32, sock, O_SK_UID);
}

/* What the matching packet on this CPU is: route lookups and the like carry no packet */
INLINE void working_on(struct cpu *cpu, struct view *v, struct packet *p)
{
	cpu->skb = v->skb;
	cpu->netns = v->netns;
	cpu->s = p->t.s[0] ^ p->t.s[3];
	cpu->d = p->t.d[0] ^ p->t.d[3];
}
