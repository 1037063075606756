#ifndef AL_EVENT_H
#define AL_EVENT_H
/* Readiness, wake-ups, time and threads for the event loop. No _GNU_SOURCE here: Swift imports this header. */
#include <stddef.h>
#include <stdint.h>

/* What a descriptor is ready for. HANGUP and ERROR count as both directions. */
#define AL_READY_READ 1u
#define AL_READY_WRITE 2u
#define AL_READY_HANGUP 4u
/* The peer of a socket sends no more; what it sent before may still be there to read. */
#define AL_READY_END 8u

struct al_ready {
    uint64_t token;
    uint32_t events;
};

/* All return -1 and set errno on failure. */
int al_poller_create(void);
/* Edge-triggered, both directions. */
int al_poller_add(int poller, int descriptor, uint64_t token);
int al_poller_remove(int poller, int descriptor);
/* Waits for the first event, or not at all. Returns the number of entries written, 0 also on interruption. */
int al_poller_wait(int poller, struct al_ready *out, int capacity, int blocks);

/* A descriptor that becomes readable at a time of al_monotonic_ns; 0 takes the time back. */
int al_alarm_create(void);
int al_alarm_set(int alarm, uint64_t deadline_ns);

int al_eventfd(int semaphore, int nonblocking);
/* Adds to an eventfd; waits for one and takes from it. */
int al_write_counter(int descriptor, const uint64_t *value);
int al_take_counter(int descriptor);
/* 1 ready, 0 not. events: AL_READY_READ or AL_READY_WRITE. Never blocks. */
int al_is_ready(int descriptor, uint32_t events);

uint64_t al_monotonic_ns(void);
uint64_t al_realtime_ns(void);

/* Starts a detached thread; returns 0 or an errno value. */
int al_thread_start(void (*body)(void *), void *context, const char *name);
/* One pointer per thread. */
void *al_thread_value(void);
void al_thread_set_value(void *value);
int al_thread_id(void);
/* Whether the thread lives as long as the process: only such a one may be the parent in the sense of PR_SET_PDEATHSIG. */
void al_thread_set_lasting(int lasting);
int al_thread_is_lasting(void);

#endif
