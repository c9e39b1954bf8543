#ifndef CFUZZ_H
#define CFUZZ_H
#include <stdint.h>

/// What a run has seen; kept in a mapped file so that it outlasts a crash.
struct fuzz_record {
    uint64_t inputs;
    /// Inputs that the reader took for sound.
    uint64_t accepted;
    /// Of any input: bytes of memory at once, and CPU time.
    uint64_t most_bytes;
    uint64_t most_nanoseconds;
    /// The input that is being read: for deaths at which libFuzzer cannot write it any more.
    uint64_t size;
    uint8_t bytes[1 << 16];
};

/// Starts to count memory anew; what is allocated already does not count.
void fuzz_start_counting(void);
/// The most bytes that were allocated at once since then.
int64_t fuzz_most_bytes(void);
/// CPU time of the process, all threads.
int64_t fuzz_cpu_nanoseconds(void);
/// Gives signal handlers a stack of their own, so that an exhausted stack is told with its input.
void fuzz_use_signal_stack(void);
/// Maps the record at `path`; one in memory alone when `path` is null or cannot be mapped.
struct fuzz_record *fuzz_map_record(const char *path);
/// Keeps the input that is about to be read.
void fuzz_note_input(struct fuzz_record *record, const uint8_t *bytes, uint64_t size);

#endif
