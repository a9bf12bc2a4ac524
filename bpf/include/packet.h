/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From an sk_buff to an event: what it holds, whether it is wanted, and the record. */
enum { NO_HOOK = 255, NO_UID = 0xffffffff, TCP_TIME_WAIT = 6, TCP_NEW_SYN_RECV = 12 };

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

INLINE void transport(struct packet *p, u64 at, u64 end)
{
	u8 proto = p->t.proto;
	u64 pay = 0;

	if (at + 8 > end)
		return;
	WINDOW(x, at, 24);
	if (proto == 6 || proto == 17 || proto == 132 || proto == 33 || proto == 136) {
		p->t.sport = LOAD(u16, x, 0);
		p->t.dport = LOAD(u16, x, 2);
		p->ported = 1;
		if (proto == 6 && at + 20 <= end) {
			p->tcp_flags = LOAD(u8, x, 13);
			p->pay = LOAD(u64, x, 4);
		} else if (at + 16 <= end) {
			p->pay = LOAD(u64, x, 8);
		}
	} else if (proto == 1 || proto == 58) {
		p->t.dport = LOAD(u16, x, 0); /* type and code */
		p->t.sport = LOAD(u16, x, 4); /* id */
		p->ported = 1;
		if (at + 16 <= end)
			p->pay = (LOAD(u64, x, 8) << 16) | LOAD(u16, x, 6); /* the sequence number first: NAT leaves it alone */
	} else if (at + 16 <= end) {
		p->pay = LOAD(u64, x, 8);
	}
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
	volatile struct config *c = config();

	if ((c->flags & F_MARK) && (v->mark & c->mark_mask) != c->mark)
		return 0;
	if ((c->flags & F_UID) && v->uid != c->uid)
		return 0;
	if ((c->flags & F_IFACE) && v->indev != c->ifindex && v->outdev != c->ifindex)
		return 0;
	if (c->flags & F_PCAP) {
		u64 skb = v->skb, l3 = v->l3, end = v->end;

		return ((u64(*)(u64, u64, u64))MAGIC_PCAP)(l3, end, v->len) != 0;
	}
	return 1;
}

/* 1: wanted, and p is filled. ct: the entry, 0 without one or while it is a template that says only the zone */
INLINE int wanted(struct view *v, struct packet *p, u64 *ct)
{
	volatile struct config *c = config();
	int hit;

	*ct = v->nfct & ~7ull;
	if (*ct) {
		WINDOW(w, *ct + O_TUPLE, 96);
		if (LOAD(u16, w, 18)) {
			hit = hits(w, 1) || hits(w + REPLY, 1);
			if (c->flags & F_SIDE) {
				hit = hit && from_side(v);
				if (!hit) {
					struct tuple t;

					copy_tuple(&t, w);
					hit = is_learned(&t);
				}
			}
			if (!hit)
				return 0;
			parse(p, v);
			return 1;
		}
		*ct = 0;
	}
	parse(p, v);
	if (!p->found)
		return 0;
	hit = hits((char *)&p->t, p->ported);
	if (c->flags & F_SIDE)
		hit = hit && from_side(v);
	if (!hit && (c->flags & F_LEARN))
		hit = is_learned(&p->t);
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
INLINE void add_up(struct cpu *cpu, struct view *v, struct packet *p, u64 ct, u8 kind, u8 hook, s32 prio, u32 reason)
{
	struct total_key k;
	struct total zero, *t;
	u64 now = ktime_get_ns();

	__builtin_memset(&k, 0, sizeof(k));
	__builtin_memcpy(&k.t, &p->t, sizeof(k.t));
	k.netns = v->netns;
	k.prio = prio;
	k.kind = kind;
	k.hook = hook;
	k.reason = reason;
	k.zone = ct ? GET(u16, TYPED(ct, NF_CONN_ID), O_CT_ZONE) : 0;
	t = map_lookup(TOTALS, &k);
	if (!t) {
		__builtin_memset(&zero, 0, sizeof(zero));
		zero.first = now;
		map_update(TOTALS, &k, &zero, 1);
		t = map_lookup(TOTALS, &k);
		if (!t) {
			__sync_fetch_and_add(&cpu->lost[kind & 15], 1);
			return;
		}
	}
	t->packets++;
	t->octets += v->len;
	t->last = now;
}

INLINE void fill_entry(struct event *e, u64 ct)
{
	WINDOW(w, ct, NF_CONN_SIZE);

	copy_tuple(&e->o, w + O_TUPLE);
	copy_tuple(&e->r, w + O_TUPLE + REPLY);
	e->r.dir = 1;
	e->zone = LOAD(u16, w, O_CT_ZONE);
	e->status = LOAD(u32, w, O_CT_STATUS);
	e->ctmark = O_CT_MARK ? LOAD(u32, w, O_CT_MARK) : 0;
}

INLINE void emit(struct cpu *cpu, struct view *v, struct packet *p, u64 ct, u8 kind, u8 hook, s32 prio, u32 reason, u64 aux)
{
	u64 seq = 1, now;
	struct event *e;

	if (control()->aggregate) {
		add_up(cpu, v, p, ct, kind, hook, prio, reason);
		return;
	}
	/* the loader makes this an atomic fetch-and-add where the kernel has it: an interrupt may emit in between */
	asm volatile("lock *(u64 *)(%1 + 0) += %0" : "+r"(seq) : "r"(cpu) : "memory");
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
	e->table = 0;
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

		WINDOW(shared, v->head + GET(u32, sk, O_END), SHARED_SIZE);
		e->gso = LOAD(u16, shared, O_GSO_SIZE);
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
