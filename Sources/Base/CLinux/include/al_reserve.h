#ifndef AL_RESERVE_H
#define AL_RESERVE_H
/* Room on the disk for what is not written yet. */

#include <stdint.h>

/* Allocates blocks for a range of a file, beyond its end too, without making it longer; 0, or -1 and errno. */
int al_reserve(int file, uint64_t offset, uint64_t count);

#endif
