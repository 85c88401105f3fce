/* The table of names: open addressing, linear probing, no tombstones; and what may come into it. */
#include "core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static bool above(const uint64_t one[2], const uint64_t other[2])
{
    return one[0] != other[0] ? one[0] > other[0] : one[1] > other[1];
}

/* Where a client stands: in a zone, or (0) anywhere. */
static uint64_t place_of(const struct core *core, const uint64_t client[2])
{
    size_t from = 0, to = core->range_count; /* the first range that does not end before the client */
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (above(client, core->ranges[middle].last))
            from = middle + 1;
        else
            to = middle;
    }
    return from < core->range_count && !above(core->ranges[from].first, client) ? core->ranges[from].place : 0;
}

/* What a name is for a client: the first variant is that of all places which have none of their own. */
static const uint32_t *variant(const struct core *core, const uint32_t *words, const uint64_t client[2])
{
    uint64_t place = place_of(core, client);
    const uint32_t *found = words + 2, *one = found;
    for (uint32_t number = 0; number < words[1]; number++, one += VARIANT)
        if (one[V_PLACE] == place) {
            found = one;
            break;
        }
    return found[V_LENGTH] ? words + found[V_AT] / 4 : NULL;
}

const uint32_t *core_find(const struct core *core, const unsigned char *name, size_t length, const uint64_t client[2])
{
    const struct node *node = core->slots[find(core, hash(core, name, length), name, length)].node;
    if (!node)
        return NULL;
    return node->words[0] == PLACED ? variant(core, node->words, client) : node->words;
}

/* ---- Is a compiled name what the hot path takes it for? ---- */

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
    return draw[D_RECORD] && inside(at + head, (uint64_t)start[members] * draw[D_RECORD], length);
}

static bool sound_types(const uint32_t *words, uint32_t length)
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

static bool sound(const uint32_t *words, uint32_t length)
{
    if (length < 8 || words[0] != PLACED)
        return sound_types(words, length);
    if (!words[1] || !inside(8, (uint64_t)words[1] * VARIANT * 4, length))
        return false;
    for (uint32_t number = 0; number < words[1]; number++) {
        const uint32_t *one = words + 2 + (size_t)number * VARIANT;
        uint32_t at = one[V_AT], size = one[V_LENGTH];
        if (size && (at % 4 || !inside(at, size, length) || !sound_types(words + at / 4, size)))
            return false;
    }
    return true;
}

/* ---- For Python; one thread of it at a time. ---- */

/* Sets where clients stand: for each range both ends (high word, low word) and the place. 0, or EINVAL, ENOMEM. */
PUBLIC int fp_places(struct core *core, const uint64_t *numbers, uint32_t count)
{
    struct range *ranges = calloc(count + 1, sizeof *ranges), *before;
    if (!ranges)
        return ENOMEM;
    memcpy(ranges, numbers, count * sizeof *ranges);
    for (uint32_t number = 0; number < count; number++)
        if (above(ranges[number].first, ranges[number].last) ||
            (number && !above(ranges[number].first, ranges[number - 1].last))) {
            free(ranges);
            return EINVAL;
        }
    pthread_mutex_lock(&core->lock);
    before = core->ranges;
    core->ranges = ranges;
    core->range_count = count;
    pthread_mutex_unlock(&core->lock);
    free(before);
    return 0;
}

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
