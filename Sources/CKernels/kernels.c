#include "kernels.h"
#include "scalar.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

#define LOAD(p, i) ((p)[i])
#define STORE(p, i, v) ((p)[i] = (v))
#define STORED float
#define NAME(x) JOIN(x, f32_baseline)
#include "loops.inc"
#undef NAME
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define NAME(x) JOIN(x, f32_avx2)
#include "loops.inc"
#undef NAME
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))), \
                             apply_to = function)
#define NAME(x) JOIN(x, f32_avx512)
#include "loops.inc"
#undef NAME
#pragma clang attribute pop
#endif
#undef STORED
#undef LOAD
#undef STORE

#define LOAD(p, i) bf16_to_f32((p)[i])
#define STORE(p, i, v) ((p)[i] = f32_to_bf16(v))
#define STORED uint16_t
#define NAME(x) JOIN(x, bf16_baseline)
#include "loops.inc"
#undef NAME
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define NAME(x) JOIN(x, bf16_avx2)
#include "loops.inc"
#undef NAME
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))), \
                             apply_to = function)
#define NAME(x) JOIN(x, bf16_avx512)
#include "loops.inc"
#undef NAME
#pragma clang attribute pop
#endif

enum level { BASELINE, AVX2, AVX512, AVX512_BF16 };
static const char *const level_names[] = {"baseline", "avx2", "avx512", "avx512bf16"};

int graft_processor_level(void) {
    enum level level = BASELINE;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = AVX2;
    if (level == AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        level = __builtin_cpu_supports("avx512bf16") ? AVX512_BF16 : AVX512;
#endif
    const char *limit = getenv("GRAFT_MAX_INSTRUCTION_SET");
    for (int i = BASELINE; limit && i < (int)level; i++)
        if (!strcmp(limit, level_names[i])) return i;
    return level;
}

const graft_kernel_table *graft_kernels_at(int level, int is_bf16) {
    if (level < BASELINE || level > AVX512 || level > graft_processor_level()) return 0;
#if defined(__x86_64__)
    switch (level) {
        case AVX512: return is_bf16 ? &table_bf16_avx512 : &table_f32_avx512;
        case AVX2: return is_bf16 ? &table_bf16_avx2 : &table_f32_avx2;
        default: break;
    }
#endif
    return is_bf16 ? &table_bf16_baseline : &table_f32_baseline;
}

static int table_level(void) { return graft_processor_level() < AVX512 ? graft_processor_level() : AVX512; }
const graft_kernel_table *graft_kernels_f32(void) { return graft_kernels_at(table_level(), 0); }
const graft_kernel_table *graft_kernels_bf16(void) { return graft_kernels_at(table_level(), 1); }
int graft_has_fast_bf16(void) { return graft_processor_level() == AVX512_BF16; }
const char *graft_kernels_name(void) { return level_names[graft_processor_level()]; }

#if defined(__x86_64__)
// Pairs of bf16 are multiplied and added by one instruction: a core then waits for memory alone. Rows go one after the
// other, a single stream, asked for a page ahead past the caches: more streams, or none asked for, are up to a fifth
// slower.
__attribute__((target("avx512f,avx512bw,avx512bf16")))
static void matrix_vector_bf16_pairs(float *y, const void *w_, const void *x_, size_t rows, size_t n) {
    const uint16_t *w = w_, *x = x_;
    for (size_t r = 0; r < rows; r++, w += n) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        size_t i = 0;
        for (; i + 64 <= n; i += 64) {
            __builtin_prefetch((const char *)(w + i) + 4096, 0, 0);
            __builtin_prefetch((const char *)(w + i) + 4160, 0, 0);
            even = _mm512_dpbf16_ps(even, (__m512bh)_mm512_loadu_si512(w + i), (__m512bh)_mm512_loadu_si512(x + i));
            odd = _mm512_dpbf16_ps(odd, (__m512bh)_mm512_loadu_si512(w + i + 32),
                                   (__m512bh)_mm512_loadu_si512(x + i + 32));
        }
        for (; i < n; i += 32) {
            __mmask32 mask = n - i >= 32 ? 0xFFFFFFFFu : (1u << (n - i)) - 1;
            even = _mm512_dpbf16_ps(even, (__m512bh)_mm512_maskz_loadu_epi16(mask, w + i),
                                    (__m512bh)_mm512_maskz_loadu_epi16(mask, x + i));
        }
        y[r] = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    }
}
#endif

