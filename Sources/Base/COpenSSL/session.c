#include "internal.h"

#include <stdio.h>
#include <string.h>

struct al_tls_settings {
    SSL_CTX *context;
    size_t count;
    uint8_t protocols[128];
};

struct al_tls_session {
    SSL *ssl;
    // Owned by `ssl`: what the peer sent, and what it is to get.
    BIO *incoming;
    BIO *outgoing;
    int has_leaf;
    // The server that the client asks for; empty when it does not say.
    char name[256];
    // The list of ALPN as the client sent it, as far as there is room.
    size_t offered_count;
    uint8_t offered[256];
    // What is spoken in this session alone; the settings' when there is nothing.
    size_t count;
    uint8_t protocols[32];
};

// MARK: Settings

// The host of a server_name extension (RFC 6066, 3); empty when it is not well-formed.
static void note_name(al_tls_session *session, const unsigned char *list, size_t count) {
    session->name[0] = 0;
    // The list's length, the kind of the first name (0 is a host), and the name's length.
    if (count < 5 || list[2] != 0) return;
    size_t length = (size_t)list[3] << 8 | list[4];
    if (length == 0 || length > count - 5 || length >= sizeof session->name || memchr(list + 5, 0, length)) return;
    memcpy(session->name, list + 5, length);
    session->name[length] = 0;
}

// Notes what the client wants, and stops the handshake there until a certificate is chosen. Later would be too late: with
// TLS 1.3 OpenSSL chooses the protocol before it asks for the certificate.
static int note_hello(SSL *ssl, int *alert, void *unused) {
    (void)alert;
    (void)unused;
    al_tls_session *session = SSL_get_app_data(ssl);
    const unsigned char *list;
    size_t count;
    if (session->has_leaf) return SSL_CLIENT_HELLO_SUCCESS;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &list, &count)) note_name(session, list, count);
    session->offered_count = 0;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &list, &count) &&
        count > 2) {
        // The list's own length comes first; OpenSSL checks it later.
        session->offered_count = count - 2 < sizeof session->offered ? count - 2 : sizeof session->offered;
        memcpy(session->offered, list + 2, session->offered_count);
    }
    return SSL_CLIENT_HELLO_RETRY;
}

