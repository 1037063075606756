#include "internal.h"

#include <pthread.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

// Private keys lie in memory that is locked and in no dump, as far as the system lets us.
#define SECURE_BYTES ((size_t)2 << 20)
#define SECURE_SMALLEST 32

static pthread_once_t protected = PTHREAD_ONCE_INIT;

static void protect_keys(void) { CRYPTO_secure_malloc_init(SECURE_BYTES, SECURE_SMALLEST); }

void al_tls_fail(al_tls_problem *problem, const char *what) {
    unsigned long error = ERR_peek_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    problem->kind = AL_TLS_FAILED;
    problem->detail = 0;
    snprintf(problem->text, sizeof problem->text, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
}

// Serial numbers are random, positive and of 152 bits: nobody can foretell them, and none comes twice.
static int set_serial(X509 *certificate) {
    BIGNUM *number = BN_new();
    int fine = number && BN_rand(number, 152, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
               BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return fine;
}

static int add_extension(X509 *certificate, X509 *issuer, int kind, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    int fine = extension && X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return fine;
}

static int begin(X509 *certificate, EVP_PKEY *key, const char *name, int64_t from, int64_t until) {
    X509_NAME *subject = X509_get_subject_name(certificate);
    // The field takes 64 characters; who is meant stands in the alternative names.
    const char *shown = strlen(name) <= 64 ? name : "Aegis";
    return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)from) &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)until) && X509_set_pubkey(certificate, key) &&
           X509_NAME_add_entry_by_NID(
               subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)shown, -1, -1, 0);
}

