/* Runs a program: for each group of images, step after step, all threads taking chunks of units.
 *
 * The arena of a call holds, in this order: the intermediates, the resolved pointers of all steps,
 * and one scratch area per thread.
 */
#include "pool.h"
#include "sol_runtime.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

enum { LINE = 64, PAGE = 4096, CHUNKS_PER_THREAD = 4 };

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
    _Alignas(LINE) atomic_llong next; /* unit of the current step that nobody has taken yet */
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

static void take_units(call *c, const sol_step *s, char *const *buffers, int thread) {
    char *scratch = c->scratch + thread * round_up(c->program->scratch, PAGE);
    int64_t units = linear(s->units_coef, s->units_const, c->images);
    int64_t pieces = (int64_t)c->threads * CHUNKS_PER_THREAD;
    int64_t chunk = c->threads == 1 ? units : (units + pieces - 1) / pieces;
    if (chunk < s->grain) chunk = s->grain;
    if (chunk < 1) chunk = 1;
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&c->next, chunk, memory_order_relaxed);
        if (begin >= units) return;
        int64_t end = units - begin < chunk ? units : begin + chunk;
        s->kernel(buffers, c->images, begin, end, scratch);
    }
}

/* ---- one call ------------------------------------------------------------------------------ */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void meet(call *c) {
    if (c->threads > 1)
        sol_pool_barrier(c->threads, &c->next);
    else
        atomic_store_explicit(&c->next, 0, memory_order_relaxed);
}

/* What every thread does. */
static void run_steps(void *argument, int thread) {
    call *c = argument;
    const sol_program *p = c->program;
    int64_t *profile = thread == 0 ? c->profile_ns : NULL;
    for (int64_t first = 0; first < c->batch; first += c->group) {
        if (thread == 0) begin_group(c, first);
        meet(c);
        char **buffers = c->pointers;
        for (int i = 0; i < p->n_steps; i++) {
            int64_t start = profile ? now_ns() : 0;
            /* Nobody begins before the clock was read, else a step could end before its start. */
            if (c->profile_ns) meet(c);
            take_units(c, &p->steps[i], buffers, thread);
            meet(c);
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

    call c = {.program = program, .tensors = tensors, .batch = batch, .group = group};
    c.arena = arena;
    c.pointers = (char **)(void *)(arena + intermediate_bytes(program, group));
    c.scratch = align_pointer((char *)c.pointers + pointer_bytes(program), PAGE);
    c.profile_ns = profile_ns;
    c.threads = sol_pool_claim(threads);
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
    enum { SAMPLES = 5 };
    uint64_t sum = (uint64_t)n;
    for (int32_t i = 0; i < n; i++) {
        int64_t width = bytes[i] < 8 ? bytes[i] : 8;
        int64_t last = bytes[i] - width; /* offset of the last sample */
        for (int64_t k = 0; k < SAMPLES && width > 0; k++) {
            int64_t offset = k == SAMPLES - 1 ? last : last / (SAMPLES - 1) * k;
            uint64_t word = 0;
            memcpy(&word, pointers[i] + offset, (size_t)width);
            /* A sum over positions: no load waits for another. */
            sum += mix(word + mix((uint64_t)i * SAMPLES + (uint64_t)k + 1));
        }
    }
    return sum;
}
