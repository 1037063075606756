// libcurl behind flat calls: Swift sees no variadic options and no callbacks of ten kinds.
#ifndef AEGIS_CCURL_SHIM_H
#define AEGIS_CCURL_SHIM_H

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { AL_CURL_GO_ON, AL_CURL_PAUSE, AL_CURL_STOP };
enum { AL_CURL_READ = 1, AL_CURL_WRITE = 2 };

// What curl tells; all from inside a call of al_curl_*, on the same thread.
typedef struct al_curl_events {
    // Of a client: watch a descriptor for these directions, 0 forgets it.
    void (*watch)(void *client, int descriptor, int directions);
    // Of a client: call al_curl_timeout after so long; below 0 not at all.
    void (*timer)(void *client, long milliseconds);
    // Of a transfer: a line of a header section, with its end.
    int (*line)(void *transfer, const uint8_t *bytes, size_t count);
    // Of a transfer: bytes of the body.
    int (*body)(void *transfer, const uint8_t *bytes, size_t count);
    // Of a transfer: whether this numeric address may be connected to (`is_open` 0), or be sent the request (1).
    int (*admits)(void *transfer, const char *address, int port, int is_open);
} al_curl_events;

typedef struct al_curl_client {
    CURLM *multi;
    const al_curl_events *events;
    void *user;
} al_curl_client;

typedef struct al_curl_transfer {
    CURL *easy;
    const al_curl_events *events;
    void *user;
    struct curl_slist *headers, *connect_to;
    // The first option that could not be set.
    int failure;
    char problem[CURL_ERROR_SIZE];
} al_curl_transfer;

// MARK: Clients

static inline int al_curl_on_socket(CURL *easy, curl_socket_t descriptor, int what, void *user, void *unused) {
    (void)easy;
    (void)unused;
    al_curl_client *c = (al_curl_client *)user;
    int directions = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) directions |= AL_CURL_READ;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) directions |= AL_CURL_WRITE;
    c->events->watch(c->user, (int)descriptor, directions);
    return 0;
}

static inline int al_curl_on_timer(CURLM *multi, long milliseconds, void *user) {
    (void)multi;
    al_curl_client *c = (al_curl_client *)user;
    c->events->timer(c->user, milliseconds);
    return 0;
}

static inline int al_curl_start(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

static inline void al_curl_client_free(al_curl_client *c) {
    if (!c) return;
    if (c->multi) {
        // What is still open is closed without being told about.
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, (void *)0);
        curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, (void *)0);
        curl_multi_cleanup(c->multi);
    }
    free(c);
}

// Null when memory is out.
static inline al_curl_client *al_curl_client_new(const al_curl_events *events, void *user, long connections, long idle) {
    al_curl_client *c = (al_curl_client *)calloc(1, sizeof *c);
    if (!c) return 0;
    c->events = events;
    c->user = user;
    c->multi = curl_multi_init();
    if (!c->multi) {
        free(c);
        return 0;
    }
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, al_curl_on_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, al_curl_on_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, idle);
    // A connection carries one transfer at a time, with HTTP/2, too: who does not read holds up nobody else, and ending a
    // transfer ends its connection.
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    return c;
}

