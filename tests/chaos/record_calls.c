/* Records what a process does to the files below $RECORD_ROOT, in order, into $RECORD_LOG.
 *
 * Preloaded before libc (LD_PRELOAD). A record is: one letter, the path's length, an offset, the
 * data's length (three little-endian 64-bit numbers), the path, the data.
 *   C create or truncate a file   W write data at offset   T set the length to offset
 *   S sync a file or folder       R rename path to data    U unlink
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void put(int log, const void *data, size_t size) {
    const char *left = data;
    while (size) {
        ssize_t written = syscall(SYS_write, log, left, size);
        if (written <= 0) abort();
        left += written;
        size -= (size_t)written;
    }
}

static void record(char kind, const char *path, int64_t offset, const void *data, size_t size) {
    const char *root = getenv("RECORD_ROOT"), *name = getenv("RECORD_LOG");
    if (!root || !name || !path || strncmp(path, root, strlen(root))) return;
    pthread_mutex_lock(&lock);
    int log = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT, 0600);
    int64_t numbers[3] = {(int64_t)strlen(path), offset, (int64_t)size};
    put(log, &kind, 1);
    put(log, numbers, sizeof numbers);
    put(log, path, strlen(path));
    put(log, data, size);
    syscall(SYS_close, log);
    pthread_mutex_unlock(&lock);
}

static const char *path_of(int descriptor, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATH char buffer[4096]; const char *path = path_of(descriptor, buffer, sizeof buffer)

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;                  \
        va_end(rest);                                                                \
        int is_new = (flags & O_CREAT) && access(path, F_OK);                        \
        int descriptor = REAL(name)(path, flags, mode);                              \
        if (descriptor >= 0 && (is_new || (flags & O_TRUNC))) record('C', path, 0, "", 0); \
        return descriptor;                                                           \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int descriptor, const void *data, size_t size) {
    PATH;
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    int flags = fcntl(descriptor, F_GETFL);
    if (flags & O_APPEND) offset = lseek(descriptor, 0, SEEK_END);
    ssize_t written = REAL(write)(descriptor, data, size);
    if (written > 0 && offset >= 0) record('W', path, offset, data, (size_t)written);
    return written;
}

#define PWRITE(name)                                                                 \
    ssize_t name(int descriptor, const void *data, size_t size, off_t offset) {      \
        PATH;                                                                        \
        ssize_t written = REAL(name)(descriptor, data, size, offset);                \
        if (written > 0) record('W', path, offset, data, (size_t)written);           \
        return written;                                                              \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(name)                                                               \
    int name(int descriptor, off_t length) {                                         \
        PATH;                                                                        \
        int result = REAL(name)(descriptor, length);                                 \
        if (!result) record('T', path, length, "", 0);                               \
        return result;                                                               \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(name)                                                                   \
    int name(int descriptor) {                                                       \
        PATH;                                                                        \
        int result = REAL(name)(descriptor);                                         \
        if (!result) record('S', path, 0, "", 0);                                    \
        return result;                                                               \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *path, const char *target) {
    int result = REAL(rename)(path, target);
    if (!result) record('R', path, 0, target, strlen(target));
    return result;
}

int unlink(const char *path) {
    int result = REAL(unlink)(path);
    if (!result) record('U', path, 0, "", 0);
    return result;
}
