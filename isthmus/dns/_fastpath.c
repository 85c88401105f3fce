/*
 * The DNS worker's fast path: common queries are answered here, from names that Python has compiled.
 *
 * What it does not know (see `reply`) it leaves to Python: a reply of this file is byte for byte the one that
 * isthmus/dns/answer.py would give. One thread per UDP socket receives, answers and sends whole batches and never
 * needs the interpreter's lock; Python is the only writer. A compiled name is checked once, when it comes in
 * (`sound`), so that the hot path may trust it; a query is trusted in nothing. The layout of a compiled name is
 * that of isthmus/dns/compiled.py. Called through ctypes by isthmus/dns/fastpath.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum { HEADER = 12, MAX_NAME = 255, MAX_LABEL = 63, LEAST = 512, MOST_UDP = 4096, MOST = 65535 };
enum { NOERROR = 0, FORMERR = 1, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5 };
enum { OPT = 41, COOKIE = 10, EDE = 15, NOT_AUTHORITATIVE = 20 };
enum { FIXED = 0, DRAWN = 1, LEFT_TO_PYTHON = 2, EVERY_TYPE = 1 << 16 };
enum { DRAW_MOST = 8, RECORDS_EACH = 8, RECORDS_MOST = 64, POINTS_MOST = 1 << 16, SOA_MOST = 128, SOA_POINTERS = 3 };
enum { BATCH = 32, ASIDE_MOST = 256, LISTENERS = 16, CONTROL = 64 };
enum { NO_REPLY = 0, ASK_PYTHON = -1 };

/* What is counted, in the order of isthmus/dns/metrics.py. */
enum { TYPES = 10, OUTCOMES = 9, BUCKETS = 12 };
struct counts {
    uint64_t types[TYPES], outcomes[OUTCOMES], truncated, fast, aside, not_queries, aside_full, unsent;
    uint64_t buckets[BUCKETS], nanoseconds;
};
enum { COUNTS = sizeof(struct counts) / sizeof(uint64_t) };
static const uint64_t BOUNDS[BUCKETS - 1] = { /* nanoseconds */
    10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 20000000, 100000000 };

/* A name: `words` is what compiled.py made, `name` the folded wire form behind it. */
struct node {
    uint32_t length, name_length;
    uint32_t words[];
};
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

