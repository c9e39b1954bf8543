// The part of oneDNN that graft uses, as plain functions that are the same for its 2.x and 3.x C interfaces:
// C[m, n] (+)= A[m, k] B[k, n], sequential, with the scratch memory given by the caller.
#ifndef GRAFT_ONEDNN_SHIM_H
#define GRAFT_ONEDNN_SHIM_H
#include <oneapi/dnnl/dnnl.h>
#include <stdint.h>
#include <stdlib.h>

// OpenMP's switch for the calling thread; a worker that sets 1 gets sequential products.
extern void omp_set_num_threads(int count);

typedef struct {
    int64_t rows, columns, row_stride, column_stride;
    int is_bf16;
    // Laid out as graft_pack_bf16 leaves it, for the second operand; the strides do not count.
    int is_packed;
} graft_matrix;

typedef struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, scratch;
    size_t scratch_bytes;
} graft_product;

static inline const char *graft_onednn_version(char *buffer, size_t size) {
    const dnnl_version_t *v = dnnl_version();
    size_t i = 0;
    int parts[3] = {v->major, v->minor, v->patch};
    for (int p = 0; p < 3; p++) {
        char digits[12];
        int n = 0, value = parts[p];
        do { digits[n++] = (char)('0' + value % 10); value /= 10; } while (value);
        while (n && i + 1 < size) buffer[i++] = digits[--n];
        if (p < 2 && i + 1 < size) buffer[i++] = '.';
    }
    buffer[i] = 0;
    return buffer;
}

// `level` caps the instruction set, as graft_processor_level counts: 0 baseline, 1 avx2, 2 avx512, 3 all there is.
static inline dnnl_engine_t graft_onednn_engine(int level) {
    static const dnnl_cpu_isa_t caps[] = {dnnl_cpu_isa_sse41, dnnl_cpu_isa_avx2, dnnl_cpu_isa_avx512_core};
    if (level >= 0 && level < 3) dnnl_set_max_cpu_isa(caps[level]);
    dnnl_engine_t engine = NULL;
    return dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success ? engine : NULL;
}

static inline void graft_product_free(graft_product *p) {
    if (!p) return;
    if (p->a) dnnl_memory_destroy(p->a);
    if (p->b) dnnl_memory_destroy(p->b);
    if (p->c) dnnl_memory_destroy(p->c);
    if (p->scratch) dnnl_memory_destroy(p->scratch);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->stream) dnnl_stream_destroy(p->stream);
    free(p);
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t graft_descriptor;
#define GRAFT_DESCRIPTOR(d) (d)
#else
typedef dnnl_memory_desc_t graft_descriptor;
#define GRAFT_DESCRIPTOR(d) (&(d))
#endif

static inline int graft_describe(graft_descriptor *d, const graft_matrix *m) {
    dnnl_dims_t dims = {m->rows, m->columns}, strides = {m->row_stride, m->column_stride};
    dnnl_data_type_t type = m->is_bf16 ? dnnl_bf16 : dnnl_f32;
    if (m->is_packed) {
#if DNNL_VERSION_MAJOR >= 3
        return dnnl_memory_desc_create_with_tag(d, 2, dims, type, dnnl_BA16a64b2a) == dnnl_success;
#else
        return dnnl_memory_desc_init_by_tag(d, 2, dims, type, dnnl_BA16a64b2a) == dnnl_success;
#endif
    }
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides) == dnnl_success;
#else
    return dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides) == dnnl_success;
#endif
}

// A product for these shapes, or NULL when the library refuses it. Not to be used from two threads at once.
static inline graft_product *graft_product_create(dnnl_engine_t engine, const graft_matrix *a, const graft_matrix *b,
                                                  const graft_matrix *c, int accumulate) {
    graft_product *p = (graft_product *)calloc(1, sizeof(graft_product));
    if (!p) return NULL;
    p->engine = engine;
    graft_descriptor da, db, dc;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_primitive_desc_t description = NULL;
    int ok = graft_describe(&da, a) && graft_describe(&db, b) && graft_describe(&dc, c);
    ok = ok && dnnl_stream_create(&p->stream, engine, dnnl_stream_default_flags) == dnnl_success;
    ok = ok && dnnl_primitive_attr_create(&attributes) == dnnl_success;
    ok = ok && dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
    if (ok && accumulate) {
        ok = dnnl_post_ops_create(&post) == dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
        ok = ok && dnnl_post_ops_append_sum(post, 1.0f, 0, dnnl_data_type_undef) == dnnl_success;
#else
        ok = ok && dnnl_post_ops_append_sum(post, 1.0f) == dnnl_success;
#endif
        ok = ok && dnnl_primitive_attr_set_post_ops(attributes, post) == dnnl_success;
    }
#if DNNL_VERSION_MAJOR >= 3
    ok = ok && dnnl_matmul_primitive_desc_create(&description, engine, da, db, NULL, dc, attributes) == dnnl_success;
#else
    dnnl_matmul_desc_t operation;
    ok = ok && dnnl_matmul_desc_init(&operation, &da, &db, NULL, &dc) == dnnl_success;
    ok = ok && dnnl_primitive_desc_create(&description, &operation, attributes, engine, NULL) == dnnl_success;
#endif
    ok = ok && dnnl_primitive_create(&p->primitive, description) == dnnl_success;
    ok = ok && dnnl_memory_create(&p->a, GRAFT_DESCRIPTOR(da), engine, DNNL_MEMORY_NONE) == dnnl_success;
    ok = ok && dnnl_memory_create(&p->b, GRAFT_DESCRIPTOR(db), engine, DNNL_MEMORY_NONE) == dnnl_success;
    ok = ok && dnnl_memory_create(&p->c, GRAFT_DESCRIPTOR(dc), engine, DNNL_MEMORY_NONE) == dnnl_success;
    if (ok) {
#if DNNL_VERSION_MAJOR >= 3
        const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
#else
        const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
#endif
        p->scratch_bytes = dnnl_memory_desc_get_size(scratch);
        ok = dnnl_memory_create(&p->scratch, scratch, engine, DNNL_MEMORY_NONE) == dnnl_success;
    }
    if (description) dnnl_primitive_desc_destroy(description);
    if (post) dnnl_post_ops_destroy(post);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (ok) return p;
    graft_product_free(p);
    return NULL;
}

// Runs the product; 0 on success.
static inline int graft_product_run(graft_product *p, const void *a, const void *b, void *c, void *scratch) {
    dnnl_memory_set_data_handle(p->a, (void *)a);
    dnnl_memory_set_data_handle(p->b, (void *)b);
    dnnl_memory_set_data_handle(p->c, c);
    dnnl_memory_set_data_handle(p->scratch, scratch);
    dnnl_exec_arg_t arguments[4] = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}, {DNNL_ARG_SCRATCHPAD, p->scratch}};
    dnnl_status_t status = dnnl_primitive_execute(p->primitive, p->stream, 4, arguments);
    return status == dnnl_success ? (int)dnnl_stream_wait(p->stream) : (int)status;
}
#endif
