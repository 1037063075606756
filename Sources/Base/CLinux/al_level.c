#define _GNU_SOURCE 1
#include "al_level.h"

#include <errno.h>
#include <sys/epoll.h>

int al_level_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int al_level_set(int poller, int descriptor, uint32_t directions) {
    struct epoll_event event = {0};
    if (!directions) return epoll_ctl(poller, EPOLL_CTL_DEL, descriptor, &event);
    if (directions & AL_READY_READ) event.events |= EPOLLIN;
    if (directions & AL_READY_WRITE) event.events |= EPOLLOUT;
    event.data.u64 = (uint64_t)(uint32_t)descriptor;
    /* A number that was closed and used again has lost its place without being forgotten. */
    if (!epoll_ctl(poller, EPOLL_CTL_MOD, descriptor, &event)) return 0;
    return errno == ENOENT ? epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) : -1;
}

int al_level_take(int poller, struct al_ready *out, int capacity) {
    struct epoll_event events[64];
    if (capacity > 64) capacity = 64;
    int count = epoll_wait(poller, events, capacity, 0);
    if (count < 0) return errno == EINTR ? 0 : -1;
    for (int i = 0; i < count; i++) {
        uint32_t seen = events[i].events, ready = 0;
        if (seen & EPOLLIN) ready |= AL_READY_READ;
        if (seen & EPOLLOUT) ready |= AL_READY_WRITE;
        if (seen & (EPOLLERR | EPOLLHUP)) ready |= AL_READY_HANGUP;
        out[i].token = events[i].data.u64;
        out[i].events = ready;
    }
    return count;
}
