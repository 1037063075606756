// nghttp2 behind flat calls: Swift sees no unions, no variadic options and no arrays of pointers.
#ifndef AEGIS_CNGHTTP2_SHIM_H
#define AEGIS_CNGHTTP2_SHIM_H

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

// What a session tells. All are called from inside al_h2_receive or al_h2_produce, on the same thread.
typedef struct al_h2_events {
    void (*begin)(void *user, int32_t stream);
    void (*field)(void *user, int32_t stream, const uint8_t *name, size_t name_count, const uint8_t *value,
                  size_t value_count, int never_index);
    // A header section is whole.
    void (*headers)(void *user, int32_t stream, int ends);
    void (*data)(void *user, int32_t stream, const uint8_t *bytes, size_t count);
    // The peer has sent the last byte of a stream's body, and no trailers follow.
    void (*ended)(void *user, int32_t stream);
    // END_STREAM has been sent.
    void (*finished)(void *user, int32_t stream);
    void (*closed)(void *user, int32_t stream, uint32_t code);
    // The request could not be sent: the peer takes no more streams.
    void (*unsent)(void *user, int32_t stream);
    void (*goaway)(void *user);
    // A header section breaks the protocol's rules, and its stream is reset; `field` has told those before the fault.
    void (*invalid)(void *user, int32_t stream);
    // Gives body bytes; `*ends` becomes 1 when these are the last, 2 when trailers follow, 3 when there are none now.
    size_t (*produce)(void *user, int32_t stream, uint8_t *room, size_t count, int *ends);
} al_h2_events;

typedef struct al_h2 {
    nghttp2_session *session;
    const al_h2_events *events;
    void *user;
    int is_server;
    // The peer's settings have come.
    int has_settings;
} al_h2;

// One field of a header section, as places in its bytes.
typedef struct al_h2_field {
    uint32_t name, name_count, value, value_count;
    uint8_t never_index;
} al_h2_field;

static inline int al_h2_on_begin(nghttp2_session *s, const nghttp2_frame *frame, void *user) {
    (void)s;
    al_h2 *h = (al_h2 *)user;
    h->events->begin(h->user, frame->hd.stream_id);
    return 0;
}

static inline int al_h2_on_field(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                                 size_t name_count, const uint8_t *value, size_t value_count, uint8_t flags,
                                 void *user) {
    (void)s;
    al_h2 *h = (al_h2 *)user;
    h->events->field(h->user, frame->hd.stream_id, name, name_count, value, value_count,
                     (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
    return 0;
}

static inline int al_h2_on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user) {
    (void)s;
    al_h2 *h = (al_h2 *)user;
    int ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: h->events->headers(h->user, frame->hd.stream_id, ends); break;
    case NGHTTP2_DATA:
        if (ends) h->events->ended(h->user, frame->hd.stream_id);
        break;
    case NGHTTP2_SETTINGS: h->has_settings = 1; break;
    case NGHTTP2_GOAWAY: h->events->goaway(h->user); break;
    default: break;
    }
    return 0;
}

static inline int al_h2_on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t count,
                                void *user) {
    (void)s;
    (void)flags;
    al_h2 *h = (al_h2 *)user;
    h->events->data(h->user, stream, bytes, count);
    return 0;
}

static inline int al_h2_on_sent(nghttp2_session *s, const nghttp2_frame *frame, void *user) {
    (void)s;
    al_h2 *h = (al_h2 *)user;
    if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        h->events->finished(h->user, frame->hd.stream_id);
    return 0;
}

static inline int al_h2_on_unsent(nghttp2_session *s, const nghttp2_frame *frame, int error, void *user) {
    (void)s;
    (void)error;
    al_h2 *h = (al_h2 *)user;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        h->events->unsent(h->user, frame->hd.stream_id);
    return 0;
}

static inline int al_h2_on_close(nghttp2_session *s, int32_t stream, uint32_t code, void *user) {
    (void)s;
    al_h2 *h = (al_h2 *)user;
    h->events->closed(h->user, stream, code);
    return 0;
}

static inline int al_h2_on_invalid(nghttp2_session *s, const nghttp2_frame *frame, int error, void *user) {
    (void)s;
    (void)error;
    al_h2 *h = (al_h2 *)user;
    if (frame->hd.type == NGHTTP2_HEADERS) h->events->invalid(h->user, frame->hd.stream_id);
    return 0;
}

static inline ssize_t al_h2_on_produce(nghttp2_session *s, int32_t stream, uint8_t *room, size_t count,
                                       uint32_t *flags, nghttp2_data_source *source, void *user) {
    (void)s;
    (void)source;
    al_h2 *h = (al_h2 *)user;
    int ends = 0;
    size_t made = h->events->produce(h->user, stream, room, count, &ends);
    if (ends == 3 && made == 0) return NGHTTP2_ERR_DEFERRED;
    if (ends == 1) *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (ends == 2) *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return (ssize_t)made;
}

static inline void al_h2_free(al_h2 *h) {
    if (!h) return;
    if (h->session) nghttp2_session_del(h->session);
    free(h);
}

