/* Runs a program: for each pass, that is a group of images, segment after segment.
 *
 * In a segment that runs together, all threads take chunks of units of one step after the other.
 * The units of a step are cut into as many shares as there are threads. A thread takes its own share
 * first, so that from step to step it reads what it wrote itself, which is in its own cache, and then
 * helps the others, so that one that was interrupted holds nobody up for long. In a segment that runs
 * apart, threads share out images in the same way, and nobody waits within the segment.
 *
 * The arena of a call holds, in this order: the intermediates of a pass, those of a segment for each
 * thread, and for each thread the resolved pointers of all steps, and scratch memory.
 */
#include "pool.h"
#include "sol_runtime.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

enum { LINE = 64, PAGE = 4096, CHUNKS_PER_SHARE = 4 };

typedef struct {
    _Alignas(LINE) atomic_llong chunks; /* of a thread's share that somebody has taken */
} counter;

typedef struct {
    const sol_program *program;
    char *const *given; /* the first tensors of the caller */
    int64_t n_given;
    char *const *tensors; /* the others, at the places behind these */
    int64_t batch, group;
    int64_t first, images; /* of the current pass */
    char *arena;
    char *own;     /* for each thread: intermediates of one image in a segment */
    char *tables;  /* for each thread: the arguments of all steps, one after the other */
    char *scratch; /* for each thread */
    int threads;
    int64_t *profile_ns;
    counter taken[2][SOL_MAX_THREADS]; /* one row for every other step */
} call;

static int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

