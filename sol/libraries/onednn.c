/* Convolutions by oneDNN 3: one image or band at a time, in the thread that asks for it. */
#include "onednn.h"
#include "onednn_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- threads ------------------------------------------------------------------------------- */

/* From here oneDNN works in the calling thread alone. Returns what `several_threads` wants. */
static int one_thread(void) {
    if (!omp_get_max_threads || !omp_set_num_threads) return 0;
    int before = omp_get_max_threads();
    if (before != 1) omp_set_num_threads(1);
    return before;
}

static void several_threads(int before) {
    if (before > 1) omp_set_num_threads(before);
}

/* ---- errors -------------------------------------------------------------------------------- */

static _Thread_local char message[256];

static const char *failed(const char *what, int status) {
    snprintf(message, sizeof message, "oneDNN could not %s (status %d)", what, status);
    return message;
}

#define TRY(what, call)                                \
    do {                                               \
        int status_ = (call);                          \
        if (status_) {                                 \
            error = failed(what, status_);             \
            goto end;                                  \
        }                                              \
    } while (0)

/* ---- descriptions -------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static engine_t shared_engine;

/* The processor, as oneDNN sees it; called with the lock held. */
static const char *get_engine(engine_t *engine) {
    const char *error = NULL;
    if (!shared_engine) TRY("find the processor", dnnl_engine_create(&shared_engine, CPU, 0));
    *engine = shared_engine;
end:
    return error;
}

/* (1, channels, size...) with channels innermost. */
static int describe_tensor(desc_t *desc, int64_t spatial, int64_t channels, const int64_t *size) {
    dims shape = {1, channels}, strides = {0, 1};
    int64_t step = channels;
    for (int64_t k = spatial - 1; k >= 0; k--) {
        shape[2 + k] = size[k];
        strides[2 + k] = step;
        step *= size[k];
    }
    strides[0] = step;
    return dnnl_memory_desc_create_with_strides(desc, (int)spatial + 2, shape, F32, strides);
}

/* (groups,) outputs / groups, inputs / groups, window...: row-major, or in any layout. */
static int describe_weights(desc_t *desc, const sol_conv *c, int plain) {
    dims shape, strides;
    int rank = 0;
    if (c->groups > 1) shape[rank++] = c->groups;
    shape[rank++] = c->outputs / c->groups;
    shape[rank++] = c->inputs / c->groups;
    for (int64_t k = 0; k < c->spatial; k++) shape[rank++] = c->window[k];
    if (!plain) return dnnl_memory_desc_create_with_tag(desc, rank, shape, F32, ANY);
    int64_t step = 1;
    for (int k = rank - 1; k >= 0; k--) {
        strides[k] = step;
        step *= shape[k];
    }
    return dnnl_memory_desc_create_with_strides(desc, rank, shape, F32, strides);
}

static void result_size(const sol_conv *c, int64_t *size) {
    for (int64_t k = 0; k < c->spatial; k++) {
        int64_t window = (c->window[k] - 1) * c->dilation[k] + 1;
        size[k] = (c->size[k] + c->low[k] + c->high[k] - window) / c->stride[k] + 1;
    }
}

static int make_attributes(attr_t *attributes, const sol_conv *c, desc_t result) {
    post_ops_t after = NULL;
    int status = dnnl_primitive_attr_create(attributes);
    if (!status) status = dnnl_primitive_attr_set_scratchpad_mode(*attributes, USER);
    if (status || !c->add) return status;
    status = dnnl_post_ops_create(&after);
    if (!status) status = dnnl_post_ops_append_binary(after, BINARY_ADD, result);
    if (!status) status = dnnl_primitive_attr_set_post_ops(*attributes, after);
    if (after) dnnl_post_ops_destroy(after);
    return status;
}