struct core {
    pthread_mutex_t lock; /* guards all below it, but `counts`; only Python's thread writes the table */
    struct slot *slots;
    size_t size, used;
    uint64_t key;
    unsigned char zone[MAX_NAME], soa[SOA_MOST];
    uint32_t zone_length, soa_length, soa_pointers[SOA_POINTERS], udp_size;
    bool ready, show, stopped;
    struct aside *aside;
    size_t aside_first, aside_count;
    int wake;
    struct counts counts[LISTENERS + 2]; /* of each listener, of UDP that Python answered, of TCP */
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static uint64_t stir(uint64_t state, uint64_t word) { return mix((state ^ word) + 0x9E3779B97F4A7C15u); }

static unsigned get16(const unsigned char *at) { return (unsigned)at[0] << 8 | at[1]; }

static void put16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- The table of names: open addressing, linear probing, no tombstones. ---- */

static uint64_t hash(const struct core *core, const unsigned char *name, size_t length)
{
    uint64_t state = core->key, word;
    for (; length >= 8; name += 8, length -= 8) {
        memcpy(&word, name, 8);
        state = stir(state, word);
    }
    word = length;
    memcpy(&word, name, length);
    return stir(state, word + ((uint64_t)length << 56));
}

static const unsigned char *name_of(const struct node *node) { return (const unsigned char *)node->words + node->length; }

/* The slot of a name, or the free one where it belongs. */
static size_t find(const struct core *core, uint64_t hashed, const unsigned char *name, size_t length)
{
    size_t mask = core->size - 1, at = hashed & mask;
    for (; core->slots[at].node; at = (at + 1) & mask) {
        const struct node *node = core->slots[at].node;
        if (core->slots[at].hash == hashed && node->name_length == length && !memcmp(name_of(node), name, length))
            break;
    }
    return at;
}

static void take_out(struct core *core, size_t hole)
{
    size_t mask = core->size - 1;
    for (size_t at = (hole + 1) & mask; core->slots[at].node; at = (at + 1) & mask) {
        size_t home = core->slots[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            core->slots[hole] = core->slots[at];
            hole = at;
        }
    }
    core->slots[hole].node = NULL;
    core->used--;
}

/* Doubles the table; it is built beside the old one, which goes on serving. */
static bool grow(struct core *core)
{
    size_t size = core->size * 2, mask = size - 1;
    struct slot *slots = calloc(size, sizeof *slots), *old = core->slots;
    if (!slots)
        return false;
    for (size_t from = 0; from < core->size; from++)
        if (old[from].node) {
            size_t at = old[from].hash & mask;
            while (slots[at].node)
                at = (at + 1) & mask;
            slots[at] = old[from];
        }
    pthread_mutex_lock(&core->lock);
    core->slots = slots;
    core->size = size;
    pthread_mutex_unlock(&core->lock);
    free(old);
    return true;
}

/* ---- Is a compiled name what the hot path takes it for? ---- */

static bool inside(uint64_t at, uint64_t length, uint64_t whole) { return at <= whole && length <= whole - at; }

static bool sound_pool(const uint32_t *words, uint32_t length, uint32_t at)
{
    const uint32_t *pool = words + at / 4;
    if (at % 4 || !inside(at, POOL * 4, length) || !inside(at, POOL * 4 + (uint64_t)pool[P_GROUPS] * 8, length))
        return false;
    uint32_t size = pool[P_SIZE], members = pool[P_MEMBERS], groups = pool[P_GROUPS];
    const uint32_t *upper = pool + POOL, *first = upper + groups;
    if (size > DRAW_MOST || size > members || !pool[P_WINDOW])
        return false;
    for (uint32_t group = 0; group < groups; group++) {
        uint32_t below = group ? upper[group - 1] : 0, next = group + 1 < groups ? first[group + 1] : members;
        if (upper[group] < below || first[group] > next || next > members)
            return false;
        if (upper[group] > below && first[group] == next)
            return false;
    }
    return !size || (groups && upper[groups - 1] && upper[groups - 1] <= POINTS_MOST);
}

static bool sound_draw(const uint32_t *words, uint32_t length, uint32_t at)
{
    const uint32_t *draw = words + at / 4;
    if (at % 4 || !inside(at, DRAW * 4, length) || !sound_pool(words, length, draw[D_POOL]))
        return false;
    uint64_t members = words[draw[D_POOL] / 4 + P_MEMBERS], head = (DRAW + members + 1) * 4;
    if (!inside(at, head, length))
        return false;
    const uint32_t *start = draw + DRAW;
    for (uint64_t member = 0; member < members; member++)
        if (start[member] > start[member + 1] || start[member + 1] - start[member] > RECORDS_EACH)
            return false;
    return start[0] == 0 && draw[D_RECORD] && inside(at + head, (uint64_t)start[members] * draw[D_RECORD], length);
}

static bool sound(const uint32_t *words, uint32_t length)
{
    if (length < 4 || !inside(4, (uint64_t)words[0] * FIELDS * 4, length))
        return false;
    for (uint32_t type = 0; type < words[0]; type++) {
        const uint32_t *fields = words + 1 + type * FIELDS;
        if (fields[F_KIND] == FIXED) {
            uint64_t bytes = (uint64_t)fields[F_LENGTH] + fields[F_EXTRA];
            if (!inside(fields[F_AT], bytes, length))
                return false;
        } else if (fields[F_KIND] == DRAWN) {
            if (!sound_draw(words, length, fields[F_AT]))
                return false;
        } else if (fields[F_KIND] != LEFT_TO_PYTHON)
            return false;
    }
    return true;
}

/* ---- Drawing members of a pool: isthmus/dns/draw.py says what and why. ---- */

static unsigned draw_members(const uint32_t *pool, const uint64_t client[2], uint64_t now, uint32_t picked[DRAW_MOST])
{
    uint64_t size = pool[P_SIZE], members = pool[P_MEMBERS], groups = pool[P_GROUPS], scale = size << 32;
    const uint32_t *upper = pool + POOL, *first = upper + groups;
    uint64_t number = stir(0, (uint64_t)pool[P_VERSION_HIGH] << 32 | pool[P_VERSION_LOW]);
    number = stir(stir(stir(number, client[0]), client[1]), now / pool[P_WINDOW]);
    uint64_t turn = size - ((number & 0xFFFFFFFFu) * size >> 32);
    for (uint64_t step = 0; step < size; step++) {
        uint64_t member = step;
        if (size < members) {
            uint64_t at = ((number >> 32) + (step << 32)) * upper[groups - 1], group = 0, beyond = groups;
            while (group < beyond) { /* the first group whose running total is above */
                uint64_t middle = (group + beyond) / 2;
                if (upper[middle] > at / scale)
                    beyond = middle;
                else
                    group = middle + 1;
            }
            uint64_t below = group ? upper[group - 1] : 0, weight = (upper[group] - below) * scale;
            uint64_t count = (group + 1 < groups ? first[group + 1] : members) - first[group], rest = at - below * scale;
            member = first[group];
            if (count < 4096)
                member += rest * count / weight; /* below 2^51 * 2^12 */
            else
                member += (uint64_t)((__extension__(unsigned __int128)rest) * count / weight);
        }
        picked[(step + turn) % size] = (uint32_t)member;
    }
    return (unsigned)size;
}

/* Adds the records of a member to an answer, each only once; a record is known by its bytes. */
static unsigned add(const uint32_t *draw, const unsigned char *all, uint32_t member,
                    const unsigned char *records[RECORDS_MOST], unsigned count)
{
    uint32_t size = draw[D_RECORD];
    for (uint32_t number = draw[DRAW + member]; number < draw[DRAW + member + 1]; number++) {
        const unsigned char *record = all + (size_t)number * size;
        unsigned seen = 0;
        while (seen < count && memcmp(records[seen], record, size))
            seen++;
        if (seen == count)
            records[count++] = record;
    }
    return count;
}

/* The records drawn for a client; where no drawn member has this family, those of the next one that has. */
static unsigned draw_records(const uint32_t *words, const uint32_t *draw, const uint64_t client[2], uint64_t now,
                             const unsigned char *records[RECORDS_MOST])
{
    const uint32_t *pool = words + draw[D_POOL] / 4;
    const unsigned char *all = (const unsigned char *)(draw + DRAW + pool[P_MEMBERS] + 1);
    uint32_t picked[DRAW_MOST];
    unsigned count = 0, size = draw_members(pool, client, now, picked);
    for (unsigned step = 0; step < size; step++)
        count = add(draw, all, picked[step], records, count);
    for (uint32_t step = 1; size && !count && step < pool[P_MEMBERS]; step++)
        count = add(draw, all, (picked[0] + step) % pool[P_MEMBERS], records, count);
    return count;
}

/* ---- From a query to its reply. ---- */

struct asked {
    size_t question; /* its length: name, type, class */
    unsigned flags, type, limit;
    bool edns, dnssec;
    unsigned char name[MAX_NAME + 1]; /* folded */
};

static void head(unsigned char *out, const unsigned char *query, unsigned flags, const unsigned counts[4])
{
    memcpy(out, query, 2);
    put16(out + 2, 0x8000 | flags);
    for (int section = 0; section < 4; section++)
        put16(out + 4 + 2 * section, counts[section]);
}

static int only_head(unsigned char *out, const unsigned char *query, unsigned flags)
{
    head(out, query, flags, (const unsigned[4]){ 0, 0, 0, 0 });
    return HEADER;
}

/* The length of a well-formed name that begins at `at`, with its root label; 0 where it is none. */
static size_t name_length(const unsigned char *message, size_t length, size_t at)
{
    for (size_t start = at; at < length; at += 1 + (size_t)message[at]) {
        if (message[at] > MAX_LABEL)
            return 0;
        if (!message[at])
            return at + 1 - start <= MAX_NAME ? at + 1 - start : 0;
    }
    return 0;
}

/* Whether a well-formed name is the zone's or below it, label by label. */
static bool enclosed(const struct core *core, const unsigned char *name, size_t length)
{
    if (length < core->zone_length || memcmp(name + length - core->zone_length, core->zone, core->zone_length))
        return false;
    size_t at = 0;
    while (at < length - core->zone_length)
        at += 1 + (size_t)name[at];
    return at == length - core->zone_length;
}

/* Whether what is behind the question is nothing, or an OPT that changes nothing but what `asked` holds. */
static bool read_edns(const struct core *core, const unsigned char *query, size_t length, bool tcp, struct asked *asked)
{
    size_t at = HEADER + asked->question;
    asked->edns = asked->dnssec = false;
    asked->limit = tcp ? MOST : LEAST;
    if (get16(query + 6) || get16(query + 8) || get16(query + 10) > 1)
        return false;
    if (!get16(query + 10))
        return true;
    if (length - at < 11 || query[at] || get16(query + at + 1) != OPT || query[at + 6])
        return false;
    const unsigned char *opt = query + at;
    unsigned size = get16(opt + 3), data = get16(opt + 9);
    if (length - at - 11 < data)
        return false;
    if (data) { /* a cookie is not answered (RFC 7873, 5.2); whatever else there is, Python reads */
        unsigned cookie = data < 4 ? 0 : get16(opt + 13);
        if (data != cookie + 4 || get16(opt + 11) != COOKIE || !(cookie == 8 || (cookie >= 16 && cookie <= 40)))
            return false;
    }
    asked->edns = true;
    asked->dnssec = opt[7] & 0x80;
    if (!tcp)
        asked->limit = size < LEAST ? LEAST : size > core->udp_size ? core->udp_size : size;
    return true;
}

static size_t put_opt(const struct core *core, const struct asked *asked, unsigned error, unsigned char *out)
{
    if (!asked->edns)
        return 0;
    memset(out, 0, 11);
    put16(out + 1, OPT);
    put16(out + 3, core->udp_size);
    out[7] = asked->dnssec ? 0x80 : 0;
    if (!error)
        return 11;
    put16(out + 9, 6);
    put16(out + 11, EDE);
    put16(out + 13, 2);
    put16(out + 15, error);
    return 17;
}

/* No records: with `authority` the SOA, so that it may be cached (RFC 2308), else a refusal. */
static int empty(const struct core *core, const unsigned char *query, const struct asked *asked, unsigned rcode,
                 bool authority, unsigned char *out)
{
    size_t at = HEADER + asked->question;
    memcpy(out + HEADER, query + HEADER, asked->question);
    if (authority) {
        unsigned owner = 0xC000 | (unsigned)(at - 4 - core->zone_length);
        memcpy(out + at, core->soa, core->soa_length);
        for (int number = 0; number < SOA_POINTERS; number++)
            put16(out + at + core->soa_pointers[number], owner);
        at += core->soa_length;
    }
    at += put_opt(core, asked, authority ? 0 : NOT_AUTHORITATIVE, out + at);
    head(out, query, asked->flags | (authority ? 0x0400 : 0) | rcode,
         (const unsigned[4]){ 1, 0, authority, asked->edns });
    return (int)at;
}

/* Records; those that do not fit leave TC behind, over TCP they are for Python to cut. */
static int full(const struct core *core, const unsigned char *query, const struct asked *asked, const uint32_t *words,
                const uint32_t *fields, const uint64_t client[2], uint64_t now, bool tcp, unsigned char *out)
{
    const unsigned char *records[RECORDS_MOST], *fixed = (const unsigned char *)words + fields[F_AT];
    unsigned answers = fields[F_COUNTS] >> 16, extra = fields[F_COUNTS] & 0xFFFF, flags = asked->flags | 0x0400;
    size_t at = HEADER + asked->question, length = fields[F_LENGTH], more = fields[F_EXTRA], record = 0;
    size_t room = asked->limit - at - (asked->edns ? 11 : 0);
    if (fields[F_KIND] == DRAWN) {
        const uint32_t *draw = words + fields[F_AT] / 4;
        record = draw[D_RECORD];
        answers = draw_records(words, draw, client, now, records);
        if (!answers)
            return empty(core, query, asked, NOERROR, true, out);
        length = answers * record;
        more = extra = 0;
    }
    if (length > room) {
        if (tcp)
            return ASK_PYTHON;
        flags |= 0x0200;
        length = more = answers = extra = 0;
    }
    if (length + more > room)
        more = extra = 0;
    memcpy(out + HEADER, query + HEADER, asked->question);
    if (!record || !length)
        memcpy(out + at, fixed, length + more);
    else
        for (unsigned number = 0; number < answers; number++)
            memcpy(out + at + number * record, records[number], record);
    at += length + more;
    at += put_opt(core, asked, 0, out + at);
    head(out, query, flags, (const unsigned[4]){ 1, answers, 0, extra + asked->edns });
    return (int)at;
}

/*
 * The reply to one message: its length, NO_REPLY or ASK_PYTHON. `out` holds MOST bytes for TCP, else MOST_UDP.
 * Python is asked about other classes, zone transfers, ANY, types of the protocol itself, records beside one plain
 * OPT, options but a cookie, EDNS versions but 0, types that a name leaves to it, and the zone before it is ready.
 */
static int reply(const struct core *core, const unsigned char *query, size_t length, const uint64_t client[2],
                 uint64_t now, bool tcp, unsigned char *out)
{
    struct asked asked;
    if (length < HEADER || query[2] & 0x80)
        return NO_REPLY;
    asked.flags = (query[2] & 0x79u) << 8 | (query[3] & 0x10u);
    if (query[2] & 0x78)
        return only_head(out, query, asked.flags | NOTIMP);
    size_t named = get16(query + 4) == 1 ? name_length(query, length, HEADER) : 0;
    if (!named || length < HEADER + named + 4)
        return only_head(out, query, asked.flags | FORMERR);
    asked.question = named + 4;
    asked.type = get16(query + HEADER + named);
    if (get16(query + HEADER + named + 2) != 1 || asked.type == OPT || (asked.type >= 249 && asked.type <= 255))
        return ASK_PYTHON;
    if (!read_edns(core, query, length, tcp, &asked))
        return ASK_PYTHON;
    for (size_t at = 0; at < named; at++) { /* lengths of labels are below 'A' */
        unsigned char byte = query[HEADER + at];
        asked.name[at] = (unsigned char)(byte + ((unsigned char)(byte - 'A') < 26 ? 32 : 0));
    }
    const struct node *node = core->slots[find(core, hash(core, asked.name, named), asked.name, named)].node;
    if (!node && !enclosed(core, asked.name, named))
        return empty(core, query, &asked, REFUSED, false, out);
    if (!core->ready)
        return ASK_PYTHON;
    if (!node)
        return empty(core, query, &asked, NXDOMAIN, true, out);
    for (uint32_t type = 0; type < node->words[0]; type++) {
        const uint32_t *fields = node->words + 1 + type * FIELDS;
        if (fields[F_TYPE] != asked.type && fields[F_TYPE] != EVERY_TYPE)
            continue;
        if (fields[F_KIND] == LEFT_TO_PYTHON)
            return ASK_PYTHON;
        return full(core, query, &asked, node->words, fields, client, now, tcp, out);
    }
    return empty(core, query, &asked, NOERROR, true, out);
}

/* ---- Counting. ---- */

static void plus(uint64_t *counter, uint64_t number) { __atomic_fetch_add(counter, number, __ATOMIC_RELAXED); }

static unsigned outcome(const unsigned char *message)
{
    static const unsigned char places[16] = { 0, 3, 4, 2, 5, 6, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8 };
    unsigned rcode = message[3] & 15u;
    if (rcode || get16(message + 6) || message[2] & 2)
        return places[rcode];
    return get16(message + 8) ? 1 : 7;
}

static unsigned type_place(const unsigned char *message, size_t length)
{
    size_t named = get16(message + 4) == 1 ? name_length(message, length, HEADER) : 0;
    if (!named || length < HEADER + named + 4)
        return TYPES - 1;
    switch (get16(message + HEADER + named)) {
    case 1: return 0;
    case 28: return 1;
    case 33: return 2;
    case 16: return 3;
    case 6: return 4;
    case 2: return 5;
    case 12: return 6;
    case 65: return 7;
    case 255: return 8;
    default: return TYPES - 1;
    }
}

static void count(struct counts *counts, const unsigned char *message, size_t length)
{
    plus(&counts->types[type_place(message, length)], 1);
    plus(&counts->outcomes[outcome(message)], 1);
    if (message[2] & 2)
        plus(&counts->truncated, 1);
}

static void count_time(struct counts *counts, uint64_t taken, uint64_t number)
{
    unsigned bucket = 0;
    while (bucket < BUCKETS - 1 && taken > BOUNDS[bucket])
        bucket++;
    plus(&counts->buckets[bucket], number);
    plus(&counts->nanoseconds, taken * number);
}

/* ---- Batches: receive, answer, send. ---- */

struct batch {
    struct mmsghdr in[BATCH], out[BATCH];
    struct iovec in_parts[BATCH], out_parts[BATCH];
    struct sockaddr_storage from[BATCH];
    unsigned char control[BATCH][CONTROL] __attribute__((aligned(8)));
    unsigned char queries[BATCH][MOST_UDP], replies[BATCH][MOST_UDP];
};

static void client_of(const struct sockaddr_storage *from, uint64_t client[2])
{
    unsigned char bytes[16] = { 0 };
    if (from->ss_family == AF_INET6)
        memcpy(bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    else if (from->ss_family == AF_INET)
        memcpy(bytes + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
    for (int half = 0; half < 2; half++) {
        client[half] = 0;
        for (int at = 0; at < 8; at++)
            client[half] = client[half] << 8 | bytes[half * 8 + at];
    }
}

/* Makes what was told of a query's destination say where its reply comes from; the route is the kernel's choice. */
static void answer_from(struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO)
            ((struct in_pktinfo *)CMSG_DATA(part))->ipi_ifindex = 0;
        if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *where = (struct in6_pktinfo *)CMSG_DATA(part);
            if (!IN6_IS_ADDR_LINKLOCAL(&where->ipi6_addr))
                where->ipi6_ifindex = 0;
        }
    }
}

