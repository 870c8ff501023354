/* Sol's runtime ABI: what a generated program hands to the runtime, and what the runtime offers.
 *
 * A program is one constant table, `sol_program_table`: steps that run one after the other, each of
 * them a kernel over `units` independent pieces of work, segments of steps, and buffers that the
 * steps read and write.
 * Generated sources contain this text; nothing in it needs more than <stdint.h>.
 */
#ifndef SOL_RUNTIME_H
#define SOL_RUNTIME_H
#include <stdint.h>

#define SOL_ABI 2u
#define SOL_EXPORT __attribute__((visibility("default")))

/* Computes the units [begin, end) of one step. `buffers` stand in the order of the step's args,
 * `batch` is the number of images at hand, `scratch` belongs to this thread alone and starts at a
 * multiple of 4096. A result must not depend on how the units are cut into [begin, end). */
typedef void (*sol_kernel)(char *const *buffers, int64_t batch, int64_t begin, int64_t end,
                           char *scratch);

typedef struct {
    sol_kernel kernel;
    const int32_t *args; /* indices into sol_program.buffers */
    int32_t n_args;
    int32_t grain;                  /* smallest number of units worth handing to a thread */
    int64_t units_coef, units_const; /* units = units_coef * batch + units_const */
} sol_step;

/* Steps [begin, end). In a segment that runs `apart` each thread takes an image through all steps
 * alone, as soon as there is an image for each thread; otherwise all threads meet after each step. */
typedef struct {
    int32_t begin, end;
    int32_t apart;
} sol_segment;

/* Memory of the caller; of a pass, shared by all its images; of one run through a segment. */
enum { SOL_EXTERNAL = 0, SOL_ARENA = 1, SOL_OWN = 2 };

typedef struct {
    int32_t kind;                      /* SOL_EXTERNAL, SOL_ARENA or SOL_OWN */
    int32_t index;                     /* SOL_EXTERNAL: which of the caller's tensors */
    int64_t offset_coef, offset_const; /* bytes = offset_coef * images + offset_const */
    int64_t image_stride;              /* bytes per image, 0 if it has no batch; not for SOL_OWN */
} sol_buffer;

typedef struct {
    uint32_t abi; /* SOL_ABI */
    int32_t n_steps;
    const sol_step *steps;
    int32_t n_segments; /* that follow each other and hold all steps */
    const sol_segment *segments;
    int32_t n_buffers;
    const sol_buffer *buffers;
    int32_t n_tensors;
    int64_t arena_coef, arena_const; /* bytes of SOL_ARENA = arena_coef * images + arena_const */
    int64_t own_coef, own_const;     /* and of SOL_OWN */
    int64_t scratch;                 /* bytes of scratch per thread */
    int32_t splittable;              /* images are independent: the batch may be run in groups */
} sol_program;

/* Every program exports this. */
extern SOL_EXPORT const sol_program sol_program_table;

enum { SOL_OK = 0, SOL_WRONG_ABI = 1, SOL_WRONG_ARGUMENT = 2, SOL_CHANGED = 3 };

/* Runs a program over `batch` images on `threads` threads (the caller is one of them).
 *
 * tensors     n_tensors pointers
 * group       images per pass: with 0 < group < batch a splittable program runs several times over
 *             parts of the batch, so that SOL_ARENA is as large as a group needs, not the batch
 * arena       sol_arena_bytes(program, group or batch, threads) bytes, aligned to 64 or more
 * profile_ns  n_steps counters to which each step's nanoseconds are added, or NULL
 *
 * Nothing is allocated. One call at a time has the thread pool; a call that finds it taken runs
 * alone in its own thread, with the same result. Denormal numbers are kept unless the caller's
 * thread flushes them: the workers take over its floating-point mode. */
SOL_EXPORT int sol_run(const sol_program *program, char *const *tensors, int64_t batch,
                       int64_t group, char *arena, int threads, int64_t *profile_ns);

/* Bytes that sol_run needs as arena for passes of `batch` images on `threads` threads. */
SOL_EXPORT int64_t sol_arena_bytes(const sol_program *program, int64_t batch, int threads);

/* Runs a program on `sets` sets of tensors: n_tensors pointers and a number of images for each of them,
 * which may be 0. Its images are independent, and it has tensors of the caller only. Threads share
 * out pieces of so many images; the result does not depend on the threads. */
SOL_EXPORT int sol_run_each(const sol_program *program, char *const *tensors, const int64_t *images,
                            int64_t sets, int64_t piece, int threads);

/* A number that changes when one of a few sampled words of one of n tensors does (the middle; first
 * and last, too, above 4 KiB): notices parameters that were written behind the framework's back. */
SOL_EXPORT uint64_t sol_fingerprint(char *const *pointers, const int64_t *bytes, int32_t n);

/* Whether n aligned words of 64 bits are what they were: the first ones, and then the others, which
 * are read only if the first ones are. */
SOL_EXPORT int sol_unchanged(const uint64_t *const *places, const uint64_t *words, int32_t first,
                             int32_t n);

/* A call of sol_run, to be made again on other tensors in the place of the first ones. */
typedef struct {
    const sol_program *program;
    char *const *tensors; /* of that call */
    int64_t given;        /* so many of them are others in each call */
    int64_t batch, group, threads;
    const uint64_t *const *places; /* of what the call depends on, as for sol_unchanged */
    const uint64_t *words;
    int64_t first, n;
    int64_t until_ns; /* of the monotonic clock: not to be made later */
} sol_again;

/* Makes a call again, or returns SOL_CHANGED and does nothing if a word is not what it was or it is
 * too late. given: the tensors that are others. */
SOL_EXPORT int sol_run_again(const sol_again *again, char *const *given, char *arena);

/* How a weight is packed: groups, and in each outputs (columns), channels and taps of a window. */
typedef struct {
    const float *source;
    float *target;
    int64_t groups, outputs, channels;
    int64_t group_step, output_step, channel_step; /* of the source, in elements */
    int64_t plain;            /* taps that k counts */
    int64_t taps;             /* taps that are transformed; 1 without a transform */
    const int64_t *tap_steps; /* [plain][taps], of the source */
    const int64_t *rows;      /* [plain]: k of the first channel */
    int64_t row_step;         /* from channel to channel in k */
    int64_t products;         /* matrices of a group */
    const double *transform;  /* [plain][products][taps], or NULL */
    int64_t width, lanes;     /* columns of a block; the last one has as many as its vectors */
    int64_t share;            /* columns after which blocks begin anew, whole vectors */
} sol_packing;

/* Packs a weight on up to so many threads. */
SOL_EXPORT int sol_pack(const sol_packing *packing, int threads);

#endif