/* oneDNN's plan for a part; `layout` is that of the packed weights, or NULL for the best one. */
static const char *make_plan(plan_t *plan, engine_t engine, const sol_conv *c,
                             const struct dnnl_memory_desc *layout) {
    const char *error = NULL, *name = NULL;
    desc_t source = NULL, weights = NULL, bias = NULL, result = NULL;
    attr_t attributes = NULL;
    int64_t size[SOL_SPATIAL];
    dims channels = {c->outputs}, unit = {1}, dilation = {0};
    for (int64_t k = 0; k < c->spatial; k++) dilation[k] = c->dilation[k] - 1;
    result_size(c, size);
    TRY("describe the source", describe_tensor(&source, c->spatial, c->inputs, c->size));
    TRY("describe the result", describe_tensor(&result, c->spatial, c->outputs, size));
    TRY("describe the weights", describe_weights(&weights, c, 0));
    if (c->bias)
        TRY("describe the bias",
            dnnl_memory_desc_create_with_strides(&bias, 1, channels, F32, unit));
    TRY("set the attributes", make_attributes(&attributes, c, result));
    TRY("plan the convolution",
        dnnl_convolution_forward_primitive_desc_create(
            plan, engine, FORWARD_INFERENCE, DIRECT, source, layout ? layout : weights, bias,
            result, c->stride, dilation, c->low, c->high, attributes));
    TRY("name its plan", dnnl_primitive_desc_query(*plan, NAME, 0, &name));
    if (!strncmp(name, "ref", 3)) {
        snprintf(message, sizeof message, "oneDNN has only its reference (%s) for this", name);
        error = message;
        dnnl_primitive_desc_destroy(*plan);
        *plan = NULL;
    }
end:
    if (source) dnnl_memory_desc_destroy(source);
    if (weights) dnnl_memory_desc_destroy(weights);
    if (bias) dnnl_memory_desc_destroy(bias);
    if (result) dnnl_memory_desc_destroy(result);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return error;
}

static int64_t scratch_bytes(plan_t plan) {
    return (int64_t)dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(plan, SCRATCHPAD_DESC, 0));
}

static const struct dnnl_memory_desc *weights_of(plan_t plan) {
    return dnnl_primitive_desc_query_md(plan, WEIGHTS_DESC, 0);
}

/* Plans of all parts, with one layout of the weights: the best one for the first part. */
static const char *make_plans(plan_t *plans, engine_t engine, const sol_conv *parts,
                              int64_t count) {
    const char *error = NULL;
    for (int64_t k = 0; k < count && !error; k++)
        error = make_plan(&plans[k], engine, &parts[k], k ? weights_of(plans[0]) : NULL);
    return error;
}

static void destroy_plans(plan_t *plans, int64_t count) {
    for (int64_t k = 0; k < count; k++)
        if (plans[k]) dnnl_primitive_desc_destroy(plans[k]);
    free(plans);
}

const char *sol_onednn_ask(const sol_conv *parts, int64_t count, char *name, int64_t name_bytes,
                           int64_t bytes[2]) {
    const char *error = NULL, *own = "";
    engine_t engine = NULL;
    plan_t *plans = calloc((size_t)count, sizeof *plans);
    int threads = one_thread();
    pthread_mutex_lock(&lock);
    error = plans ? get_engine(&engine) : failed("find memory", 1);
    if (!error) error = make_plans(plans, engine, parts, count);
    if (error) goto end;
    TRY("name its plan", dnnl_primitive_desc_query(plans[0], NAME, 0, &own));
    snprintf(name, (size_t)name_bytes, "%s", own);
    bytes[0] = (int64_t)dnnl_memory_desc_get_size(weights_of(plans[0]));
    bytes[1] = 0;
    for (int64_t k = 0; k < count; k++)
        if (scratch_bytes(plans[k]) > bytes[1]) bytes[1] = scratch_bytes(plans[k]);
end:
    if (plans) destroy_plans(plans, count);
    pthread_mutex_unlock(&lock);
    several_threads(threads);
    return error;
}

/* ---- weights ------------------------------------------------------------------------------- */

