// System calls of the harness and the keeper. Every function returns a value >= 0 or a negated errno, and repeats EINTR.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Readiness bits of ah_poll and ah_epoll_*.
enum { AH_IN = 1, AH_OUT = 2, AH_HANGUP = 4 };

struct ah_poll_entry {
    int32_t fd;       // -1: skipped
    uint8_t wanted;   // AH_IN, AH_OUT
    uint8_t ready;    // AH_IN, AH_OUT, AH_HANGUP (hangup or error)
};
struct ah_event {
    uint64_t data;
    uint8_t ready;
};

long ah_read(int fd, void *buffer, size_t count);
long ah_write(int fd, const void *buffer, size_t count);
// Writes everything, waiting for a slow reader; for the copy children, whose descriptors block.
long ah_write_all(int fd, const void *buffer, size_t count);
long ah_close(int fd);
long ah_duplicate(int fd);
long ah_set_nonblocking(int fd);
// The same for a descriptor that has no other flags, without asking.
long ah_set_only_nonblocking(int fd);
long ah_set_close_on_exec(int fd);
// Close-on-exec for every descriptor from `first` on.
long ah_close_on_exec_from(int first);
long ah_pipe(int32_t *reader, int32_t *writer);
long ah_socket_pair(int32_t *one, int32_t *other);
// Bytes that a read would give at this moment.
long ah_pending(int fd);
// Accepts a connection (non-blocking, close-on-exec); *uid is the peer's.
long ah_accept(int listener, uint32_t *uid);
uint32_t ah_effective_uid(void);
uint64_t ah_now_microseconds(void);
long ah_poll(struct ah_poll_entry *entries, size_t count, int timeout_ms);
long ah_epoll_create(void);
// Edge-triggered, for both directions.
long ah_epoll_add(int epoll, int fd, uint64_t data);
// The same for what can be read, and whether it is to tell when something can be written, too.
long ah_epoll_add_input(int epoll, int fd, uint64_t data);
long ah_epoll_watch_output(int epoll, int fd, uint64_t data, int wanted);
long ah_epoll_wait(int epoll, struct ah_event *events, int count, int timeout_ms);
void ah_log(const void *text, size_t count);
const char *ah_error_text(int code);
// An argument of the program; null beyond the last.
const char *ah_argument(int index);
// Small thresholds, so that what was freed goes back to the kernel.
void ah_tune_memory(void);
void ah_trim_memory(void);

// Sockets on which programs inside reach the harness.

// Listens on a port of 127.0.0.1; non-blocking.
long ah_listen_loopback(uint16_t port);
// Listens on a Unix socket that everybody inside may use; makes the folder that it lies in, but replaces nothing. `path` ends with NUL.
long ah_listen_socket(const void *path);
// Removes such a socket, and the folder if nothing else is in it.
void ah_remove_socket(const void *path);
// Accepts a connection (non-blocking, close-on-exec).
long ah_accept_program(int listener);
// Tells the peer that nothing more comes.
long ah_shutdown_write(int fd);
