// Scalar building blocks that the compiler inlines into the vector loops.
#ifndef GRAFT_SCALAR_H
#define GRAFT_SCALAR_H
#include <stdint.h>

static inline __attribute__((always_inline)) float bits_to_f32(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

static inline __attribute__((always_inline)) uint32_t f32_to_bits(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

static inline __attribute__((always_inline)) float bf16_to_f32(uint16_t value) {
    return bits_to_f32((uint32_t)value << 16);
}

// Round to nearest even; a NaN stays a (quiet) NaN.
static inline __attribute__((always_inline)) uint16_t f32_to_bf16(float value) {
    uint32_t bits = f32_to_bits(value);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

// exp(x) to about 1 ulp: x = k ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 for exp(r) (Cephes expf), times 2^k.
// Below -87.3 it gives 0, above 88.7 infinity; NaN stays NaN.
static inline __attribute__((always_inline)) float exp_f32(float x) {
    float clamped = x > -87.3f ? x : -87.3f;  // NaN too: its conversion to an integer is undefined
    clamped = clamped > 88.7f ? 88.7f : clamped;
    float k = (clamped * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    float r = clamped - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t exponent = (int32_t)k;
    // Two factors, so that 2^128 does not overflow before the product.
    int32_t first = exponent >> 1, second = exponent - first;
    float value = p * bits_to_f32((uint32_t)(first + 127) << 23) * bits_to_f32((uint32_t)(second + 127) << 23);
    value = x < -87.3f ? 0.0f : value;
    value = x > 88.7f ? __builtin_inff() : value;
    return x != x ? x : value;
}

// exp(x) for x <= 0 and a little above, to about 1 ulp: as exp_f32, with the power of two added to the exponent's bits.
// Below -87 it stays at exp(-87), which is 1.6e-38; NaN stays NaN.
static inline __attribute__((always_inline)) float exp_negative(float x) {
    float clamped = x > -87.0f ? x : -87.0f;
    // The sum's low bits are k; shifted, they are k's place in an exponent.
    float shifted = clamped * 1.44269504088896341f + 12582912.0f, k = shifted - 12582912.0f;
    float r = clamped - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    float value = bits_to_f32(f32_to_bits(p) + (f32_to_bits(shifted) << 23));
    return x != x ? x : value;
}

// tanh(x) to about 2 ulp: a polynomial of odd degree below 0.625 (Cephes tanhf), 1 - 2 / (exp(2 |x|) + 1) above.
static inline __attribute__((always_inline)) float tanh_f32(float x) {
    float magnitude = x < 0.0f ? -x : x, z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float small = p * z * x + x;
    float large = 1.0f - 2.0f / (exp_f32(2.0f * magnitude) + 1.0f);
    return magnitude < 0.625f ? small : x < 0.0f ? -large : large;
}

// log(1 + z) for z from 0 to 1, to about 1e-7: 2 atanh(z / (2 + z)) as a series.
static inline __attribute__((always_inline)) float log1p_unit(float z) {
    float u = z / (2.0f + z), square = u * u;
    float p = 2.0f / 13;
    p = p * square + 2.0f / 11;
    p = p * square + 2.0f / 9;
    p = p * square + 2.0f / 7;
    p = p * square + 2.0f / 5;
    p = p * square + 2.0f / 3;
    return u * (p * square + 2.0f);
}

// Columns between two sums of a divergence.
#define DIVERGENCE_BLOCK 256
#endif