/* Lays a query aside for Python; false where there is no room. The lock is held. */
static bool lay_aside(struct core *core, int fd, const struct mmsghdr *message, uint64_t since, uint32_t shown)
{
    if (core->aside_count == ASIDE_MOST)
        return false;
    struct aside *aside = &core->aside[(core->aside_first + core->aside_count++) % ASIDE_MOST];
    aside->since = since;
    aside->fd = fd;
    aside->shown = shown;
    aside->length = message->msg_len;
    memcpy(aside->query, message->msg_hdr.msg_iov->iov_base, message->msg_len);
    memcpy(&aside->from, message->msg_hdr.msg_name, sizeof aside->from);
    aside->control_length = message->msg_hdr.msg_controllen;
    if (aside->control_length)
        memcpy(aside->control, message->msg_hdr.msg_control, aside->control_length);
    return true;
}

/* Answers a batch; returns how many replies there are to send. */
static unsigned answer(struct core *core, struct batch *batch, unsigned received, int fd, uint64_t since,
                       struct counts *counts)
{
    uint64_t now = (uint64_t)time(NULL), client[2], one = 1;
    unsigned replies = 0, asides = 0;
    pthread_mutex_lock(&core->lock);
    for (unsigned number = 0; number < received; number++) {
        struct mmsghdr *in = &batch->in[number], *out = &batch->out[replies];
        unsigned char *written = batch->replies[replies];
        client_of(&batch->from[number], client);
        answer_from(&in->msg_hdr);
        int length = reply(core, batch->queries[number], in->msg_len, client, now, false, written);
        if (length == NO_REPLY)
            plus(&counts->not_queries, 1);
        else if (length == ASK_PYTHON) {
            bool laid = lay_aside(core, fd, in, since, 0);
            plus(laid ? &counts->aside : &counts->aside_full, 1);
            asides += laid;
        } else {
            count(counts, written, (size_t)length);
            plus(&counts->fast, 1);
            if (core->show && lay_aside(core, fd, in, since, 1 + outcome(written))) {
                core->show = false;
                asides++;
            }
            batch->out_parts[replies].iov_len = (size_t)length;
            out->msg_hdr.msg_name = in->msg_hdr.msg_name;
            out->msg_hdr.msg_namelen = in->msg_hdr.msg_namelen;
            out->msg_hdr.msg_control = in->msg_hdr.msg_controllen ? in->msg_hdr.msg_control : NULL;
            out->msg_hdr.msg_controllen = in->msg_hdr.msg_controllen;
            replies++;
        }
    }
    pthread_mutex_unlock(&core->lock);
    if (asides && write(core->wake, &one, sizeof one) < 0)
        plus(&counts->unsent, 1);
    return replies;
}

