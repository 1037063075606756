#ifndef AL_TLS_INTERNAL_H
#define AL_TLS_INTERNAL_H

#include "include/al_tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

struct al_tls_authority {
    EVP_PKEY *key;
    X509 *certificate;
    // All leaves of an authority share a key: making one takes longer than a handshake.
    EVP_PKEY *leaf_key;
};

struct al_tls_leaf {
    EVP_PKEY *key;
    X509 *certificate;
};

void al_tls_fail(al_tls_problem *problem, const char *what);

#endif