static const char *reorder(engine_t engine, const struct dnnl_memory_desc *from, void *weight,
                           const struct dnnl_memory_desc *to, void *packed) {
    const char *error = NULL;
    plan_t plan = NULL;
    primitive_t primitive = NULL;
    stream_t stream = NULL;
    memory_t source = NULL, target = NULL;
    TRY("plan the packing",
        dnnl_reorder_primitive_desc_create(&plan, from, engine, to, engine, NULL));
    TRY("make the packing", dnnl_primitive_create(&primitive, plan));
    TRY("make a stream", dnnl_stream_create(&stream, engine, IN_ORDER));
    TRY("take the weights", dnnl_memory_create(&source, from, engine, weight));
    TRY("take the packed weights", dnnl_memory_create(&target, to, engine, packed));
    argument arguments[] = {{FROM, source}, {TO, target}};
    TRY("pack the weights", dnnl_primitive_execute(primitive, stream, 2, arguments));
    TRY("pack the weights", dnnl_stream_wait(stream));
end:
    if (source) dnnl_memory_destroy(source);
    if (target) dnnl_memory_destroy(target);
    if (stream) dnnl_stream_destroy(stream);
    if (primitive) dnnl_primitive_destroy(primitive);
    if (plan) dnnl_primitive_desc_destroy(plan);
    return error;
}

const char *sol_onednn_pack(const sol_conv *parts, void *weight, void *packed) {
    const char *error = NULL;
    engine_t engine = NULL;
    plan_t plan = NULL;
    desc_t plain = NULL;
    int threads = one_thread();
    pthread_mutex_lock(&lock);
    error = get_engine(&engine);
    if (!error) error = make_plan(&plan, engine, parts, NULL);
    if (error) goto end;
    TRY("describe the weights", describe_weights(&plain, parts, 1));
    error = reorder(engine, plain, weight, weights_of(plan), packed);
end:
    if (plain) dnnl_memory_desc_destroy(plain);
    if (plan) dnnl_primitive_desc_destroy(plan);
    pthread_mutex_unlock(&lock);
    several_threads(threads);
    return error;
}

/* ---- running ------------------------------------------------------------------------------- */

enum { SLOTS = 64 };
static const int argument_of[SOL_POINTERS] = {ARG_SOURCE,     ARG_WEIGHTS, ARG_RESULT,
                                              ARG_SCRATCHPAD, ARG_BIAS,    ARG_ADD};

/* What one run needs for itself: oneDNN's tensors, whose addresses it sets, of every part. */
typedef struct {
    stream_t stream;
    memory_t memories[][SOL_POINTERS];
} session;

/* Lives as long as the library: programs are never unloaded. */
typedef struct sol_onednn_ready {
    engine_t engine;
    plan_t *plans;
    primitive_t *primitives;
    _Atomic(session *) free[SLOTS]; /* sessions that nobody uses */
} ready;

static void destroy_session(session *s, int64_t count) {
    for (int64_t k = 0; k < count; k++)
        for (int p = 0; p < SOL_POINTERS; p++)
            if (s->memories[k][p]) dnnl_memory_destroy(s->memories[k][p]);
    if (s->stream) dnnl_stream_destroy(s->stream);
    free(s);
}

static int make_memories(memory_t *memories, const ready *r, const sol_conv *c, plan_t plan) {
    desc_t made[SOL_POINTERS] = {NULL};
    const struct dnnl_memory_desc *descs[SOL_POINTERS] = {NULL};
    int64_t size[SOL_SPATIAL];
    dims channels = {c->outputs}, unit = {1};
    result_size(c, size);
    int status = describe_tensor(&made[SOL_SOURCE], c->spatial, c->inputs, c->size);
    if (!status) status = describe_tensor(&made[SOL_RESULT], c->spatial, c->outputs, size);
    if (!status && c->bias)
        status = dnnl_memory_desc_create_with_strides(&made[SOL_BIAS], 1, channels, F32, unit);
    for (int p = 0; p < SOL_POINTERS; p++) descs[p] = made[p];
    descs[SOL_WEIGHTS] = weights_of(plan);
    descs[SOL_SCRATCH] = dnnl_primitive_desc_query_md(plan, SCRATCHPAD_DESC, 0);
    if (c->add) descs[SOL_ADD] = made[SOL_RESULT];
    for (int p = 0; p < SOL_POINTERS && !status; p++)
        if (descs[p]) status = dnnl_memory_create(&memories[p], descs[p], r->engine, NULL);
    for (int p = 0; p < SOL_POINTERS; p++)
        if (made[p]) dnnl_memory_desc_destroy(made[p]);
    return status;
}

