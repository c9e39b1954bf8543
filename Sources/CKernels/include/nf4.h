// 4-bit NormalFloat (arXiv:2305.14314): blocks of 64 numbers, each the nearest of 16 fixed values times the largest
// magnitude of the block. Two codes a byte, the first in the high half, as bitsandbytes lays them out.
#ifndef GRAFT_NF4_H
#define GRAFT_NF4_H
#include <stddef.h>
#include <stdint.h>

#define GRAFT_NF4_BLOCK 64

extern const float graft_nf4_codebook[16];

// n numbers to (n + 1) / 2 bytes and ceil(n / 64) scales.
void graft_nf4_encode(uint8_t *codes, float *scales, const float *in, size_t n);
// Its inverse; `codes` begins at a block.
void graft_nf4_decode(float *out, const uint8_t *codes, const float *scales, size_t n);
#endif
