#ifndef AL_LOG_H
#define AL_LOG_H
/* What an append-only log needs: checksums, gathered writes at a position, reads that never wait for the disk. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* CRC-32C (Castagnoli) of the bytes, continued from an earlier value (0 to begin). */
uint32_t al_crc32c(uint32_t before, const void *bytes, size_t count);

/* Writes up to three pieces with one pwritev. Returns the bytes taken (may be fewer), -1 and errno on failure. */
ssize_t al_write_pieces(int descriptor, uint64_t offset, const void *a, size_t a_count, const void *b, size_t b_count,
                        const void *c, size_t c_count);

/* Reads what is in memory; EAGAIN when the disk would have to be asked, EOPNOTSUPP where that cannot be told. */
ssize_t al_read_cached(int descriptor, void *bytes, size_t count, uint64_t offset);

/* Where the first and the last '\n' are, -1 if there is none. */
ssize_t al_first_newline(const void *bytes, size_t count);
ssize_t al_last_newline(const void *bytes, size_t count);
size_t al_count_newlines(const void *bytes, size_t count);

#endif
