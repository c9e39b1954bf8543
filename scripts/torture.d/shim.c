// Faults between a program and its disk: a library for LD_PRELOAD that counts calls on files below one folder, and lets
// the n-th of a kind fail, fall short, be slow, raise a signal or be the last thing that the process does.
//
//   TORTURE_FOLDER  the folder, without links; calls on files elsewhere are passed on untouched (not so pthread_create)
//   TORTURE_LOG     a file that calls are appended to, a line "kind path" each: all of them, or the one that was met
//   TORTURE_CALL    the kind: open, create, read, pread, write, pwrite, fsync, rename, renameat2 (with flags), mkdir,
//                   ftruncate, fallocate, mmap, close, flock, unlink, pthread_create, any
//   TORTURE_NTH     which of them, counted from 1
//   TORTURE_FAULT   an error's name (ENOSPC EIO EINTR EINVAL ENOMEM ENOLCK EAGAIN EMFILE); "FULL", ENOSPC from here on for
//                   all that takes room; "ALWAYS-" and an error, for this and every later call of the kind; "EACH-" and an
//                   error, from here on for every second call of a thread, so that each fails once and works when it
//                   is made again; "SHORT" and "EACH-SHORT", half of what was asked; "DIE" and "DIE-AFTER", SIGKILL
//                   before or after the call; or the number of a signal to raise before it
//   TORTURE_DELAY   microseconds that every call is held up
//
// The calls are made as bare system calls, so that nothing of the C library stands between.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PASS = -1, CUT = -2, LAST = -3 };  // what `meet` may say beside an error

static const char *folder, *wanted, *fault;
static long nth, delay;
static int log_fd = -1, fault_code, all_logged, is_each, is_always;
static atomic_long seen;
static atomic_int is_full, is_lasting;
static _Thread_local int has_failed;  // the thread's last call of the kind

#define MAXIMUM_DESCRIPTORS 65536
static atomic_uchar known[MAXIMUM_DESCRIPTORS];  // 0 not looked at, 1 below the folder, 2 elsewhere

static int code_of(const char *name) {
    static const struct { const char *name; int code; } codes[] = {
        {"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EINTR", EINTR}, {"EINVAL", EINVAL}, {"ENOMEM", ENOMEM},
        {"ENOLCK", ENOLCK}, {"EAGAIN", EAGAIN}, {"EMFILE", EMFILE}, {"FULL", ENOSPC},
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(name, codes[i].name)) return codes[i].code;
    return 0;
}

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("TORTURE_LOG"), *number = getenv("TORTURE_NTH"), *wait = getenv("TORTURE_DELAY");
    folder = getenv("TORTURE_FOLDER");
    wanted = getenv("TORTURE_CALL");
    fault = getenv("TORTURE_FAULT");
    nth = number ? atol(number) : 0;
    delay = wait ? atol(wait) : 0;
    all_logged = !fault;
    is_each = fault && !strncmp(fault, "EACH-", 5);
    is_always = fault && !strncmp(fault, "ALWAYS-", 7);
    if (fault) fault += is_each ? 5 : is_always ? 7 : 0;
    if (fault) fault_code = code_of(fault);
    if (!log) return;
    int opened = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (opened < 0) return;
    // Out of the way of programs that look at what number they get.
    log_fd = (int)syscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, 700);
    syscall(SYS_close, opened);
}

static int is_below(const char *path) {
    size_t length = folder ? strlen(folder) : 0;
    return length && !strncmp(path, folder, length) && (path[length] == '/' || path[length] == 0);
}

static int is_path_below(int at, const char *path) {
    char full[PATH_MAX], link[64];
    if (!folder || !path) return 0;
    if (path[0] == '/') return is_below(path);
    if (at == AT_FDCWD) {
        if (syscall(SYS_getcwd, full, sizeof full) <= 0) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t count = syscall(SYS_readlinkat, AT_FDCWD, link, full, sizeof full - 1);
        if (count < 0) return 0;
        full[count] = 0;
    }
    return is_below(full);
}

static const char *path_of(int descriptor, char *full) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t count = syscall(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 1);
    full[count < 0 ? 0 : count] = 0;
    return full;
}

static int is_descriptor_below(int descriptor) {
    if (!folder || descriptor < 0 || descriptor >= MAXIMUM_DESCRIPTORS) return 0;
    int state = atomic_load(&known[descriptor]);
    if (!state) {
        char full[PATH_MAX];
        state = is_below(path_of(descriptor, full)) ? 1 : 2;
        atomic_store(&known[descriptor], (unsigned char)state);
    }
    return state == 1;
}

