/*
 * The DNS worker's fast path: common queries are answered here, from names that Python has compiled.
 *
 * What it does not know (see `core_reply`) it leaves to Python: a reply from here is byte for byte the one that
 * isthmus/dns/answer.py would give. One thread per UDP socket receives, answers and sends whole batches and never
 * needs the interpreter's lock; Python is the only writer. A compiled name is checked once, when it comes in
 * (`sound` in names.c), so that the hot path may trust it; a query is trusted in nothing. The layout of a compiled
 * name is that of isthmus/dns/compiled.py. Called through ctypes by isthmus/dns/fastpath.py.
 */
#ifndef ISTHMUS_DNS_CORE_H
#define ISTHMUS_DNS_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PUBLIC __attribute__((visibility("default")))

enum { HEADER = 12, MAX_NAME = 255, MAX_LABEL = 63, LEAST = 512, MOST_UDP = 4096, MOST = 65535 };
enum { NOERROR = 0, FORMERR = 1, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5 };
enum { OPT = 41, COOKIE = 10, EDE = 15, STALE_ANSWER = 3, STALE_NXDOMAIN = 19, NOT_AUTHORITATIVE = 20 };
enum { FIXED = 0, DRAWN = 1, LEFT_TO_PYTHON = 2, EVERY_TYPE = 1 << 16 };
#define PLACED 0xFFFFFFFFu
enum { DRAW_MOST = 8, RECORDS_EACH = 8, RECORDS_MOST = 64, POINTS_MOST = 1 << 16, SOA_MOST = 128, SOA_POINTERS = 3 };
enum { BATCH = 32, ASIDE_MOST = 256, LISTENERS = 16, CONTROL = 64, TURN_NANOSECONDS = 100000 };
enum { NO_REPLY = 0, ASK_PYTHON = -1, FORWARD = -2 };
enum { RARE = 0, FORWARDED = 1, QUEUES = 2 };

/* What is counted, in the order of isthmus/dns/metrics.py. */
enum { TYPES = 10, OUTCOMES = 9, BUCKETS = 12 };
struct counts {
    uint64_t types[TYPES], outcomes[OUTCOMES], truncated, fast, aside, not_queries, aside_full, unsent;
    uint64_t buckets[BUCKETS], nanoseconds;
};
enum { COUNTS = sizeof(struct counts) / sizeof(uint64_t) };
/* Addresses as numbers, both ends included, whose callers stand in one place. */
struct range {
    uint64_t first[2], last[2], place;
};

/* A name: `words` is what compiled.py made, `name` the folded wire form behind it. */
struct node {
    uint32_t length, name_length;
    uint32_t words[];
};
/* The fields of one variant of a name that is `PLACED`; before them stand that word and how many there are. */
enum { V_PLACE, V_AT, V_LENGTH, VARIANT };
/* The fields of one record type of a node. */
enum { F_TYPE, F_KIND, F_COUNTS, F_AT, F_LENGTH, F_EXTRA, FIELDS };
/* The fields of a pool (what is drawn from), then `upper` and `first` of each group. */
enum { P_SIZE, P_MEMBERS, P_GROUPS, P_WINDOW, P_VERSION_HIGH, P_VERSION_LOW, POOL };
/* The fields of a drawn type: where its pool is, the bytes of one record; then `start` of each member, and one more. */
enum { D_POOL, D_RECORD, DRAW };

struct slot {
    uint64_t hash;
    struct node *node;
};

/* A query that waits for Python, or one that is shown to it. */
struct aside {
    uint64_t since;
    struct sockaddr_storage from;
    size_t control_length;
    uint32_t length, shown; /* shown: 0, or 1 + the outcome of the reply that was sent */
    int fd;
    unsigned char control[CONTROL] __attribute__((aligned(8))), query[MOST_UDP];
};

/* Queries in the order in which they came; a ring. */
struct queue {
    struct aside *held;
    size_t first, count;
};

struct core {
    pthread_mutex_t lock; /* guards all below it, but `counts`; only Python's thread writes the table */
    struct slot *slots;
    size_t size, used;
    uint64_t key;
    unsigned char zone[MAX_NAME], soa[SOA_MOST];
    struct range *ranges; /* in order; where callers stand */
    size_t range_count;
    uint32_t zone_length, soa_length, soa_pointers[SOA_POINTERS], udp_size;
    bool forwards; /* other zones are not refused, Python asks others about them */
    bool ready, stale, show, stopped; /* may names be spoken of, and are they what was heard last? */
    struct queue queues[QUEUES];
    int wake;
    struct counts counts[LISTENERS + 2]; /* of each listener, of UDP that Python answered, of TCP */
};

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static inline uint64_t stir(uint64_t state, uint64_t word) { return mix((state ^ word) + 0x9E3779B97F4A7C15u); }

static inline unsigned get16(const unsigned char *at) { return (unsigned)at[0] << 8 | at[1]; }

static inline void put16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static inline bool inside(uint64_t at, uint64_t length, uint64_t whole) { return at <= whole && length <= whole - at; }

/*
 * names.c: what stands at a folded name for a client, NULL where there is nothing. The lock is held, or the writer asks.
 */
const uint32_t *core_find(const struct core *core, const unsigned char *name, size_t length, const uint64_t client[2]);

/*
 * reply.c: the reply to one message: its length, NO_REPLY, ASK_PYTHON or FORWARD. `out` holds MOST bytes for TCP, else
 * MOST_UDP. Python is asked about other classes, zone transfers, ANY, types of the protocol itself, records beside
 * one plain OPT, options but a cookie, EDNS versions but 0, types that a name leaves to it, and the zone before it
 * is ready.
 */
int core_reply(const struct core *core, const unsigned char *query, size_t length, const uint64_t client[2],
               uint64_t now, bool tcp, unsigned char *out);

/* The length of a well-formed name that begins at `at`, with its root label; 0 where it is none. */
size_t core_name_length(const unsigned char *message, size_t length, size_t at);

#endif
