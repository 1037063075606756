#ifndef AL_RELAY_H
#define AL_RELAY_H
/* What moving bytes between two sockets needs. -1 and errno on failure. */
#include <stddef.h>
#include <sys/types.h>

/* A pipe whose ends do not block and close on exec, with room for `room` bytes where the kernel allows it. */
int al_relay_pipe(int ends[2], int room);
/* Moves bytes from one descriptor to another, one of which is a pipe, without copying them here; never waits. */
ssize_t al_splice(int from, int to, size_t count);
/* The next close of the socket resets the connection instead of ending it. */
int al_set_reset_on_close(int socket);
/* Asks a silent peer after `idle` seconds, then every `interval`, and gives it up after `count` questions. */
int al_set_keep_alive(int socket, int idle, int interval, int count);
/* Bytes that were sent and that the peer's kernel has not taken yet. */
int al_unacknowledged(int socket);

#endif
