// Starts a command under limits, sends it signals, and prints how it ended: "STATUS MILLISECONDS", where STATUS is the
// exit status, 128 and the signal's number, or "hang" for a command that had to be ended.
//
//   attempt [--limit SECONDS] [--signal NUMBER@MILLISECONDS]... [--in FILE] [--out FILE] [--err FILE] [--broken FD]
//           [--closed FD]... [--as BYTES] [--fsize BYTES] [--nofile N] [--nproc N] [--uid N] COMMAND...
//
// --broken makes a descriptor a pipe that nobody reads; --closed starts the command without it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void stop(const char *what) {
    fprintf(stderr, "attempt: %s: %s\n", what, strerror(errno));
    _exit(120);
}

static void redirect(const char *path, int descriptor, int flags) {
    int opened = open(path, flags, 0666);
    if (opened < 0) stop(path);
    if (opened != descriptor) {
        if (dup2(opened, descriptor) < 0) stop(path);
        close(opened);
    }
}

static void limit(int which, const char *text) {
    struct rlimit value = {strtoull(text, NULL, 10), strtoull(text, NULL, 10)};
    if (setrlimit(which, &value) != 0) stop("setrlimit");
}

int main(int count, char **words) {
    double deadline = 60, at[8];
    int signals[8], number = 0, i = 1, first;
    for (; i + 1 < count && !strncmp(words[i], "--", 2); i += 2) {
        if (!strcmp(words[i], "--limit")) deadline = atof(words[i + 1]);
        if (!strcmp(words[i], "--signal") && number < 8) {
            signals[number] = atoi(words[i + 1]);
            at[number++] = atof(strchr(words[i + 1], '@') + 1) / 1000;
        }
    }
    first = i;
    if (first >= count) return 64;
    sigset_t child, earlier;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &earlier);
    double began = now();
    pid_t process = fork();
    if (process < 0) stop("fork");
    if (process == 0) {
        setpgid(0, 0);
        sigset_t none;
        sigemptyset(&none);
        // A shell starts what runs in the background with SIGINT ignored.
        for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
        sigprocmask(SIG_SETMASK, &none, NULL);
        redirect("/dev/null", 0, O_RDONLY);
        for (i = 1; i < first; i += 2) {
            const char *option = words[i], *value = words[i + 1];
            if (!strcmp(option, "--in")) redirect(value, 0, O_RDONLY);
            if (!strcmp(option, "--out")) redirect(value, 1, O_WRONLY | O_CREAT | O_TRUNC);
            if (!strcmp(option, "--err")) redirect(value, 2, O_WRONLY | O_CREAT | O_TRUNC);
            if (!strcmp(option, "--as")) limit(RLIMIT_AS, value);
            if (!strcmp(option, "--fsize")) limit(RLIMIT_FSIZE, value);
            if (!strcmp(option, "--nofile")) limit(RLIMIT_NOFILE, value);
            if (!strcmp(option, "--nproc")) limit(RLIMIT_NPROC, value);
            if (!strcmp(option, "--broken")) {
                int ends[2];
                if (pipe(ends) != 0 || dup2(ends[1], atoi(value)) < 0) stop("pipe");
                close(ends[0]);
                close(ends[1]);
            }
        }
        for (i = 1; i < first; i += 2)
            if (!strcmp(words[i], "--uid")) {
                uid_t user = (uid_t)atoi(words[i + 1]);
                if (setgroups(0, NULL) != 0 || setgid(user) != 0 || setuid(user) != 0) stop("setuid");
            }
        for (i = 1; i < first; i += 2)
            if (!strcmp(words[i], "--closed")) close(atoi(words[i + 1]));
        execvp(words[first], words + first);
        _exit(127);
    }
    int sent = 0, hung = 0, status = 0;
    while (waitpid(process, &status, WNOHANG) == 0) {
        double next = sent < number ? began + at[sent] : began + deadline;
        double wait = next - now();
        if (wait > 0) {
            struct timespec time = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
            sigtimedwait(&child, NULL, &time);
            continue;
        }
        if (sent < number) {
            kill(process, signals[sent++]);
        } else if (!hung) {
            hung = 1;
            kill(-process, SIGKILL);
            kill(process, SIGKILL);
            waitpid(process, &status, 0);
            break;
        }
    }
    long taken = (long)((now() - began) * 1000);
    if (hung) printf("hang %ld\n", taken);
    else printf("%d %ld\n", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), taken);
    return 0;
}