static X509 *make_root(EVP_PKEY *key, const char *name, int64_t from, int64_t until) {
    X509 *root = X509_new();
    if (root && begin(root, key, name, from, until) &&
        X509_set_issuer_name(root, X509_get_subject_name(root)) &&
        add_extension(root, root, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(root, root, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(root, root, NID_subject_key_identifier, "hash") && X509_sign(root, key, EVP_sha256()))
        return root;
    X509_free(root);
    return NULL;
}

al_tls_authority *al_tls_authority_new(const char *name, int64_t from, int64_t until, al_tls_problem *problem) {
    pthread_once(&protected, protect_keys);
    ERR_clear_error();
    al_tls_authority *authority = OPENSSL_zalloc(sizeof *authority);
    if (authority) {
        authority->key = EVP_EC_gen("P-256");
        authority->leaf_key = EVP_EC_gen("P-256");
        if (authority->key && authority->leaf_key)
            authority->certificate = make_root(authority->key, name, from, until);
        if (authority->certificate) return authority;
    }
    al_tls_fail(problem, "no certificate authority could be made");
    al_tls_authority_free(authority);
    return NULL;
}

void al_tls_authority_free(al_tls_authority *authority) {
    if (!authority) return;
    // OpenSSL overwrites private numbers when the last user of a key goes.
    EVP_PKEY_free(authority->key);
    EVP_PKEY_free(authority->leaf_key);
    X509_free(authority->certificate);
    OPENSSL_free(authority);
}

static size_t pem(X509 *certificate, char *out, size_t room) {
    BIO *memory = BIO_new(BIO_s_mem());
    size_t length = 0;
    if (memory && PEM_write_bio_X509(memory, certificate)) {
        length = BIO_ctrl_pending(memory);
        if (length <= room) BIO_read(memory, out, (int)length);
    }
    BIO_free(memory);
    return length;
}

size_t al_tls_authority_pem(const al_tls_authority *authority, char *out, size_t room) {
    return pem(authority->certificate, out, room);
}

size_t al_tls_authority_key(const al_tls_authority *authority, uint8_t *out, size_t room) {
    int length = i2d_PrivateKey(authority->key, NULL);
    if (length <= 0) return 0;
    if ((size_t)length <= room) {
        unsigned char *end = out;
        length = i2d_PrivateKey(authority->key, &end);
    }
    return length > 0 ? (size_t)length : 0;
}

al_tls_authority *al_tls_authority_load(
    const char *pem, size_t pem_length, const uint8_t *key, size_t key_length, al_tls_problem *problem) {
    pthread_once(&protected, protect_keys);
    ERR_clear_error();
    al_tls_authority *authority = OPENSSL_zalloc(sizeof *authority);
    BIO *text = BIO_new_mem_buf(pem, (int)pem_length);
    const unsigned char *from = key;
    if (authority && text) {
        authority->certificate = PEM_read_bio_X509(text, NULL, NULL, NULL);
        authority->key = d2i_AutoPrivateKey(NULL, &from, (long)key_length);
        authority->leaf_key = EVP_EC_gen("P-256");
    }
    BIO_free(text);
    if (authority && authority->leaf_key && authority->certificate && authority->key &&
        X509_check_private_key(authority->certificate, authority->key) == 1)
        return authority;
    al_tls_fail(problem, "a certificate authority cannot be read");
    al_tls_authority_free(authority);
    return NULL;
}

size_t al_tls_leaf_pem(const al_tls_leaf *leaf, char *out, size_t room) {
    return pem(leaf->certificate, out, room);
}

// The name is a value here and never a text that is parsed, so that it can bring no other names along.
static int add_name(X509 *certificate, const char *name, int is_address) {
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *entry = GENERAL_NAME_new();
    ASN1_STRING *value = NULL;
    if (is_address) {
        value = a2i_IPADDRESS(name);
    } else if ((value = ASN1_IA5STRING_new()) && !ASN1_STRING_set(value, name, -1)) {
        ASN1_STRING_free(value);
        value = NULL;
    }
    if (!names || !entry || !value) {
        ASN1_STRING_free(value);
        GENERAL_NAME_free(entry);
        GENERAL_NAMES_free(names);
        return 0;
    }
    GENERAL_NAME_set0_value(entry, is_address ? GEN_IPADD : GEN_DNS, value);
    int fine = sk_GENERAL_NAME_push(names, entry) > 0;
    if (!fine) GENERAL_NAME_free(entry);
    fine = fine && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0) > 0;
    GENERAL_NAMES_free(names);
    return fine;
}

static X509 *make_leaf(
    const al_tls_authority *authority, const char *name, int is_address, int64_t from, int64_t until) {
    X509 *root = authority->certificate;
    X509 *leaf = X509_new();
    if (leaf && begin(leaf, authority->leaf_key, name, from, until) &&
        X509_set_issuer_name(leaf, X509_get_subject_name(root)) &&
        add_extension(leaf, root, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(leaf, root, NID_key_usage, "critical,digitalSignature") &&
        add_extension(leaf, root, NID_ext_key_usage, "serverAuth") &&
        add_extension(leaf, root, NID_subject_key_identifier, "hash") &&
        add_extension(leaf, root, NID_authority_key_identifier, "keyid:always") &&
        add_name(leaf, name, is_address) && X509_sign(leaf, authority->key, EVP_sha256()))
        return leaf;
    X509_free(leaf);
    return NULL;
}

al_tls_leaf *al_tls_leaf_new(
    const al_tls_authority *authority, const char *name, int is_address, int64_t from, int64_t until,
    al_tls_problem *problem) {
    ERR_clear_error();
    al_tls_leaf *leaf = OPENSSL_zalloc(sizeof *leaf);
    X509 *certificate = leaf ? make_leaf(authority, name, is_address, from, until) : NULL;
    if (!certificate) {
        al_tls_fail(problem, "no certificate could be made");
        OPENSSL_free(leaf);
        return NULL;
    }
    EVP_PKEY_up_ref(authority->leaf_key);
    leaf->key = authority->leaf_key;
    leaf->certificate = certificate;
    return leaf;
}

void al_tls_leaf_free(al_tls_leaf *leaf) {
    if (!leaf) return;
    EVP_PKEY_free(leaf->key);
    X509_free(leaf->certificate);
    OPENSSL_free(leaf);
}
