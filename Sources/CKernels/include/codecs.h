// The block formats of GGUF tensors, to and from f32. Every instruction set gives the same bytes.
#ifndef GRAFT_CODECS_H
#define GRAFT_CODECS_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    // y [n] = the values of n / block length blocks; 0 when the type has no decoder. `type` is ggml's number.
    int (*decode)(int type, float *y, const void *blocks, size_t n);
    // The blocks of x [rows, n], n a whole number of blocks. `importance` [n] weighs the columns' squared errors; null
    // weighs all alike, and gives q4_0, q4_1, q5_0, q5_1 and q8_0 the bytes of llama.cpp.
    // 1 done, 0 a scale is too large for the format, -1 the type has no encoder.
    int (*encode)(int type, void *blocks, const float *x, const float *importance, size_t rows, size_t n);
} graft_codec_table;

// The codecs on this processor.
const graft_codec_table *graft_codecs(void);
// The codecs of one instruction set: 0 baseline, 1 avx2, 2 avx512; null where this processor lacks it.
const graft_codec_table *graft_codecs_at(int level);
// Whether the type has a decoder, an encoder.
int graft_can_decode(int type);
int graft_can_encode(int type);
#endif
