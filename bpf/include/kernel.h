/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* How programs read kernel memory and reach maps. No header of the kernel is included anywhere: offsets and type numbers
 * come from the running kernel's BTF as -D options, and what the compiler cannot know (descriptors of maps, the number
 * of a kernel function, a tap's priority, a tracepoint's kind) is a magic constant that tracer/live/compile.py replaces in the byte code.
 */
#define INLINE static __attribute__((always_inline)) inline

#define MAGIC_PRIO "0x7eed1234"
#define MAGIC_KIND "0x7eed1235"
#define MAGIC_CAST 0x7eed0001
#define MAGIC_PCAP 0x7eed0003

/* the maps, numbered as in tracer/live/compile.py */
#define MAP(n) ({ void *m_; asm volatile("%0 = 0x7eed010" #n "00000000 ll" : "=r"(m_)); m_; })
#define VALUE(n) ({ void *m_; asm volatile("%0 = 0x7eed020" #n "00000000 ll" : "=r"(m_)); m_; })

#define LOAD(T, p, off) (*(volatile T *)((char *)(p) + (off)))

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static u64 (*ktime_get_ns)(void) = (void *)5;
static u32 (*smp_processor_id)(void) = (void *)8;
static u64 (*current_task)(void) = (void *)35;
static long (*probe_read)(void *to, u32 size, const void *from) = (void *)113;
static void *(*ring_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*ring_submit)(void *data, u64 flags) = (void *)132;
#define NO_WAKEUP 1 /* BPF_RB_NO_WAKEUP: the reader polls, which costs packets nothing */

#if FAST
/* bpf_rdonly_cast() makes any address a pointer to a type of the kernel; a load through it is one instruction, and a
 * wrong address reads as zero. TYPED: as that type, so that pointers read from it have types again. WINDOW: as plain
 * memory of WINDOW_SIZE octets. */
#define CAST(p, id) (((void *(*)(void *, u32))MAGIC_CAST)((void *)(p), id))
#define TYPED(p, id) CAST(p, id)
#define GET(T, p, off) LOAD(T, p, off)
#define WINDOW(name, at, size) char *name = CAST(at, WINDOW_ID)
/* a conntrack entry is one window; tuples are read from it where they lie */
#define ENTRY(name, ct) char *name = CAST(ct, WINDOW_ID)
#define ENTRY_GET(T, name, ct, off) LOAD(T, name, off)
#define TUPLE_O(name, ct) ((name) + O_TUPLE)
#define TUPLE_R(name, ct) ((name) + O_TUPLE + REPLY)
#else
#define TYPED(p, id) ((void *)(p))
#define GET(T, p, off) ({ T v_ = 0; probe_read(&v_, sizeof(v_), (char *)(p) + (off)); v_; })
#define WINDOW(name, at, size) char name##_[size]; __builtin_memset(name##_, 0, size); probe_read(name##_, size, (void *)(at)); char *name = name##_
/* the stack is small: a tuple at a time */
#define ENTRY(name, ct) u64 name##_tuples[2][5]
#define ENTRY_GET(T, name, ct, off) GET(T, ct, off)
#define TUPLE_O(name, ct) ({ probe_read(name##_tuples[0], 40, (void *)((ct) + O_TUPLE)); (char *)name##_tuples[0]; })
#define TUPLE_R(name, ct) ({ probe_read(name##_tuples[1], 40, (void *)((ct) + O_TUPLE + REPLY)); (char *)name##_tuples[1]; })
#endif
#define STATUS_OF(name, ct) ENTRY_GET(u32, name, ct, O_CT_STATUS)

#if FETCH
/* The loader makes this an atomic fetch-and-add: an interrupt may count in between. It knows it by its offset, which
 * becomes 0; no other addition may be changed so, for the compiler trusts those to leave their operand alone. */
#define COUNT_UP(value, at) asm volatile("lock *(u64 *)(%1 + 2030) += %0" : "+r"(value) : "r"(at) : "memory")
#else
#define COUNT_UP(value, at) ({ value = *(volatile u64 *)(at); *(volatile u64 *)(at) = value + 1; })
#endif

#define bswap16 __builtin_bswap16
#define bswap32 __builtin_bswap32
