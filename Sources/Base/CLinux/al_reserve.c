#define _GNU_SOURCE
#include "al_reserve.h"

#include <errno.h>
#include <fcntl.h>

int al_reserve(int file, uint64_t offset, uint64_t count) {
    int result;
    do result = fallocate(file, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)count);
    while (result < 0 && errno == EINTR);
    return result;
}