static void forget(int descriptor) {
    if (descriptor >= 0 && descriptor < MAXIMUM_DESCRIPTORS) atomic_store(&known[descriptor], 0);
}

static void note(const char *kind, const char *path, int descriptor) {
    char full[PATH_MAX], line[PATH_MAX + 64];
    if (log_fd < 0) return;
    int count = snprintf(line, sizeof line, "%s %s\n", kind, path ? path : path_of(descriptor, full));
    if (count > 0) syscall(SYS_write, log_fd, line, count < (int)sizeof line ? (size_t)count : sizeof line - 1);
}

static void end(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

static int is_kind(const char *kind) { return wanted && (!strcmp(wanted, kind) || !strcmp(wanted, "any")); }

// What becomes of a call: an error's number, PASS, CUT (half of it) or LAST (make it, then die).
static int meet(const char *kind, const char *path, int descriptor, int takes_room) {
    if (delay) nanosleep(&(struct timespec){delay / 1000000, delay % 1000000 * 1000}, NULL);
    if (all_logged) note(kind, path, descriptor);
    if (takes_room && atomic_load(&is_full)) return ENOSPC;
    if (!fault || !is_kind(kind)) return PASS;
    if (atomic_load(&is_lasting)) {
        has_failed = is_always || !has_failed;
        return !has_failed ? PASS : fault_code ? fault_code : CUT;
    }
    if (atomic_fetch_add(&seen, 1) + 1 != nth) return PASS;
    note(kind, path, descriptor);
    if (is_each || is_always) atomic_store(&is_lasting, 1);
    has_failed = 1;
    if (!strcmp(fault, "FULL")) {
        atomic_store(&is_full, 1);
        return takes_room ? ENOSPC : PASS;
    }
    if (fault_code) return fault_code;
    if (!strcmp(fault, "SHORT")) return CUT;
    if (!strcmp(fault, "DIE")) end();
    if (!strcmp(fault, "DIE-AFTER")) return LAST;
    // As from another process: a signal that a thread sends to itself means something else (a library without a thread).
    syscall(SYS_kill, syscall(SYS_getpid), atoi(fault));
    return PASS;
}

// `fate` is decided before `call` is evaluated: a macro, not a function.
#define MAKE(is_ours, kind, path, descriptor, takes_room, call)                           \
    do {                                                                                  \
        int fate = (is_ours) ? meet(kind, path, descriptor, takes_room) : PASS;           \
        if (fate > 0) {                                                                   \
            errno = fate;                                                                 \
            return -1;                                                                    \
        }                                                                                 \
        long result = (call);                                                             \
        if (fate == LAST) end();                                                          \
        return result;                                                                    \
    } while (0)

static int open_at(int at, const char *path, int flags, unsigned mode) {
    int creates = (flags & O_CREAT) != 0, fate = PASS;
    if (is_path_below(at, path)) fate = meet(creates ? "create" : "open", path, -1, creates);
    if (fate > 0) {
        errno = fate;
        return -1;
    }
    int opened = (int)syscall(SYS_openat, at, path, flags, mode);
    forget(opened);
    if (fate == LAST) end();
    return opened;
}

#define MODE_OF(flags)                                     \
    unsigned mode = 0;                                     \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
        va_list list;                                      \
        va_start(list, flags);                             \
        mode = va_arg(list, unsigned);                     \
        va_end(list);                                      \
    }
int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

DIR *opendir(const char *path) {
    if (is_path_below(AT_FDCWD, path)) {
        int fate = meet("open", path, -1, 0);
        if (fate > 0) {
            errno = fate;
            return NULL;
        }
    }
    DIR *(*real)(const char *) = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
    return real(path);
}

// A transfer of `count` bytes, or of half of them.
#define TRANSFER(kind, is_writing, call)                                                              \
    do {                                                                                              \
        int fate = is_descriptor_below(descriptor) ? meet(kind, NULL, descriptor, is_writing) : PASS; \
        if (fate > 0) {                                                                               \
            errno = fate;                                                                             \
            return -1;                                                                                \
        }                                                                                             \
        if (fate == CUT && count > 1) count /= 2;                                                     \
        long result = (call);                                                                         \
        if (fate == LAST) end();                                                                      \
        return result;                                                                                \
    } while (0)

