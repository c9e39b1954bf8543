#ifndef GRAFT_KERNELS_H
#define GRAFT_KERNELS_H
#include <stdint.h>
#include <stddef.h>
#endif
