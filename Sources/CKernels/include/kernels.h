// Element-wise loops over rows of activations. Every loop exists for f32 and for bf16 storage (arithmetic is always
// f32) and is compiled for several instruction sets; `graft_kernels` picks the set this processor has.
//
// Naming: `in`, `out` are rows of `n` elements in the table's storage type; `float *` is always f32. A kernel handles
// a run of whole rows, so that a worker calls it once for its tile.
#ifndef GRAFT_KERNELS_H
#define GRAFT_KERNELS_H
#include "codecs.h"
#include "differences.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    // out[i] = in[i], between f32 and the storage type.
    void (*from_f32)(void *out, const float *in, size_t n);
    void (*to_f32)(float *out, const void *in, size_t n);
    // acc[i] += in[i]
    void (*accumulate_f32)(float *acc, const void *in, size_t n);
    // acc[i] += scale * in[i]
    void (*accumulate_scaled_f32)(float *acc, const void *in, float scale, size_t n);
    // out[i] = scale * in[i]
    void (*scale)(void *out, const void *in, float scale, size_t n);
    // out[r, c] += bias[c]
    void (*add_bias)(void *out, size_t stride, const float *bias, size_t rows, size_t n);
    // out[r, c] = in[r, c] * weight[c]
    void (*scale_columns)(void *out, const void *in, const float *weight, size_t rows, size_t n);
    // RMSNorm (arXiv:1910.07467): unit = x * rstd, rstd = 1 / sqrt(mean(x^2) + eps); out = unit * weight, with unit
    // rounded to the storage type first, as Transformers does.
    void (*rms_norm)(void *out, void *unit, float *rstd, const float *x, const float *weight, float eps, size_t rows,
                     size_t n);
    // dx += the gradient through the norm. `dout` in the storage type.
    void (*rms_norm_backward)(float *dx, const void *dout, const void *unit, const float *rstd, const float *weight,
                              size_t rows, size_t n);
    // dweight[c] += sum over rows of dout * unit, for columns [first, last) of rows of width n.
    void (*rms_norm_weight_backward)(float *dweight, const void *dout, const void *unit, size_t rows, size_t n,
                                     size_t first, size_t last);
    // out[c] += sum over rows of in[r, c], for columns [first, last) of rows of width n.
    void (*sum_rows)(float *out, const void *in, size_t rows, size_t n, size_t first, size_t last);
    // Rotary embedding in place (arXiv:2104.09864, halves layout): heads of width head_dim, the first 2 * half elements
    // of each head turn; cosine and sine are [positions, half]; sign -1 turns back.
    void (*rotary)(void *x, size_t row_stride, const int32_t *positions, const float *cosine, const float *sine,
                   float sign, size_t rows, size_t heads, size_t head_dim, size_t half);
    // SwiGLU (arXiv:2002.05202): out = silu(gate) * up.
    void (*swiglu)(void *out, const void *gate, const void *up, size_t n);
    void (*swiglu_backward)(void *dgate, void *dup, const void *dout, const void *gate, const void *up, size_t n);
    // Clamped SwiGLU over pairs (gate, up): with g = min(gate, limit) and u = clamp(up, -limit, limit),
    // out = (u + 1) g sigmoid(alpha g). `pairs` has 2n elements.
    void (*clamped_swiglu)(void *out, const void *pairs, float alpha, float limit, size_t n);
    void (*clamped_swiglu_backward)(void *dpairs, const void *dout, const void *pairs, float alpha, float limit,
                                    size_t n);
    // Copies `rows` rows of `n` elements between strided places.
    void (*copy_rows)(void *out, size_t out_stride, const void *in, size_t in_stride, size_t rows, size_t n);
    // out rows (storage type, strided) = f32 rows, each times its scale; a null scale is 1.
    void (*store_rows)(void *out, size_t out_stride, const float *in, size_t in_stride, const float *scale, size_t rows,
                       size_t n);
    // Softmax of one tile of attention scores. Row r belongs to query position first_query + r % query_rows; key column
    // c is at key position first_key + c; a key is seen when key <= query, key > query - window and query < length.
    // The tile is one of a row of blocks of keys: top[r] is the row's largest score so far and sum[r] the sum of
    // exp(scale * (score - top[r])), both brought up to date; exponentials = exp(scale * (scores - top)) in the storage
    // type, 0 where unseen; rescale[r] is what sums with earlier exponentials have to be multiplied with.
    void (*attention_softmax)(void *exponentials, float *top, float *sum, float *rescale, const float *scores,
                              float scale, size_t rows, size_t columns, size_t query_rows, long first_query,
                              long first_key, long length, long window);
    // From recomputed scores and dP: probabilities = exp(scale * scores - log_sum),
    // dscores = probabilities * (dprobabilities - delta) * scale; both in the storage type.
    void (*attention_softmax_backward)(void *probabilities, void *dscores, const float *scores,
                                       const float *dprobabilities, const float *log_sum, const float *delta,
                                       float scale, size_t rows, size_t columns, size_t query_rows, long first_query,
                                       long first_key, long length, long window);
    // scores = cap * tanh(scale * scores / cap), f32 in place (arXiv:2408.00118, section 2).
    void (*soft_cap)(float *scores, float scale, float cap, size_t n);
    // d *= the derivative of soft_cap, scale * (1 - (capped / cap)^2), from its result; d in the storage type.
    void (*soft_cap_backward)(void *d, const float *capped, float scale, float cap, size_t n);
    // delta[r] = sum of a * b over each row.
    void (*row_dots)(float *delta, const void *a, size_t a_stride, const void *b, size_t b_stride, size_t rows,
                     size_t n);
    // Cross-entropy of one row of f32 logits; returns -log p(target). When dlogits is not null it gets
    // factor * (softmax - onehot(target)) in the storage type.
    double (*cross_entropy)(void *dlogits, const float *logits, size_t n, int32_t target, float factor);
    // Generalised Jensen-Shannon divergence of one row of f32 logits from a teacher's (arXiv:2306.13649, equation 1),
    // both divided by the temperature: beta 0 is KL(teacher | student), 1 is KL(student | teacher), between them
    // beta KL(teacher | m) + (1 - beta) KL(student | m) with m = beta teacher + (1 - beta) student. The teacher's
    // row is overwritten. When dlogits is not null it gets factor times the gradient of the student's logits.
    double (*divergence)(void *dlogits, const float *student, float *teacher, size_t n, float beta, float temperature,
                         float factor);
    // One block of columns of a softmax that goes over its columns once (arXiv:1805.02867). top[r] and sum[r] are the
    // largest score so far and the sum of exp(score - top[r]); they are brought up to date. exponentials =
    // exp(score - top[r]) with the new top, in the storage type; scale[r] = exp(old top - new top), by which what was
    // summed with earlier exponentials has to be multiplied.
    void (*softmax_block)(void *exponentials, float *top, float *sum, float *scale, const float *scores, size_t rows,
                          size_t n);
    // out = acc * inverse - factor * target, one row; out and target in the storage type.
    void (*softmax_gradient)(void *out, const float *acc, float inverse, const void *target, float factor, size_t n);
    // out[i] = keep(i) ? in[i] / (1 - p) : 0, with keep drawn from (key, first + i); see graft_random.
    void (*dropout)(void *out, const void *in, uint64_t key, uint64_t first, float p, size_t n);
    // acc += mask * in / (1 - p): the gradient through dropout, f32 in and out.
    void (*dropout_backward)(float *acc, const float *in, uint64_t key, uint64_t first, float p, size_t n);
    // y[o] = dot(w[o, :], x) for `rows` rows of w: the product of a single token.
    void (*matrix_vector)(float *y, const void *w, const void *x, size_t rows, size_t n);
    // As rotary, with pairs of neighbours: elements 2i and 2i + 1 of a head turn together.
    void (*rotary_interleaved)(void *x, size_t row_stride, const int32_t *positions, const float *cosine,
                               const float *sine, float sign, size_t rows, size_t heads, size_t head_dim, size_t half);
    // GeGLU (arXiv:2002.05202): out = gelu(gate) * up, with the approximation of GELU by tanh (arXiv:1606.08415).
    void (*geglu)(void *out, const void *gate, const void *up, size_t n);
    void (*geglu_backward)(void *dgate, void *dup, const void *dout, const void *gate, const void *up, size_t n);
    // out[i] = in[i] * scale, in the storage type.
    void (*scale_from_f32)(void *out, const float *in, float scale, size_t n);
} graft_kernel_table;

