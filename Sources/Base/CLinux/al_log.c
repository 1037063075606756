#define _GNU_SOURCE 1
#include "al_log.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static uint32_t table[256];
static int hardware;

__attribute__((constructor)) static void prepare(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? (value >> 1) ^ 0x82F63B78u : value >> 1;
        table[i] = value;
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    hardware = __builtin_cpu_supports("sse4.2") != 0;
#elif defined(__aarch64__)
    hardware = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t fast(uint32_t value, const uint8_t *at, size_t count) {
    uint64_t wide = value;
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    value = (uint32_t)wide;
    for (; count; count--, at++) value = __builtin_ia32_crc32qi(value, *at);
    return value;
}
#elif defined(__aarch64__)
__attribute__((target("crc"))) static uint32_t fast(uint32_t value, const uint8_t *at, size_t count) {
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        value = __builtin_arm_crc32cd(value, word);
    }
    for (; count; count--, at++) value = __builtin_arm_crc32cb(value, *at);
    return value;
}
#else
static uint32_t fast(uint32_t value, const uint8_t *at, size_t count) { (void)at, (void)count; return value; }
#endif

uint32_t al_crc32c(uint32_t before, const void *bytes, size_t count) {
    const uint8_t *at = bytes;
    uint32_t value = ~before;
    if (hardware) return ~fast(value, at, count);
    for (; count; count--, at++) value = table[(value ^ *at) & 0xff] ^ (value >> 8);
    return ~value;
}

ssize_t al_write_pieces(int descriptor, uint64_t offset, const void *a, size_t a_count, const void *b, size_t b_count,
                        const void *c, size_t c_count) {
    struct iovec pieces[3] = {
        {.iov_base = (void *)a, .iov_len = a_count},
        {.iov_base = (void *)b, .iov_len = b_count},
        {.iov_base = (void *)c, .iov_len = c_count},
    };
    ssize_t result;
    do result = pwritev(descriptor, pieces, 3, (off_t)offset);
    while (result < 0 && errno == EINTR);
    return result;
}

ssize_t al_read_cached(int descriptor, void *bytes, size_t count, uint64_t offset) {
    struct iovec piece = {.iov_base = bytes, .iov_len = count};
    ssize_t result;
    do result = preadv2(descriptor, &piece, 1, (off_t)offset, RWF_NOWAIT);
    while (result < 0 && errno == EINTR);
    return result;
}

ssize_t al_first_newline(const void *bytes, size_t count) {
    const char *found = count ? memchr(bytes, '\n', count) : NULL;
    return found ? found - (const char *)bytes : -1;
}

ssize_t al_last_newline(const void *bytes, size_t count) {
    const char *found = count ? memrchr(bytes, '\n', count) : NULL;
    return found ? found - (const char *)bytes : -1;
}

size_t al_count_newlines(const void *bytes, size_t count) {
    const uint8_t *at = bytes;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) found += at[i] == '\n';
    return found;
}
