/* Runs a program: for each group of images, step after step, all threads taking chunks of units.
 *
 * The units of a step are cut into as many shares as there are threads. A thread takes its own share
 * first, so that from step to step it reads what it wrote itself, which is in its own cache, and then
 * helps the others, so that one that was interrupted holds nobody up for long.
 *
 * The arena of a call holds, in this order: the intermediates, the resolved pointers of all steps,
 * and one scratch area per thread.
 */
#include "pool.h"
#include "sol_runtime.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

enum { LINE = 64, PAGE = 4096, CHUNKS_PER_SHARE = 4 };

typedef struct {
    _Alignas(LINE) atomic_llong units; /* of a thread's share that somebody has taken */
} counter;

typedef struct {
    const sol_program *program;
    char *const *tensors;
    int64_t batch, group;
    int64_t first, images; /* of the current group */
    char *arena;
    char **pointers; /* the arguments of all steps, one after the other */
    char *scratch;
    int threads;
    int64_t *profile_ns;
    counter taken[2][SOL_MAX_THREADS]; /* one row for every other step */
} call;

static int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

static int64_t linear(int64_t coef, int64_t constant, int64_t batch) {
    return coef * batch + constant;
}

/* ---- the arena ----------------------------------------------------------------------------- */

static int64_t intermediate_bytes(const sol_program *p, int64_t batch) {
    return round_up(linear(p->arena_coef, p->arena_const, batch), LINE);
}

static int64_t pointer_bytes(const sol_program *p) {
    int64_t n = 0;
    for (int i = 0; i < p->n_steps; i++) n += p->steps[i].n_args;
    return round_up(n * (int64_t)sizeof(char *), LINE);
}

int64_t sol_arena_bytes(const sol_program *p, int64_t batch, int threads) {
    int64_t fixed = intermediate_bytes(p, batch) + pointer_bytes(p);
    return fixed + PAGE + threads * round_up(p->scratch, PAGE);
}

static char *align_pointer(char *pointer, uintptr_t unit) {
    return pointer + (unit - (uintptr_t)pointer % unit) % unit;
}

/* ---- one group of images ------------------------------------------------------------------- */

static char *resolve(const call *c, const sol_buffer *b) {
    int64_t offset = linear(b->offset_coef, b->offset_const, c->images);
    if (b->kind == SOL_ARENA) return c->arena + offset;
    char *tensor = c->tensors[b->index];
    return tensor ? tensor + offset + b->image_stride * c->first : NULL;
}

static void begin_group(call *c, int64_t first) {
    int64_t left = c->batch - first;
    c->first = first;
    c->images = left < c->group ? left : c->group;
    char **out = c->pointers;
    for (int i = 0; i < c->program->n_steps; i++) {
        const sol_step *s = &c->program->steps[i];
        for (int k = 0; k < s->n_args; k++) *out++ = resolve(c, &c->program->buffers[s->args[k]]);
    }
}

/* Takes chunks of one thread's share until nothing is left of it. */
static void take_share(const call *c, const sol_step *s, char *const *buffers, char *scratch,
                       int64_t begin, int64_t end, atomic_llong *taken) {
    int64_t chunk = (end - begin + CHUNKS_PER_SHARE - 1) / CHUNKS_PER_SHARE;
    if (chunk < s->grain) chunk = s->grain;
    for (;;) {
        int64_t first = begin + atomic_fetch_add_explicit(taken, chunk, memory_order_relaxed);
        if (first >= end) return;
        s->kernel(buffers, c->images, first, end - first < chunk ? end : first + chunk, scratch);
    }
}

