#ifndef AL_DATAGRAM_H
#define AL_DATAGRAM_H
/* Datagrams to a socket in the file system, as the journal takes them. */

#include <stddef.h>
#include <sys/types.h>

/* A Unix datagram socket, close-on-exec, that waits so many milliseconds for room at the other side; -1 and errno. */
int al_socket_datagram(int patience);

/* Sends one datagram; -1 and errno when nobody takes it. */
ssize_t al_send_to_path(int socket, const char *path, const void *bytes, size_t count);

/* Sends one datagram that is nothing but an open file; -1 and errno when nobody takes it. */
ssize_t al_send_file_to_path(int socket, const char *path, int file);

/* Makes an unnamed file in memory one that nobody can change any more; -1 and errno. */
int al_seal(int file);

#endif
