/* Brings weights into the order in which kernels read them.
 *
 * A weight has groups, and in each outputs, channels and taps of a window. Packed, it is matrices
 * [k][column], columns being the outputs of a group, in blocks of columns that lie one after the
 * other; k counts taps and channels. With a transform of the taps (Winograd's G g G^T, as one matrix)
 * there is a matrix of columns for each product. Threads share out blocks and channels.
 */
#include "pool.h"
#include "sol_runtime.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MOST_LANES = 16, MOST_TAPS = 64, MOST_TOGETHER = 1 << 15 };

typedef double doubles __attribute__((vector_size(64)));

typedef struct {
    const sol_packing *packing;
    atomic_llong taken; /* units */
} task;

/* A block of columns of a group. */
typedef struct {
    const float *source;
    float *target; /* in the first of the group's matrices */
    int64_t outputs; /* of the block */
    int64_t columns; /* with those beyond the last output */
} block;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t round_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

static int64_t depth_of(const sol_packing *p) { return p->plain * p->channels; }

static int64_t blocks_of(const sol_packing *p, int64_t columns) {
    return (columns + p->width - 1) / p->width;
}

static int64_t blocks_of_group(const sol_packing *p) {
    return p->outputs / p->share * blocks_of(p, p->share) + blocks_of(p, p->outputs % p->share);
}

static block find_block(const sol_packing *p, int64_t number) {
    int64_t group = number / blocks_of_group(p), place = number % blocks_of_group(p);
    int64_t share = place / blocks_of(p, p->share) * p->share;
    int64_t first = share + place % blocks_of(p, p->share) * p->width;
    int64_t matrix = depth_of(p) * round_to(p->outputs, p->lanes);
    int64_t outputs = least(p->width, least(share + p->share, p->outputs) - first);
    return (block){p->source + group * p->group_step + first * p->output_step,
                   p->target + group * p->products * matrix + first * depth_of(p), outputs,
                   round_to(outputs, p->lanes)};
}

/* ---- as it is ------------------------------------------------------------------------------ */

static void copy_channel(const sol_packing *p, const block *b, int64_t c) {
    for (int64_t t = 0; t < p->plain; t++) {
        const float *from = b->source + c * p->channel_step + p->tap_steps[t];
        float *to = b->target + (p->rows[t] + c * p->row_step) * b->columns;
        for (int64_t o = 0; o < b->outputs; o++) to[o] = from[o * p->output_step];
        for (int64_t o = b->outputs; o < b->columns; o++) to[o] = 0.0f;
    }
}

/* ---- with a transform ---------------------------------------------------------------------- */

/* A vector of outputs of one channel, transformed, to every product; `distance` between these. */
static void transform(const sol_packing *p, const float *from, const int64_t *steps,
                      const double *factors, int64_t count, float *to, int64_t distance) {
    doubles taps[MOST_TAPS][2];
    for (int64_t j = 0; j < p->taps; j++)
        for (int64_t o = 0; o < MOST_LANES; o++)
            taps[j][o / 8][o % 8] = o < count ? (double)from[o * p->output_step + steps[j]] : 0.0;
    for (int64_t x = 0; x < p->products; x++, to += distance) {
        doubles low = {0}, high = {0}; /* in registers, which an array would not be */
        for (int64_t j = 0; j < p->taps; j++) {
            double factor = factors[x * p->taps + j];
            low += factor * taps[j][0];
            high += factor * taps[j][1];
        }
        for (int64_t o = 0; o < p->lanes; o++) to[o] = (float)(o < 8 ? low[o] : high[o - 8]);
    }
}

/* Some channels of a block. They are put together first: matrices are far from each other. */
static void transform_channels(const sol_packing *p, const block *b, int64_t first, int64_t count) {
    float together[MOST_TOGETHER];
    int64_t distance = count * b->columns, matrix = depth_of(p) * round_to(p->outputs, p->lanes);
    for (int64_t t = 0; t < p->plain; t++) {
        const int64_t *steps = p->tap_steps + t * p->taps;
        const double *factors = p->transform + t * p->products * p->taps;
        for (int64_t o = 0; o < b->outputs; o += p->lanes)
            for (int64_t c = 0; c < count; c++)
                transform(p, b->source + o * p->output_step + (first + c) * p->channel_step, steps,
                          factors, least(p->lanes, b->outputs - o), together + c * b->columns + o,
                          distance);
        float *to = b->target + (p->rows[t] + first) * b->columns;
        for (int64_t x = 0; x < p->products; x++)
            memcpy(to + x * matrix, together + x * distance, (size_t)distance * sizeof(float));
    }
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* Channels that a thread takes at a time. */
static int64_t channels_at_once(const sol_packing *p) {
    if (!p->transform) return least(p->channels, 64);
    int64_t fitting = MOST_TOGETHER / (p->products * round_to(p->width, p->lanes));
    return fitting > 1 ? least(p->channels, fitting) : 1;
}

static void pack_all(void *argument, int thread) {
    task *work = argument;
    const sol_packing *p = work->packing;
    int64_t step = channels_at_once(p), parts = (p->channels + step - 1) / step;
    (void)thread;
    for (;;) {
        int64_t unit = atomic_fetch_add_explicit(&work->taken, 1, memory_order_relaxed);
        if (unit >= p->groups * blocks_of_group(p) * parts) return;
        block b = find_block(p, unit / parts);
        int64_t first = unit % parts * step, count = least(step, p->channels - first);
        if (p->transform)
            transform_channels(p, &b, first, count);
        else
            for (int64_t c = first; c < first + count; c++) copy_channel(p, &b, c);
    }
}

int sol_pack(const sol_packing *packing, int threads) {
    const sol_packing *p = packing;
    int fits = threads >= 1 && p->share >= 1 && p->share % p->lanes == 0;
    if (p->transform) /* rows of one channel follow each other */
        fits = fits && p->taps <= MOST_TAPS && p->lanes <= MOST_LANES && p->row_step == 1 &&
               p->products * p->width <= MOST_TOGETHER;
    if (!fits) return SOL_WRONG_ARGUMENT;
    task work;
    work.packing = packing;
    atomic_init(&work.taken, 0);
    sol_pool_share(threads, pack_all, &work);
    return SOL_OK;
}
