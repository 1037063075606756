#ifndef AL_DATAGRAM_H
#define AL_DATAGRAM_H
/* Datagrams to a socket in the file system, as the journal takes them. */

#include <stddef.h>
#include <sys/types.h>

/* A Unix datagram socket, close-on-exec; -1 and errno. */
int al_socket_datagram(void);

/* Sends one datagram without waiting; -1 and errno when nobody takes it. */
ssize_t al_send_to_path(int socket, const char *path, const void *bytes, size_t count);

#endif
