#include "differences.h"
#include "kernels.h"

#include <string.h>

#define LANES 16
typedef float lanes __attribute__((ext_vector_type(LANES)));

#define INLINE static inline __attribute__((always_inline))

// Short runs are summed in f32, the runs in double.
enum { RUN = 1024 };

INLINE double sum(const lanes *values) {
    double total = 0;
    for (int i = 0; i < LANES; i++) total += (double)(*values)[i];
    return total;
}

// Elements from i on, zeros beyond the end.
INLINE void load(lanes *target, const float *values, size_t i, size_t end) {
    if (i + LANES <= end) {
        memcpy(target, values + i, sizeof(lanes));
        return;
    }
    *target = 0;
    memcpy(target, values + i, (end - i) * sizeof(float));
}

INLINE void differences(graft_difference_sums *sums, const float *expected, const float *found, const float *base,
                        float relative, float absolute, size_t n) {
    lanes excess = 0;
    for (size_t start = 0; start < n; start += RUN) {
        size_t end = start + RUN < n ? start + RUN : n;
        lanes error = 0, size = 0, along = 0, change = 0;
        for (size_t i = start; i < end; i += LANES) {
            lanes wanted, difference;
            load(&wanted, expected, i, end);
            load(&difference, found, i, end);
            difference -= wanted;
            error += difference * difference;
            size += wanted * wanted;
            excess = __builtin_elementwise_max(
                excess,
                __builtin_elementwise_abs(difference) - relative * __builtin_elementwise_abs(wanted) - absolute);
            if (!base) continue;
            lanes step;
            load(&step, base, i, end);
            step = wanted - step;
            along += difference * step;
            change += step * step;
        }
        sums->squared_error += sum(&error);
        sums->squared_expected += sum(&size);
        sums->along_change += sum(&along);
        sums->squared_change += sum(&change);
    }
    for (int i = 0; i < LANES; i++)
        if (excess[i] > sums->largest_excess) sums->largest_excess = excess[i];
}

#define PARAMETERS                                                                                                     \
    graft_difference_sums *sums, const float *expected, const float *found, const float *base, float relative,         \
        float absolute, size_t n
#define ARGUMENTS sums, expected, found, base, relative, absolute, n

static void baseline(PARAMETERS) { differences(ARGUMENTS); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void avx2(PARAMETERS) { differences(ARGUMENTS); }
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))) static void avx512(PARAMETERS) {
    differences(ARGUMENTS);
}
#endif

graft_difference_sums graft_differences(const float *expected, const float *found, const float *base, float relative,
                                        float absolute, size_t n) {
    graft_difference_sums result = {0, 0, 0, 0, 0}, *sums = &result;
#if defined(__x86_64__)
    int level = graft_processor_level();
    if (level >= 2) avx512(ARGUMENTS);
    else if (level == 1) avx2(ARGUMENTS);
    else baseline(ARGUMENTS);
#else
    baseline(ARGUMENTS);
#endif
    return result;
}
