// A library for sandboxes whose kernel refuses AT_NO_AUTOMOUNT (gVisor of 2022): glibc's dynamic loader puts it before
// all others by /etc/ld.so.preload, and every call below goes on without that flag. Sandboxes have no automounts, so
// nothing is lost. It needs no other library and runs under any glibc.
//
// <sys/stat.h> is left out on purpose: old versions of it define some of these names as macros or inline functions.
#include <sys/syscall.h>

#include "raw_call.h"

enum { NO_AUTOMOUNT = 0x800 };

// Never used. The loader clears what stands behind a library's data, and does so first: the page is written to before it is read,
// which is one fault instead of two (in gVisor 0.1 to 0.2 ms of each start of a program).
__attribute__((used, retain)) static char behind_the_data[8];

struct stat;
struct statx;

// Absent in a program that is linked to some other C library; there is nobody to tell then.
extern int *__errno_location(void) __attribute__((weak));

static int answer(long result) {
    if (result >= 0) return (int)result;
    if (__errno_location) *__errno_location() = (int)-result;
    return -1;
}

int statx(int directory, const char *path, int flags, unsigned mask, struct statx *out) {
    return answer(ah_raw(SYS_statx, directory, (long)path, flags & ~NO_AUTOMOUNT, mask, (long)out));
}

static int status(int directory, const char *path, struct stat *out, int flags) {
    return answer(ah_raw(SYS_newfstatat, directory, (long)path, (long)out, flags & ~NO_AUTOMOUNT, 0));
}

int fstatat(int directory, const char *path, struct stat *out, int flags) {
    return status(directory, path, out, flags);
}

int fstatat64(int directory, const char *path, struct stat *out, int flags) {
    return status(directory, path, out, flags);
}

// What programs built for glibc before 2.33 call. On 64 bits the one version of the structure is the kernel's.
int __fxstatat(int version, int directory, const char *path, struct stat *out, int flags) {
    (void)version;
    return status(directory, path, out, flags);
}

int __fxstatat64(int version, int directory, const char *path, struct stat *out, int flags) {
    (void)version;
    return status(directory, path, out, flags);
}