static inline void al_curl_timeout(al_curl_client *c) {
    int running;
    curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static inline void al_curl_ready(al_curl_client *c, int descriptor, int directions, int failed) {
    int running, what = 0;
    if (directions & AL_CURL_READ) what |= CURL_CSELECT_IN;
    if (directions & AL_CURL_WRITE) what |= CURL_CSELECT_OUT;
    if (failed) what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(c->multi, descriptor, what, &running);
}

// The `user` of a transfer that is over, with its result; null when there is none.
static inline void *al_curl_next_done(al_curl_client *c, int *result) {
    int left;
    for (;;) {
        CURLMsg *message = curl_multi_info_read(c->multi, &left);
        if (!message) return 0;
        if (message->msg != CURLMSG_DONE) continue;
        char *transfer = 0;
        *result = (int)message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        return transfer ? ((al_curl_transfer *)(void *)transfer)->user : 0;
    }
}

// MARK: Transfers

static inline size_t al_curl_on_line(char *bytes, size_t size, size_t count, void *user) {
    al_curl_transfer *t = (al_curl_transfer *)user;
    return t->events->line(t->user, (const uint8_t *)bytes, size * count) == AL_CURL_GO_ON ? size * count
                                                                                          : CURL_WRITEFUNC_ERROR;
}

static inline size_t al_curl_on_body(char *bytes, size_t size, size_t count, void *user) {
    al_curl_transfer *t = (al_curl_transfer *)user;
    switch (t->events->body(t->user, (const uint8_t *)bytes, size * count)) {
    case AL_CURL_GO_ON: return size * count;
    case AL_CURL_PAUSE: return CURL_WRITEFUNC_PAUSE;
    default: return CURL_WRITEFUNC_ERROR;
    }
}

static inline curl_socket_t al_curl_on_open(void *user, curlsocktype purpose, struct curl_sockaddr *to) {
    al_curl_transfer *t = (al_curl_transfer *)user;
    char text[INET6_ADDRSTRLEN];
    const void *address;
    int port;
    if (purpose != CURLSOCKTYPE_IPCXN) return CURL_SOCKET_BAD;
    if (to->family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&to->addr;
        address = &in->sin_addr;
        port = ntohs(in->sin_port);
    } else if (to->family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)&to->addr;
        address = &in->sin6_addr;
        port = ntohs(in->sin6_port);
    } else {
        return CURL_SOCKET_BAD;
    }
    if (!inet_ntop(to->family, address, text, sizeof text) || !t->events->admits(t->user, text, port, 0))
        return CURL_SOCKET_BAD;
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static inline int al_curl_on_connected(void *user, char *address, char *own, int port, int own_port) {
    (void)own;
    (void)own_port;
    al_curl_transfer *t = (al_curl_transfer *)user;
    return t->events->admits(t->user, address, port, 1) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static inline void al_curl_transfer_free(al_curl_transfer *t) {
    if (!t) return;
    if (t->easy) curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    curl_slist_free_all(t->connect_to);
    free(t);
}

static inline void al_curl_check(al_curl_transfer *t, CURLcode code) {
    if (!t->failure) t->failure = (int)code;
}

// A transfer that follows no redirects, checks certificates and names, speaks HTTP(S) only and uses no proxy. Null when
// memory is out.
static inline al_curl_transfer *al_curl_transfer_new(const al_curl_events *events, void *user) {
    al_curl_transfer *t = (al_curl_transfer *)calloc(1, sizeof *t);
    if (!t || !(t->easy = curl_easy_init())) {
        free(t);
        return 0;
    }
    t->events = events;
    t->user = user;
    CURL *e = t->easy;
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_PRIVATE, t));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->problem));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L));
    // Giving a lookup up must not wait for its thread.
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https"));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_PROXY, ""));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, al_curl_on_line));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_HEADERDATA, t));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, al_curl_on_body));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_WRITEDATA, t));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, al_curl_on_open));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, al_curl_on_connected));
    al_curl_check(t, curl_easy_setopt(e, CURLOPT_PREREQDATA, t));
    return t;
}

