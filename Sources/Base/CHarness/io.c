#define _GNU_SOURCE
#include "charness_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long answer(long result) { return result < 0 ? -errno : result; }

long ah_read(int fd, void *buffer, size_t count) {
    long n;
    do n = read(fd, buffer, count);
    while (n < 0 && errno == EINTR);
    return answer(n);
}

long ah_write(int fd, const void *buffer, size_t count) {
    long n;
    do n = write(fd, buffer, count);
    while (n < 0 && errno == EINTR);
    return answer(n);
}

long ah_write_all(int fd, const void *buffer, size_t count) {
    const char *at = buffer;
    while (count > 0) {
        long n = ah_write(fd, at, count);
        if (n == -EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
            continue;
        }
        if (n < 0) return n;
        at += n;
        count -= (size_t)n;
    }
    return 0;
}

long ah_close(int fd) { return answer(close(fd)); }

long ah_duplicate(int fd) { return answer(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

long ah_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    return flags & O_NONBLOCK ? 0 : answer(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

long ah_set_only_nonblocking(int fd) { return answer(fcntl(fd, F_SETFL, O_NONBLOCK)); }

long ah_set_close_on_exec(int fd) { return answer(fcntl(fd, F_SETFD, FD_CLOEXEC)); }

long ah_close_on_exec_from(int first) {
    if (syscall(SYS_close_range, (unsigned)first, (unsigned)INT_MAX, CLOSE_RANGE_CLOEXEC) == 0) return 0;
    for (int fd = first; fd < 4096; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

long ah_pipe(int32_t *reader, int32_t *writer) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    *reader = ends[0];
    *writer = ends[1];
    return 0;
}

long ah_socket_pair(int32_t *one, int32_t *other) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return -errno;
    *one = ends[0];
    *other = ends[1];
    return 0;
}

long ah_pending(int fd) {
    int count = 0;
    return ioctl(fd, FIONREAD, &count) ? -errno : count;
}

long ah_accept(int listener, uint32_t *uid) {
    int fd = accept4(listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return -errno;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
        int code = errno;
        close(fd);
        return -code;
    }
    *uid = peer.uid;
    return fd;
}

uint32_t ah_effective_uid(void) { return geteuid(); }

uint64_t ah_now_microseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

long ah_poll(struct ah_poll_entry *entries, size_t count, int timeout_ms) {
    struct pollfd p[32];
    if (count > 32) return -EINVAL;
    for (size_t i = 0; i < count; i++) {
        p[i].fd = entries[i].fd;
        p[i].events = (short)((entries[i].wanted & AH_IN ? POLLIN : 0) | (entries[i].wanted & AH_OUT ? POLLOUT : 0));
        p[i].revents = 0;
    }
    int n = poll(p, count, timeout_ms);
    if (n < 0 && errno != EINTR) return -errno;
    for (size_t i = 0; i < count; i++) {
        short r = n > 0 ? p[i].revents : 0;
        entries[i].ready = (uint8_t)((r & POLLIN ? AH_IN : 0) | (r & POLLOUT ? AH_OUT : 0)
                                     | (r & (POLLHUP | POLLERR | POLLNVAL) ? AH_HANGUP : 0));
    }
    return n < 0 ? 0 : n;
}

long ah_epoll_create(void) { return answer(epoll_create1(EPOLL_CLOEXEC)); }

static long watch(int epoll, int operation, int fd, uint64_t data, uint32_t events) {
    struct epoll_event event = {.events = events | EPOLLRDHUP | EPOLLET, .data.u64 = data};
    return answer(epoll_ctl(epoll, operation, fd, &event));
}

long ah_epoll_add(int epoll, int fd, uint64_t data) {
    return watch(epoll, EPOLL_CTL_ADD, fd, data, EPOLLIN | EPOLLOUT);
}

long ah_epoll_add_input(int epoll, int fd, uint64_t data) { return watch(epoll, EPOLL_CTL_ADD, fd, data, EPOLLIN); }

long ah_epoll_watch_output(int epoll, int fd, uint64_t data, int wanted) {
    return watch(epoll, EPOLL_CTL_MOD, fd, data, EPOLLIN | (wanted ? EPOLLOUT : 0));
}

long ah_epoll_wait(int epoll, struct ah_event *events, int count, int timeout_ms) {
    struct epoll_event raw[64];
    int n = epoll_wait(epoll, raw, count < 64 ? count : 64, timeout_ms);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        unsigned e = raw[i].events;
        events[i].data = raw[i].data.u64;
        events[i].ready = (uint8_t)((e & EPOLLIN ? AH_IN : 0) | (e & EPOLLOUT ? AH_OUT : 0)
                                    | (e & (EPOLLHUP | EPOLLERR | EPOLLRDHUP) ? AH_HANGUP : 0));
    }
    return n;
}

void ah_log(const void *text, size_t count) {
    // A log that cannot be written has nobody to be told to.
    long n = ah_write(2, text, count);
    (void)n;
}

const char *ah_error_text(int code) {
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

// Embedded Swift has no CommandLine; libc gives the arguments to constructors, too.
static char **program_arguments;
static int program_argument_count;
__attribute__((constructor)) static void keep_arguments(int count, char **arguments) {
    program_argument_count = count;
    program_arguments = arguments;
}

const char *ah_argument(int index) {
    return index >= 0 && index < program_argument_count ? program_arguments[index] : 0;
}

void ah_tune_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 32 << 10);
    mallopt(M_TRIM_THRESHOLD, 64 << 10);
    mallopt(M_TOP_PAD, 16 << 10);
}

void ah_trim_memory(void) { malloc_trim(0); }
