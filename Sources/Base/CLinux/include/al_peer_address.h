#ifndef AL_PEER_ADDRESS_H
#define AL_PEER_ADDRESS_H
/* Who is at the other end of a TCP connection. */
#include <stddef.h>
#include <stdint.h>

#define AL_ADDRESS_TEXT 64

/* The numeric address, with its end, into text (AL_ADDRESS_TEXT bytes) and the port.
   1 done, 0 the socket is not TCP, -1 and errno on failure. */
int al_peer_address(int socket, char *text, uint16_t *port);

#endif
