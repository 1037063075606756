#ifndef AL_LEVEL_H
#define AL_LEVEL_H
/* Readiness as libraries expect it that watch descriptors of their own: level-triggered, direction by direction. */
#include "al_event.h"

/* All return -1 and set errno on failure. */
int al_level_create(void);
/* Watches for AL_READY_READ, AL_READY_WRITE or both; 0 forgets the descriptor. */
int al_level_set(int poller, int descriptor, uint32_t directions);
/* What is ready now, with the descriptors as tokens; never waits. */
int al_level_take(int poller, struct al_ready *out, int capacity);

#endif
