/* Runs a small program on many sets of tensors, of other sizes each, as an optimiser updates parameters.
 *
 * Sets are cut into pieces of images, which threads share out: a set that is large keeps all of them
 * busy, and many small ones wait for each other once only. A piece goes through all steps at once.
 */
#include "pool.h"
#include "sol_runtime.h"

#include <stdatomic.h>
#include <stddef.h>

enum { MOST_ARGUMENTS = 16 };

typedef struct {
    const sol_program *program;
    char *const *tensors;
    const int64_t *images; /* of each set */
    int64_t sets, piece;
    atomic_llong taken; /* pieces */
} task;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void run_piece(const sol_program *p, char *const *tensors, int64_t first, int64_t images) {
    for (int i = 0; i < p->n_steps; i++) {
        const sol_step *s = &p->steps[i];
        char *buffers[MOST_ARGUMENTS];
        for (int k = 0; k < s->n_args; k++) {
            const sol_buffer *b = &p->buffers[s->args[k]];
            buffers[k] = tensors[b->index] + b->offset_const + b->image_stride * first;
        }
        s->kernel(buffers, images, 0, s->units_coef * images + s->units_const, NULL);
    }
}

static void run_pieces(void *argument, int thread) {
    task *t = argument;
    int64_t set = 0, before = 0; /* pieces of the sets before this one */
    (void)thread;
    for (;;) {
        int64_t number = atomic_fetch_add_explicit(&t->taken, 1, memory_order_relaxed);
        for (; set < t->sets; set++) {
            int64_t pieces = (t->images[set] + t->piece - 1) / t->piece;
            if (number < before + pieces) break;
            before += pieces;
        }
        if (set == t->sets) return;
        int64_t first = (number - before) * t->piece;
        run_piece(t->program, t->tensors + set * t->program->n_tensors, first,
                  least(t->piece, t->images[set] - first));
    }
}

static int fits(const sol_program *p) {
    int alone = p->splittable && !p->scratch && !p->arena_coef && !p->arena_const && !p->own_const;
    for (int i = 0; i < p->n_steps; i++) alone = alone && p->steps[i].n_args <= MOST_ARGUMENTS;
    for (int i = 0; i < p->n_buffers; i++) alone = alone && p->buffers[i].kind == SOL_EXTERNAL;
    return alone;
}

int sol_run_each(const sol_program *program, char *const *tensors, const int64_t *images,
                 int64_t sets, int64_t piece, int threads) {
    if (program->abi != SOL_ABI) return SOL_WRONG_ABI;
    if (piece < 1 || threads < 1 || !fits(program)) return SOL_WRONG_ARGUMENT;
    int64_t pieces = 0;
    for (int64_t k = 0; k < sets; k++) pieces += (images[k] + piece - 1) / piece;
    task t = {program, tensors, images, sets, piece, 0};
    sol_pool_share((int)least(threads, pieces > 1 ? pieces : 1), run_pieces, &t);
    return SOL_OK;
}