static int64_t linear(int64_t coef, int64_t constant, int64_t images) {
    return coef * images + constant;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- the arena ----------------------------------------------------------------------------- */

static int64_t shared_bytes(const sol_program *p, int64_t images) {
    return round_up(linear(p->arena_coef, p->arena_const, images), LINE);
}

static int64_t own_bytes(const sol_program *p) {
    return round_up(linear(p->own_coef, p->own_const, 1), LINE);
}

static int64_t table_bytes(const sol_program *p) {
    int64_t n = 0;
    for (int i = 0; i < p->n_steps; i++) n += p->steps[i].n_args;
    return round_up(n * (int64_t)sizeof(char *), LINE);
}

int64_t sol_arena_bytes(const sol_program *p, int64_t images, int threads) {
    int64_t fixed = shared_bytes(p, images) + least(images, threads) * own_bytes(p);
    return fixed + PAGE + threads * (table_bytes(p) + round_up(p->scratch, PAGE));
}

static char *align_pointer(char *pointer, uintptr_t unit) {
    return pointer + (unit - (uintptr_t)pointer % unit) % unit;
}

/* ---- arguments ----------------------------------------------------------------------------- */

/* What some images, counted from the first of the pass, need: the part of a buffer with them. */
static char *resolve(const call *c, const sol_buffer *b, int64_t first, int64_t images, char *own) {
    if (b->kind == SOL_OWN) return own + linear(b->offset_coef, b->offset_const, images);
    if (b->kind == SOL_ARENA) {
        int64_t offset = linear(b->offset_coef, b->offset_const, c->images);
        return c->arena + offset + b->image_stride * first;
    }
    char *tensor = (b->index < c->n_given ? c->given : c->tensors)[b->index];
    int64_t offset = linear(b->offset_coef, b->offset_const, images);
    return tensor ? tensor + offset + b->image_stride * (c->first + first) : NULL;
}

static char **resolve_segment(const call *c, const sol_segment *s, int64_t first, int64_t images,
                              char *own, int thread) {
    const sol_program *p = c->program;
    char **table = (char **)(void *)(c->tables + thread * table_bytes(p)), **out = table;
    for (int i = s->begin; i < s->end; i++)
        for (int k = 0; k < p->steps[i].n_args; k++)
            *out++ = resolve(c, &p->buffers[p->steps[i].args[k]], first, images, own);
    return table;
}

static char *scratch_of(const call *c, int thread) {
    return c->scratch + thread * round_up(c->program->scratch, PAGE);
}

/* ---- together ------------------------------------------------------------------------------ */

/* Some units, cut into chunks. */
typedef struct {
    int64_t begin, end, size, chunks;
} share;

static share share_of(const sol_step *s, int64_t begin, int64_t end) {
    int64_t size = (end - begin + CHUNKS_PER_SHARE - 1) / CHUNKS_PER_SHARE;
    if (size < s->grain) size = s->grain;
    if (size < 1) size = 1;
    return (share){begin, end, size, (end - begin + size - 1) / size};
}

/* Every other step goes through its units backwards: what the step before wrote or read last is in
 * the cache still, and is what this one reads first. */
static void run_chunk(const sol_step *s, char *const *buffers, int64_t images, char *scratch,
                      const share *all, int64_t number, int backwards) {
    int64_t place = backwards ? all->chunks - 1 - number : number;
    int64_t first = all->begin + place * all->size;
    s->kernel(buffers, images, first, least(first + all->size, all->end), scratch);
}

/* All units, by this thread alone. */
static void run_alone(const sol_step *s, char *const *buffers, int64_t images, char *scratch,
                      int backwards) {
    int64_t units = linear(s->units_coef, s->units_const, images);
    if (units < 1) return;
    if (!backwards) {
        s->kernel(buffers, images, 0, units, scratch);
        return;
    }
    share all = share_of(s, 0, units);
    for (int64_t k = 0; k < all.chunks; k++)
        run_chunk(s, buffers, images, scratch, &all, k, backwards);
}

static void take_units(call *c, const sol_step *s, char *const *buffers, int64_t images, int thread,
                       int row) {
    char *scratch = scratch_of(c, thread);
    if (c->threads == 1) {
        run_alone(s, buffers, images, scratch, row);
        return;
    }
    int64_t units = linear(s->units_coef, s->units_const, images);
    if (units < 1) return;
    int64_t grains = s->grain > 1 ? (units + s->grain - 1) / s->grain : units;
    int shares = (int)least(grains, c->threads);
    for (int k = 0; k < shares; k++) { /* its own, then those of others */
        int whose = (thread + k) % shares;
        share all = share_of(s, units * whose / shares, units * (whose + 1) / shares);
        atomic_llong *taken = &c->taken[row][whose].chunks;
        for (;;) {
            int64_t number = atomic_fetch_add_explicit(taken, 1, memory_order_relaxed);
            if (number >= all.chunks) break;
            run_chunk(s, buffers, images, scratch, &all, number, row);
        }
    }
}

/* Waits for all threads; the row of counters for what follows. */
static int meet(call *c, int thread, int row) {
    /* The counter of the next step: nobody has looked at it since the last barrier. */
    atomic_store_explicit(&c->taken[!row][thread].chunks, 0, memory_order_relaxed);
    sol_pool_barrier(c->threads);
    return !row;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int run_together(call *c, const sol_segment *s, int64_t first, int64_t images, int thread,
                        int row) {
    const sol_program *p = c->program;
    int64_t *profile = thread == 0 ? c->profile_ns : NULL;
    char **buffers = resolve_segment(c, s, first, images, c->own, thread);
    for (int i = s->begin; i < s->end; i++) {
        int64_t start = profile ? now_ns() : 0;
        /* Nobody begins before the clock was read, else a step could end before its start. */
        if (c->profile_ns) sol_pool_barrier(c->threads);
        take_units(c, &p->steps[i], buffers, images, thread, row);
        row = meet(c, thread, row);
        if (profile) profile[i] += now_ns() - start;
        buffers += p->steps[i].n_args;
    }
    return row;
}

/* ---- apart --------------------------------------------------------------------------------- */

static void run_image(call *c, const sol_segment *s, int64_t image, int thread) {
    const sol_program *p = c->program;
    int64_t *profile = thread == 0 ? c->profile_ns : NULL;
    char **buffers = resolve_segment(c, s, image, 1, c->own + thread * own_bytes(p), thread);
    for (int i = s->begin; i < s->end; i++) {
        int64_t start = profile ? now_ns() : 0;
        const sol_step *step = &p->steps[i];
        run_alone(step, buffers, 1, scratch_of(c, thread), (i - s->begin) % 2);
        if (profile) profile[i] += now_ns() - start;
        buffers += step->n_args;
    }
}

/* As many images for each thread; the rest together. Every other segment goes through images
 * backwards, as steps do through units. */
static int run_apart(call *c, const sol_segment *s, int thread, int row, int backwards) {
    int64_t rest = c->images % c->threads, each = c->images / c->threads;
    for (int k = 0; k < c->threads && each; k++) {
        int whose = (thread + k) % c->threads;
        atomic_llong *taken = &c->taken[row][whose].chunks;
        for (;;) {
            int64_t number = atomic_fetch_add_explicit(taken, 1, memory_order_relaxed);
            if (number >= each) break;
            int64_t image = backwards ? each - 1 - number : number;
            run_image(c, s, whose * each + image, thread);
        }
    }
    if (each) row = meet(c, thread, row);
    return rest ? run_together(c, s, c->images - rest, rest, thread, row) : row;
}

/* ---- one call ------------------------------------------------------------------------------ */

/* What every thread does. */
static void run_passes(void *argument, int thread) {
    call *c = argument;
    const sol_program *p = c->program;
    int row = 0; /* of counters */
    int backwards = 0;
    for (int64_t first = 0; first < c->batch; first += c->group) {
        if (first > 0) { /* nobody reads these between the last barrier and this one */
            if (thread == 0) {
                c->first = first;
                c->images = least(c->group, c->batch - first);
            }
            sol_pool_barrier(c->threads);
        }
        for (int i = 0; i < p->n_segments; i++) {
            const sol_segment *s = &p->segments[i];
            row = s->apart ? run_apart(c, s, thread, row, backwards)
                           : run_together(c, s, 0, c->images, thread, row);
            backwards ^= s->apart;
        }
    }
}

/* How many threads can have something to do at a time. */
static int useful_threads(const sol_program *p, int64_t images, int threads) {
    int64_t most = 1;
    for (int i = 0; i < p->n_segments; i++)
        if (p->segments[i].apart) most = images > most ? images : most;
    for (int i = 0; i < p->n_steps && most < threads; i++) {
        const sol_step *s = &p->steps[i];
        int64_t units = linear(s->units_coef, s->units_const, images);
        int64_t grains = s->grain > 1 ? (units + s->grain - 1) / s->grain : units;
        most = grains > most ? grains : most;
    }
    return (int)least(most, threads);
}

static int run(const sol_program *program, char *const *given, int64_t n_given,
               char *const *tensors, int64_t batch, int64_t group, char *arena, int threads,
               int64_t *profile_ns) {
    if (program->abi != SOL_ABI) return SOL_WRONG_ABI;
    if (batch < 0 || threads < 1 || (uintptr_t)arena % LINE) return SOL_WRONG_ARGUMENT;
    if (batch == 0) return SOL_OK;
    if (!program->splittable || group <= 0 || group > batch) group = batch;

    call c; /* most of it are counters that nobody needs */
    c.program = program;
    c.given = given;
    c.n_given = n_given;
    c.tensors = tensors;
    c.batch = batch;
    c.group = group;
    c.threads = sol_pool_claim(useful_threads(program, group, threads));
    c.first = 0;
    c.images = group;
    c.arena = arena;
    c.own = arena + shared_bytes(program, group);
    c.tables = c.own + least(group, threads) * own_bytes(program);
    c.scratch = align_pointer(c.tables + threads * table_bytes(program), PAGE);
    c.profile_ns = profile_ns;
    for (int i = 0; i < c.threads; i++) atomic_init(&c.taken[0][i].chunks, 0);
    if (c.threads == 1) {
        run_passes(&c, 0);
        return SOL_OK;
    }
    sol_pool_run(c.threads, run_passes, &c);
    sol_pool_release();
    return SOL_OK;
}

int sol_run(const sol_program *program, char *const *tensors, int64_t batch, int64_t group,
            char *arena, int threads, int64_t *profile_ns) {
    return run(program, tensors, 0, tensors, batch, group, arena, threads, profile_ns);
}

int sol_run_again(const sol_again *a, char *const *given, char *arena) {
    if (now_ns() > a->until_ns) return SOL_CHANGED;
    if (!sol_unchanged(a->places, a->words, (int32_t)a->first, (int32_t)a->n)) return SOL_CHANGED;
    return run(a->program, given, a->given, a->tensors, a->batch, a->group, arena,
               (int)a->threads, NULL);
}