static void prepare(struct batch *batch, bool told)
{
    for (unsigned number = 0; number < BATCH; number++) {
        struct msghdr *in = &batch->in[number].msg_hdr;
        in->msg_name = &batch->from[number];
        in->msg_namelen = sizeof batch->from[number];
        in->msg_control = told ? batch->control[number] : NULL;
        in->msg_controllen = told ? CONTROL : 0;
        in->msg_iov = &batch->in_parts[number];
        in->msg_iovlen = 1;
        batch->in_parts[number] = (struct iovec){ batch->queries[number], MOST_UDP };
        batch->out[number].msg_hdr.msg_iov = &batch->out_parts[number];
        batch->out[number].msg_hdr.msg_iovlen = 1;
        batch->out_parts[number].iov_base = batch->replies[number];
    }
}

/*
 * Serves a blocking UDP socket until `fp_stop` and its shutdown; returns 0, or an errno. `listener` numbers the
 * counts; with `told` the socket tells each query's destination (IP_PKTINFO), which becomes its reply's source.
 */
PUBLIC int fp_serve(struct core *core, int fd, int told, unsigned listener)
{
    struct batch *batch = listener < LISTENERS ? calloc(1, sizeof *batch) : NULL;
    if (!batch)
        return ENOMEM;
    struct counts *counts = &core->counts[listener];
    unsigned received = BATCH;
    while (!__atomic_load_n(&core->stopped, __ATOMIC_ACQUIRE)) {
        prepare(batch, told);
        int got = recvmmsg(fd, batch->in, BATCH, MSG_WAITFORONE, NULL);
        if (got < 0) {
            if (errno != EINTR)
                nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
            continue;
        }
        received = (unsigned)got;
        uint64_t since = nanoseconds();
        unsigned replies = answer(core, batch, received, fd, since, counts), sent = 0;
        while (sent < replies) {
            int done = sendmmsg(fd, batch->out + sent, replies - sent, MSG_DONTWAIT);
            if (done > 0)
                sent += (unsigned)done;
            else if (errno != EINTR) { /* full buffer, port 0, no route: one lost datagram */
                plus(&counts->unsent, 1);
                sent++;
            }
        }
        if (replies)
            count_time(counts, nanoseconds() - since, replies);
    }
    free(batch);
    return 0;
}

