#ifndef CN_NETWORK_H
#define CN_NETWORK_H
/* Network namespaces, veth pairs and the sockets of the egress gateway. -1 and errno on failure. Whatever enters a namespace
   does so on a thread of its own, because that holds for the thread that does it. IPv4 addresses and ports are in the
   order of the host. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CN_ADDRESS_TEXT 46

/* Makes a network namespace in which nothing is forwarded and nothing is spoken but IPv4, and mounts it on a file, so that it
   stays without a process. Returns a descriptor of it. */
int cn_make_namespace(const char *path);
/* Opens a namespace that is mounted on a file; ENOENT when there is none. */
int cn_open_namespace(const char *path);

/* A socket (non-blocking, close-on-exec) of type SOCK_STREAM or SOCK_DGRAM in a namespace, for one interface only, bound to an
   address and port of IPv4; a stream socket listens with a backlog. */
int cn_bound_socket(int ns, int type, const char *interface, uint32_t address, uint16_t port, int backlog);

/* Joins two namespaces by a veth pair: the gateway's end gets `name` and its address, the instance's end is eth0 and gets
   the other address and the default route. IPv6 is off on both ends. Fine when the gateway's end is there already. Undone
   when a step fails. */
int cn_attach(int gateway_ns, int instance_ns, const char *name, uint32_t gateway, uint32_t address);
/* Removes the gateway's end, and with it the other one; fine when it is gone. */
int cn_detach(int gateway_ns, const char *name);

/* Where a redirected connection was going. */
int cn_original_destination(int socket, uint32_t *address, uint16_t *port);
/* One datagram of IPv4 and who sent it; never waits. */
ssize_t cn_receive_from(int socket, void *data, size_t room, uint32_t *address, uint16_t *port);
/* Sends one datagram of IPv4; never waits. */
ssize_t cn_send_to(int socket, const void *data, size_t count, uint32_t address, uint16_t port);

/* 1 when a numeric address is one of this host's own, in the calling thread's namespace; 0 when packets to it leave. */
int cn_is_local(const char *address);
/* The addresses of a name, as the host's resolver gives them: numeric texts, each CN_ADDRESS_TEXT bytes long with its NUL.
   Blocks. Returns how many, at most `room`; on failure -1 and in `code` what getaddrinfo said. */
int cn_resolve(const char *name, char *texts, size_t room, int *code);
const char *cn_resolve_text(int code);

#endif
