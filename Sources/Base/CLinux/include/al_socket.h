#ifndef AL_SOCKET_H
#define AL_SOCKET_H
/* Sockets, and descriptors sent over them. -1 and errno on failure unless said. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Sockets are made non-blocking and close-on-exec. */
int al_socket_stream(int family);
int al_socket_pair(int ends[2], int nonblocking);
int al_accept(int listener);
int al_is_socket(int descriptor);

/* Never block, never raise SIGPIPE, whatever the descriptor's own flags say. */
ssize_t al_receive(int socket, void *bytes, size_t count);
ssize_t al_send(int socket, const void *bytes, size_t count);

/* Addresses: 1 set, 0 the text is no address of this kind (or too long). */
struct al_address {
    uint32_t length;
    uint64_t storage[16];
};
int al_address_ip(struct al_address *out, const char *text, uint16_t port);
int al_address_unix(struct al_address *out, const char *path);
int al_address_family(const struct al_address *address);

int al_bind(int socket, const struct al_address *address);
int al_connect(int socket, const struct al_address *address);
int al_local_port(int socket);
/* IPv4 addresses, other than loopback's, of the network namespace that an IPv4 socket lives in, in network byte order. Returns
   how many there are, at most most. */
int al_socket_own_addresses(int socket, uint32_t *addresses, int most);
/* The error that a connection attempt ended with, 0 for none. */
int al_socket_error(int socket);
int al_set_reuse_address(int socket);
int al_set_no_delay(int socket);
int al_set_v6_only(int socket);
int al_peer_credentials(int socket, pid_t *pid, uid_t *uid, gid_t *gid);

#define AL_MAX_DESCRIPTORS 64
ssize_t al_send_descriptors(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count);
/* *descriptor_count: in the room of descriptors, out how many came. Fails with EMSGSIZE (nothing kept open) when more came. */
ssize_t al_receive_descriptors(int socket, void *bytes, size_t count, int *descriptors, size_t *descriptor_count);

#endif
