#define _GNU_SOURCE
#include "host.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

// The statuses of the command line, FileFormats.ExitStatus.
enum { STATUS_IO = 74, STATUS_STOPPED = 75 };

static atomic_int requests, interrupts, holds, wants_json, output_began;

static const struct {
    int number;
    const char *name;
} stop_signals[] = {{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}, {SIGUSR1, "SIGUSR1"}};
enum { STOP_SIGNALS = sizeof stop_signals / sizeof stop_signals[0] };

static const int fault_signals[] = {SIGSEGV, SIGILL, SIGTRAP, SIGABRT};
enum { FAULT_SIGNALS = sizeof fault_signals / sizeof fault_signals[0] };
static struct sigaction former[FAULT_SIGNALS];
// The first thread's stack cannot grow once the address space is used up, so that its handlers run on this one.
static char handler_stack[64 << 10];

// MARK: words, without the C library's buffers

struct text {
    char bytes[512];
    size_t count;
};

static void add(struct text *text, const char *words) {
    while (*words && text->count < sizeof text->bytes) text->bytes[text->count++] = *words++;
}

static void add_number(struct text *text, uint64_t number) {
    char digits[24];
    size_t i = sizeof digits - 1;
    digits[i] = 0;
    do digits[--i] = (char)('0' + number % 10);
    while (number /= 10);
    add(text, digits + i);
}

static void put(int descriptor, const struct text *text) {
    size_t done = 0;
    while (done < text->count) {
        ssize_t count = write(descriptor, text->bytes + done, text->count - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return;
        done += (size_t)count;
    }
}

// Tells why the process ends, and ends it.
static _Noreturn void end(int status, const struct text *message) {
    struct text line = {.count = 0};
    add(&line, "graft: ");
    if (atomic_load(&wants_json) && !atomic_load(&output_began)) {
        struct text document = {.count = 0};
        add(&document, "{\n  \"error\": {\n    \"code\": ");
        add_number(&document, (uint64_t)status);
        add(&document, ",\n    \"message\": \"");
        for (size_t i = 0; i < message->count; i++) {
            char one[2] = {message->bytes[i], 0};
            add(&document, message->bytes[i] == '\n' ? "\\n" : one);
        }
        add(&document, "\",\n    \"problems\": []\n  }\n}\n");
        put(STDOUT_FILENO, &document);
    }
    put(STDERR_FILENO, &line);
    put(STDERR_FILENO, message);
    line.count = 0;
    add(&line, "\n");
    put(STDERR_FILENO, &line);
    _exit(status);
}

// MARK: requests to stop

static void receive(int number, siginfo_t *information, void *context) {
    (void)context;
    int saved = errno;
    // OpenBLAS raises SIGINT in its own process where it cannot start a thread.
    if (number == SIGINT && information->si_code == SI_TKILL && information->si_pid == getpid()) {
        struct text message = {.count = 0};
        add(&message, "no thread could be started: the limit of processes is reached\n  raise it (ulimit -u), or end others");
        end(STATUS_IO, &message);
    }
    atomic_fetch_add(&requests, 1);
    if (number == SIGINT && atomic_fetch_add(&interrupts, 1) > 0) {
        signal(SIGINT, SIG_DFL);
        // Blocked until the handler returns, then fatal.
        raise(SIGINT);
    } else if (atomic_load(&holds) == 0) {
        struct text message = {.count = 0};
        add(&message, "stopped on request (");
        for (int i = 0; i < STOP_SIGNALS; i++) {
            if (stop_signals[i].number == number) add(&message, stop_signals[i].name);
        }
        add(&message, "); nothing was under way that has to be saved or removed");
        end(STATUS_STOPPED, &message);
    }
    errno = saved;
}

int graft_stop_requests(void) { return atomic_load_explicit(&requests, memory_order_relaxed); }
void graft_stop_request(void) { atomic_fetch_add(&requests, 1); }
void graft_stop_clear(void) {
    atomic_store(&requests, 0);
    atomic_store(&interrupts, 0);
}
void graft_stop_hold(int change) { atomic_fetch_add(&holds, change); }
void graft_output_began(void) { atomic_store(&output_began, 1); }

// MARK: memory

uint64_t graft_address_limit(int with_data) {
    uint64_t least = UINT64_MAX;
    const int kinds[] = {RLIMIT_AS, RLIMIT_DATA};
    for (int i = 0; i < (with_data ? 2 : 1); i++) {
        struct rlimit limit;
        if (getrlimit(kinds[i], &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < least) {
            least = limit.rlim_cur;
        }
    }
    return least;
}

int graft_can_reserve(size_t bytes) {
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) return 0;
    munmap(block, bytes);
    return 1;
}

uint64_t graft_address_use(uint64_t *resident) {
    char bytes[64];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, bytes, sizeof bytes);
    close(file);
    uint64_t pages[2] = {0, 0};
    for (ssize_t i = 0, field = 0; i < count && field < 2; i++) {
        if (bytes[i] >= '0' && bytes[i] <= '9') {
            pages[field] = pages[field] * 10 + (uint64_t)(bytes[i] - '0');
        } else {
            field++;
        }
    }
    uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
    if (resident) *resident = pages[1] * size;
    return pages[0] * size;
}

_Noreturn void graft_out_of_memory(size_t bytes) {
    struct text message = {.count = 0};
    add(&message, "out of memory");
    if (bytes > 0) {
        add(&message, ": ");
        add_number(&message, bytes);
        add(&message, " bytes could not be had");
    }
    uint64_t limit = graft_address_limit(1);
    if (limit != UINT64_MAX) {
        add(&message, bytes > 0 ? "; " : ": ");
        add(&message, "this process may use ");
        add_number(&message, limit >> 10);
        add(&message, " KiB of address space\n  raise the limit (ulimit -v, ulimit -d), or use fewer --threads");
    } else {
        add(&message, "\n  free some memory, or give graft a smaller task");
    }
    end(STATUS_IO, &message);
}