// A session; null when memory is out. `events` and `user` must outlive it.
static inline al_h2 *al_h2_new(int is_server, const al_h2_events *events, void *user) {
    al_h2 *h = (al_h2 *)calloc(1, sizeof *h);
    nghttp2_session_callbacks *callbacks = 0;
    nghttp2_option *option = 0;
    if (!h || nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option)) goto failed;
    h->events = events;
    h->user = user;
    h->is_server = is_server;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, al_h2_on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, al_h2_on_field);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, al_h2_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, al_h2_on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, al_h2_on_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, al_h2_on_unsent);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, al_h2_on_invalid);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, al_h2_on_close);
    // Windows open as bytes go on, not as they come.
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    // Before its settings come a peer takes a hundred streams, as the standard recommends.
    nghttp2_option_set_peer_max_concurrent_streams(option, 100);
    if (is_server ? nghttp2_session_server_new2(&h->session, callbacks, h, option)
                  : nghttp2_session_client_new2(&h->session, callbacks, h, option))
        goto failed;
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return h;
failed:
    if (callbacks) nghttp2_session_callbacks_del(callbacks);
    if (option) nghttp2_option_del(option);
    al_h2_free(h);
    return 0;
}

// Queues the first settings; a client's preface comes with them.
static inline int al_h2_settings(al_h2 *h, uint32_t streams, uint32_t stream_window, int32_t window,
                                 uint32_t section) {
    nghttp2_settings_entry server[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams},
                                       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window},
                                       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, section}};
    nghttp2_settings_entry client[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window},
                                       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, section}};
    int error = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, h->is_server ? server : client, 3);
    if (error) return error;
    return nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, window);
}

// Takes bytes of the peer; below 0 when the connection cannot go on.
static inline ssize_t al_h2_receive(al_h2 *h, const uint8_t *bytes, size_t count) {
    return nghttp2_session_mem_recv(h->session, bytes, count);
}

// The next bytes for the peer, valid until the next call; 0 when there are none now.
static inline ssize_t al_h2_produce(al_h2 *h, const uint8_t **bytes) {
    return nghttp2_session_mem_send(h->session, bytes);
}

static inline nghttp2_nv *al_h2_names(const uint8_t *bytes, const al_h2_field *fields, size_t count) {
    nghttp2_nv *all = (nghttp2_nv *)calloc(count ? count : 1, sizeof *all);
    if (!all) return 0;
    for (size_t i = 0; i < count; i++) {
        all[i].name = (uint8_t *)bytes + fields[i].name;
        all[i].namelen = fields[i].name_count;
        all[i].value = (uint8_t *)bytes + fields[i].value;
        all[i].valuelen = fields[i].value_count;
        all[i].flags = fields[i].never_index ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
    }
    return all;
}

enum { AL_H2_REQUEST, AL_H2_RESPONSE, AL_H2_INTERIM, AL_H2_TRAILERS };

// Queues a header section; `ends` means that no body follows. The stream's number (a new one for a request), or an error.
static inline int32_t al_h2_submit(al_h2 *h, int kind, int32_t stream, const uint8_t *bytes, const al_h2_field *fields,
                                   size_t count, int ends) {
    nghttp2_nv *all = al_h2_names(bytes, fields, count);
    if (!all) return NGHTTP2_ERR_NOMEM;
    nghttp2_data_provider provider = {{0}, al_h2_on_produce};
    int32_t result = stream;
    int error = 0;
    switch (kind) {
    case AL_H2_REQUEST: result = nghttp2_submit_request(h->session, 0, all, count, ends ? 0 : &provider, 0); break;
    case AL_H2_RESPONSE: error = nghttp2_submit_response(h->session, stream, all, count, ends ? 0 : &provider); break;
    case AL_H2_INTERIM:
        error = nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, stream, 0, all, count, 0);
        break;
    default: error = nghttp2_submit_trailer(h->session, stream, all, count); break;
    }
    free(all);
    return error < 0 ? error : result;
}

static inline void al_h2_resume(al_h2 *h, int32_t stream) { nghttp2_session_resume_data(h->session, stream); }
static inline void al_h2_reset(al_h2 *h, int32_t stream, uint32_t code) {
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, stream, code);
}
static inline void al_h2_consume_stream(al_h2 *h, int32_t stream, size_t count) {
    nghttp2_session_consume_stream(h->session, stream, count);
}
static inline void al_h2_consume_connection(al_h2 *h, size_t count) {
    nghttp2_session_consume_connection(h->session, count);
}
// No more streams of the peer's are taken; those that are there go on.
static inline void al_h2_goaway(al_h2 *h, uint32_t code) {
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session), code, 0,
                          0);
}
static inline size_t al_h2_queued(al_h2 *h) { return nghttp2_session_get_outbound_queue_size(h->session); }
// Whether the session has anything left to hear or to say.
static inline int al_h2_lives(al_h2 *h) {
    return nghttp2_session_want_read(h->session) || nghttp2_session_want_write(h->session);
}
static inline int al_h2_takes_requests(al_h2 *h) { return nghttp2_session_check_request_allowed(h->session); }
static inline const char *al_h2_problem(ssize_t error) { return nghttp2_strerror((int)error); }

#endif
