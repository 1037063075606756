#ifndef AL_PEER_LEFT_H
#define AL_PEER_LEFT_H
/* Whether a TCP client that sends no more is still there. */

/* 1: the other end of the connection is a socket of this host that no program has open any more.
   0: some program has it open, or the other end is elsewhere and nobody here can tell.
   -1 and errno when the kernel could not be asked. */
int al_peer_left(int socket);

#endif