static session *make_session(const sol_onednn_kernel *kernel, const ready *r) {
    session *s = calloc(1, sizeof *s + (size_t)kernel->count * sizeof s->memories[0]);
    if (!s) return NULL;
    int status = dnnl_stream_create(&s->stream, r->engine, IN_ORDER);
    for (int64_t k = 0; k < kernel->count && !status; k++)
        status = make_memories(s->memories[k], r, &kernel->parts[k], r->plans[k]);
    if (!status) return s;
    destroy_session(s, kernel->count);
    return NULL;
}

/* A session that nobody else uses. One was made when the kernel was opened, so where there is no
 * memory for another, that one will come free. */
static session *take_session(const sol_onednn_kernel *kernel, ready *r) {
    for (;;) {
        for (int k = 0; k < SLOTS; k++) {
            if (!atomic_load_explicit(&r->free[k], memory_order_relaxed)) continue;
            session *s = atomic_exchange(&r->free[k], NULL);
            if (s) return s;
        }
        session *s = make_session(kernel, r);
        if (s) return s;
    }
}

static void give_session(const sol_onednn_kernel *kernel, ready *r, session *s) {
    for (int k = 0; k < SLOTS; k++) {
        session *none = NULL;
        if (atomic_compare_exchange_strong(&r->free[k], &none, s)) return;
    }
    destroy_session(s, kernel->count);
}

/* Makes primitives and a first session; called with the lock held. */
static const char *open_kernel(sol_onednn_kernel *kernel) {
    const char *error = NULL;
    if (atomic_load(&kernel->ready)) return NULL;
    ready *r = calloc(1, sizeof *r);
    if (!r) return failed("find memory", 1);
    r->plans = calloc((size_t)kernel->count, sizeof *r->plans);
    r->primitives = calloc((size_t)kernel->count, sizeof *r->primitives);
    error = r->plans && r->primitives ? get_engine(&r->engine) : failed("find memory", 1);
    if (!error) error = make_plans(r->plans, r->engine, kernel->parts, kernel->count);
    if (error) goto end;
    for (int64_t k = 0; k < kernel->count; k++)
        TRY("make the convolution", dnnl_primitive_create(&r->primitives[k], r->plans[k]));
    session *s = make_session(kernel, r);
    TRY("make its tensors", s ? 0 : 1);
    atomic_store(&r->free[0], s);
    atomic_store(&kernel->ready, r);
    return NULL;
end:
    for (int64_t k = 0; r->primitives && k < kernel->count; k++)
        if (r->primitives[k]) dnnl_primitive_destroy(r->primitives[k]);
    if (r->plans) destroy_plans(r->plans, kernel->count);
    free(r->primitives);
    free(r);
    return error;
}

static sol_onednn_kernel *kernels;

void sol_onednn_add(sol_onednn_kernel *kernel) { /* while the library is loaded: in one thread */
    kernel->next = kernels;
    kernels = kernel;
}

const char *sol_onednn_open(void) {
    const char *error = NULL;
    int threads = one_thread();
    pthread_mutex_lock(&lock);
    for (sol_onednn_kernel *k = kernels; k && !error; k = k->next) error = open_kernel(k);
    pthread_mutex_unlock(&lock);
    several_threads(threads);
    return error;
}

static void stop(const char *error) { /* a kernel cannot return an error, and must not go on */
    fprintf(stderr, "sol: %s\n", error);
    abort();
}

void sol_onednn_run(sol_onednn_kernel *kernel, int64_t part, void *const *pointers) {
    ready *r = atomic_load_explicit(&kernel->ready, memory_order_acquire);
    if (!r) {
        const char *error = sol_onednn_open();
        if (error) stop(error);
        r = atomic_load(&kernel->ready);
    }
    int threads = one_thread();
    session *s = take_session(kernel, r);
    argument arguments[SOL_POINTERS];
    int count = 0;
    for (int p = 0; p < SOL_POINTERS; p++) {
        memory_t memory = s->memories[part][p];
        if (!memory) continue;
        if (dnnl_memory_set_data_handle(memory, pointers[p])) stop("oneDNN refused an address");
        arguments[count++] = (argument){argument_of[p], memory};
    }
    int status = dnnl_primitive_execute(r->primitives[part], s->stream, count, arguments);
    if (!status) status = dnnl_stream_wait(s->stream);
    if (status) stop(failed("compute the convolution", status));
    give_session(kernel, r, s);
    several_threads(threads);
}
