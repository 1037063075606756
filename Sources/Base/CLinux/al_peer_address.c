#define _GNU_SOURCE
#include "al_peer_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

int al_peer_address(int socket, char *text, uint16_t *port) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getpeername(socket, (struct sockaddr *)&address, &length) != 0) return -1;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        *port = ntohs(in->sin_port);
        return inet_ntop(AF_INET, &in->sin_addr, text, AL_ADDRESS_TEXT) ? 1 : -1;
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&address;
        *port = ntohs(in->sin6_port);
        return inet_ntop(AF_INET6, &in->sin6_addr, text, AL_ADDRESS_TEXT) ? 1 : -1;
    }
    return 0;
}
