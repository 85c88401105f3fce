/* From a query to its reply. */
#include "core.h"

#include <string.h>

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

size_t core_name_length(const unsigned char *message, size_t length, size_t at)
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
    unsigned old = core->stale ? (rcode == NXDOMAIN ? STALE_NXDOMAIN : STALE_ANSWER) : 0;
    at += put_opt(core, asked, authority ? old : NOT_AUTHORITATIVE, out + at);
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
    size_t room = asked->limit - at - (asked->edns ? core->stale ? 17 : 11 : 0);
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
    at += put_opt(core, asked, core->stale ? STALE_ANSWER : 0, out + at);
    head(out, query, flags, (const unsigned[4]){ 1, answers, 0, extra + asked->edns });
    return (int)at;
}

int core_reply(const struct core *core, const unsigned char *query, size_t length, const uint64_t client[2],
               uint64_t now, bool tcp, unsigned char *out)
{
    struct asked asked;
    if (length < HEADER || query[2] & 0x80)
        return NO_REPLY;
    asked.flags = (query[2] & 0x79u) << 8 | (query[3] & 0x10u) | (core->forwards ? 0x80u : 0);
    if (query[2] & 0x78)
        return only_head(out, query, asked.flags | NOTIMP);
    size_t named = get16(query + 4) == 1 ? core_name_length(query, length, HEADER) : 0;
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
    const uint32_t *words = core_find(core, asked.name, named, client);
    if (!words && !enclosed(core, asked.name, named))
        return core->forwards && query[2] & 1 ? FORWARD : empty(core, query, &asked, REFUSED, false, out);
    if (!core->ready)
        return ASK_PYTHON;
    if (!words)
        return empty(core, query, &asked, NXDOMAIN, true, out);
    for (uint32_t type = 0; type < words[0]; type++) {
        const uint32_t *fields = words + 1 + type * FIELDS;
        if (fields[F_TYPE] != asked.type && fields[F_TYPE] != EVERY_TYPE)
            continue;
        if (fields[F_KIND] == LEFT_TO_PYTHON)
            return ASK_PYTHON;
        return full(core, query, &asked, words, fields, client, now, tcp, out);
    }
    return empty(core, query, &asked, NOERROR, true, out);
}