/* ---- For Python; one thread of it at a time. ---- */

PUBLIC void fp_free(struct core *core)
{
    for (size_t at = 0; core->slots && at < core->size; at++)
        free(core->slots[at].node);
    if (core->wake >= 0)
        close(core->wake);
    pthread_mutex_destroy(&core->lock);
    free(core->slots);
    free(core->aside);
    free(core);
}

/* A core without names; `key` is a secret that keeps others from choosing names that collide. NULL: no memory. */
PUBLIC struct core *fp_new(uint32_t udp_size, uint64_t key)
{
    struct core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    pthread_mutex_init(&core->lock, NULL);
    core->udp_size = udp_size < LEAST ? LEAST : udp_size > MOST_UDP ? MOST_UDP : udp_size;
    core->key = key;
    core->size = 64;
    core->slots = calloc(core->size, sizeof *core->slots);
    core->aside = malloc(ASIDE_MOST * sizeof *core->aside);
    core->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (core->slots && core->aside && core->wake >= 0)
        return core;
    fp_free(core);
    return NULL;
}

PUBLIC int fp_wake_fd(const struct core *core) { return core->wake; }

PUBLIC void fp_stop(struct core *core) { __atomic_store_n(&core->stopped, true, __ATOMIC_RELEASE); }

/* Sets what stands at a folded name. 0, or EINVAL for words that are not sound, or ENOMEM. */
PUBLIC int fp_put(struct core *core, const unsigned char *name, uint32_t name_size, const void *words, uint32_t length)
{
    if (!name_size || name_size > MAX_NAME)
        return EINVAL;
    if (core->used * 2 >= core->size && !grow(core))
        return ENOMEM;
    struct node *node = malloc(sizeof *node + length + name_size), *before;
    if (!node)
        return ENOMEM;
    node->length = length;
    node->name_length = name_size;
    memcpy(node->words, words, length);
    memcpy((unsigned char *)node->words + length, name, name_size);
    if (!sound(node->words, length)) {
        free(node);
        return EINVAL;
    }
    uint64_t hashed = hash(core, name, name_size);
    size_t at = find(core, hashed, name, name_size);
    pthread_mutex_lock(&core->lock);
    before = core->slots[at].node;
    core->slots[at] = (struct slot){ hashed, node };
    core->used += !before;
    pthread_mutex_unlock(&core->lock);
    free(before);
    return 0;
}