static inline void al_curl_set_url(al_curl_transfer *t, const char *url) {
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_URL, url));
}
// The method; with a body its bytes are copied.
static inline void al_curl_set_method(al_curl_transfer *t, const char *method, const uint8_t *body, size_t count,
                                      int has_body) {
    if (has_body) {
        al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_POST, 1L));
        al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)count));
        al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_COPYPOSTFIELDS, count ? (const char *)body : ""));
    } else if (!strcmp(method, "HEAD")) {
        al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L));
        return;
    } else {
        al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L));
    }
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, method));
}
static inline void al_curl_append(al_curl_transfer *t, struct curl_slist **list, const char *text) {
    struct curl_slist *longer = curl_slist_append(*list, text);
    if (longer) *list = longer;
    else al_curl_check(t, CURLE_OUT_OF_MEMORY);
}
static inline void al_curl_add_header(al_curl_transfer *t, const char *line) { al_curl_append(t, &t->headers, line); }
// Connects to an address instead of what the host's name resolves to; "::ADDRESS:".
static inline void al_curl_connect_to(al_curl_transfer *t, const char *where) {
    al_curl_append(t, &t->connect_to, where);
}
// Authorities (PEM, copied) beside those of the system's folder.
static inline void al_curl_trust(al_curl_transfer *t, const uint8_t *pem, size_t count, const char *system_folder) {
    struct curl_blob blob = {(void *)(uintptr_t)pem, count, CURL_BLOB_COPY};
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_CAINFO_BLOB, &blob));
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_CAPATH, system_folder));
}
static inline void al_curl_use_environment_proxy(al_curl_transfer *t) {
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_PROXY, (char *)0));
}
static inline void al_curl_use_new_connection(al_curl_transfer *t) {
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L));
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L));
}
static inline void al_curl_decompress(al_curl_transfer *t) {
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_ACCEPT_ENCODING, ""));
}
static inline void al_curl_limit_connect(al_curl_transfer *t, long milliseconds) {
    al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds));
}

// Starts it; 0 or why not.
static inline int al_curl_begin(al_curl_client *c, al_curl_transfer *t) {
    if (t->headers) al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers));
    if (t->connect_to) al_curl_check(t, curl_easy_setopt(t->easy, CURLOPT_CONNECT_TO, t->connect_to));
    if (t->failure) return t->failure;
    return curl_multi_add_handle(c->multi, t->easy) ? CURLE_FAILED_INIT : 0;
}
// Takes it out; a connection that is in the middle of an exchange is closed.
static inline void al_curl_end(al_curl_client *c, al_curl_transfer *t, int closes) {
    if (closes) curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
    curl_multi_remove_handle(c->multi, t->easy);
}
// Goes on with a paused transfer; may deliver bytes at once. Not 0: it cannot go on, and does not end by itself.
static inline int al_curl_go_on(al_curl_transfer *t) { return (int)curl_easy_pause(t->easy, CURLPAUSE_CONT); }

static inline const char *al_curl_problem(al_curl_transfer *t, int code) {
    return t->problem[0] ? t->problem : curl_easy_strerror((CURLcode)code);
}

// MARK: Addresses of the web

enum { AL_URL_SCHEME, AL_URL_USER, AL_URL_PASSWORD, AL_URL_HOST, AL_URL_PORT, AL_URL_PATH, AL_URL_QUERY, AL_URL_WHOLE };

// A URL of its own, or one relative to `base` when that is not null; null when it is none.
static inline CURLU *al_url_parse(const char *base, const char *text) {
    CURLU *u = curl_url();
    if (!u) return 0;
    if ((base && curl_url_set(u, CURLUPART_URL, base, 0)) || curl_url_set(u, CURLUPART_URL, text, 0)) {
        curl_url_cleanup(u);
        return 0;
    }
    // A fragment is not for servers.
    curl_url_set(u, CURLUPART_FRAGMENT, (const char *)0, 0);
    return u;
}
// A part, to be given to al_url_text_free; null when there is none.
static inline char *al_url_part(CURLU *u, int part) {
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_HOST,
                                      CURLUPART_PORT, CURLUPART_PATH, CURLUPART_QUERY, CURLUPART_URL};
    char *text = 0;
    unsigned int flags = part == AL_URL_PORT ? CURLU_DEFAULT_PORT : 0;
    return curl_url_get(u, parts[part], &text, flags) ? 0 : text;
}
static inline void al_url_text_free(char *text) { curl_free(text); }
static inline void al_url_free(CURLU *u) { curl_url_cleanup(u); }

#endif