// A failed allocation of the Swift runtime, or of a library, ends in a trap. Where the process may not have more address
// space, the trap is told for what it is; any other goes on to what would have been done about it.
static void fault(int number, siginfo_t *information, void *context) {
    (void)information, (void)context;
    int reason = errno;
    uint64_t limit = graft_address_limit(1);
    if (limit != UINT64_MAX && (reason == ENOMEM || graft_address_use(NULL) + (16 << 20) > limit)) graft_out_of_memory(0);
    for (int i = 0; i < FAULT_SIGNALS; i++) {
        if (fault_signals[i] == number) sigaction(number, &former[i], NULL);
    }
    // What faulted runs again; what was raised has to be raised again.
    if (number == SIGABRT || number == SIGTRAP) raise(number);
    errno = reason;
}

// MARK: the process

static void open_standard(int number, int flags) {
    if (fcntl(number, F_GETFD) >= 0 || errno != EBADF) return;
    int file = open("/dev/null", flags);
    if (file < 0 || file == number) return;
    dup2(file, number);
    close(file);
}

static void listen_to_stops(int json) {
    open_standard(STDIN_FILENO, O_WRONLY);
    open_standard(STDOUT_FILENO, O_RDONLY);
    open_standard(STDERR_FILENO, O_WRONLY);
    atomic_store(&wants_json, json);
    signal(SIGPIPE, SIG_IGN);
    // A limit on the size of files is an error of the write like any other.
    signal(SIGXFSZ, SIG_IGN);
    // A parent may have started this process with the signals blocked.
    sigset_t stops;
    sigemptyset(&stops);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        int number = stop_signals[i].number;
        struct sigaction action, old;
        // nohup(1) ignores SIGHUP for the programs that it starts.
        if (number == SIGHUP && sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN) continue;
        memset(&action, 0, sizeof action);
        // Without SA_RESTART: whoever waits for a pipe or a terminal looks whether to go on.
        action.sa_sigaction = receive;
        action.sa_flags = SA_SIGINFO;
        sigemptyset(&action.sa_mask);
        sigaction(number, &action, NULL);
        sigaddset(&stops, number);
    }
    pthread_sigmask(SIG_UNBLOCK, &stops, NULL);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
// OpenBLAS starts threads as it is loaded and takes 128 MiB of address space for each; where there is none, they wait for
// it for ever, and with them the end of the process. graft calls it from its own threads alone, and under a limit
// begins anew with that said. A program that the dynamic loader was told to run cannot: the file that runs is the loader.
static void keep_openblas_small(char **arguments, char **environment) {
    static char setting[] = "OPENBLAS_NUM_THREADS=1";
    size_t count = 0, name = strlen("OPENBLAS_NUM_THREADS=");
    for (; environment[count]; count++) {
        if (strncmp(environment[count], setting, name) == 0) return;
    }
    if (count > 4096 || getauxval(AT_BASE) == 0) return;
    char *copy[count + 2];
    copy[0] = setting;
    memcpy(copy + 1, environment, (count + 1) * sizeof *copy);
    execve("/proc/self/exe", arguments, copy);
}

// Before the libraries' constructors, which take most of the time that the program needs to begin: until then a signal
// ends it as it ends any program. Sanitizers have to begin first.
static void before_constructors(int count, char **arguments, char **environment) {
    if (graft_address_limit(1) != UINT64_MAX) keep_openblas_small(arguments, environment);
    int json = 0;
    for (int i = 1; i < count && strcmp(arguments[i], "--") != 0; i++) json |= strcmp(arguments[i], "--json") == 0;
    listen_to_stops(json);
}
__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char **, char **) =
    before_constructors;
#endif
#endif

void graft_prepare_process(int json) {
    static int is_prepared = 0;
    if (is_prepared++) return;
    listen_to_stops(json);
    if (graft_address_limit(1) == UINT64_MAX) return;
    // Every thread's own arena would reserve 64 MiB of address space.
    mallopt(M_ARENA_MAX, 1);
    stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    sigaltstack(&stack, NULL);
    for (int i = 0; i < FAULT_SIGNALS; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        sigaction(fault_signals[i], &action, &former[i]);
    }
}

// MARK: threads and processors

struct start {
    void (*body)(void *);
    void *context;
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    start.body(start.context);
    return NULL;
}

int graft_start_thread(size_t stack_bytes, void (*body)(void *), void *context) {
    struct start *start = malloc(sizeof *start);
    if (!start) return ENOMEM;
    *start = (struct start){body, context};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    sigset_t stops, mask;
    sigemptyset(&stops);
    for (int i = 0; i < STOP_SIGNALS; i++) sigaddset(&stops, stop_signals[i].number);
    pthread_sigmask(SIG_BLOCK, &stops, &mask);
    pthread_t thread;
    int code = pthread_create(&thread, &attributes, run, start);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_attr_destroy(&attributes);
    if (code != 0) free(start);
    return code;
}

int graft_affinity_count(void) {
    // The mask of the kernel may be wider than cpu_set_t.
    for (int processors = CPU_SETSIZE; processors <= 1 << 20; processors *= 4) {
        size_t size = CPU_ALLOC_SIZE(processors);
        cpu_set_t *set = CPU_ALLOC(processors);
        if (!set) return 0;
        int code = sched_getaffinity(0, size, set) == 0 ? 0 : errno;
        int count = code == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (code != EINVAL) return count;
    }
    return 0;
}
