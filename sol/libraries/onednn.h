/* How generated code describes a convolution to oneDNN and runs it; onednn.c has the functions.
 *
 * A kernel of Sol that uses oneDNN calls one function of a small generated unit, which holds the
 * parts of its convolution as constants and calls sol_onednn_run. Everything of oneDNN that has to
 * be made first (primitives) is made once, by sol_onednn_open or at the first run.
 */
#ifndef SOL_ONEDNN_H
#define SOL_ONEDNN_H
#include <stdatomic.h>
#include <stdint.h>

#define SOL_EXPORT __attribute__((visibility("default")))

enum { SOL_SPATIAL = 3 };

/* A convolution of one image, or of a band of its rows: float32, channels innermost, no gaps in
 * memory. Of the arrays the first `spatial` elements count. All fields are int64_t: Python passes
 * an array of them. */
typedef struct {
    int64_t spatial, groups, inputs, outputs; /* channels are those of all groups together */
    int64_t bias, add;                        /* whether a bias, and a tensor like the result, is added */
    int64_t size[SOL_SPATIAL], window[SOL_SPATIAL], stride[SOL_SPATIAL], dilation[SOL_SPATIAL];
    int64_t low[SOL_SPATIAL], high[SOL_SPATIAL]; /* padding */
} sol_conv;

/* What a kernel passes to sol_onednn_run, in this order; BIAS and ADD only where they are used. */
enum { SOL_SOURCE, SOL_WEIGHTS, SOL_RESULT, SOL_SCRATCH, SOL_BIAS, SOL_ADD, SOL_POINTERS };

/* The parts of one convolution: they differ in their rows and padding, and share packed weights. */
typedef struct sol_onednn_kernel {
    const sol_conv *parts;
    int64_t count;
    _Atomic(struct sol_onednn_ready *) ready;
    struct sol_onednn_kernel *next;
} sol_onednn_kernel;

/* Makes a kernel known to sol_onednn_open. */
void sol_onednn_add(sol_onednn_kernel *kernel);

/* Computes one part. Any number of threads may do so at once; nothing is allocated once as many
 * threads as ever run at once have run. oneDNN works in the calling thread alone. */
void sol_onednn_run(sol_onednn_kernel *kernel, int64_t part, void *const *pointers);

/* The functions below return NULL, or what went wrong: a text that stays valid in this thread until
 * the next call. */

/* Makes everything that the kernels of this library need. */
SOL_EXPORT const char *sol_onednn_open(void);

/* Whether oneDNN has a fast implementation for these parts: its name, the bytes of packed weights
 * and those of scratch memory. */
SOL_EXPORT const char *sol_onednn_ask(const sol_conv *parts, int64_t count, char *name,
                                      int64_t name_bytes, int64_t bytes[2]);

/* Packs a weight (O, I / groups, window...) for these parts. */
SOL_EXPORT const char *sol_onednn_pack(const sol_conv *parts, void *weight, void *packed);

#endif