PUBLIC void fp_drop(struct core *core, const unsigned char *name, uint32_t name_size)
{
    size_t at = find(core, hash(core, name, name_size), name, name_size);
    struct node *before = core->slots[at].node;
    if (!before)
        return;
    pthread_mutex_lock(&core->lock);
    take_out(core, at);
    pthread_mutex_unlock(&core->lock);
    free(before);
}

PUBLIC size_t fp_names(const struct core *core) { return core->used; }

/* The zone's folded name; the SOA of negative answers, where that name is to be pointed to; may names be spoken of? */
PUBLIC int fp_zone(struct core *core, const unsigned char *name, uint32_t name_size, const unsigned char *soa,
                   uint32_t length, const uint32_t pointers[SOA_POINTERS], int ready)
{
    if (length > SOA_MOST || name_size > MAX_NAME)
        return EINVAL;
    for (int number = 0; number < SOA_POINTERS; number++)
        if (!inside(pointers[number], 2, length))
            return EINVAL;
    pthread_mutex_lock(&core->lock);
    memcpy(core->zone, name, name_size);
    core->zone_length = name_size;
    memcpy(core->soa, soa, length);
    memcpy(core->soa_pointers, pointers, sizeof core->soa_pointers);
    core->soa_length = length;
    core->ready = ready;
    pthread_mutex_unlock(&core->lock);
    return 0;
}