static void take_units(call *c, const sol_step *s, char *const *buffers, int thread, int row) {
    char *scratch = c->scratch + thread * round_up(c->program->scratch, PAGE);
    int64_t units = linear(s->units_coef, s->units_const, c->images);
    if (units < 1) return;
    if (c->threads == 1) {
        s->kernel(buffers, c->images, 0, units, scratch);
        return;
    }
    int64_t grains = s->grain > 1 ? (units + s->grain - 1) / s->grain : units;
    int shares = grains < c->threads ? (int)grains : c->threads;
    for (int k = 0; k < shares; k++) {
        int whose = (thread + k) % shares;
        take_share(c, s, buffers, scratch, units * whose / shares, units * (whose + 1) / shares,
                   &c->taken[row][whose].units);
    }
}

/* ---- one call ------------------------------------------------------------------------------ */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What every thread does. */
static void run_steps(void *argument, int thread) {
    call *c = argument;
    const sol_program *p = c->program;
    int64_t *profile = thread == 0 ? c->profile_ns : NULL;
    int row = 0; /* of counters */
    for (int64_t first = 0; first < c->batch; first += c->group) {
        if (first > 0) {
            if (thread == 0) begin_group(c, first);
            sol_pool_barrier(c->threads);
        }
        char **buffers = c->pointers;
        for (int i = 0; i < p->n_steps; i++) {
            int64_t start = profile ? now_ns() : 0;
            /* Nobody begins before the clock was read, else a step could end before its start. */
            if (c->profile_ns) sol_pool_barrier(c->threads);
            take_units(c, &p->steps[i], buffers, thread, row);
            /* The counter of the next step: nobody has looked at it since the last barrier. */
            row = !row;
            atomic_store_explicit(&c->taken[row][thread].units, 0, memory_order_relaxed);
            sol_pool_barrier(c->threads);
            if (profile) profile[i] += now_ns() - start;
            buffers += p->steps[i].n_args;
        }
    }
}

int sol_run(const sol_program *program, char *const *tensors, int64_t batch, int64_t group,
            char *arena, int threads, int64_t *profile_ns) {
    if (program->abi != SOL_ABI) return SOL_WRONG_ABI;
    if (batch < 0 || threads < 1 || (uintptr_t)arena % LINE) return SOL_WRONG_ARGUMENT;
    if (batch == 0) return SOL_OK;
    if (!program->splittable || group <= 0 || group > batch) group = batch;

    call c; /* most of it are counters that nobody needs */
    c.program = program;
    c.tensors = tensors;
    c.batch = batch;
    c.group = group;
    c.threads = sol_pool_claim(threads);
    c.arena = arena;
    c.pointers = (char **)(void *)(arena + intermediate_bytes(program, group));
    c.scratch = align_pointer((char *)c.pointers + pointer_bytes(program), PAGE);
    c.profile_ns = profile_ns;
    for (int i = 0; i < c.threads; i++) atomic_init(&c.taken[0][i].units, 0);
    begin_group(&c, 0);
    if (c.threads == 1) {
        run_steps(&c, 0);
        return SOL_OK;
    }
    sol_pool_run(c.threads, run_steps, &c);
    sol_pool_release();
    return SOL_OK;
}

/* ---- fingerprints -------------------------------------------------------------------------- */

/* Mixes 64 bits (the finaliser of SplitMix64: Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t sol_fingerprint(char *const *pointers, const int64_t *bytes, int32_t n) {
    uint64_t sum = (uint64_t)n;
    for (int32_t i = 0; i < n; i++) {
        int64_t width = bytes[i] < 8 ? bytes[i] : 8;
        if (width <= 0) continue;
        /* Most of these words are in no cache: a look at each costs as much as 1000 operations. */
        int samples = bytes[i] > PAGE ? 3 : 1;
        int64_t middle = (bytes[i] - width) / 2;
        for (int k = 0; k < samples; k++) {
            int64_t offset = k == 0 ? middle : k == 1 ? 0 : bytes[i] - width;
            uint64_t word = 0;
            memcpy(&word, pointers[i] + offset, (size_t)width);
            /* A sum over positions: no load waits for another. */
            sum += mix(word + mix((uint64_t)i * 3 + (uint64_t)k + 1));
        }
    }
    return sum;
}
