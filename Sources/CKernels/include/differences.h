// How far numbers are from what they should be.
#ifndef GRAFT_DIFFERENCES_H
#define GRAFT_DIFFERENCES_H
#include <stddef.h>

typedef struct {
    double squared_error, squared_expected;
    // (found - expected) . change and change . change, with change = expected - base.
    double along_change, squared_change;
    // The largest |found - expected| - relative |expected| - absolute; at least 0.
    float largest_excess;
} graft_difference_sums;

// The sums over expected [n], found [n] and base [n], which may be null. What is not a number makes a sum one.
graft_difference_sums graft_differences(const float *expected, const float *found, const float *base, float relative,
                                        float absolute, size_t n);
#endif
