#ifndef CN_NETWORK_H
#define CN_NETWORK_H
/* Network namespaces, veth pairs and the sockets of the egress gateway. -1 and errno on failure. Whatever enters a namespace
   does so on a thread of its own, because that holds for the thread that does it. IPv4 addresses and ports are in the
   order of the host. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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

/* Gives the gateway the only way that it has, to a namespace which takes every address for its own, but the gateway's and those of
   instances (a network with its prefix), which it answers. What arrives there was let through by mistake. Fine when it is
   there already. */
int cn_trap(
    int gateway_ns, int trap_ns, const char *name, uint32_t gateway, uint32_t address, uint32_t instances, uint8_t bits);

/* Makes an instance a member of a group: a bridge of the gateway's (made when it is not there, without an address of its own),
   a veth pair whose one end is its port `port`, whose other is the instance's eth1 with an address and its network's prefix.
   Frames may carry only that address and the hardware address that is made of it: an element of the set `ports` of the
   bridge table `table`. Fine when the port is there already. Undone when a step fails, but for the bridge. */
int cn_join(
    int gateway_ns, int instance_ns, const char *bridge, const char *port, const char *table, uint32_t address,
    uint8_t prefix);
/* Removes a member's port, what it might carry, and the bridge unless that is NULL; fine when they are gone. */
int cn_leave(int gateway_ns, const char *bridge, const char *port, const char *table, uint32_t address);
/* 1 when a port is there, and its frames may carry this address; 0 when not. */
int cn_is_pinned(int gateway_ns, const char *port, const char *table, uint32_t address);

/* What the rules of a namespace said to a group of the kernel's packet log: most of all what they refused. */
struct cn_refusal {
    uint32_t link;      /* the index of the interface; of a bridge, of its port */
    uint16_t ethertype; /* as 0x0800 */
    uint8_t protocol;   /* of IPv4 */
    uint32_t address;   /* where it was for, with IPv4 */
    uint32_t source;    /* whom it says that it is from */
    uint16_t port, source_port;
    int is_probe; /* whether the rules knew it for one of `cn_expect_probes`, and did not count it */
};
/* A socket that hears such a group (blocking). */
int cn_refusals(int ns, uint16_t group);
/* Takes what is there; never waits. ENOBUFS when the kernel had more than it could keep. */
ssize_t cn_read_refusals(int netlink, struct cn_refusal *out, size_t room);
/* How many packets (or, bridged, frames) of an interface the rules of a table have dropped: its counter in the set `dropped`. */
int cn_dropped(int ns, int bridged, const char *table, const char *interface, uint64_t *packets);
/* Milliseconds since frames of a port of a group have last been passed on, from it or to it: by its element in the set `used` of
   the bridge table, whose elements last for `lasting` milliseconds; -1 and ENOENT when there were none for so long. */
int64_t cn_unused(int ns, const char *table, const char *port, uint64_t lasting);

/* A datagram that a probe is about to send: on which interface it comes in, or, bridged, on which port. */
struct cn_probe_flow {
    int bridged;
    char interface[16];
    uint32_t address;
    uint16_t port, source_port;
};
/* Has the rules of a table know such datagrams, so that they are told of as a probe's and not counted, or forget them. All are
   tried; -1 when one failed. */
int cn_expect_probes(int ns, const char *table, const struct cn_probe_flow *list, size_t count, int adding);
/* How many packets from an address have come through to the namespace of a table with the set `arrived`. */
int cn_arrived(int ns, const char *table, uint32_t address, uint64_t *packets);
/* The kernel's number of a table (inet) of a namespace: another one whenever its rules were loaded anew; 0 when there is none. */
int cn_table_handle(int ns, const char *table, uint64_t *handle);
/* The index of an interface in a namespace. */
int cn_link_index(int ns, const char *name);

/* One thing that a probe tries in a namespace. */
enum { CN_TCP, CN_UDP, CN_TCP6, CN_FRAME };
/* What came of it. CN_BUSY: the source port was taken. */
enum { CN_SILENT, CN_ANSWERED, CN_RESET, CN_ENDED, CN_UNREACHABLE, CN_BUSY };
#define CN_ATTEMPTS 64
struct cn_attempt {
    int kind;
    uint32_t address; /* TCP6 goes to 2001:db8::1; a frame leaves eth1 with a source that is not its port's */
    uint16_t port, source_port;
    int wants_answer;
    uint8_t sent[64];
    size_t sent_count;
    int outcome, error;
    uint8_t got[512];
    size_t got_count;
};
/* Makes attempts side by side in a namespace, for at most `patience` milliseconds. */
int cn_attempt_all(int ns, struct cn_attempt *list, size_t count, int patience);
/* The address and port that the other side of a TCP connection of IPv4 has. */
int cn_peer(int socket, uint32_t *address, uint16_t *port);

/* Where a redirected connection was going. */
int cn_original_destination(int socket, uint32_t *address, uint16_t *port);
/* One datagram of IPv4 and who sent it; never waits. */
ssize_t cn_receive_from(int socket, void *data, size_t room, uint32_t *address, uint16_t *port);
/* Sends one datagram of IPv4; never waits. */
ssize_t cn_send_to(int socket, const void *data, size_t count, uint32_t address, uint16_t port);

/* 1 when a numeric address is one of this host's own, in the calling thread's namespace; 0 when packets to it leave. */
int cn_is_local(const char *address);
/* Whether a numeric address is on a link of this host's, in the calling thread's namespace: 0 when it is this host's own, or reached
   through a gateway, by a route for everything, or not at all; else how many bits the addresses on that link share. */
int cn_on_link(const char *address);

#endif
