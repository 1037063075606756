// c-ares behind flat calls: Swift sees no callbacks with unions, no sockets' tables and no lists.
#ifndef AEGIS_CCARES_SHIM_H
#define AEGIS_CCARES_SHIM_H

#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

// Sockets that one lookup may have at a time: with more name servers than that, the last are not listened to.
#define AL_DNS_SOCKETS 16
// Addresses of a family that are kept of a name.
#define AL_DNS_ADDRESSES 16
// Rounds of one `al_dns_go_on`: somebody who sends without an end must not keep the thread.
#define AL_DNS_ROUNDS 64

enum { AL_DNS_IPV4, AL_DNS_IPV6, AL_DNS_FAMILIES };

// What became of a name in one family.
typedef struct al_dns_family {
    int is_done, status;
    size_t count;
    char texts[AL_DNS_ADDRESSES][INET6_ADDRSTRLEN];
} al_dns_family;

// A name that is looked up. All calls on the same thread at a time.
typedef struct al_dns {
    ares_channel channel;
    al_dns_family families[AL_DNS_FAMILIES];
    struct pollfd sockets[AL_DNS_SOCKETS];
    nfds_t count;
    // Told of a new socket, and of one that is about to be closed; from inside the calls below.
    void (*begin)(void *user, int socket);
    void (*end)(void *user, int socket);
    void *user;
} al_dns;

static inline void al_dns_on_socket(void *user, ares_socket_t socket, int readable, int writable) {
    al_dns *dns = (al_dns *)user;
    short events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
    nfds_t place = 0;
    while (place < dns->count && dns->sockets[place].fd != socket) place++;
    if (events) {
        if (place == AL_DNS_SOCKETS) return;
        int is_new = place == dns->count;
        dns->sockets[place] = (struct pollfd){.fd = socket, .events = events};
        if (!is_new) return;
        dns->count++;
        if (dns->begin) dns->begin(dns->user, socket);
    } else if (place < dns->count) {
        dns->sockets[place] = dns->sockets[--dns->count];
        if (dns->end) dns->end(dns->user, socket);
    }
}

static inline void al_dns_on_answer(void *user, int status, int timeouts, struct ares_addrinfo *found) {
    (void)timeouts;
    al_dns_family *family = (al_dns_family *)user;
    family->is_done = 1;
    family->status = status;
    for (struct ares_addrinfo_node *one = found ? found->nodes : 0; one && family->count < AL_DNS_ADDRESSES;
         one = one->ai_next) {
        const void *address = one->ai_family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)(const void *)one->ai_addr)->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)(const void *)one->ai_addr)->sin6_addr;
        if (inet_ntop(one->ai_family, address, family->texts[family->count], INET6_ADDRSTRLEN)) family->count++;
    }
    if (found) ares_freeaddrinfo(found);
}

// Once, before all others.
static inline int al_dns_start(void) { return ares_library_init(ARES_LIB_INIT_ALL); }

// Prepares a lookup, in the hosts file ("f") or by name servers ("b"): `servers` (ADDRESS:PORT, with commas), or NULL for those
// of this host, whose configuration is read now. The time is in milliseconds: until a question is sent again, longer each time.
static inline al_dns *al_dns_new(const char *where, const char *servers, int time, int tries, int *status) {
    al_dns *dns = (al_dns *)calloc(1, sizeof *dns);
    if (!dns) {
        *status = ARES_ENOMEM;
        return 0;
    }
    struct ares_options options;
    memset(&options, 0, sizeof options);
    // A name is what it says: no search list and no alias of this host's makes another one of it.
    options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES;
    options.lookups = (char *)where;
    options.timeout = time;
    options.tries = tries;
    options.sock_state_cb = al_dns_on_socket;
    options.sock_state_cb_data = dns;
    *status = ares_init_options(&dns->channel, &options,
                                ARES_OPT_FLAGS | ARES_OPT_LOOKUPS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                    ARES_OPT_SOCK_STATE_CB);
    if (*status == ARES_SUCCESS && servers) {
        *status = ares_set_servers_ports_csv(dns->channel, servers);
        if (*status != ARES_SUCCESS) ares_destroy(dns->channel);
    }
    if (*status == ARES_SUCCESS) return dns;
    free(dns);
    return 0;
}

// Takes all questions back, and closes the sockets.
static inline void al_dns_stop(al_dns *dns) { ares_cancel(dns->channel); }

// Ends a lookup, whatever has become of it.
static inline void al_dns_free(al_dns *dns) {
    ares_destroy(dns->channel);
    free(dns);
}

// Begins to ask for the addresses of a name in a family.
static inline void al_dns_ask(al_dns *dns, const char *name, int family) {
    struct ares_addrinfo_hints hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = family == AL_DNS_IPV4 ? AF_INET : AF_INET6;
    // Who connects has an order of his own.
    hints.ai_flags = ARES_AI_NOSORT;
    ares_getaddrinfo(dns->channel, name, 0, &hints, al_dns_on_answer, &dns->families[family]);
}

// Reads what has come, sends what is to be sent, and looks which questions have waited for too long. Never waits. 1 when there is
// more to be done at once.
static inline int al_dns_go_on(al_dns *dns) {
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (int round = 0; round < AL_DNS_ROUNDS; round++) {
        // Whoever tells of a socket does so only when something changes; what was left in it would be forgotten. What c-ares does
        // with one may open and close others.
        struct pollfd ready[AL_DNS_SOCKETS];
        nfds_t count = dns->count;
        memcpy(ready, dns->sockets, count * sizeof ready[0]);
        if (count == 0 || poll(ready, count, 0) <= 0) return 0;
        for (nfds_t i = 0; i < count; i++) {
            if (!ready[i].revents) continue;
            int reads = (ready[i].revents & ~POLLOUT) != 0, writes = (ready[i].revents & POLLOUT) != 0;
            ares_process_fd(dns->channel, reads ? ready[i].fd : ARES_SOCKET_BAD,
                            writes ? ready[i].fd : ARES_SOCKET_BAD);
        }
    }
    return 1;
}

// Milliseconds until it has to go on though nothing has come; below 0 when nothing is asked for any more.
static inline long al_dns_patience(al_dns *dns) {
    struct timeval time, *wait = ares_timeout(dns->channel, 0, &time);
    return wait ? (long)wait->tv_sec * 1000 + (wait->tv_usec + 999) / 1000 : -1;
}

static inline int al_dns_is_done(const al_dns *dns, int family) { return dns->families[family].is_done; }
static inline int al_dns_status(const al_dns *dns, int family) { return dns->families[family].status; }
static inline size_t al_dns_count(const al_dns *dns, int family) { return dns->families[family].count; }
static inline const char *al_dns_address(const al_dns *dns, int family, size_t index) {
    return dns->families[family].texts[index];
}
static inline int al_dns_succeeded(int status) { return status == ARES_SUCCESS; }
// The name is there, and has nothing of the kind.
static inline int al_dns_is_empty(int status) { return status == ARES_ENODATA; }
static inline const char *al_dns_words(int status) { return ares_strerror(status); }

#endif