/* The reply to one message that Python holds: its length, NO_REPLY or ASK_PYTHON. `out` holds MOST bytes. */
PUBLIC int fp_answer(const struct core *core, const unsigned char *query, uint32_t length, uint64_t client_high,
                     uint64_t client_low, uint64_t now, int tcp, unsigned char *out)
{
    return reply(core, query, length, (const uint64_t[2]){ client_high, client_low }, now, tcp, out);
}

/* Counts a reply over TCP: `by_python` or by `fp_answer`; a length of 0 is what was no query. */
PUBLIC void fp_count_tcp(struct core *core, const unsigned char *message, uint32_t length, int by_python)
{
    struct counts *counts = &core->counts[LISTENERS + 1];
    if (length < HEADER) {
        plus(&counts->not_queries, 1);
        return;
    }
    plus(by_python ? &counts->aside : &counts->fast, 1);
    count(counts, message, length);
}

/* Asks to be shown one of the next queries. */
PUBLIC void fp_show(struct core *core)
{
    pthread_mutex_lock(&core->lock);
    core->show = true;
    pthread_mutex_unlock(&core->lock);
}

/* The oldest query that was laid aside, NULL where there is none. It stays until `fp_done`. */
PUBLIC const struct aside *fp_next(struct core *core)
{
    pthread_mutex_lock(&core->lock);
    const struct aside *aside = core->aside_count ? &core->aside[core->aside_first] : NULL;
    pthread_mutex_unlock(&core->lock);
    return aside;
}