ssize_t read(int descriptor, void *bytes, size_t count) {
    TRANSFER("read", 0, syscall(SYS_read, descriptor, bytes, count));
}
ssize_t __read_chk(int descriptor, void *bytes, size_t count, size_t room) {
    (void)room;
    return read(descriptor, bytes, count);
}
ssize_t pread(int descriptor, void *bytes, size_t count, off_t offset) {
    TRANSFER("pread", 0, syscall(SYS_pread64, descriptor, bytes, count, offset));
}
ssize_t pread64(int descriptor, void *bytes, size_t count, off64_t offset) {
    return pread(descriptor, bytes, count, offset);
}
ssize_t __pread_chk(int descriptor, void *bytes, size_t count, off_t offset, size_t room) {
    (void)room;
    return pread(descriptor, bytes, count, offset);
}
ssize_t __pread64_chk(int descriptor, void *bytes, size_t count, off64_t offset, size_t room) {
    (void)room;
    return pread(descriptor, bytes, count, offset);
}
ssize_t write(int descriptor, const void *bytes, size_t count) {
    TRANSFER("write", 1, syscall(SYS_write, descriptor, bytes, count));
}
ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    TRANSFER("pwrite", 1, syscall(SYS_pwrite64, descriptor, bytes, count, offset));
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    return pwrite(descriptor, bytes, count, offset);
}
ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    size_t count = (size_t)number;
    TRANSFER("write", 1, syscall(SYS_writev, descriptor, parts, count));
}

int fsync(int descriptor) {
    MAKE(is_descriptor_below(descriptor), "fsync", NULL, descriptor, 0, syscall(SYS_fsync, descriptor));
}
int fdatasync(int descriptor) {
    MAKE(is_descriptor_below(descriptor), "fsync", NULL, descriptor, 0, syscall(SYS_fdatasync, descriptor));
}
int sync_file_range(int descriptor, off64_t from, off64_t count, unsigned flags) {
    MAKE(is_descriptor_below(descriptor), "fsync", NULL, descriptor, 0,
         syscall(SYS_sync_file_range, descriptor, from, count, flags));
}
int ftruncate(int descriptor, off_t size) {
    MAKE(is_descriptor_below(descriptor), "ftruncate", NULL, descriptor, 1, syscall(SYS_ftruncate, descriptor, size));
}
int ftruncate64(int descriptor, off64_t size) { return ftruncate(descriptor, size); }
int fallocate(int descriptor, int mode, off_t from, off_t count) {
    MAKE(is_descriptor_below(descriptor), "fallocate", NULL, descriptor, 1,
         syscall(SYS_fallocate, descriptor, mode, from, count));
}
int fallocate64(int descriptor, int mode, off64_t from, off64_t count) {
    return fallocate(descriptor, mode, from, count);
}
int flock(int descriptor, int operation) {
    MAKE(is_descriptor_below(descriptor), "flock", NULL, descriptor, 0, syscall(SYS_flock, descriptor, operation));
}

static int rename_at(int at, const char *from, int there, const char *to, unsigned flags) {
    MAKE(is_path_below(at, from) || is_path_below(there, to), flags ? "renameat2" : "rename", to, -1, 1,
         syscall(SYS_renameat2, at, from, there, to, flags));
}
int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int at, const char *from, int there, const char *to) { return rename_at(at, from, there, to, 0); }
int renameat2(int at, const char *from, int there, const char *to, unsigned flags) {
    return rename_at(at, from, there, to, flags);
}

int mkdirat(int at, const char *path, mode_t mode) {
    MAKE(is_path_below(at, path), "mkdir", path, -1, 1, syscall(SYS_mkdirat, at, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int at, const char *path, int flags) {
    MAKE(is_path_below(at, path), "unlink", path, -1, 0, syscall(SYS_unlinkat, at, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    if (unlink(path) == 0) return 0;
    return errno == EISDIR ? rmdir(path) : -1;
}

void *mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset) {
    if (descriptor >= 0 && !(flags & MAP_ANONYMOUS) && is_descriptor_below(descriptor)) {
        int fate = meet("mmap", NULL, descriptor, 0);
        if (fate > 0) {
            errno = fate;
            return MAP_FAILED;
        }
    }
    return (void *)syscall(SYS_mmap, address, size, protection, flags, descriptor, offset);
}
void *mmap64(void *address, size_t size, int protection, int flags, int descriptor, off64_t offset) {
    return mmap(address, size, protection, flags, descriptor, offset);
}

// A close that fails has closed all the same, as on Linux.
int close(int descriptor) {
    if (descriptor >= 0 && descriptor == log_fd) return 0;
    int fate = is_descriptor_below(descriptor) ? meet("close", NULL, descriptor, 0) : PASS;
    forget(descriptor);
    int result = (int)syscall(SYS_close, descriptor);
    if (fate == LAST) end();
    if (fate > 0) {
        errno = fate;
        return -1;
    }
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument) {
    int fate = folder ? meet("pthread_create", "a thread", -1, 0) : PASS;
    if (fate > 0) return fate;
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, routine, argument);
}
