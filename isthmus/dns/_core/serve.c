/* Sockets, queries laid aside for Python, counts; and what Python calls. */
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const uint64_t BOUNDS[BUCKETS - 1] = { /* nanoseconds */
    10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 20000000, 100000000 };

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
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
    size_t named = get16(message + 4) == 1 ? core_name_length(message, length, HEADER) : 0;
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
static bool lay_aside(struct queue *queue, int fd, const struct mmsghdr *message, uint64_t since, uint32_t shown)
{
    if (queue->count == ASIDE_MOST)
        return false;
    struct aside *aside = &queue->held[(queue->first + queue->count++) % ASIDE_MOST];
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
        int length = core_reply(core, batch->queries[number], in->msg_len, client, now, false, written);
        if (length == NO_REPLY)
            plus(&counts->not_queries, 1);
        else if (length == ASK_PYTHON || length == FORWARD) {
            bool laid = lay_aside(&core->queues[length == FORWARD ? FORWARDED : RARE], fd, in, since, 0);
            if (!laid)
                plus(&counts->aside_full, 1);
            else if (length == ASK_PYTHON)
                plus(&counts->aside, 1);
            asides += laid;
        } else {
            count(counts, written, (size_t)length);
            plus(&counts->fast, 1);
            if (core->show && lay_aside(&core->queues[RARE], fd, in, since, 1 + outcome(written))) {
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

/*
 * Makes the first messages of a batch ready to be received into. Receiving touches no others: where one query comes at a
 * time, all of them would be cache lines enough to cost more than the reply.
 */
static void prepare(struct batch *batch, unsigned used, bool told)
{
    for (unsigned number = 0; number < used; number++) {
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
 * Asks the scheduler for short turns and, for that, early ones: a reply takes microseconds, and a listener that wakes
 * up shall not wait until others have ended turns of milliseconds. Its part of the processor stays what it is. Kernels
 * before 6.12 know no turns of one's own; they, and who may not ask, leave things as they are.
 */
static void take_short_turns(void)
{
    struct { /* struct sched_attr, version 0: the header that has it goes with no other */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } mine = { .size = sizeof mine };
    if (syscall(SYS_sched_getattr, 0, &mine, sizeof mine, 0))
        return;
    mine.runtime = TURN_NANOSECONDS;
    syscall(SYS_sched_setattr, 0, &mine, 0);
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
    take_short_turns();
    prepare(batch, BATCH, told);
    while (!__atomic_load_n(&core->stopped, __ATOMIC_ACQUIRE)) {
        int got = recvmmsg(fd, batch->in, BATCH, MSG_WAITFORONE, NULL);
        if (got < 0) {
            if (errno != EINTR)
                nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
            continue;
        }
        uint64_t since = nanoseconds();
        unsigned replies = answer(core, batch, (unsigned)got, fd, since, counts), sent = 0;
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
        prepare(batch, (unsigned)got, told);
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
    free(core->ranges);
    for (int number = 0; number < QUEUES; number++)
        free(core->queues[number].held);
    free(core);
}

/*
 * A core without names; `key` is a secret that keeps others from choosing names that collide. With `forwards`,
 * queries about other zones that desire recursion are laid aside in a queue of their own. NULL: no memory.
 */
PUBLIC struct core *fp_new(uint32_t udp_size, uint64_t key, int forwards)
{
    struct core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    pthread_mutex_init(&core->lock, NULL);
    core->udp_size = udp_size < LEAST ? LEAST : udp_size > MOST_UDP ? MOST_UDP : udp_size;
    core->key = key;
    core->size = 64;
    core->slots = calloc(core->size, sizeof *core->slots);
    core->forwards = forwards;
    core->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bool held = true;
    for (int number = 0; number < (forwards ? QUEUES : FORWARDED); number++)
        held &= (core->queues[number].held = malloc(ASIDE_MOST * sizeof(struct aside))) != NULL;
    if (core->slots && held && core->wake >= 0)
        return core;
    fp_free(core);
    return NULL;
}

PUBLIC int fp_wake_fd(const struct core *core) { return core->wake; }

PUBLIC void fp_stop(struct core *core) { __atomic_store_n(&core->stopped, true, __ATOMIC_RELEASE); }

/* The zone's folded name; the SOA of negative answers, where that name is to be pointed to; `core->ready`, `stale`. */
PUBLIC int fp_zone(struct core *core, const unsigned char *name, uint32_t name_size, const unsigned char *soa,
                   uint32_t length, const uint32_t pointers[SOA_POINTERS], int ready, int stale)
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
    core->stale = stale;
    pthread_mutex_unlock(&core->lock);
    return 0;
}

/* The reply to one message that Python holds: its length, NO_REPLY, ASK_PYTHON or FORWARD. `out` holds MOST bytes. */
PUBLIC int fp_answer(const struct core *core, const unsigned char *query, uint32_t length, uint64_t client_high,
                     uint64_t client_low, uint64_t now, int tcp, unsigned char *out)
{
    return core_reply(core, query, length, (const uint64_t[2]){ client_high, client_low }, now, tcp, out);
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

/* The oldest query of a queue, NULL where there is none. It stays until `fp_done`. */
PUBLIC const struct aside *fp_next(struct core *core, unsigned number)
{
    pthread_mutex_lock(&core->lock);
    struct queue *queue = &core->queues[number];
    const struct aside *aside = queue->count ? &queue->held[queue->first] : NULL;
    pthread_mutex_unlock(&core->lock);
    return aside;
}

/* Sends a message to where a query came from; `aside` needs no query. Returns whether it was sent. */
PUBLIC int fp_send(struct core *core, struct aside *aside, unsigned char *message, uint32_t length)
{
    struct iovec part = { message, length };
    struct msghdr out = { .msg_name = &aside->from, .msg_iov = &part, .msg_iovlen = 1 };
    out.msg_namelen = aside->from.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    out.msg_control = aside->control_length ? aside->control : NULL;
    out.msg_controllen = aside->control_length;
    if (sendmsg(aside->fd, &out, MSG_DONTWAIT) >= 0)
        return 1;
    plus(&core->counts[LISTENERS].unsent, 1);
    return 0;
}

/* Sends the reply to the query that `fp_next` gave (none if its length is 0), and lets go of it. */
PUBLIC void fp_done(struct core *core, unsigned number, unsigned char *message, uint32_t length)
{
    struct queue *queue = &core->queues[number];
    struct aside *aside = &queue->held[queue->first];
    struct counts *counts = &core->counts[LISTENERS];
    if (length >= HEADER && !aside->shown) {
        count(counts, message, length);
        fp_send(core, aside, message, length);
        count_time(counts, nanoseconds() - aside->since, 1);
    }
    pthread_mutex_lock(&core->lock);
    queue->first = (queue->first + 1) % ASIDE_MOST;
    queue->count--;
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
