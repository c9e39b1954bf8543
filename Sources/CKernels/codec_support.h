// What the codecs of GGUF's block formats share: sizes, levels, numbers in bytes.
#ifndef GRAFT_CODEC_SUPPORT_H
#define GRAFT_CODEC_SUPPORT_H
#include "scalar.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

// ggml's number, elements and bytes of each type's block. The types of 1 to 3 bits that number the points of a lattice
// (IQ1, IQ2, IQ3) are not among them: their values are in tables that no rule gives.
#define EVERY_LAYOUT(L)                                                                                          \
    L(q4_0, 2, 32, 18) L(q4_1, 3, 32, 20) L(q5_0, 6, 32, 22) L(q5_1, 7, 32, 24) L(q8_0, 8, 32, 34)               \
    L(q8_1, 9, 32, 36) L(q2_K, 10, 256, 84) L(q3_K, 11, 256, 110) L(q4_K, 12, 256, 144) L(q5_K, 13, 256, 176)    \
    L(q6_K, 14, 256, 210) L(q8_K, 15, 256, 292) L(iq4_nl, 20, 32, 18) L(iq4_xs, 23, 256, 136)                    \
    L(tq1_0, 34, 256, 54) L(tq2_0, 35, 256, 66) L(mxfp4, 39, 32, 17) L(nvfp4, 40, 64, 36) L(q1_0, 41, 128, 18)   \
    L(q2_0, 42, 64, 18)
#define CONSTANTS(name, number, length, size) TYPE_##name = number, length_##name = length, size_##name = size,
enum { EVERY_LAYOUT(CONSTANTS) };
#undef CONSTANTS

#define EVERY_TYPE(T)                                                                                               \
    T(q4_0) T(q4_1) T(q5_0) T(q5_1) T(q8_0) T(q8_1) T(q2_K) T(q3_K) T(q4_K) T(q5_K) T(q6_K) T(q8_K) T(iq4_nl)       \
    T(iq4_xs) T(tq1_0) T(tq2_0) T(mxfp4) T(nvfp4) T(q1_0) T(q2_0)
// The types that are written.
#define EVERY_ENCODED_TYPE(T)                                                                                       \
    T(q4_0) T(q4_1) T(q5_0) T(q5_1) T(q8_0) T(q2_K) T(q3_K) T(q4_K) T(q5_K) T(q6_K) T(iq4_nl) T(iq4_xs) T(mxfp4)

static const float levels_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the values of E2M1 (OCP Microscaling Formats 1.0, section 5.3.3); ggml knows no negative zero.
static const float levels_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

INLINE uint16_t load_u16(const uint8_t *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }
INLINE uint32_t load_u32(const uint8_t *bytes) { return load_u16(bytes) | (uint32_t)load_u16(bytes + 2) << 16; }
INLINE void store_u16(uint8_t *bytes, uint32_t value) {
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

INLINE float f16_to_f32(uint16_t bits) {
    // 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal, exactly.
    uint32_t scaled = f32_to_bits(bits_to_f32((uint32_t)(bits & 0x7FFF) << 13) * 0x1p112f);
    uint32_t special = (bits & 0x7C00) == 0x7C00 ? 0x7F800000u : 0;
    return bits_to_f32(scaled | special | (uint32_t)(bits & 0x8000) << 16);
}
INLINE float load_f16(const uint8_t *bytes) { return f16_to_f32(load_u16(bytes)); }

// Round to nearest even; what is too large becomes infinity.
INLINE uint16_t f32_to_f16(float value) {
    uint32_t bits = f32_to_bits(value), magnitude = bits & 0x7FFFFFFFu;
    uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1)) >> 13;
    uint32_t subnormal = f32_to_bits(bits_to_f32(magnitude) + 0.5f) - 0x3F000000u;
    uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    uint32_t special = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
    return (uint16_t)((magnitude >= 0x47800000u ? special : finite) | (bits >> 16 & 0x8000u));
}
INLINE float rounded_to_f16(float value) { return f16_to_f32(f32_to_f16(value)); }

// Writes `value`; whether it is finite as f16.
INLINE int store_f16(uint8_t *bytes, float value) {
    uint16_t bits = f32_to_f16(value);
    store_u16(bytes, bits);
    return (bits & 0x7C00) != 0x7C00;
}

// Half of 2^(e - 127).
INLINE float half_of_e8m0(uint8_t e) { return bits_to_f32(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

// Half of an unsigned E4M3, bias 7.
INLINE float half_of_ue4m3(uint8_t x) {
    if (x == 0 || x == 0x7F) return 0;
    int exponent = x >> 3 & 15, mantissa = x & 7;
    if (exponent == 0) return (float)mantissa * 0x1p-10f;
    return (1 + (float)mantissa / 8) * bits_to_f32((uint32_t)(exponent - 8 + 127) << 23);
}
#endif