graft_matrix_vector graft_matrix_vector_for(int is_bf16) {
#if defined(__x86_64__)
    if (is_bf16 && graft_has_fast_bf16()) return matrix_vector_bf16_pairs;
#endif
    return (is_bf16 ? graft_kernels_bf16() : graft_kernels_f32())->matrix_vector;
}

void graft_adamw(float *restrict parameter, float *restrict moment1, float *restrict moment2,
                 const float *restrict gradient, float gradient_scale, float learning_rate, double beta1, double beta2,
                 float eps, float weight_decay, float correction1, float correction2, size_t n) {
    // PyTorch's order of operations: decay, moments, then the step with the bias corrections.
    float step = learning_rate / correction1, root = __builtin_sqrtf(correction2);
    float keep2 = (float)beta2, rest1 = (float)(1 - beta1), rest2 = (float)(1 - beta2);
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * gradient_scale;
        float p = parameter[i] * (1.0f - learning_rate * weight_decay);
        float m = moment1[i] + (g - moment1[i]) * rest1;
        float v = moment2[i] * keep2 + g * g * rest2;
        moment1[i] = m;
        moment2[i] = v;
        parameter[i] = p - step * (m / (__builtin_sqrtf(v) / root + eps));
    }
}

static void interleave_64(uint16_t *restrict out, const uint16_t *restrict even, const uint16_t *restrict odd) {
    for (size_t c = 0; c < 64; c++) {
        out[2 * c] = even[c];
        out[2 * c + 1] = odd[c];
    }
}

void graft_pack_bf16(uint16_t *out, const uint16_t *in, size_t rows, size_t columns, size_t first, size_t last) {
    static const uint16_t zeros[64];
    size_t padded = (rows + 31) / 32 * 32, end = last < rows ? last : padded;
    // Row pairs outside, so that the matrix is read in long runs.
    for (size_t r = first; r < end; r += 2) {
        const uint16_t *even = r < last ? in + (r - first) * columns : 0;
        const uint16_t *odd = r + 1 < last ? in + (r + 1 - first) * columns : 0;
        for (size_t column = 0; column < columns; column += 64) {
            uint16_t *target = out + column * padded + r * 64;
            size_t width = columns - column < 64 ? columns - column : 64;
            if (width == 64) {
                interleave_64(target, even ? even + column : zeros, odd ? odd + column : zeros);
                continue;
            }
            uint16_t pair[2][64] = {{0}};
            if (even) __builtin_memcpy(pair[0], even + column, width * sizeof(uint16_t));
            if (odd) __builtin_memcpy(pair[1], odd + column, width * sizeof(uint16_t));
            interleave_64(target, pair[0], pair[1]);
        }
    }
}

uint64_t graft_read_memory(const uint64_t *words, size_t count) {
    uint64_t lanes[32] = {0}, sum = 0;
    for (size_t i = 0; i + 32 <= count; i += 32)
        for (int l = 0; l < 32; l++) lanes[l] ^= words[i + l];
    for (int l = 0; l < 32; l++) sum ^= lanes[l];
    return sum;
}

double graft_sum_of_squares(const float *x, size_t n) {
    double lanes[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lanes[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++) lanes[0] += (double)x[i] * (double)x[i];
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

void graft_f16_to_f32(float *out, const uint16_t *in, size_t n) {
    for (size_t i = 0; i < n; i++) {
        _Float16 value;
        __builtin_memcpy(&value, in + i, 2);
        out[i] = (float)value;
    }
}

void graft_f32_to_f16(uint16_t *out, const float *in, size_t n) {
    for (size_t i = 0; i < n; i++) {
        _Float16 value = (_Float16)in[i];
        __builtin_memcpy(out + i, &value, 2);
    }
}
