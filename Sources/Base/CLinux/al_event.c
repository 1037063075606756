#define _GNU_SOURCE 1
#include "al_event.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int al_poller_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int al_poller_add(int poller, int descriptor, uint64_t token) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = token};
    return epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
}

int al_poller_remove(int poller, int descriptor) {
    struct epoll_event unused = {0};
    return epoll_ctl(poller, EPOLL_CTL_DEL, descriptor, &unused);
}

int al_poller_wait(int poller, struct al_ready *out, int capacity, int blocks) {
    struct epoll_event events[256];
    if (capacity > 256) capacity = 256;
    int count = epoll_wait(poller, events, capacity, blocks ? -1 : 0);
    if (count < 0) return errno == EINTR ? 0 : -1;
    for (int i = 0; i < count; i++) {
        uint32_t seen = events[i].events, ready = 0;
        if (seen & (EPOLLIN | EPOLLRDHUP | EPOLLPRI)) ready |= AL_READY_READ;
        if (seen & EPOLLOUT) ready |= AL_READY_WRITE;
        if (seen & EPOLLRDHUP) ready |= AL_READY_END;
        if (seen & (EPOLLHUP | EPOLLERR)) ready |= AL_READY_READ | AL_READY_WRITE | AL_READY_END | AL_READY_HANGUP;
        out[i].token = events[i].data.u64;
        out[i].events = ready;
    }
    return count;
}

int al_alarm_create(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); }

int al_alarm_set(int alarm, uint64_t deadline_ns) {
    struct itimerspec when = {.it_value = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000}};
    return timerfd_settime(alarm, TFD_TIMER_ABSTIME, &when, NULL);
}

int al_eventfd(int semaphore, int nonblocking) {
    return eventfd(0, EFD_CLOEXEC | (semaphore ? EFD_SEMAPHORE : 0) | (nonblocking ? EFD_NONBLOCK : 0));
}

int al_write_counter(int descriptor, const uint64_t *value) { return write(descriptor, value, sizeof *value) < 0 ? -1 : 0; }

int al_take_counter(int descriptor) {
    uint64_t value;
    ssize_t got;
    do got = read(descriptor, &value, sizeof value);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -1 : 0;
}

int al_is_ready(int descriptor, uint32_t events) {
    struct pollfd entry = {.fd = descriptor, .events = (events & AL_READY_READ ? POLLIN : 0) | (events & AL_READY_WRITE ? POLLOUT : 0)};
    return poll(&entry, 1, 0) > 0;
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
uint64_t al_monotonic_ns(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t al_realtime_ns(void) { return read_clock(CLOCK_REALTIME); }

struct start {
    void (*body)(void *);
    void *context;
    char name[16];
};

static void *run_thread(void *raw) {
    struct start start = *(struct start *)raw;
    free(raw);
    pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

int al_thread_start(void (*body)(void *), void *context, const char *name) {
    struct start *start = calloc(1, sizeof *start);
    if (!start) return ENOMEM;
    start->body = body;
    start->context = context;
    strncpy(start->name, name, sizeof start->name - 1);
    pthread_attr_t attributes;
    int failure = pthread_attr_init(&attributes);
    if (!failure) {
        pthread_t thread;
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        failure = pthread_create(&thread, &attributes, run_thread, start);
        pthread_attr_destroy(&attributes);
    }
    if (failure) free(start);
    return failure;
}

static _Thread_local void *thread_value;
void *al_thread_value(void) { return thread_value; }
void al_thread_set_value(void *value) { thread_value = value; }
int al_thread_id(void) { return gettid(); }

static _Thread_local int thread_lasting;
void al_thread_set_lasting(int lasting) { thread_lasting = lasting; }
int al_thread_is_lasting(void) { return thread_lasting || gettid() == getpid(); }
