#ifndef AL_PEER_LEFT_H
#define AL_PEER_LEFT_H
/* Whether a client that sends no more is still there. */

#define AL_PEER_UNKNOWN 0
#define AL_PEER_LEFT 1
#define AL_PEER_THERE 2

/* LEFT: the connection is over, or the other end is a socket of this host that no program has open any more.
   THERE: some program of this host has it open.
   UNKNOWN: the other end is elsewhere and nobody here can tell.
   -1 and errno when the kernel could not be asked. */
int al_peer_left(int socket);

#endif
