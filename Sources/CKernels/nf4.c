#include "nf4.h"
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// The quantiles of a normal distribution of which the largest is 1, with an exact zero (arXiv:2305.14314, appendix E).
const float graft_nf4_codebook[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

void graft_nf4_encode(uint8_t *codes, float *scales, const float *in, size_t n) {
    float middles[15];
    for (int k = 0; k < 15; k++) middles[k] = (graft_nf4_codebook[k] + graft_nf4_codebook[k + 1]) * 0.5f;
    for (size_t start = 0; start < n; start += GRAFT_NF4_BLOCK) {
        size_t count = n - start < GRAFT_NF4_BLOCK ? n - start : GRAFT_NF4_BLOCK;
        const float *x = in + start;
        float largest = 0;
        for (size_t i = 0; i < count; i++) {
            float magnitude = __builtin_fabsf(x[i]);
            largest = magnitude > largest ? magnitude : largest;
        }
        scales[start / GRAFT_NF4_BLOCK] = largest;
        float inverse = largest > 0 ? 1.0f / largest : 0.0f;
        uint8_t code[GRAFT_NF4_BLOCK] = {0};
        for (size_t i = 0; i < count; i++) {
            float unit = x[i] * inverse;
            int above = 0;
            for (int k = 0; k < 15; k++) above += unit > middles[k];
            code[i] = (uint8_t)above;
        }
        for (size_t i = 0; i < count; i += 2)
            codes[(start + i) / 2] = (uint8_t)(code[i] << 4 | (i + 1 < count ? code[i + 1] : 0));
    }
}

static void decode_plain(float *out, const uint8_t *codes, float scale, size_t n) {
    for (size_t i = 0; i < n; i += 2) {
        uint8_t pair = codes[i / 2];
        out[i] = graft_nf4_codebook[pair >> 4] * scale;
        if (i + 1 < n) out[i + 1] = graft_nf4_codebook[pair & 15] * scale;
    }
}

#if defined(__x86_64__)
// A block is 32 bytes; the code book is one register, and a lookup one permutation.
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
static void decode_avx512(float *out, const uint8_t *codes, float scale) {
    __m512 book = _mm512_mul_ps(_mm512_loadu_ps(graft_nf4_codebook), _mm512_set1_ps(scale));
    for (int half = 0; half < 2; half++) {
        __m128i pairs = _mm_loadu_si128((const __m128i *)(codes + 16 * half));
        __m128i high = _mm_and_si128(_mm_srli_epi16(pairs, 4), _mm_set1_epi8(15));
        __m128i low = _mm_and_si128(pairs, _mm_set1_epi8(15));
        __m512i first = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(high, low));
        __m512i second = _mm512_cvtepu8_epi32(_mm_unpackhi_epi8(high, low));
        _mm512_storeu_ps(out + 32 * half, _mm512_permutexvar_ps(first, book));
        _mm512_storeu_ps(out + 32 * half + 16, _mm512_permutexvar_ps(second, book));
    }
}
#endif

void graft_nf4_decode(float *out, const uint8_t *codes, const float *scales, size_t n) {
    size_t start = 0;
#if defined(__x86_64__)
    // 2 is AVX512, as graft_processor_level counts.
    if (graft_processor_level() >= 2)
        for (; start + GRAFT_NF4_BLOCK <= n; start += GRAFT_NF4_BLOCK)
            decode_avx512(out + start, codes + start / 2, scales[start / GRAFT_NF4_BLOCK]);
#endif
    for (; start < n; start += GRAFT_NF4_BLOCK) {
        size_t count = n - start < GRAFT_NF4_BLOCK ? n - start : GRAFT_NF4_BLOCK;
        decode_plain(out + start, codes + start / 2, scales[start / GRAFT_NF4_BLOCK], count);
    }
}
