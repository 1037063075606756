// The kernel itself, for code without a C library of its own: what runs beside the harness, and the shim of old sandboxes.
#pragma once

// A system call without libc's errno, for what runs beside the harness in its memory. Returns what the kernel does:
// a value >= 0 or a negated errno.
static inline long ah_raw(long number, long a, long b, long c, long d, long e) {
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