static int choose_protocol(
    SSL *ssl, const unsigned char **out, unsigned char *length, const unsigned char *offered, unsigned count,
    void *argument) {
    al_tls_session *session = SSL_get_app_data(ssl);
    al_tls_settings *settings = argument;
    const uint8_t *ours = session->count > 0 ? session->protocols : settings->protocols;
    size_t ours_count = session->count > 0 ? session->count : settings->count;
    unsigned char *chosen;
    if (ours_count == 0) return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, length, ours, (unsigned)ours_count, offered, count) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    // It points into our list or into the client's, which says the same.
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static al_tls_settings *make_settings(
    const SSL_METHOD *method, const uint8_t *protocols, size_t count, al_tls_problem *problem) {
    ERR_clear_error();
    al_tls_settings *settings = OPENSSL_zalloc(sizeof *settings);
    if (settings && count <= sizeof settings->protocols && (settings->context = SSL_CTX_new(method)) &&
        SSL_CTX_set_min_proto_version(settings->context, TLS1_2_VERSION)) {
        if (count > 0) memcpy(settings->protocols, protocols, count);
        settings->count = count;
        // Sessions are not resumed: a ticket would carry one name's session to another.
        SSL_CTX_set_options(
            settings->context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
        SSL_CTX_set_session_cache_mode(settings->context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(settings->context, SSL_MODE_RELEASE_BUFFERS);
        return settings;
    }
    al_tls_fail(problem, "TLS could not be set up");
    al_tls_settings_free(settings);
    return NULL;
}

al_tls_settings *al_tls_server_settings(const uint8_t *protocols, size_t count, al_tls_problem *problem) {
    al_tls_settings *settings = make_settings(TLS_server_method(), protocols, count, problem);
    if (!settings) return NULL;
    SSL_CTX_set_num_tickets(settings->context, 0);
    SSL_CTX_set_alpn_select_cb(settings->context, choose_protocol, settings);
    SSL_CTX_set_client_hello_cb(settings->context, note_hello, NULL);
    return settings;
}

// Adds the certificates of a PEM text to a store, or only counts them; -1 when one cannot be read.
static int read_certificates(const char *pem, size_t length, X509_STORE *store) {
    BIO *text = BIO_new_mem_buf(pem, (int)length);
    int found = 0;
    X509 *certificate;
    ERR_clear_error();
    while (text && (certificate = PEM_read_bio_X509(text, NULL, NULL, NULL))) {
        found += store ? X509_STORE_add_cert(store, certificate) : 1;
        X509_free(certificate);
    }
    // The end of the text is an error, too.
    int ended = text && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(text);
    ERR_clear_error();
    return ended ? found : -1;
}

int al_tls_count_certificates(const char *pem, size_t length) { return read_certificates(pem, length, NULL); }

static int trust(SSL_CTX *context, const char *pem, size_t length, int system) {
    if (system && !SSL_CTX_set_default_verify_paths(context)) return 0;
    return !pem || read_certificates(pem, length, SSL_CTX_get_cert_store(context)) > 0;
}

al_tls_settings *al_tls_client_settings(
    const char *pem, size_t length, int system, const uint8_t *protocols, size_t count, al_tls_problem *problem) {
    al_tls_settings *settings = make_settings(TLS_client_method(), protocols, count, problem);
    if (!settings) return NULL;
    SSL_CTX_set_verify(settings->context, SSL_VERIFY_PEER, NULL);
    // OpenSSL's answer is 0 when it went well.
    if (trust(settings->context, pem, length, system) &&
        (count == 0 || SSL_CTX_set_alpn_protos(settings->context, protocols, (unsigned)count) == 0))
        return settings;
    al_tls_fail(problem, "there is no certificate to trust");
    al_tls_settings_free(settings);
    return NULL;
}

void al_tls_settings_free(al_tls_settings *settings) {
    if (!settings) return;
    SSL_CTX_free(settings->context);
    OPENSSL_free(settings);
}

// MARK: Sessions

static al_tls_session *make_session(const al_tls_settings *settings, al_tls_problem *problem) {
    ERR_clear_error();
    al_tls_session *session = OPENSSL_zalloc(sizeof *session);
    if (session) {
        session->ssl = SSL_new(settings->context);
        session->incoming = BIO_new(BIO_s_mem());
        session->outgoing = BIO_new(BIO_s_mem());
        if (session->ssl && session->incoming && session->outgoing) {
            SSL_set_bio(session->ssl, session->incoming, session->outgoing);
            SSL_set_app_data(session->ssl, session);
            return session;
        }
        BIO_free(session->incoming);
        BIO_free(session->outgoing);
        SSL_free(session->ssl);
        OPENSSL_free(session);
    }
    al_tls_fail(problem, "a TLS session could not be made");
    return NULL;
}

al_tls_session *al_tls_server_session(const al_tls_settings *settings, al_tls_problem *problem) {
    al_tls_session *session = make_session(settings, problem);
    if (session) SSL_set_accept_state(session->ssl);
    return session;
}

al_tls_session *al_tls_client_session(
    const al_tls_settings *settings, const char *host, int is_address, al_tls_problem *problem) {
    al_tls_session *session = make_session(settings, problem);
    if (!session) return NULL;
    SSL_set_connect_state(session->ssl);
    X509_VERIFY_PARAM *rules = SSL_get0_param(session->ssl);
    X509_VERIFY_PARAM_set_hostflags(
        rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    int fine = is_address ? X509_VERIFY_PARAM_set1_ip_asc(rules, host)
                          : X509_VERIFY_PARAM_set1_host(rules, host, 0) &&
                                SSL_set_tlsext_host_name(session->ssl, host);
    if (fine) return session;
    al_tls_fail(problem, "the server's name cannot be used");
    al_tls_session_free(session);
    return NULL;
}

void al_tls_session_free(al_tls_session *session) {
    if (!session) return;
    SSL_free(session->ssl);
    OPENSSL_free(session);
}

// MARK: How it went

static int certificate_fault(long result) {
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return AL_TLS_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID: return AL_TLS_NOT_YET_VALID;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return AL_TLS_OTHER_NAME;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED: return AL_TLS_UNKNOWN_AUTHORITY;
    default: return AL_TLS_BAD_CERTIFICATE;
    }
}

static int library_fault(int reason) {
    switch (reason) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return AL_TLS_CUT;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_RECORD_TOO_SMALL: return AL_TLS_NOT_TLS;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW: return AL_TLS_NOTHING_IN_COMMON;
    default: return AL_TLS_FAILED;
    }
}

static void explain_failure(al_tls_session *session, al_tls_problem *problem) {
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    const char *text = error ? ERR_reason_error_string(error) : NULL;
    long result = SSL_get_verify_result(session->ssl);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && result != X509_V_OK) {
        problem->kind = certificate_fault(result);
        problem->detail = (int32_t)result;
        text = X509_verify_cert_error_string(result);
    } else if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET) {
        problem->kind = AL_TLS_ALERT;
        problem->detail = reason - SSL_AD_REASON_OFFSET;
        text = al_tls_alert_name(problem->detail);
    } else {
        problem->kind = ERR_GET_LIB(error) == ERR_LIB_SSL ? library_fault(reason) : AL_TLS_FAILED;
        problem->detail = reason;
    }
    snprintf(problem->text, sizeof problem->text, "%s", text ? text : "the session broke");
}

