// What Aegis uses of OpenSSL 3: certificates of an authority in memory, and TLS sessions without sockets.
//
// None of it waits or calls back: bytes go in and come out, and the caller moves them. An object is used by one thread at
// a time, but for authorities, leaves and settings, which do not change once they are made.
#ifndef AL_TLS_H
#define AL_TLS_H

#include <stddef.h>
#include <stdint.h>

// What a call came to; those from AL_TLS_FAILED on are the ends of a session.
enum {
    AL_TLS_DONE = 0,
    // More bytes of the peer are needed.
    AL_TLS_WANTS_BYTES = 1,
    // The server needs to be told which certificate to show; see al_tls_session_wanted_name.
    AL_TLS_WANTS_LEAF = 2,
    // The peer has said that it sends no more.
    AL_TLS_PEER_ENDED = 3,
    AL_TLS_FAILED = 10,
    // The peer's bytes ended without that word.
    AL_TLS_CUT = 11,
    // The peer refused; `detail` is the number of its alert.
    AL_TLS_ALERT = 12,
    AL_TLS_EXPIRED = 13,
    AL_TLS_NOT_YET_VALID = 14,
    AL_TLS_OTHER_NAME = 15,
    AL_TLS_UNKNOWN_AUTHORITY = 16,
    // Another fault of the certificate; `detail` is OpenSSL's number.
    AL_TLS_BAD_CERTIFICATE = 17,
    // What the peer says is not TLS.
    AL_TLS_NOT_TLS = 18,
    // Neither side speaks a version, cipher or application protocol of the other.
    AL_TLS_NOTHING_IN_COMMON = 19,
};

typedef struct {
    int32_t kind;
    int32_t detail;
    // One phrase, ends with 0.
    char text[240];
} al_tls_problem;

typedef struct al_tls_authority al_tls_authority;
typedef struct al_tls_leaf al_tls_leaf;
typedef struct al_tls_settings al_tls_settings;
typedef struct al_tls_session al_tls_session;

// A new P-256 key with a certificate of its own; times in seconds since 1970. NULL: see `problem`.
al_tls_authority *al_tls_authority_new(const char *name, int64_t from, int64_t until, al_tls_problem *problem);
// Overwrites the key.
void al_tls_authority_free(al_tls_authority *authority);
// The certificate in PEM. Returns its length; writes nothing when that is more than `room`.
size_t al_tls_authority_pem(const al_tls_authority *authority, char *out, size_t room);

// The private key in DER. Returns its length; writes nothing when that is more than `room`, and 0 when it cannot be had.
size_t al_tls_authority_key(const al_tls_authority *authority, uint8_t *out, size_t room);
// The authority of a certificate in PEM and its private key in DER. NULL: see `problem`.
al_tls_authority *al_tls_authority_load(
    const char *pem, size_t pem_length, const uint8_t *key, size_t key_length, al_tls_problem *problem);

// A certificate for a DNS name, or for an address when `is_address`.
al_tls_leaf *al_tls_leaf_new(
    const al_tls_authority *authority, const char *name, int is_address, int64_t from, int64_t until,
    al_tls_problem *problem);
void al_tls_leaf_free(al_tls_leaf *leaf);
size_t al_tls_leaf_pem(const al_tls_leaf *leaf, char *out, size_t room);

// `protocols` is the list of ALPN: each with its length before it; may be empty.
al_tls_settings *al_tls_server_settings(const uint8_t *protocols, size_t count, al_tls_problem *problem);
// Trusts the certificates of a PEM text when that is not NULL, and the system's when `system` is not 0.
al_tls_settings *al_tls_client_settings(
    const char *pem, size_t length, int system, const uint8_t *protocols, size_t count, al_tls_problem *problem);
// How many certificates a PEM text holds; -1 when one of them cannot be read.
int al_tls_count_certificates(const char *pem, size_t length);
void al_tls_settings_free(al_tls_settings *settings);

al_tls_session *al_tls_server_session(const al_tls_settings *settings, al_tls_problem *problem);
// Checks that the server's certificate is for `host`, and asks for it by name unless that is an address.
al_tls_session *al_tls_client_session(
    const al_tls_settings *settings, const char *host, int is_address, al_tls_problem *problem);
void al_tls_session_free(al_tls_session *session);

// Goes on with the handshake.
int al_tls_session_shake(al_tls_session *session, al_tls_problem *problem);
// The server that the client asked for; NULL when it did not say.
const char *al_tls_session_wanted_name(const al_tls_session *session);
void al_tls_session_use(al_tls_session *session, const al_tls_leaf *leaf);
// The list of ALPN that the client sent, cut to 256 bytes; *count is 0 when it sent none.
const uint8_t *al_tls_session_offered(const al_tls_session *session, size_t *count);
// What is spoken in this session, instead of what its settings say. Returns 0 when that is too long.
int al_tls_session_speak(al_tls_session *session, const uint8_t *protocols, size_t count);
// Bytes that the peer sent; all are taken. Returns 0 when there is no memory.
int al_tls_session_feed(al_tls_session *session, const void *bytes, size_t count);
// The peer's bytes have ended.
void al_tls_session_feed_end(al_tls_session *session);
// How many bytes wait to be sent to the peer.
size_t al_tls_session_waiting(const al_tls_session *session);
// Takes such bytes out; returns how many.
size_t al_tls_session_take(al_tls_session *session, void *out, size_t room);
// What the peer said: *count bytes when DONE.
int al_tls_session_read(al_tls_session *session, void *out, size_t room, size_t *count, al_tls_problem *problem);
// Says something to the peer: all of it when DONE.
int al_tls_session_write(al_tls_session *session, const void *bytes, size_t count, al_tls_problem *problem);
// Says that nothing more comes.
void al_tls_session_end(al_tls_session *session);
// The protocol that both agreed on; *count is 0 when there is none.
const uint8_t *al_tls_session_protocol(const al_tls_session *session, size_t *count);
// As in "TLSv1.3".
const char *al_tls_session_version(const al_tls_session *session);
// The name of an alert, as in "unknown CA".
const char *al_tls_alert_name(int alert);

#endif
