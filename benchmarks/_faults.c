/* Faults at the N-th call that writes below a folder: loaded before libc by benchmarks/_injector.py.

   fsync costs nothing here: a killed process loses no page of the kernel's cache. stdio writes inside libc, past these
   functions, so fwrite is one of them too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, TORN, FULL, BROKEN };

static char root[4096];
static size_t root_length;
static int mode = OFF, from_then_on;
static long at, calls, struck;

void faults_arm(const char *folder, int wanted, long call, int sticky) {
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
    from_then_on = sticky, at = call, calls = struck = 0, mode = wanted;
}

long faults_calls(void) { return calls; }
long faults_struck(void) { return struck; }

static int below(const char *path) {
    char absolute[4096];
    if (path == NULL) return 0;
    if (path[0] != '/') {
        size_t length;
        if (getcwd(absolute, sizeof absolute) == NULL) return 0;
        length = strlen(absolute);
        snprintf(absolute + length, sizeof absolute - length, "/%s", path);
        path = absolute;
    }
    return strncmp(path, root, root_length) == 0;
}

static int is_below(int descriptor) {
    char link[64], path[4096];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, root, root_length) == 0;
}

/* 0: go on; -1: fail, errno is set; 1: write a half, then call `die`. */
static int strike(int writes, int removes) {
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (mode == COUNT || call < at || (call > at && !from_then_on)) return 0;
    if (mode == KILL || (mode == TORN && !writes)) kill(getpid(), SIGKILL);
    if (mode == TORN) return 1;
    if (mode == FULL && removes) return 0;
    struck = call;
    errno = mode == FULL ? ENOSPC : EIO;
    return -1;
}

static void die(void) { kill(getpid(), SIGKILL); }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON(condition) (mode != OFF && (condition))

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = NEXT(write);
    if (ON(fd > 2 && is_below(fd))) {
        int struck_here = strike(1, 0);
        if (struck_here < 0) return -1;
        if (struck_here) next(fd, data, size / 2), die();
    }
    return next(fd, data, size);
}

#define PWRITE(name)                                                          \
    ssize_t name(int fd, const void *data, size_t size, off_t offset) {       \
        static ssize_t (*next)(int, const void *, size_t, off_t);             \
        if (!next) next = NEXT(name);                                         \
        if (ON(is_below(fd))) {                                               \
            int struck_here = strike(1, 0);                                   \
            if (struck_here < 0) return -1;                                   \
            if (struck_here) next(fd, data, size / 2, offset), die();         \
        }                                                                     \
        return next(fd, data, size, offset);                                  \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    static size_t (*next)(const void *, size_t, size_t, FILE *);
    if (!next) next = NEXT(fwrite);
    if (ON(fileno(file) > 2 && is_below(fileno(file)))) {
        int struck_here = strike(1, 0);
        if (struck_here < 0) return 0;
        if (struck_here) next(data, size, count / 2, file), fflush(file), die();
    }
    return next(data, size, count, file);
}

#define SYNC(name)                                                            \
    int name(int fd) {                                                        \
        static int (*next)(int);                                              \
        if (!next) next = NEXT(name);                                         \
        if (ON(is_below(fd))) return strike(0, 0) < 0 ? -1 : 0;               \
        return next(fd);                                                      \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name)                                                        \
    int name(int fd, off_t size) {                                            \
        static int (*next)(int, off_t);                                       \
        if (!next) next = NEXT(name);                                         \
        if (ON(is_below(fd)) && strike(0, size == 0) < 0) return -1;          \
        return next(fd, size);                                                \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define PATH(name, removes)                                                   \
    int name(const char *path) {                                              \
        static int (*next)(const char *);                                     \
        if (!next) next = NEXT(name);                                         \
        if (ON(below(path)) && strike(0, removes) < 0) return -1;             \
        return next(path);                                                    \
    }
PATH(unlink, 1)
PATH(rmdir, 1)

int mkdir(const char *path, mode_t permissions) {
    static int (*next)(const char *, mode_t);
    if (!next) next = NEXT(mkdir);
    if (ON(below(path)) && strike(0, 0) < 0) return -1;
    return next(path, permissions);
}

int rename(const char *from, const char *to) {
    static int (*next)(const char *, const char *);
    if (!next) next = NEXT(rename);
    if (ON(below(to)) && strike(0, 0) < 0) return -1;
    return next(from, to);
}

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        static int (*next)(const char *, int, ...);                           \
        mode_t permissions = 0;                                               \
        if (!next) next = NEXT(name);                                         \
        if (flags & O_CREAT) {                                                \
            va_list rest;                                                     \
            va_start(rest, flags);                                            \
            permissions = va_arg(rest, mode_t);                               \
            va_end(rest);                                                     \
            if (ON(below(path)) && access(path, F_OK) && strike(0, 0) < 0) return -1; \
        }                                                                     \
        return next(path, flags, permissions);                                \
    }
OPEN(open)
OPEN(open64)