/* Sends the reply to the query that `fp_next` gave (none if its length is 0), and lets go of it. */
PUBLIC void fp_done(struct core *core, unsigned char *message, uint32_t length)
{
    struct aside *aside = &core->aside[core->aside_first];
    struct counts *counts = &core->counts[LISTENERS];
    if (length >= HEADER && !aside->shown) {
        struct iovec part = { message, length };
        struct msghdr out = { .msg_name = &aside->from, .msg_iov = &part, .msg_iovlen = 1 };
        out.msg_namelen = aside->from.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        out.msg_control = aside->control_length ? aside->control : NULL;
        out.msg_controllen = aside->control_length;
        count(counts, message, length);
        if (sendmsg(aside->fd, &out, MSG_DONTWAIT) < 0)
            plus(&counts->unsent, 1);
        count_time(counts, nanoseconds() - aside->since, 1);
    }
    pthread_mutex_lock(&core->lock);
    core->aside_first = (core->aside_first + 1) % ASIDE_MOST;
    core->aside_count--;
    pthread_mutex_unlock(&core->lock);
}

/* Sums up the counts of UDP, then those of TCP; `out` holds 2 * COUNTS, which is returned where it is NULL. */
PUBLIC uint32_t fp_counts(const struct core *core, uint64_t *out)
{
    for (uint32_t place = 0; out && place < 2 * COUNTS; place++)
        out[place] = 0;
    for (uint32_t from = 0; out && from < LISTENERS + 2; from++) {
        const uint64_t *numbers = (const uint64_t *)&core->counts[from];
        for (uint32_t place = 0; place < COUNTS; place++)
            out[place + (from > LISTENERS ? COUNTS : 0)] += __atomic_load_n(&numbers[place], __ATOMIC_RELAXED);
    }
    return 2 * COUNTS;
}
