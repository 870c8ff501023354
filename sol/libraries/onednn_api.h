/* What Sol uses of oneDNN's C API, version 3.
 *
 * Its types stay behind pointers, so these declarations are all that is needed to call it, and no
 * header of oneDNN. Numbers are oneDNN's; tests/libraries compares them with a header of oneDNN.
 */
#ifndef SOL_ONEDNN_API_H
#define SOL_ONEDNN_API_H
#include <stddef.h>
#include <stdint.h>

typedef int64_t dims[12]; /* as many axes as oneDNN takes at most */
typedef struct dnnl_engine *engine_t;
typedef struct dnnl_stream *stream_t;
typedef struct dnnl_memory_desc *desc_t;
typedef struct dnnl_memory *memory_t;
typedef struct dnnl_primitive_desc *plan_t;
typedef struct dnnl_primitive *primitive_t;
typedef struct dnnl_primitive_attr *attr_t;
typedef struct dnnl_post_ops *post_ops_t;
typedef struct {
    int arg;
    memory_t memory;
} argument;

enum { CPU = 1, F32 = 3, ANY = 1, FORWARD_INFERENCE = 96, DIRECT = 1, USER = 1, IN_ORDER = 1 };
enum { BINARY_ADD = 0x1fff0, NAME = 8, WEIGHTS_DESC = 131, SCRATCHPAD_DESC = 136 };
enum { FROM = 1, TO = 17, ARG_SOURCE = 1, ARG_RESULT = 17, ARG_WEIGHTS = 33, ARG_BIAS = 41 };
enum { ARG_SCRATCHPAD = 80, ARG_ADD = 32768 | 2 };

int dnnl_engine_create(engine_t *, int kind, size_t index);
int dnnl_stream_create(stream_t *, engine_t, unsigned flags);
int dnnl_stream_wait(stream_t);
int dnnl_stream_destroy(stream_t);
int dnnl_memory_desc_create_with_strides(desc_t *, int rank, const dims, int type, const dims);
int dnnl_memory_desc_create_with_tag(desc_t *, int rank, const dims, int type, int tag);
int dnnl_memory_desc_destroy(desc_t);
size_t dnnl_memory_desc_get_size(const struct dnnl_memory_desc *);
int dnnl_memory_create(memory_t *, const struct dnnl_memory_desc *, engine_t, void *);
int dnnl_memory_set_data_handle(memory_t, void *);
int dnnl_memory_destroy(memory_t);
int dnnl_post_ops_create(post_ops_t *);
int dnnl_post_ops_append_binary(post_ops_t, int kind, const struct dnnl_memory_desc *);
int dnnl_post_ops_destroy(post_ops_t);
int dnnl_primitive_attr_create(attr_t *);
int dnnl_primitive_attr_set_scratchpad_mode(attr_t, int mode);
int dnnl_primitive_attr_set_post_ops(attr_t, const struct dnnl_post_ops *);
int dnnl_primitive_attr_destroy(attr_t);
int dnnl_convolution_forward_primitive_desc_create(
    plan_t *, engine_t, int kind, int algorithm, const struct dnnl_memory_desc *source,
    const struct dnnl_memory_desc *weights, const struct dnnl_memory_desc *bias,
    const struct dnnl_memory_desc *result, const int64_t *strides, const int64_t *dilations,
    const int64_t *low, const int64_t *high, const struct dnnl_primitive_attr *);
int dnnl_reorder_primitive_desc_create(plan_t *, const struct dnnl_memory_desc *from, engine_t,
                                       const struct dnnl_memory_desc *to, engine_t,
                                       const struct dnnl_primitive_attr *);
const struct dnnl_memory_desc *dnnl_primitive_desc_query_md(const struct dnnl_primitive_desc *,
                                                            int what, int index);
int dnnl_primitive_desc_query(const struct dnnl_primitive_desc *, int what, int index, void *);
int dnnl_primitive_desc_destroy(plan_t);
int dnnl_primitive_create(primitive_t *, const struct dnnl_primitive_desc *);
int dnnl_primitive_execute(const struct dnnl_primitive *, stream_t, int count, const argument *);
int dnnl_primitive_destroy(primitive_t);

/* Of the OpenMP runtime that oneDNN is linked with; absent where it runs sequentially. */
extern int omp_get_max_threads(void) __attribute__((weak));
extern void omp_set_num_threads(int) __attribute__((weak));

#endif
