#define _GNU_SOURCE
#include "CFuzz.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t now, most;

static inline void count(int64_t size) {
    int64_t sum = atomic_fetch_add_explicit(&now, size, memory_order_relaxed) + size;
    // Threads may lose a peak to each other; only orders of magnitude matter here.
    if (sum > atomic_load_explicit(&most, memory_order_relaxed))
        atomic_store_explicit(&most, sum, memory_order_relaxed);
}

void fuzz_start_counting(void) {
    atomic_store(&now, 0);
    atomic_store(&most, 0);
#if FUZZ_ADDRESS
    static int is_hooked;
    if (!is_hooked) {
        extern int __sanitizer_install_malloc_and_free_hooks(
            void (*)(const volatile void *, size_t), void (*)(const volatile void *));
        extern void fuzz_allocated(const volatile void *, size_t);
        extern void fuzz_freed(const volatile void *);
        is_hooked = __sanitizer_install_malloc_and_free_hooks(fuzz_allocated, fuzz_freed);
    }
#endif
}

int64_t fuzz_most_bytes(void) { return atomic_load(&most); }

#if FUZZ_ADDRESS
extern size_t __sanitizer_get_allocated_size(const volatile void *);
void fuzz_allocated(const volatile void *pointer, size_t size) { count((int64_t)size); }
void fuzz_freed(const volatile void *pointer) {
    if (pointer) count(-(int64_t)__sanitizer_get_allocated_size(pointer));
}
#else
// The C library's own functions under their other names; these here take their place for the whole program.
extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static inline void *counted(void *pointer) {
    if (pointer) count((int64_t)malloc_usable_size(pointer));
    return pointer;
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }
void free(void *pointer) {
    if (pointer) count(-(int64_t)malloc_usable_size(pointer));
    __libc_free(pointer);
}
void *realloc(void *pointer, size_t size) {
    int64_t before = pointer ? (int64_t)malloc_usable_size(pointer) : 0;
    void *result = __libc_realloc(pointer, size);
    if (result || size == 0) count(-before);
    return counted(result);
}
void *memalign(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **result, size_t alignment, size_t size) {
    void *pointer = memalign(alignment, size);
    if (!pointer) return ENOMEM;
    *result = pointer;
    return 0;
}
#endif

void fuzz_note_input(struct fuzz_record *record, const uint8_t *bytes, uint64_t size) {
    record->size = size < sizeof record->bytes ? size : sizeof record->bytes;
    memcpy(record->bytes, bytes, record->size);
}

int64_t fuzz_cpu_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void fuzz_use_signal_stack(void) {
    static char stack[1 << 16];
    stack_t there;
    if (sigaltstack(NULL, &there) == 0 && (there.ss_flags & SS_DISABLE)) {
        stack_t ours = {.ss_sp = stack, .ss_size = sizeof stack};
        sigaltstack(&ours, NULL);
    }
    // libFuzzer keeps this flag when it puts its own handlers in.
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT, SIGFPE};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction action;
        if (sigaction(signals[i], NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
            action.sa_handler == SIG_DFL) {
            action.sa_flags |= SA_ONSTACK;
            sigaction(signals[i], &action, NULL);
        }
    }
}

struct fuzz_record *fuzz_map_record(const char *path) {
    static struct fuzz_record alone;
    int file = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (file < 0 || ftruncate(file, sizeof alone) != 0) return &alone;
    void *start = mmap(NULL, sizeof alone, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return start == MAP_FAILED ? &alone : start;
}

// The package manager looks for the main function under this name.
extern int LLVMFuzzerRunDriver(int *, char ***, int (*)(const uint8_t *, size_t));
extern int LLVMFuzzerTestOneInput(const uint8_t *, size_t);
int fuzz_main(int count, char **arguments) {
    return LLVMFuzzerRunDriver(&count, &arguments, LLVMFuzzerTestOneInput);
}