// The loops for f32 and bf16 storage on this processor.
const graft_kernel_table *graft_kernels_f32(void);
const graft_kernel_table *graft_kernels_bf16(void);
// The loops of one instruction set: 0 baseline, 1 avx2, 2 avx512; null where this processor lacks it. For tests that
// compare the sets.
const graft_kernel_table *graft_kernels_at(int level, int is_bf16);
// What this processor has: 0 baseline, 1 avx2, 2 avx512, 3 avx512bf16; at most what the environment variable
// GRAFT_MAX_INSTRUCTION_SET names.
int graft_processor_level(void);
// The level's name: "avx512bf16", "avx512", "avx2" or "baseline".
const char *graft_kernels_name(void);
// Whether bf16 products run at speed on this processor (AVX512-BF16 or AMX).
int graft_has_fast_bf16(void);

// The table's matrix_vector, or a faster one where the processor multiplies bf16.
typedef void (*graft_matrix_vector)(float *y, const void *w, const void *x, size_t rows, size_t n);
graft_matrix_vector graft_matrix_vector_for(int is_bf16);

// Reads `count` words, in 32s, and combines them: the time is that of the memory.
uint64_t graft_read_memory(const uint64_t *words, size_t count);
// One AdamW step (arXiv:1711.05101) on n parameters; correction1 = 1 - beta1^t, correction2 = 1 - beta2^t. The gradient
// is multiplied by gradient_scale first. The betas are double: in f32, 1 - 0.999 is off by 1e-5 of itself.
void graft_adamw(float *parameter, float *moment1, float *moment2, const float *gradient, float gradient_scale,
                 float learning_rate, double beta1, double beta2, float eps, float weight_decay, float correction1,
                 float correction2, size_t n);
// Sum of squares in double precision.
double graft_sum_of_squares(const float *x, size_t n);
// f16 <-> f32, round to nearest even.
void graft_f16_to_f32(float *out, const uint16_t *in, size_t n);
void graft_f32_to_f16(uint16_t *out, const float *in, size_t n);

// Packs rows [first, last) of a bf16 matrix [rows, columns] for products in which it is the second operand: pairs of
// rows interleaved, 32 rows by 64 columns at a time, block of columns after block of columns, with zeros where the
// matrix ends (oneDNN calls it BA16a64b2a). `out` is the whole packed matrix, ceil(rows / 32) * 32 * 64 elements a
// block of columns; `in` is row `first`, a multiple of 32, as `last` is unless it is `rows`.
void graft_pack_bf16(uint16_t *out, const uint16_t *in, size_t rows, size_t columns, size_t first, size_t last);

// A short rest in a loop that watches memory.
static inline void graft_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

// A random word as a function of (key, counter): SplitMix64's finaliser over both.
static inline uint64_t graft_random(uint64_t key, uint64_t counter) {
    uint64_t z = key + (counter + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}
#endif
