// A library for sandboxes whose kernel refuses AT_NO_AUTOMOUNT (gVisor of 2022): glibc's dynamic loader puts it before
// all others by /etc/ld.so.preload, and every call below goes on without that flag. Sandboxes have no automounts, so
// nothing is lost. It needs no other library and runs under any glibc.
//
// <sys/stat.h> is left out on purpose: old versions of it define some of these names as macros or inline functions.
#include <sys/syscall.h>

enum { NO_AUTOMOUNT = 0x800 };

struct stat;
struct statx;

// Absent in a program that is linked to some other C library; there is nobody to tell then.
extern int *__errno_location(void) __attribute__((weak));

static long call(long number, long a, long b, long c, long d, long e) {
#if defined __x86_64__
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
#elif defined __aarch64__
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
#else
#error "the registers of a system call on this architecture are not known here"
#endif
}

static int answer(long result) {
    if (result >= 0) return (int)result;
    if (__errno_location) *__errno_location() = (int)-result;
    return -1;
}

int statx(int directory, const char *path, int flags, unsigned mask, struct statx *out) {
    return answer(call(SYS_statx, directory, (long)path, flags & ~NO_AUTOMOUNT, mask, (long)out));
}

static int status(int directory, const char *path, struct stat *out, int flags) {
    return answer(call(SYS_newfstatat, directory, (long)path, (long)out, flags & ~NO_AUTOMOUNT, 0));
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