// What a call of OpenSSL came to.
static int outcome(al_tls_session *session, int result, al_tls_problem *problem) {
    if (result > 0) return AL_TLS_DONE;
    switch (SSL_get_error(session->ssl, result)) {
    case SSL_ERROR_WANT_READ: return AL_TLS_WANTS_BYTES;
    case SSL_ERROR_WANT_CLIENT_HELLO_CB: return AL_TLS_WANTS_LEAF;
    case SSL_ERROR_ZERO_RETURN: return AL_TLS_PEER_ENDED;
    case SSL_ERROR_SYSCALL:
        problem->kind = AL_TLS_CUT;
        problem->detail = 0;
        snprintf(problem->text, sizeof problem->text, "the connection ended");
        break;
    default: explain_failure(session, problem);
    }
    ERR_clear_error();
    return problem->kind;
}

const char *al_tls_alert_name(int alert) { return SSL_alert_desc_string_long(alert); }

// MARK: Moving

int al_tls_session_shake(al_tls_session *session, al_tls_problem *problem) {
    ERR_clear_error();
    return outcome(session, SSL_do_handshake(session->ssl), problem);
}

const char *al_tls_session_wanted_name(const al_tls_session *session) {
    return session->name[0] ? session->name : NULL;
}

void al_tls_session_use(al_tls_session *session, const al_tls_leaf *leaf) {
    SSL_use_certificate(session->ssl, leaf->certificate);
    SSL_use_PrivateKey(session->ssl, leaf->key);
    session->has_leaf = 1;
}

const uint8_t *al_tls_session_offered(const al_tls_session *session, size_t *count) {
    *count = session->offered_count;
    return session->offered;
}

int al_tls_session_speak(al_tls_session *session, const uint8_t *protocols, size_t count) {
    if (count > sizeof session->protocols) return 0;
    // OpenSSL's answer is 0 when it went well.
    if (!SSL_is_server(session->ssl)) return SSL_set_alpn_protos(session->ssl, protocols, (unsigned)count) == 0;
    if (count > 0) memcpy(session->protocols, protocols, count);
    session->count = count;
    return 1;
}

int al_tls_session_feed(al_tls_session *session, const void *bytes, size_t count) {
    size_t taken = 0;
    return count == 0 || (BIO_write_ex(session->incoming, bytes, count, &taken) && taken == count);
}

void al_tls_session_feed_end(al_tls_session *session) { BIO_set_mem_eof_return(session->incoming, 0); }

size_t al_tls_session_waiting(const al_tls_session *session) { return BIO_ctrl_pending(session->outgoing); }

size_t al_tls_session_take(al_tls_session *session, void *out, size_t room) {
    size_t count = 0;
    return BIO_read_ex(session->outgoing, out, room, &count) ? count : 0;
}

int al_tls_session_read(al_tls_session *session, void *out, size_t room, size_t *count, al_tls_problem *problem) {
    ERR_clear_error();
    *count = 0;
    return outcome(session, SSL_read_ex(session->ssl, out, room, count), problem);
}

int al_tls_session_write(al_tls_session *session, const void *bytes, size_t count, al_tls_problem *problem) {
    size_t written = 0;
    ERR_clear_error();
    if (count == 0) return AL_TLS_DONE;
    return outcome(session, SSL_write_ex(session->ssl, bytes, count, &written), problem);
}

void al_tls_session_end(al_tls_session *session) {
    ERR_clear_error();
    if (SSL_is_init_finished(session->ssl)) SSL_shutdown(session->ssl);
    ERR_clear_error();
}

const uint8_t *al_tls_session_protocol(const al_tls_session *session, size_t *count) {
    const unsigned char *protocol = NULL;
    unsigned length = 0;
    SSL_get0_alpn_selected(session->ssl, &protocol, &length);
    *count = length;
    return protocol;
}

const char *al_tls_session_version(const al_tls_session *session) { return SSL_get_version(session->ssl); }
