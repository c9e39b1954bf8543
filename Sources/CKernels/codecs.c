#include "codecs.h"
#include "codec_support.h"
#include "kernels.h"

// Bytes must not depend on the instruction set: products are rounded before they are added.
#pragma STDC FP_CONTRACT OFF
// Vectors are passed to inlined functions alone.
#pragma clang diagnostic ignored "-Wpsabi"

// 16 numbers side by side; the compiler makes one, two or four registers of them.
typedef float vf __attribute__((ext_vector_type(16)));
typedef int32_t vi __attribute__((ext_vector_type(16)));
typedef uint8_t vb __attribute__((ext_vector_type(16)));

// Sums that differ by less of themselves are equal.
#define MARGIN 2e-7f
#define SELECT(mask, a, b) ((mask) ? (a) : (b))

typedef struct {
    vf low, high;
} block_of_32;

// How values of a unit are numbered: integers from low to high, or the points of a code book.
enum { INTEGERS, IQ4, E2M1 };
typedef struct {
    int kind;
    float low, high;
} level_set;

// What 16 units, in blocks of `units`, are written as: value = d a q - dmin b, or d a level.
typedef struct {
    vf a, b;
    // Each block's; rounded to f16.
    float d[16], dmin[16];
    vf error;
} unit_fit;

// How a format stores a block: `units` of `length` elements, numbers from low to high (or a code book), the units' own
// scales (and minima) as integers from scale_low to scale_high.
typedef struct {
    int type, length, units, isAffine;
    level_set levels;
    float scale_low, scale_high;
} block_format;

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

#define NAME(x) JOIN(x, baseline)
#include "decode.inc"
#include "encode_search.inc"
#include "encode.inc"
static const graft_codec_table codecs_baseline = {decode_baseline, encode_baseline};
#undef NAME
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define NAME(x) JOIN(x, avx2)
#include "decode.inc"
#include "encode_search.inc"
#include "encode.inc"
static const graft_codec_table codecs_avx2 = {decode_avx2, encode_avx2};
#undef NAME
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))), \
                             apply_to = function)
#define NAME(x) JOIN(x, avx512)
#include "encode_search.inc"
#include "encode.inc"
// Wider registers do not help to unpack.
static const graft_codec_table codecs_avx512 = {decode_avx2, encode_avx512};
#undef NAME
#pragma clang attribute pop
#endif

const graft_codec_table *graft_codecs_at(int level) {
    if (level < 0 || level > 2 || level > graft_processor_level()) return 0;
#if defined(__x86_64__)
    if (level == 2) return &codecs_avx512;
    if (level == 1) return &codecs_avx2;
#endif
    return &codecs_baseline;
}

const graft_codec_table *graft_codecs(void) {
    int level = graft_processor_level();
    return graft_codecs_at(level < 2 ? level : 2);
}

#define IS_TYPE(name) case TYPE_##name:
int graft_can_decode(int type) {
    switch (type) {
        EVERY_TYPE(IS_TYPE) return 1;
        default: return 0;
    }
}

int graft_can_encode(int type) {
    switch (type) {
        EVERY_ENCODED_TYPE(IS_TYPE) return 1;
        default: return 0;
    }
}
